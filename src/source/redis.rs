//! Redis and Valkey: a list, or a stream with a consumer group.
//!
//! Every change goes through a script (`redis/scripts`) that first looks at the lease, so a process whose lease has
//! ended can neither take messages nor settle them. What is taken from a list is kept in a stream of the relay's own, in
//! the same step, until it is settled. So the relay always reads a stream: after a crash what was taken before comes
//! first, in order.

mod begin;
mod entry;
mod epoch;
mod held;
mod holder;
mod inspect;
mod keys;
mod reader;
mod reply;
mod scripts;
mod settle;
mod tap;
#[cfg(test)]
mod tests;

pub use held::Held;
pub use inspect::{incarnation, inspect, look_at};
pub use reader::Reader;
pub use tap::Tap;

/// The consumer in our groups. One name for all relays, as only the one with the lease reads.
const CONSUMER: &str = "slipring";
