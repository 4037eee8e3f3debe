//! The publish stage: brings publications to Centrifugo in the order in which they were pushed, channel by channel, whatever
//! fails in between.
//!
//! [`Scheduler`] decides and does no I/O: it is given publications, answers and the time, and gives requests. [`Client`] carries
//! a [`Request`] to Centrifugo and tells what became of it as an [`Answer`]. Nothing here knows about JetStream or about windows:
//! a publication comes with a ticket, and the ticket comes back once.
//!
//! [`write_body`] and [`read_replies`] are what [`Client`] says and hears over HTTP; outside, only `benches/pieces.rs` asks for them.

mod answer;
mod body;
mod centrifugo;
mod key;
mod replies;
mod request;
mod scheduler;
#[cfg(test)]
pub(crate) mod simulated;

pub use self::answer::{Answer, Position, Reply};
pub use self::body::write as write_body;
pub use self::centrifugo::{Client, ClientError};
pub use self::key::idempotency_key;
pub use self::replies::{Unreadable, read as read_replies};
pub use self::request::{Command, Request, RequestId};
#[cfg(test)]
pub(crate) use self::scheduler::Bug as SchedulerBug;
pub use self::scheduler::{Concluded, Limits, Scheduler, Stuck, queued_size, waiting_size};
