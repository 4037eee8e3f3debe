//! The decisions of a source: how much to request, whether deliveries are contiguous, what the stream lost, what comes
//! first in an epoch, and how long no other relay reads.

mod contiguity;
mod credit;
mod epoch;
mod hold_back;
mod lease;
mod resume;
mod retention;

use std::sync::Arc;
use std::time::Duration;

use crate::message::Message;
use crate::place::Place;

pub use self::contiguity::{Contiguity, Misplaced};
pub use self::credit::{Ask, Credit, Room};
pub use self::epoch::{EXPIRES, Epoch, HEARTBEAT, MAX_CHUNK, Returned, SILENCE};
pub use self::hold_back::{Collection, Snapshot};
pub use self::lease::Lease;
pub use self::resume::{Found, Newest, Resume};
pub use self::retention::{Gap, Held, Keeps, LARGEST_MESSAGE, Missed, Retention, Seen};

/// How long JetStream waits for an ack before it redelivers a message. Messages that take longer are reported as in
/// progress.
pub const ACK_WAIT: Duration = Duration::from_secs(60);

/// A message as it was delivered.
#[derive(Debug, Clone)]
pub struct Delivery<R> {
    pub message: Arc<Message>,
    /// The value that acknowledges the message.
    pub receipt: R,
    /// Messages that the consumer still has to deliver after this one.
    pub pending: u64,
}

/// Identifies an incarnation of a source. After a stream is recreated, its places refer to other messages. JetStream: when
/// the stream was created, in nanoseconds since 1970. Redis: a random number that is kept beside the list or stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Incarnation(pub i128);

/// The messages that come first in an epoch, because this or another process may have received them before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Again {
    /// The most messages that can come again: no more can have been unacknowledged, and no more are in the stream.
    pub messages: usize,
    /// The last place that was delivered before.
    pub through: Place,
}

/// The position of a pipeline in its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub stream: Incarnation,
    /// The place from which on not everything is settled.
    pub next: Place,
}
