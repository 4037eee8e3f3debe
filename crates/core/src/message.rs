//! The data that flows through the relay. A [`Message`] from a source becomes an [`Outcome`]: a list of
//! [`Publication`]s, a drop or a [`Rejection`]. The stages share these types and nothing else.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::place::Place;

mod results;

pub use results::{Changed, Results, Share};

/// A message as its source delivered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub subject: String,
    pub payload: Bytes,
    /// Sorted by name. A name may appear more than once; its values keep the order of the message.
    pub headers: Vec<(String, String)>,
    /// The name of the source: a JetStream stream, or the key of a list or stream in Redis.
    pub stream: Arc<str>,
    pub place: Place,
    /// When the source stored the message, in nanoseconds since 1970.
    pub timestamp: u64,
    /// 1 for the first delivery.
    pub deliveries: u32,
    /// Set if the message cannot be passed to a module. The module is then never called.
    pub unreadable: Option<Box<Unreadable>>,
}

/// The parts of a message that cannot be passed to a module. NATS lets a client store any bytes as a subject or as
/// headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// A clause about the message, such as `its subject is not UTF-8: …`. It names the place and quotes no value.
    pub reason: String,
    /// The raw bytes of the subject and of the header block.
    pub subject: Bytes,
    pub headers: Bytes,
}

/// The rejection code of an unreadable message.
pub const UNREADABLE: &str = "unreadable";

impl Unreadable {
    /// Only the sender is at fault, so this rejection counts neither for nor against a module.
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
    /// Creates a message without headers, delivered for the first time and stored at the start of 1970.
    pub fn new(stream: &str, place: impl Into<Place>, subject: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            subject: subject.into(),
            payload: payload.into(),
            headers: Vec::new(),
            stream: stream.into(),
            place: place.into(),
            timestamp: 0,
            deliveries: 1,
            unreadable: None,
        }
    }

    /// Returns the place as one number for modules, or 0 if it does not fit into one ([`Place::number`]).
    pub fn sequence(&self) -> u64 {
        self.place.number().unwrap_or(0)
    }

    /// Returns the memory that the message takes, in bytes, as the window counts it. A header line of two letters takes
    /// about 60 bytes.
    pub fn size(&self) -> usize {
        let unreadable = |unreadable: &Unreadable| {
            allocated(size_of::<Unreadable>())
                + allocated(unreadable.reason.capacity())
                + allocated(unreadable.subject.len())
                + allocated(unreadable.headers.len())
        };
        PLACE
            + allocated(REFERENCE_COUNTS + size_of::<Self>())
            + allocated(self.subject.capacity())
            + allocated(self.payload.len())
            + pairs(&self.headers)
            + self.unreadable.as_deref().map_or(0, unreadable)
    }
}

/// A message without a payload that marks the end of a key or of a subject's last message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker<'a> {
    header: &'a str,
    value: &'a str,
}

impl Message {
    /// Returns the kind of marker if the message is one. JetStream stores a marker when messages expire or are removed,
    /// and key-value buckets store one when a key is deleted.
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

/// The memory that the window needs beside a message: its entry, in a buffer that doubles when it is full, and its ack
/// subject.
pub const PLACE: usize = 768;

/// The memory that an `Arc` needs beside its value.
const REFERENCE_COUNTS: usize = 2 * size_of::<usize>();

/// Returns the size of the block that the allocator reserves for this many bytes, which is 0 to 25 % larger:
/// <https://jemalloc.net/jemalloc.3.html#size_classes>.
pub const fn allocated(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=8 => 8,
        9..=128 => bytes.next_multiple_of(16),
        _ => bytes.next_multiple_of(1 << ((bytes - 1).ilog2() - 2)),
    }
}

fn pairs(pairs: &Vec<(String, String)>) -> usize {
    let one = |(name, value): &(String, String)| allocated(name.capacity()) + allocated(value.capacity());
    allocated(pairs.capacity() * size_of::<(String, String)>()) + pairs.iter().map(one).sum::<usize>()
}

/// The longest channel name that a Centrifugo client can subscribe to, in bytes (`client.channel.max_length`).
/// Centrifugo's API does not check the length.
pub const MAX_CHANNEL_BYTES: usize = 255;

/// Versions stay below this limit because Centrifugo's Redis engine compares them as doubles.
pub const MAX_VERSION: u64 = 1 << 53;

/// A publication that a module made of a message. The transform stage has already validated its channels, its JSON and
/// its version.
#[derive(Debug, Clone)]
pub struct Publication {
    /// At least one channel, without duplicates. One channel is a publish, several are a broadcast.
    pub channels: Vec<Arc<str>>,
    pub body: Body,
    pub version: Option<u64>,
    pub version_epoch: Option<String>,
    pub tags: Vec<(String, String)>,
    /// Replaces the relay's own key.
    pub idempotency_key: Option<String>,
    pub delta: bool,
    pub skip_history: bool,
}

