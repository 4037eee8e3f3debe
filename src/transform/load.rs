//! Turns a file into a [`Module`]: compiles it, checks it, and tries it out.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::bindings::TransformIndices;
use super::console::Log;
use super::doubts::Doubts;
use super::engine::{Code, Engine};
use super::error::LoadError;
use super::interface;
use super::limits::Limits;
use super::module::Module;
use crate::hash;
use crate::load::{Load, LoadId};

impl Module {
    /// Compiles, checks, and runs `init` once with the settings, a JSON object. This blocks while compiling: about 80
    /// ms for a small module in Rust, seconds for an interpreter.
    pub fn load(
        engine: &Engine,
        name: &str,
        wasm: &[u8],
        settings_json: &str,
        limits: Limits,
    ) -> Result<Arc<Self>, LoadError> {
        Self::load_hashed(engine, name, wasm, &hash::sha256(wasm), settings_json, limits)
    }

    /// Like [`load`](Self::load), for a file whose hash is known.
    pub fn load_hashed(
        engine: &Engine,
        name: &str,
        wasm: &[u8],
        sha256: &str,
        settings_json: &str,
        limits: Limits,
    ) -> Result<Arc<Self>, LoadError> {
        let code = match engine.compiled(sha256) {
            Some(code) => code,
            None => engine.compile(wasm, sha256, &|| true)?,
        };
        Self::start(code, name, sha256, settings_json, limits)
    }

    /// Checks code whose file has this hash, and runs `init` once with the settings, a JSON object. This blocks while
    /// `init` runs.
    pub fn start(
        code: Code,
        name: &str,
        sha256: &str,
        settings_json: &str,
        limits: Limits,
    ) -> Result<Arc<Self>, LoadError> {
        let Code { engine, component } = code;
        interface::check(&engine.wasmtime, &component)?;
        let pre = engine
            .linker
            .instantiate_pre(&component)
            .map_err(|error| LoadError::Link(format!("{error:#}")))?;
        let indices = TransformIndices::new(&pre).map_err(|error| LoadError::ExportType(format!("{error:#}")))?;
        let module = Arc::new(Self {
            engine: engine.wasmtime,
            name: name.to_owned(),
            settings: settings_json.to_owned(),
            limits,
            pre,
            indices,
            log: Arc::new(Log::new(name)),
            doubts: Doubts::default(),
            loaded: Load {
                id: next_id(),
                sha256: sha256.into(),
            },
            version: OnceLock::new(),
            one_by_one: AtomicBool::new(false),
        });
        module
            .instance()
            .try_out()
            .map_err(|failure| LoadError::Tried(failure.reason))?;
        Ok(module)
    }
}

fn next_id() -> LoadId {
    static LOADS: AtomicU64 = AtomicU64::new(0);
    LoadId(LOADS.fetch_add(1, Ordering::Relaxed))
}
