//! The transform stage turns the bytes of a module and messages into outcomes.
//!
//! A [`Module`] is compiled, checked and tried when it is loaded. An [`Instance`] of it turns one message into one
//! [`Outcome`](crate::message::Outcome), whatever the guest does. [`Workers`] run instances on plain threads and return
//! outcomes in the order of the messages. A [`Trial`] watches a new version. Nothing here knows where messages come
//! from or where publications go.

mod batch;
mod binary;
mod bindings;
mod cache;
pub mod compile;
mod console;
mod doubts;
mod engine;
mod error;
mod failure;
mod gate;
mod host;
mod instance;
mod interface;
mod last_words;
mod limits;
mod load;
mod module;
mod outcome;
mod random;
mod settings;
mod trial;
mod workers;

#[cfg(test)]
pub(crate) mod tests;

#[cfg(any(test, fuzzing))]
pub(crate) use compile::fuzz;
pub use engine::{Code, Engine};
pub use error::{EngineError, LoadError};
pub use gate::Held;
pub use instance::Instance;
pub use limits::Limits;
pub use module::Module;
pub use trial::{Trial, Verdict};
pub use workers::{Chunk, Here, Piece, STACK, Transformed, Workers};
