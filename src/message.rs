//! What flows through the relay: a [`Message`] from JetStream becomes an [`Outcome`], which is a list of [`Publication`]s, a
//! drop or a [`Rejection`]. The stages share these types and nothing else.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

mod results;

pub use results::{Changed, Results, Share};

/// What JetStream delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub subject: String,
    pub payload: Bytes,
    /// By name, in alphabetical order; a name may come more than once, with its values in the order of the message.
    pub headers: Vec<(String, String)>,
    pub stream: Arc<str>,
    /// The sequence of the stream.
    pub sequence: u64,
    /// When JetStream stored it, nanoseconds since 1970.
    pub timestamp: u64,
    /// 1 the first time.
    pub deliveries: u32,
    /// Set if a module can't be given the message as it is: the module is never called then.
    pub unreadable: Option<Box<Unreadable>>,
}

/// What of a message has no form in which a module could get it. NATS lets a client store any bytes as a subject or as headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// A clause about the message: `its subject is not UTF-8: …`. It names the place and quotes no value.
    pub reason: String,
    /// The bytes of the subject and of the header block.
    pub subject: Bytes,
    pub headers: Bytes,
}

/// The code of the rejection of a message that can't be read.
pub const UNREADABLE: &str = "unreadable";

impl Unreadable {
    /// Nobody's fault but the sender's: it counts neither for nor against a module.
    pub fn rejection(&self) -> Rejection {
        Rejection {
            stage: Stage::Transform,
            code: UNREADABLE.into(),
            channel: None,
            reason: format!("the message cannot be read: {}", self.reason),
        }
    }
}

impl Message {
    /// What the message takes in memory, in bytes, as the window counts it.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let unreadable = self
            .unreadable
            .as_ref()
            .map_or(0, |unreadable| unreadable.subject.len() + unreadable.headers.len());
        self.subject.len() + self.payload.len() + headers + unreadable
    }
}

/// A message without a payload that stands for the end of a key or of a subject's last message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker<'a> {
    header: &'a str,
    value: &'a str,
}

impl Message {
    /// Returns why the message is a marker, if it is one: JetStream leaves one where messages expire or are removed, and key-value
    /// buckets where keys are deleted.
    pub fn marker(&self) -> Option<Marker<'_>> {
        if !self.payload.is_empty() {
            return None;
        }
        let mut headers = self.headers.iter();
        headers.find_map(|(header, value)| match header.as_str() {
            "Nats-Marker-Reason" => Some(Marker { header, value }),
            "KV-Operation" if matches!(value.as_str(), "DEL" | "PURGE") => Some(Marker { header, value }),
            _ => None,
        })
    }
}

impl fmt::Display for Marker<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { header, value } = self;
        let what = match *value {
            "DEL" => "a key was deleted",
            "PURGE" => "a key was purged",
            "MaxAge" => "the last message of the subject expired",
            "Purge" => "the subject was purged",
            "Remove" => "the last message of the subject was removed",
            _ => "the subject has no message any more",
        };
        write!(f, "{what} ({header}: {value})")
    }
}

/// The longest channel that a Centrifugo client can subscribe to, in bytes (`client.channel.max_length`). Its API does not check.
pub const MAX_CHANNEL_BYTES: usize = 255;

/// Versions stay below this: Centrifugo's Redis engine compares them as doubles.
pub const MAX_VERSION: u64 = 1 << 53;

/// What a module makes of a message. Whoever holds one may rely on its channels, its JSON and its version being valid: the
/// transform stage checked them.
#[derive(Debug, Clone)]
pub struct Publication {
    /// At least one, none twice. One: publish; more: broadcast.
    pub channels: Vec<Arc<str>>,
    pub body: Body,
    pub version: Option<u64>,
    pub version_epoch: Option<String>,
    pub tags: Vec<(String, String)>,
    /// Instead of the relay's own.
    pub idempotency_key: Option<String>,
    pub delta: bool,
    pub skip_history: bool,
}

impl Publication {
    /// What the publication takes in memory, in bytes, as the window counts it.
    pub fn size(&self) -> usize {
        let channels: usize = self.channels.iter().map(|channel| channel.len()).sum();
        let tags: usize = self.tags.iter().map(|(name, value)| name.len() + value.len()).sum();
        size_of::<Self>() + channels + self.body.len() + tags
    }
}

#[derive(Debug, Clone)]
pub enum Body {
    /// Validated once, then copied as it is.
    Json(Box<RawValue>),
    Binary(Vec<u8>),
}

impl Body {
    pub fn len(&self) -> usize {
        match self {
            Self::Json(json) => json.get().len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What became of a message in the transform stage.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// At least one.
    Publish(Vec<Publication>),
    /// The module chose to drop it.
    Drop,
    Reject(Rejection),
}

/// Why a message, or one of its publications, can never be published. These are the facts that its dead letter carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub stage: Stage,
    /// A short word or number for machines: `rejected`, `trap`, `timeout`, … in the transform stage, Centrifugo's code in the
    /// publish stage.
    pub code: Cow<'static, str>,
    /// The channel that it was for, when that is known.
    pub channel: Option<Arc<str>>,
    /// A sentence for people.
    pub reason: String,
}

impl Rejection {
    /// Returns true if the same message may be taken later although nothing of it changes: somebody adds a namespace, gives a
    /// permission or raises a limit. What the module says of it, and what Centrifugo cannot read, stays so.
    pub fn may_pass(&self) -> bool {
        self.stage == Stage::Publish && !matches!(&*self.code, "107" | "400")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    Transform,
    Publish,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transform => "transform",
            Self::Publish => "publish",
        })
    }
}
