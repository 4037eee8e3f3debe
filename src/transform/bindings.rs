//! The world of `guest-sdk/wit` in typed Rust. Parameters are borrowed, so that a payload is copied once: into the guest.
//!
//! A core module's world, `transform-core`, differs in one import alone, which `host` provides by hand; its exports
//! are these.

wasmtime::component::bindgen!({
    path: "guest-sdk/wit",
    world: "transform",
    ownership: Borrowing { duplicate_if_necessary: true },
});
