//! A module that was compiled, checked and tried: whoever holds one may swap it in.

use std::fmt::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use wasmtime::component::InstancePre;

use super::bindings::TransformIndices;
use super::console::Log;
use super::doubts::Doubts;
use super::engine::{Code, Engine};
use super::host::State;
use super::instance::Instance;
use super::interface::{self, WORLD};
use super::limits::Limits;
use crate::loaded::{LoadId, Loaded};

pub struct Module {
    pub(super) engine: wasmtime::Engine,
    pub(super) name: String,
    pub(super) settings: String,
    pub(super) limits: Limits,
    pub(super) pre: InstancePre<State>,
    pub(super) indices: TransformIndices,
    pub(super) log: Arc<Log>,
    pub(super) doubts: Doubts,
    loaded: Loaded,
}

/// Why a file cannot be a module. Each says what was found and what would be right, but not of which file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the file is empty")]
    Empty,
    #[error("the file is not WebAssembly but {0}")]
    NotWasm(String),
    #[error("the file is damaged or cut short: {0}")]
    Damaged(String),
    #[error(
        "the file's WebAssembly version {:02x} {:02x} {:02x} {:02x} is neither a component's nor a core module's",
        .0[0], .0[1], .0[2], .0[3]
    )]
    Version([u8; 4]),
    #[error(
        "the file is a core module that does not say what its functions are: it has neither the type section of `{WORLD}` nor \
         its exports `init` and `transform`. In Rust, build it with slipring-sdk, with --target wasm32-wasip2"
    )]
    Untyped,
    #[error("the core module cannot be made a component: {0}")]
    Encode(String),
    #[error("the module cannot be compiled: {0}")]
    Compile(String),
    #[error(
        "the module imports {}, which the relay does not provide: a transform has WASI 0.2 without wasi:http, \
         and `{WORLD}`",
        quoted(.0)
    )]
    Imports(Vec<String>),
    #[error(
        "the module was built for {found}, {age} interface than `{WORLD}`, which this relay has: \
         build it with the slipring-sdk of the relay's version, or take a relay of the module's"
    )]
    Interface { found: String, age: &'static str },
    #[error("what the module imports does not fit what the relay provides: {0}")]
    Link(String),
    #[error(
        "the module does not export the function `{name}` of `{WORLD}`{}. Is there a function with `#[transform]`?",
        if .found.is_empty() { ": it exports nothing".into() } else { format!("; it exports {}", quoted(.found)) }
    )]
    MissingExport { name: &'static str, found: Vec<String> },
    #[error("what the module exports is not of the type that `{WORLD}` has: {0}")]
    ExportType(String),
    #[error("the module failed when it was tried: {0}")]
    Tried(String),
    #[error("the file has {bytes} bytes, and may have {max}; `modules.max_file_size` sets the limit")]
    TooLarge { bytes: usize, max: usize },
    #[error(
        "components are nested in it deeper than {0}, which no compiler does; `modules.max_nesting` sets the limit"
    )]
    Nesting(usize),
    #[error(
        "blocks are nested in a function of it deeper than {0}, which no compiler does; `modules.max_nesting` sets the limit, to a 500th"
    )]
    Blocks(usize),
    #[error("compiling it took more than its {} s of processor time; `modules.compile_cpu` sets the limit", .0.as_secs())]
    Processor(Duration),
    #[error(
        "compiling it took more than {} s, ten times its processor time; `modules.compile_cpu` sets the limit. Is the machine \
         overloaded?", .0.as_secs()
    )]
    Clock(Duration),
    #[error(
        "compiling it took more than its {} MiB of memory; `modules.compile_memory` sets the limit, and so does a smaller `memory_limit`",
        .0.div_ceil(1 << 20)
    )]
    Memory(usize),
    #[error("what is in the file is nested too deeply for a compiler")]
    Nested,
    /// By the process that compiled it, in its words.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Process(String),
    #[error("{0}: make room there, or name another directory with `modules.cache_dir`")]
    NotKept(String),
    #[error("loading was given up, since nobody waited for it any more")]
    Unwanted,
}

impl Module {
    /// Compiles, checks, and runs `init` once with the settings, a JSON object. This blocks for as long as compiling takes: some
    /// 80 ms for a small module in Rust, seconds for an interpreter.
    pub fn load(
        engine: &Engine,
        name: &str,
        wasm: &[u8],
        settings_json: &str,
        limits: Limits,
    ) -> Result<Arc<Self>, LoadError> {
        let sha256 = hex(&Sha256::digest(wasm));
        let code = match engine.compiled(&sha256) {
            Some(code) => code,
            None => engine.compile(wasm, &sha256, &|| true)?,
        };
        Self::start(code, name, &sha256, settings_json, limits)
    }

    /// Checks code, the file of which has this hash, and runs `init` once with the settings, a JSON object. This blocks for as long
    /// as `init` takes.
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
            loaded: Loaded::new(next_id(), sha256),
        });
        module
            .instance()
            .try_out()
            .map_err(|failure| LoadError::Tried(failure.reason))?;
        Ok(module)
    }

    /// The file's, in hexadecimal digits.
    pub fn sha256(&self) -> &Arc<str> {
        &self.loaded.sha256
    }

    /// Which load of its file it is.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    pub fn load_id(&self) -> LoadId {
        self.loaded.id
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Nothing of the guest runs before the first call.
    pub fn instance(self: &Arc<Self>) -> Instance {
        Instance::new(Arc::clone(self))
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module")
            .field("name", &self.name)
            .field("loaded", &self.loaded)
            .finish_non_exhaustive()
    }
}

fn next_id() -> LoadId {
    static LOADS: AtomicU64 = AtomicU64::new(0);
    LoadId::new(LOADS.fetch_add(1, Ordering::Relaxed))
}

fn quoted(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
