//! How wasmtime is set up: for the relay, which only runs code, and for what compiles it.

use wasmtime::Config;

/// What a guest's own calls may take of the thread's stack. It is wasmtime's default, and well below the 2 MiB of the threads
/// that run guests: beyond the thread's stack there would be no trap but the end of the process.
const MAX_WASM_STACK: usize = 512 * 1024;

/// What code must have in common to run in this process.
pub(super) fn without_compiler() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(MAX_WASM_STACK)
        // Both belong to features that are not compiled in. Should another crate's wish for them turn them on one day, they
        // would triple the cost of a call (measured with wasmtime 48), in silence.
        .concurrency_support(false)
        .gc_support(false)
        // A replay gives the same result on any machine. So does what `with_compiler` adds.
        .relaxed_simd_deterministic(true);
    config
}

/// The same, and what the compiler has to know.
pub(super) fn with_compiler() -> Config {
    let mut config = without_compiler();
    config.cranelift_nan_canonicalization(true);
    config
}
