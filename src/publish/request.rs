//! A request to Centrifugo, ready to be sent.

use bytes::Bytes;

use super::body::Body;

/// Names a request between [`Scheduler::next_request`](super::Scheduler::next_request) and
/// [`Scheduler::complete`](super::Scheduler::complete).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(super) u64);

#[derive(Debug, Clone)]
pub struct Request {
    id: RequestId,
    body: Bytes,
    channels: Vec<usize>,
}

impl Request {
    pub(super) fn new(id: RequestId, body: Bytes, channels: Vec<usize>) -> Self {
        Self { id, body, channels }
    }

    /// Commands nothing, so that its answer says only whether requests are taken.
    pub(super) fn empty() -> Self {
        Self::new(RequestId(u64::MAX), Body::with_capacity(0).finish(), Vec::new())
    }

    pub fn id(&self) -> RequestId {
        self.id
    }

    /// The JSON for `/api/batch`.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// How many commands, which is publications, it has.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// For each command, how many channels it is for: that many replies it gets. One: publish; more: broadcast.
    pub fn channels(&self) -> &[usize] {
        &self.channels
    }
}
