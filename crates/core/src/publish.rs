//! The publish stage sends publications to Centrifugo. Within each channel it keeps the order in which they were
//! pushed, whatever fails in between.
//!
//! [`Scheduler`] takes publications, answers and the time, and returns requests. The caller sends each [`Request`] to
//! Centrifugo and reports an [`Answer`]. Nothing here knows about JetStream or about windows: each publication carries
//! a ticket, and the scheduler returns the ticket exactly once.

mod answer;
mod request;
mod scheduler;

pub use self::answer::{Answer, HistoryPosition, Reply, RequestOutcome};
pub use self::request::{Command, Request, RequestId, longest_broadcast, written_size};
pub use self::scheduler::{Concluded, Order, RequestLimits, Scheduler, Stuck, queued_size, waiting_size};
