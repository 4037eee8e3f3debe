//! What the demo sends and how it judges what arrives. The test with Centrifugo's JavaScript client does the same, without
//! an audience.

mod checker;
mod events;

pub use checker::Checker;
pub use events::{Event, Events, STREAMS, channels};
