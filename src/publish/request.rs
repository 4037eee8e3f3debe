//! A request to Centrifugo: what is in it, and nothing of how it is written. That is up to whoever sends it.

use std::borrow::Cow;
use std::sync::Arc;

use crate::message::Publication;

/// Names a request between [`Scheduler::next_request`](super::Scheduler::next_request) and
/// [`Scheduler::complete`](super::Scheduler::complete).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(super) u64);

impl RequestId {
    /// Of no request that a scheduler gave.
    pub(super) const NONE: Self = Self(u64::MAX);
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
    pub(super) publication: Arc<Publication>,
    /// The channels that are left of a broadcast which is done in others. `None`: all of the publication's.
    pub(super) remaining: Option<Vec<Arc<str>>>,
    /// How often the publication was to be shown again although it was confirmed.
    pub(super) repeats: u32,
}

impl Request {
    /// `size` is about what it takes when written, in bytes.
    pub(super) fn new(id: RequestId, commands: Vec<Command>, size: usize) -> Self {
        Self {
            id,
            commands: commands.into(),
            size,
            endpoint: 0,
            apart: false,
        }
    }

    /// Commands nothing, so that its answer says only whether requests are taken.
    pub(super) fn empty(id: RequestId) -> Self {
        Self::new(id, Vec::new(), 0)
    }

    pub(super) fn to(self, endpoint: usize) -> Self {
        Self { endpoint, ..self }
    }

    /// Others must not suffer if it breaks its connection.
    pub(super) fn apart(self, apart: bool) -> Self {
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

#[cfg(test)]
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