impl Publication {
    /// Creates a publication without a version, tags or a key of its own, and with the channel's usual history.
    pub fn new(channels: Vec<Arc<str>>, body: Body) -> Self {
        Self {
            channels,
            body,
            version: None,
            version_epoch: None,
            tags: Vec::new(),
            idempotency_key: None,
            delta: false,
            skip_history: false,
        }
    }

    /// Returns the memory that the publication takes, in bytes, as the window counts it, without what the queues add.
    pub fn size(&self) -> usize {
        let channel = |channel: &Arc<str>| allocated(REFERENCE_COUNTS + channel.len());
        let text = |text: &Option<String>| text.as_ref().map_or(0, |text| allocated(text.capacity()));
        allocated(REFERENCE_COUNTS + size_of::<Self>())
            + allocated(self.channels.capacity() * size_of::<Arc<str>>())
            + self.channels.iter().map(channel).sum::<usize>()
            + self.body.allocated()
            + pairs(&self.tags)
            + text(&self.version_epoch)
            + text(&self.idempotency_key)
    }
}

#[derive(Debug, Clone)]
pub enum Body {
    /// Validated once, then copied unchanged.
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

    fn allocated(&self) -> usize {
        match self {
            Self::Json(json) => allocated(json.get().len()),
            Self::Binary(bytes) => allocated(bytes.capacity()),
        }
    }
}

/// The result of the transform stage for a message.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// At least one publication.
    Publish(Vec<Publication>),
    /// The module chose to drop the message.
    Drop,
    Reject(Rejection),
}

/// Why a message, or one of its publications, can never be published. The dead letter carries these facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub stage: Stage,
    /// A short word or number for programs: `rejected`, `trap`, `timeout`, … in the transform stage, Centrifugo's code
    /// in the publish stage.
    pub code: Cow<'static, str>,
    /// The channel of the publication, if known.
    pub channel: Option<Arc<str>>,
    /// A sentence for people.
    pub reason: String,
}

impl Rejection {
    /// Returns true if the same message may be accepted later without a change to it, after someone adds a namespace,
    /// grants a permission or raises a limit. A rejection by the module, or of data that Centrifugo cannot read, is
    /// final.
    pub fn may_pass(&self) -> bool {
        self.stage == Stage::Publish && !matches!(&*self.code, "107" | "400")
    }

