//! The part of any source that decides: how much is asked for, whether what came is contiguous, what the stream lost, what comes
//! first in an epoch, and how long nobody else reads.

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

pub use self::contiguity::{Contiguity, Misplaced};
pub use self::credit::{Ask, Credit, Room};
pub use self::epoch::{EXPIRES, Epoch, HEARTBEAT, MAX_CHUNK, Returned, SILENCE};
pub use self::hold_back::{Collection, Snapshot};
pub use self::lease::Lease;
pub use self::resume::{Found, Newest, Resume};
pub use self::retention::{Gap, Held, Keeps, LARGEST_MESSAGE, Missed, Retention, Seen};

/// How long JetStream waits for an ack before it delivers a message again. Messages that take longer are reported as in
/// progress.
pub const ACK_WAIT: Duration = Duration::from_secs(60);

/// One message as it was delivered.
#[derive(Debug, Clone)]
pub struct Delivery<R> {
    pub message: Arc<Message>,
    /// What acknowledges it.
    pub receipt: R,
    /// How many messages the consumer has still to deliver after this one.
    pub pending: u64,
}

/// Which incarnation of a stream it is: after a stream was made anew its sequences name other messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamIdentity {
    /// When the stream was created, nanoseconds since 1970.
    pub created: i128,
}

/// What comes first in an epoch: messages that somebody may have got before, this process or another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Again {
    /// How many there are at the most: no more can have been unacknowledged, and no more are there.
    pub messages: usize,
    /// The last stream sequence that was delivered before.
    pub through: u64,
}

/// Where a pipeline stands in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub stream: StreamIdentity,
    /// The sequence from which on not everything is settled.
    pub next: u64,
}
