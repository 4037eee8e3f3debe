//! The wasmtime engine that all modules share. It defines how modules are compiled and what they may import, and runs
//! the tick that ends calls that take too long.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use sha2::{Digest, Sha256};
use wasmtime::Config;
use wasmtime::component::{Component, Linker};

use super::cache::Cache;
use super::compile::{self, process};
use super::console::lock;
use super::error::{EngineError, LoadError};
use super::host::{self, State};
use super::limits::TICK;
use super::settings;
use crate::config::Bounds;

/// Cheap to clone. The tick ends when the last clone and the last module are dropped.
#[derive(Clone)]
pub struct Engine {
    pub(super) wasmtime: wasmtime::Engine,
    pub(super) linker: Arc<Linker<State>>,
    compiler: Arc<Compiler>,
}

/// Machine code of a file. None of it has run yet.
#[derive(Debug)]
pub struct Code {
    pub(super) engine: Engine,
    pub(super) component: Component,
}

/// Decides who compiles a file.
enum Compiler {
    /// This process.
    Own,
    /// A separate process for each file, within limits. This process only loads the compiled code.
    Processes(Processes),
}

struct Processes {
    bounds: Bounds,
    cache: Cache,
    /// A hash of everything else that determines the code: wasmtime's settings, and how core modules become components.
    environment: [u8; 32],
    /// Held from the moment when an entry gets its name until it is loaded. A temporary cache is emptied after that.
    taking: Mutex<()>,
    /// Used for code that does not fit in the cache.
    spare: OnceLock<Option<Engine>>,
}

impl Engine {
    /// Compiles in this process, without limits. With `cache_dir`, compiled code is stored there, so a restart does not
    /// compile again.
    pub fn new(cache_dir: Option<&Path>) -> Result<Self, EngineError> {
        let mut config = settings::with_compiler();
        if let Some(dir) = cache_dir {
            config.cache(Some(Cache::open(dir)?.wasmtime()?));
        }
        Self::build(&config, Compiler::Own)
    }

    /// Compiles each file in a separate process, within `bounds`, if this program can start such processes (see
    /// [`compile::in_processes`]). The code comes back through wasmtime's cache, in `cache_dir` or in a temporary
    /// directory.
    pub fn bounded(cache_dir: Option<&Path>, bounds: Bounds) -> Result<Self, EngineError> {
        if !process::can_be_started() {
            return Self::new(cache_dir);
        }
        let cache = match cache_dir {
            Some(dir) => Cache::open(dir)?,
            None => Cache::temporary()?,
        };
        Self::with_cache(cache, bounds)
    }

    fn with_cache(cache: Cache, bounds: Bounds) -> Result<Self, EngineError> {
        let environment = compile::environment(&settings::with_compiler())?;
        let mut config = settings::without_compiler();
        config.enable_compiler(false).cache(Some(cache.wasmtime()?));
        let processes = Processes {
            bounds,
            cache,
            environment,
            taking: Mutex::default(),
            spare: OnceLock::new(),
        };
        Self::build(&config, Compiler::Processes(processes))
    }

    fn build(config: &Config, compiler: Compiler) -> Result<Self, EngineError> {
        let wasmtime = wasmtime::Engine::new(config).map_err(|error| EngineError::Engine(format!("{error:#}")))?;
        let linker = host::linker(&wasmtime).map_err(|error| EngineError::Engine(format!("{error:#}")))?;
        tick(&wasmtime).map_err(EngineError::Ticker)?;
        Ok(Self {
            wasmtime,
            linker: Arc::new(linker),
            compiler: Arc::new(compiler),
        })
    }

    /// Returns the code of the file with this hash, if it was compiled before.
    pub fn compiled(&self, sha256: &str) -> Option<Code> {
        match &*self.compiler {
            Compiler::Own => None,
            Compiler::Processes(processes) => self.take(&processes.stand_in(sha256)),
        }
    }

    /// Compiles a file and blocks until then. It ends soon after the code is no longer `wanted`.
    pub fn compile(&self, wasm: &[u8], sha256: &str, wanted: &dyn Fn() -> bool) -> Result<Code, LoadError> {
        match &*self.compiler {
            Compiler::Own => compile::component(&self.wasmtime, wasm, &Bounds::default()).map(|found| self.code(found)),
            Compiler::Processes(processes) => match self.compile_apart(processes, wasm, sha256, wanted) {
                Err(LoadError::NotKept(reason)) => match processes.spare() {
                    Some(spare) => spare.compile(wasm, sha256, wanted),
                    None => Err(LoadError::NotKept(reason)),
                },
                done => done,
            },
        }
    }

    fn compile_apart(
        &self,
        processes: &Processes,
        wasm: &[u8],
        sha256: &str,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Code, LoadError> {
        let not_kept = |error: io::Error| {
            let dir = processes.cache.dir().display();
            LoadError::NotKept(format!("cannot keep compiled code in {dir}: {error}"))
        };
        let scratch = processes.cache.scratch().map_err(not_kept)?;
        process::compile(wasm, scratch.path(), &processes.bounds, wanted)?;
        let stand_in = processes.stand_in(sha256);
        let _until_taken = lock(&processes.taking);
        let adopted = processes.cache.adopt(scratch.path(), &self.wasmtime, &stand_in);
        adopted.map_err(not_kept)?;
        let code = self.take(&stand_in);
        processes.cache.tidy();
        code.ok_or_else(|| not_kept(io::Error::other("it cannot be read back")))
    }

    /// Returns the code that wasmtime finds in its cache. Without a usable entry wasmtime would compile, but this
    /// engine cannot.
    fn take(&self, stand_in: &[u8]) -> Option<Code> {
        let found = Component::from_binary(&self.wasmtime, stand_in).ok()?;
        Some(self.code(found))
    }

    fn code(&self, component: Component) -> Code {
        Code {
            engine: self.clone(),
            component,
        }
    }
}

impl Processes {
    /// Returns the input for wasmtime in place of the file, so nothing in this process reads unchecked data. It is an
    /// empty component that names the hash of the file and of everything else that the code depends on.
    fn stand_in(&self, sha256: &str) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update(self.environment);
        hash.update(sha256);
        let hash = hash.finalize();
        let name = b"file";
        let mut component = b"\0asm\x0d\0\x01\0".to_vec();
        // A custom section: its size, then the size of its name and the name.
        component.extend([0, (1 + name.len() + hash.len()) as u8, name.len() as u8]);
        component.extend(name);
        component.extend(hash);
        component
    }

    fn spare(&self) -> Option<&Engine> {
        if self.cache.is_temporary() {
            return None;
        }
        let spare = || {
            let cache = Cache::temporary().ok()?;
            Engine::with_cache(cache, self.bounds).ok()
        };
        self.spare.get_or_init(spare).as_ref()
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
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
