//! What Slipring decides: which messages are read, in which order what they became is published, what may be acknowledged, and what
//! follows when something fails.
//!
//! Nothing here does I/O, reads a clock, or knows of an async runtime, of WebAssembly or of NATS. The time is an argument; what is to
//! be done comes out as effects and requests, and what was done comes back in. What acknowledges a delivery is a type parameter.
//! So thousands of schedules of failures are played in a second.
//!
//! In reading order:
//!
//! - [`message`]: what flows. [`now`]: when. [`load`]: which load of a module made it.
//! - [`read`]: what is asked for, whether it came without a gap, what was lost, and who may read.
//! - [`window`]: what is settled, and what may be acknowledged.
//! - [`stamp`], [`key`]: what the relay adds to a publication.
//! - [`publish`]: which publications go into which request, and what an answer means.
//! - [`pipeline`]: all of it together, from a delivery to its acknowledgement.

#![cfg_attr(
    test,
    expect(clippy::disallowed_methods, reason = "a test may start from the time that is")
)]

pub mod key;
pub mod load;
pub mod message;
pub mod now;
pub mod pipeline;
pub mod publish;
pub mod read;
pub mod stamp;
pub mod window;
