//! What flows through the relay: a [`Message`] from JetStream becomes an [`Outcome`], which is a list of [`Publication`]s, a
//! drop or a [`Rejection`]. The stages share these types and nothing else.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

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
}

impl Message {
    /// What the message takes in memory, in bytes, as the window counts it.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.subject.len() + self.payload.len() + headers
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
