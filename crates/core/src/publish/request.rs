//! A request to Centrifugo: what is in it, and nothing of how it is written. That is up to whoever sends it.

use std::borrow::Cow;
use std::sync::Arc;

use crate::message::{Body, Publication};

/// What a command takes beside its data, tags, key and channels, at most, in bytes: field names, numbers and braces.
const COMMAND_BYTES: usize = 160;

/// Names a request between [`Scheduler::next_request`](super::Scheduler::next_request) and
/// [`Scheduler::complete`](super::Scheduler::complete).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

impl RequestId {
    /// Of no request that a scheduler gave.
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

/// One channel: publish; more: broadcast.
#[derive(Debug, Clone)]
pub struct Command {
    /// With its effective key. Shared with the scheduler, which may have to send it again.
    pub publication: Arc<Publication>,
    /// The channels that are left of a broadcast which is done in others. `None`: all of the publication's.
    pub remaining: Option<Vec<Arc<str>>>,
    /// How often the publication was to be shown again although it was confirmed.
    pub repeats: u32,
}

impl Request {
    /// `size` is about what it takes when written, in bytes.
    pub fn new(id: RequestId, commands: Vec<Command>, size: usize) -> Self {
        Self {
            id,
            commands: commands.into(),
            size,
            endpoint: 0,
            apart: false,
        }
    }

    /// Commands nothing, so that its answer says only whether requests are taken.
    pub fn empty(id: RequestId) -> Self {
        Self::new(id, Vec::new(), 0)
    }

    pub fn to(self, endpoint: usize) -> Self {
        Self { endpoint, ..self }
    }

    /// Others must not suffer if it breaks its connection.
    pub fn apart(self, apart: bool) -> Self {
        Self { apart, ..self }
    }

    /// Which of the endpoints it goes to, counted from zero.
    pub fn endpoint(&self) -> usize {
        self.endpoint
    }

    /// Whether it needs a connection of its own.
    pub fn is_apart(&self) -> bool {
        self.apart
    }

    pub fn id(&self) -> RequestId {
        self.id
    }

    /// In the order in which they are to be executed.
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// How many commands, which is publications, it has.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// About what it takes when written, in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// For each command, how many channels it is for: that many replies it gets.
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

    /// At least one.
    pub fn channels(&self) -> &[Arc<str>] {
        self.remaining.as_deref().unwrap_or(&self.publication.channels)
    }

    /// The idempotency key. The suffix of a repeat counts, so that its key is the same each time that is tried, even by another
    /// process.
    pub fn key(&self) -> Option<Cow<'_, str>> {
        let key = self.publication.idempotency_key.as_deref()?;
        Some(match self.repeats {
            0 => Cow::Borrowed(key),
            repeats => Cow::Owned(format!("{key}~{repeats}")),
        })
    }
}

/// How many channels one command takes. Centrifugo publishes on up to 1,024 of a command's channels at once (`Broadcast` in its
/// `internal/api/api.go`), and everything else that it does waits in line with them.
const BROADCAST_CHANNELS: usize = 200;

/// Commands of the same publication in a request repeat its data: they take no more than this for it, in bytes, beside the first.
const REPEATED_BYTES: usize = 256 << 10;

/// How many of the publication's channels go into one command.
pub fn longest_broadcast(publication: &Publication) -> usize {
    let channels = publication.channels.len();
    if channels <= BROADCAST_CHANNELS {
        return BROADCAST_CHANNELS;
    }
    let commands = 1 + REPEATED_BYTES / beside_channels(publication);
    BROADCAST_CHANNELS.max(channels.div_ceil(commands))
}

/// About what the publication's commands take when written, in bytes, but for strings that need escaping.
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
