//! What the demo sends, and how it judges what arrives. The test with Centrifugo's JavaScript client uses
//! the same events.

mod checker;
mod events;

pub use checker::Checker;
pub use events::{Event, Events, STREAMS, channels};
