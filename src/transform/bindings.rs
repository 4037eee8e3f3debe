//! The world of `guest-sdk/wit` in typed Rust. Parameters are borrowed, so a payload is copied only once, into the
//! guest.
//!
//! The world of a core module, `transform-core`, differs only in one import, which `host` provides by hand. Its exports
//! are the same.

wasmtime::component::bindgen!({
    path: "guest-sdk/wit",
    world: "transform",
    ownership: Borrowing { duplicate_if_necessary: true },
});

/// The world's name.
pub(super) const WORLD: &str = "slipring:transform@0.1.0";
/// The interface that it imports.
pub(super) const TYPES: &str = "slipring:transform/types@0.1.0";
pub(super) const DIAGNOSTICS: &str = "slipring:transform/diagnostics@0.1.0";
pub(super) const BATCH: &str = "slipring:transform/batch@0.1.0";
/// The functions that it exports.
pub(super) const INIT: &str = "init";
pub(super) const TRANSFORM: &str = "transform";
/// The function that a module may export for calls with many messages. It is optional, so it is not in the bindings.
pub(super) const TRANSFORM_BATCH: &str = "transform-batch";
