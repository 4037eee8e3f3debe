//! The wasmtime engine that all modules share: how they are compiled, what they may import, and the tick that ends calls which
//! take too long.

use std::fs::DirBuilder;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use wasmtime::component::Linker;
use wasmtime::{Cache, CacheConfig, Config};

use super::host::{self, State};

/// A call ends at most one tick after its time-out. A hundred wake-ups a second cost nothing that can be measured.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// What a guest's own calls may take of the thread's stack. It is wasmtime's default, and well below the 2 MiB of the threads
/// that run guests: beyond the thread's stack there would be no trap but the end of the process.
const MAX_WASM_STACK: usize = 512 * 1024;

/// Cheap to clone. The tick ends with the last clone and the last module.
#[derive(Clone)]
pub struct Engine {
    pub(super) wasmtime: wasmtime::Engine,
    pub(super) linker: Arc<Linker<State>>,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("cannot make or open the directory {} for compiled modules", path.display())]
    CacheDirectory { path: PathBuf, source: io::Error },
    #[error(
        "other users may write into the directory {} for compiled modules, and so run code in this process: \
         `chmod 700` it, or name one that does not exist yet", .0.display()
    )]
    CacheNotPrivate(PathBuf),
    #[error("cannot use the directory {} for compiled modules: {reason}", path.display())]
    Cache { path: PathBuf, reason: String },
    #[error("cannot start the WebAssembly engine: {0}")]
    Engine(String),
    #[error("cannot start the thread that ends calls which take too long")]
    Ticker(#[source] io::Error),
}

impl Engine {
    /// With `cache_dir`, compiled code is kept there, so that a restart does not compile again.
    pub fn new(cache_dir: Option<&Path>) -> Result<Self, EngineError> {
        let mut config = config();
        if let Some(dir) = cache_dir {
            config.cache(Some(cache(dir)?));
        }
        let wasmtime = wasmtime::Engine::new(&config).map_err(|error| EngineError::Engine(format!("{error:#}")))?;
        let linker = host::linker(&wasmtime).map_err(|error| EngineError::Engine(format!("{error:#}")))?;
        tick(&wasmtime).map_err(EngineError::Ticker)?;
        Ok(Self {
            wasmtime,
            linker: Arc::new(linker),
        })
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(MAX_WASM_STACK)
        // Both belong to features that are not compiled in. Should another crate's wish for them turn them on one day, they
        // would triple the cost of a call (measured with wasmtime 48), in silence.
        .concurrency_support(false)
        .gc_support(false)
        // A replay gives the same result on any machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true);
    config
}

/// Whoever can write into this directory can run code in this process, since what is found there is not compiled again.
fn cache(dir: &Path) -> Result<Cache, EngineError> {
    let io = |source| EngineError::CacheDirectory {
        path: dir.to_owned(),
        source,
    };
    create_private(dir).map_err(io)?;
    if others_may_write(dir).map_err(io)? {
        return Err(EngineError::CacheNotPrivate(dir.to_owned()));
    }
    let mut config = CacheConfig::new();
    config.with_directory(dir.canonicalize().map_err(io)?);
    Cache::new(config).map_err(|error| EngineError::Cache {
        path: dir.to_owned(),
        reason: format!("{error:#}"),
    })
}

/// What is there already stays as it is: it may be a directory that others need.
fn create_private(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(dir)
}

#[cfg(unix)]
fn others_may_write(dir: &Path) -> io::Result<bool> {
    Ok(std::os::unix::fs::MetadataExt::mode(&dir.metadata()?) & 0o022 != 0)
}

#[cfg(not(unix))]
fn others_may_write(_: &Path) -> io::Result<bool> {
    Ok(false)
}

fn tick(engine: &wasmtime::Engine) -> io::Result<()> {
    let engine = engine.weak();
    thread::Builder::new()
        .name("wasm tick".into())
        .stack_size(64 * 1024)
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                thread::sleep(TICK);
            }
        })?;
    Ok(())
}
