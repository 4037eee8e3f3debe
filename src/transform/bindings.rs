//! The world of `guest-sdk/wit` in typed Rust. Parameters are borrowed, so that a payload is copied once: into the guest.
//!
//! A core module's world, `transform-core`, differs in one import alone, which `host` provides by hand; its exports
//! are these.

wasmtime::component::bindgen!({
    path: "guest-sdk/wit",
    world: "transform",
    ownership: Borrowing { duplicate_if_necessary: true },
});

/// The world's name.
pub(super) const WORLD: &str = "slipring:transform@0.1.0";
/// What it imports.
pub(super) const TYPES: &str = "slipring:transform/types@0.1.0";
pub(super) const DIAGNOSTICS: &str = "slipring:transform/diagnostics@0.1.0";
/// What it exports.
pub(super) const INIT: &str = "init";
pub(super) const TRANSFORM: &str = "transform";
