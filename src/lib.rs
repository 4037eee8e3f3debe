//! Slipring carries events from NATS JetStream or Redis to Centrifugo channels through a WebAssembly module that can be
//! exchanged while it runs.
//!
//! The modules, in reading order:
//!
//! - [`slipring_core`]: the decisions, without I/O. It holds [`message`], what flows through the relay, and [`load`],
//!   one load of a module's file. [`hash`] identifies the file, [`clock`] reads the time.
//! - [`config`]: the user's configuration, checked.
//! - [`nats`]: the connection that all pipelines share.
//! - [`source`], [`transform`], [`publish`]: the three stages. None knows another.
//! - [`tap`]: shows messages and what the module made of them, to people who look.
//! - [`memory`]: how much memory the stages may use.
//! - [`dead_letter`]: messages that could not be published.
//! - [`json`]: messages and outcomes as people write and read them.
//! - [`pipeline`]: wires the stages of one module. Only the pipeline sees all stages.
//! - [`modules`]: watches the directory and keeps one pipeline per module.
//! - [`status`]: the state of the relay and its modules. [`admin`] serves it over HTTP.
//! - [`relay`]: builds all of this, owns it and drains it. [`cli`]: starts the relay, and holds the other commands.
//! - [`telemetry`], [`shutdown`]: logging and signals of the process.

pub mod admin;
mod cause;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dead_letter;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod hash;
pub mod json;
pub mod memory;
pub mod modules;
pub mod nats;
pub mod pipeline;
pub mod publish;
#[cfg(feature = "redis")]
pub mod redis;
pub mod relay;
pub mod shutdown;
pub mod source;
pub mod status;
pub mod tap;
pub mod telemetry;
pub mod transform;
#[cfg(test)]
mod walls;

pub use slipring_core::{load, message};
