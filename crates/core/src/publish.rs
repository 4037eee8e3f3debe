//! The publish stage: brings publications to Centrifugo in the order in which they were pushed, channel by channel, whatever
//! fails in between.
//!
//! [`Scheduler`] is given publications, answers and the time, and gives requests. Whoever carries a [`Request`] to Centrifugo tells what
//! became of it as an [`Answer`]. Nothing here knows about JetStream or about windows: a publication comes with a ticket, and the
//! ticket comes back once.

mod answer;
mod request;
mod scheduler;

pub use self::answer::{Answer, Position, Reply};
pub use self::request::{Command, Request, RequestId, longest_broadcast, written_size};
pub use self::scheduler::{Concluded, Limits, Order, Scheduler, Stuck, queued_size, waiting_size};
