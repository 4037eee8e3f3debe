//! Slipring carries events from NATS JetStream to Centrifugo channels through a WebAssembly module that can be exchanged
//! while it runs.
//!
//! The modules, in reading order:
//!
//! - [`slipring_core`]: what decides, and of it [`message`]: what flows, and [`load`]: through which load of a
//!   module, of a file with which [`hash`]. [`clock`]: when.
//! - [`config`]: what the user wrote, checked.
//! - [`nats`]: the connection that all pipelines share.
//! - [`source`], [`transform`], [`publish`]: the three stages; none knows another.
//! - [`memory`]: how much of it all of that may take.
//! - [`dead_letter`]: what could not be published.
//! - [`pipeline`]: wires the stages of one module; only it sees them all.
//! - [`modules`]: the directory that is watched, one pipeline a module.
//! - [`status`]: how all of that is. [`admin`]: over HTTP.
//! - [`relay`]: builds all of that, owns it, drains it. [`cli`]: what starts it, and the other commands.
//! - [`telemetry`], [`shutdown`]: the process around it.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dead_letter;
pub mod hash;
pub mod memory;
pub mod modules;
pub mod nats;
pub mod pipeline;
pub mod publish;
pub mod relay;
pub mod shutdown;
pub mod source;
pub mod status;
pub mod telemetry;
pub mod transform;
#[cfg(test)]
mod walls;

pub use slipring_core::{load, message};
