//! The bindings of slipring-sdk to the WIT interface in `../wit`. The test in `tests/generated` of Slipring's
//! repository generates `component.rs` and `core_module.rs`, and fails if they differ from the interface. Nothing
//! else is in this crate, so that slipring-sdk itself has no unsafe code.

#![cfg(target_family = "wasm")]
#![allow(
    missing_docs,
    unused_imports,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated"
)]

/// For a component, which is built for `wasm32-wasip2`.
#[cfg(not(target_os = "unknown"))]
#[rustfmt::skip]
mod component;
/// For a core module, which is built for `wasm32-unknown-unknown`.
#[cfg(target_os = "unknown")]
#[rustfmt::skip]
mod core_module;

#[cfg(not(target_os = "unknown"))]
pub use component::*;
#[cfg(target_os = "unknown")]
pub use core_module::*;
