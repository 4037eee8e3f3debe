//! The decisions of Slipring: which messages to read, in which order to publish what they became, which messages to
//! acknowledge, and how to react to failures.
//!
//! Nothing here does I/O, reads a clock, or knows about an async runtime, WebAssembly or NATS. Time is an argument.
//! Work to do comes out as effects and requests, and the results come back in. The type that acknowledges a delivery is
//! a type parameter. A test can therefore play thousands of failure schedules in a second.
//!
//! In reading order:
//!
//! - [`message`]: the data that flows. [`place`]: where a message is in its source. [`now`]: the time. [`load`]: the load of the module that processed a message.
//! - [`read`]: how much to request, whether deliveries are contiguous, what was lost, and who may read.
//! - [`window`]: what is settled, and what may be acknowledged.
//! - [`stamp`], [`key`]: what the relay adds to a publication.
//! - [`publish`]: which publications go into which request, and what an answer means.
//! - [`pipeline`]: everything together, from a delivery to its ack.

#![cfg_attr(
    test,
    expect(clippy::disallowed_methods, reason = "a test may start from the time that is")
)]

pub mod key;
pub mod load;
pub mod message;
pub mod now;
pub mod pipeline;
pub mod place;
pub mod publish;
pub mod read;
pub mod stamp;
pub mod window;
