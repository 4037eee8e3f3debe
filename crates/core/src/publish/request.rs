//! The contents of a request to Centrifugo. The transport decides how to encode it.

use std::borrow::Cow;
use std::sync::Arc;

use crate::message::{Body, Publication};

/// The most bytes that a command takes beside its data, tags, key and channels: field names, numbers and braces.
const COMMAND_BYTES: usize = 160;

/// Identifies a request between [`Scheduler::next_request`](super::Scheduler::next_request) and
/// [`Scheduler::complete`](super::Scheduler::complete).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

impl RequestId {
    /// An id that no scheduler assigns.
    pub const NONE: Self = Self(u64::MAX);
}

/// A clone shares its commands.
#[derive(Debug, Clone)]
pub struct Request {
    id: RequestId,
    commands: Arc<[Command]>,
    size: usize,
    endpoint: usize,
    apart: bool,
}

/// A publish to one channel or a broadcast to several.
#[derive(Debug, Clone)]
pub struct Command {
    /// The publication with its effective key. The scheduler shares it because it may have to send it again.
    pub publication: Arc<Publication>,
    /// The remaining channels of a broadcast that is done in others. `None` means all channels of the publication.
    pub remaining: Option<Vec<Arc<str>>>,
    /// How often the publication had to be shown again although it was confirmed.
    pub repeats: u32,
}

impl Request {
    /// `size` is the approximate encoded size in bytes.
    pub fn new(id: RequestId, commands: Vec<Command>, size: usize) -> Self {
        Self {
            id,
            commands: commands.into(),
            size,
            endpoint: 0,
            apart: false,
        }
    }

    /// Creates a request without commands. Its answer tells only whether the endpoint takes requests.
    pub fn empty(id: RequestId) -> Self {
        Self::new(id, Vec::new(), 0)
    }

    pub fn to(self, endpoint: usize) -> Self {
        Self { endpoint, ..self }
    }

    /// Requests a separate connection, so that a request that breaks its connection harms no others.
    pub fn apart(self, apart: bool) -> Self {
        Self { apart, ..self }
    }

    /// Returns the index of the endpoint that the request goes to, starting at zero.
    pub fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// Returns true if the request needs a connection of its own.
    pub fn is_apart(&self) -> bool {
        self.apart
    }

    pub fn id(&self) -> RequestId {
        self.id
    }

    /// Returns the commands in the order of execution.
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// Returns the number of commands. Each carries one publication.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Returns the approximate encoded size in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns the number of channels of each command, which is also its number of replies.
    pub fn channels(&self) -> impl ExactSizeIterator<Item = usize> {
        self.commands.iter().map(|command| command.channels().len())
    }
}

impl From<Publication> for Command {
    fn from(publication: Publication) -> Self {
        Self {
            publication: Arc::new(publication),
            remaining: None,
            repeats: 0,
        }
    }
}

impl Command {
    pub fn publication(&self) -> &Publication {
        &self.publication
    }

    /// Returns at least one channel.
    pub fn channels(&self) -> &[Arc<str>] {
        self.remaining.as_deref().unwrap_or(&self.publication.channels)
    }

    /// Returns the idempotency key. Each repeat adds its number as a suffix, so a retry of the repeat has the same key,
    /// even in another process.
    pub fn key(&self) -> Option<Cow<'_, str>> {
        let key = self.publication.idempotency_key.as_deref()?;
        Some(match self.repeats {
            0 => Cow::Borrowed(key),
            repeats => Cow::Owned(format!("{key}~{repeats}")),
        })
    }
}

/// The most channels in one command. Centrifugo publishes to up to 1,024 of a command's channels concurrently
/// (`Broadcast` in its `internal/api/api.go`), and all its other work queues behind them.
const BROADCAST_CHANNELS: usize = 200;

/// Several commands of one publication repeat its data in the request. The repeated data takes at most this many bytes
/// beside the first copy.
const REPEATED_BYTES: usize = 256 << 10;

/// Returns how many of the publication's channels go into one command.
pub fn longest_broadcast(publication: &Publication) -> usize {
    let channels = publication.channels.len();
    if channels <= BROADCAST_CHANNELS {
        return BROADCAST_CHANNELS;
    }
    let commands = 1 + REPEATED_BYTES / beside_channels(publication);
    BROADCAST_CHANNELS.max(channels.div_ceil(commands))
}

/// Returns the approximate encoded size of the publication's commands in bytes, ignoring the escaping of strings.
pub fn written_size(publication: &Publication) -> usize {
    let channels: usize = publication.channels.iter().map(|channel| channel.len() + 3).sum();
    let commands = publication
        .channels
        .len()
        .div_ceil(longest_broadcast(publication))
        .max(1);
    channels + commands * beside_channels(publication)
}

fn beside_channels(publication: &Publication) -> usize {
    let tags: usize = publication
        .tags
        .iter()
        .map(|(name, value)| name.len() + value.len() + 6)
        .sum();
    let data = match &publication.body {
        Body::Json(json) => json.get().len(),
        Body::Binary(bytes) => bytes.len().div_ceil(3) * 4,
    };
    let key = publication.idempotency_key.as_ref().map_or(0, String::len);
    let epoch = publication.version_epoch.as_ref().map_or(0, String::len);
    COMMAND_BYTES + tags + data + key + epoch
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn the_written_size_is_the_sum_of_its_parts() {
        let mut publication = Publication::new(
            vec!["orders:1".into(), "orders:22".into()],
            Body::Json(RawValue::from_string("1".repeat(500)).unwrap()),
        );
        let channels = 8 + 3 + 9 + 3;
        assert_eq!(written_size(&publication), channels + 160 + 500);
        publication.tags = vec![("name".to_owned(), "x".repeat(70)), ("n".to_owned(), "v".to_owned())];
        assert_eq!(
            written_size(&publication),
            channels + 160 + 500 + (4 + 70 + 6) + (1 + 1 + 6)
        );
        publication.idempotency_key = Some("k".repeat(1_000));
        publication.version_epoch = Some("e".repeat(40));
        assert_eq!(written_size(&publication), channels + 160 + 500 + 80 + 8 + 1_000 + 40);
        // Base64 makes four letters of three bytes.
        publication.body = Body::Binary(vec![0; 31]);
        assert_eq!(written_size(&publication), channels + 160 + 44 + 80 + 8 + 1_000 + 40);
    }

    #[test]
    fn a_broadcast_of_much_data_is_repeated_less_often() {
        let longest = |channels: usize, bytes: usize| {
            longest_broadcast(&Publication::new(
                (0..channels).map(|number| number.to_string().into()).collect(),
                Body::Json(RawValue::from_string("1".repeat(bytes)).unwrap()),
            ))
        };
        assert_eq!(longest(10_000, 10), 200);
        // 64 KiB each, so four more copies fit into 256 KiB.
        assert_eq!(longest(10_000, (64 << 10) - COMMAND_BYTES), 2_000);
        assert_eq!(longest(10_000, 1 << 20), 10_000, "once");
        assert_eq!(longest(100, 1 << 20), 200, "one command anyway");
    }

    #[test]
    fn each_command_of_a_broadcast_to_very_many_repeats_the_rest() {
        let publication = Publication::new(
            (0..1_000).map(|number| format!("c:{number:03}").into()).collect(),
            Body::Binary(vec![0; 3]),
        );
        assert_eq!(longest_broadcast(&publication), 200);
        assert_eq!(written_size(&publication), 1_000 * (5 + 3) + 5 * (160 + 4));
    }
}