    /// Returns the memory that the rejection takes, in bytes, until its dead letter is stored.
    pub fn size(&self) -> usize {
        size_of::<Self>() + allocated(self.reason.capacity())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allocator_sets_aside_a_size_of_its_classes() {
        for (bytes, class) in [
            (0, 0),
            (1, 8),
            (9, 16),
            (128, 128),
            (129, 160),
            (257, 320),
            (1_025, 1_280),
            (15_000_000, 16 << 20),
            (16 << 20, 16 << 20),
        ] {
            assert_eq!(allocated(bytes), class, "{bytes}");
        }
    }

    /// Each field has a size class of its own.
    #[test]
    fn the_size_of_a_message_is_the_sum_of_its_blocks() {
        let unreadable = Unreadable {
            reason: "r".repeat(200),
            subject: Bytes::from(vec![0; 300]),
            headers: Bytes::from(vec![0; 700]),
        };
        let message = Message {
            headers: vec![("n".repeat(30), "v".repeat(50))],
            unreadable: Some(Box::new(unreadable)),
            ..Message::new("ORDERS", 1, "s".repeat(100), vec![0; 1_000])
        };
        let fixed = 768 + allocated(16 + size_of::<Message>());
        let headers = allocated(size_of::<(String, String)>()) + 32 + 64;
        let unreadable = allocated(size_of::<Unreadable>()) + 224 + 320 + 768;
        assert_eq!(message.size(), fixed + 112 + 1_024 + headers + unreadable);
        let plain = Message::new("ORDERS", 1, "s".repeat(100), vec![0; 1_000]);
        assert_eq!(plain.size(), fixed + 112 + 1_024);
    }

    #[test]
    fn the_size_of_a_publication_is_the_sum_of_its_blocks() {
        let mut publication = Publication {
            version: Some(7),
            version_epoch: Some("e".repeat(150)),
            tags: vec![("n".repeat(30), "v".repeat(50))],
            idempotency_key: Some("k".repeat(230)),
            ..Publication::new(
                vec!["c".repeat(40).into(), "d".repeat(90).into()],
                Body::Binary(vec![0; 1_000]),
            )
        };
        let fixed = allocated(16 + size_of::<Publication>());
        let channels = allocated(2 * size_of::<Arc<str>>()) + 64 + 112;
        let tags = allocated(size_of::<(String, String)>()) + 32 + 64;
        assert_eq!(publication.size(), fixed + channels + 1_024 + tags + 160 + 256);
        publication.body = Body::Json(RawValue::from_string("1".repeat(200)).unwrap());
        assert_eq!(publication.size(), fixed + channels + 224 + tags + 160 + 256);
        (publication.version_epoch, publication.idempotency_key) = (None, None);
        assert_eq!(publication.size(), fixed + channels + 224 + tags);
    }

    #[test]
    fn the_size_of_a_rejection_has_its_reason() {
        let rejection = Rejection {
            stage: Stage::Transform,
            code: "trap".into(),
            channel: None,
            reason: "r".repeat(200),
        };
        assert_eq!(rejection.size(), size_of::<Rejection>() + 224);
    }

    #[test]
    fn a_body_has_the_length_of_its_bytes() {
        let json = |text: &str| Body::Json(RawValue::from_string(text.to_owned()).unwrap());
        for (body, length) in [
            (Body::Binary(Vec::new()), 0),
            (Body::Binary(vec![0; 3]), 3),
            (json("{}"), 2),
            (json("[1, 2]"), 6),
        ] {
            assert_eq!((body.len(), body.is_empty()), (length, length == 0));
        }
    }

    #[test]
    fn a_marker_says_what_it_marks() {
        let marked = |header: &str, value: &str, payload: &str| {
            let message = Message {
                headers: vec![
                    ("Other".to_owned(), "1".to_owned()),
                    (header.to_owned(), value.to_owned()),
                ],
                ..Message::new("KV_A", 1, "$KV.A.b", payload.to_owned())
            };
            message.marker().map(|marker| marker.to_string())
        };
        for (header, value, told) in [
            ("KV-Operation", "DEL", "a key was deleted (KV-Operation: DEL)"),
            ("KV-Operation", "PURGE", "a key was purged (KV-Operation: PURGE)"),
            (
                "Nats-Marker-Reason",
                "MaxAge",
                "the last message of the subject expired (Nats-Marker-Reason: MaxAge)",
            ),
            (
                "Nats-Marker-Reason",
                "Purge",
                "the subject was purged (Nats-Marker-Reason: Purge)",
            ),
            (
                "Nats-Marker-Reason",
                "Remove",
                "the last message of the subject was removed (Nats-Marker-Reason: Remove)",
            ),
            (
                "Nats-Marker-Reason",
                "Dream",
                "the subject has no message any more (Nats-Marker-Reason: Dream)",
            ),
        ] {
            assert_eq!(marked(header, value, "").as_deref(), Some(told));
            assert_eq!(marked(header, value, "1"), None, "a marker has no payload");
        }
        assert_eq!(marked("KV-Operation", "PUT", ""), None);
    }

    #[test]
    fn the_words_and_limits_are_those_of_the_documentation() {
        assert_eq!(Stage::Transform.to_string(), "transform");
        assert_eq!(Stage::Publish.to_string(), "publish");
        assert_eq!(MAX_VERSION, 9_007_199_254_740_992);
    }

    #[test]
    fn a_message_counts_as_what_it_takes_and_not_as_its_letters() {
        let message = |headers| Message {
            subject: "orders.7".to_owned(),
            payload: Bytes::from_static(b"1"),
            headers,
            stream: "ORDERS".into(),
            place: 1.into(),
            timestamp: 0,
            deliveries: 1,
            unreadable: None,
        };
        let plain = message(Vec::new()).size();
        assert!(plain >= size_of::<Message>() + 8, "{plain}");
        let lines = message(vec![("a".to_owned(), String::new()); 1_000]).size() - plain;
        assert!(lines >= 1_000 * (size_of::<(String, String)>() + 8), "{lines}");
    }

    #[test]
    fn a_publication_counts_its_channels_and_tags() {
        let publication = |channels: usize, tags: usize| Publication {
            tags: vec![("a".to_owned(), String::new()); tags],
            ..Publication::new(
                (0..channels).map(|number| Arc::from(number.to_string())).collect(),
                Body::Binary(Vec::new()),
            )
        };
        let one = publication(1, 0).size();
        assert!(one >= size_of::<Publication>(), "{one}");
        // Each name's `Arc` has two counters, and its entry in the list has a pointer and a length.
        assert!(publication(10_001, 0).size() - one >= 10_000 * (24 + 16));
        assert!(publication(1, 1_000).size() - one >= 1_000 * (48 + 8));
    }
}
