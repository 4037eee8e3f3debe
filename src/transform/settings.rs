//! Configures wasmtime for the relay, which only runs code, and for the compiler.

use wasmtime::Config;

/// The most stack that a guest's own calls may use. It is wasmtime's default and well below the 2 MiB of the threads
/// that run guests. Beyond the thread's stack, the process would crash instead of trapping.
const MAX_WASM_STACK: usize = 512 * 1024;

/// Returns the settings that code must share to run in this process.
pub(super) fn without_compiler() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(MAX_WASM_STACK)
        // Both belong to features that are not compiled in. If another crate enabled them one day, they would silently
        // triple the cost of a call (measured with wasmtime 48).
        .concurrency_support(false)
        .gc_support(false)
        // A replay gives the same result on any machine. The settings of `with_compiler` also serve this.
        .relaxed_simd_deterministic(true);
    config
}

/// Returns the same settings, and those that only the compiler needs.
pub(super) fn with_compiler() -> Config {
    let mut config = without_compiler();
    config.cranelift_nan_canonicalization(true);
    config
}
