//! Compiles a file to machine code. wasmparser, wit-component and Cranelift read the file, and none of them limits the
//! resources that it takes. A file of 380 kB can cost gigabytes and minutes, and a deeply nested one crashes the
//! process. The relay therefore compiles in a separate process (`process`), so nothing else suffers.

pub(super) mod process;
mod shape;
mod worker;

use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime::{Config, Engine};

use super::error::{EngineError, LoadError};
use super::{binary, failure};
use crate::config::Bounds;

pub use process::{in_processes, memory_held};
#[cfg(any(test, fuzzing))]
pub(crate) use shape::fuzz;
pub use worker::{Order, work};

/// Compiles in this process.
pub(super) fn component(engine: &Engine, wasm: &[u8], bounds: &Bounds) -> Result<Component, LoadError> {
    if wasm.len() > bounds.file_size {
        return Err(LoadError::TooLarge {
            bytes: wasm.len(),
            max: bounds.file_size,
        });
    }
    shape::check(wasm, bounds)?;
    let component = binary::component(wasm)?;
    Component::from_binary(engine, &component)
        .map_err(|error| LoadError::Compile(failure::one_line(&format!("{error:#}"))))
}

/// Returns a hash of everything but the file that the code depends on.
pub(super) fn environment(config: &Config) -> Result<[u8; 32], EngineError> {
    struct Hashing(Sha256);

    impl Hasher for Hashing {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            unreachable!("the whole hash is taken")
        }
    }

    let engine = Engine::new(config).map_err(|error| EngineError::Engine(format!("{error:#}")))?;
    let mut hasher = Hashing(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    binary::CONVERSION.hash(&mut hasher);
    Ok(hasher.0.finalize().into())
}
