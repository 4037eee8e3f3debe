//! Errors of creating an engine and of loading a file.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::bindings::WORLD;

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
    #[error(
        "cannot make a directory for compiled modules in {}: name one that can be written to with `modules.cache_dir`, or set TMPDIR",
        path.display()
    )]
    NoPlace { path: PathBuf, source: io::Error },
    #[error("cannot start the WebAssembly engine: {0}")]
    Engine(String),
    #[error("cannot start the thread that ends calls which take too long")]
    Ticker(#[source] io::Error),
}

/// Why a file cannot be a module. Each message says what was found and what is expected, but does not name the file.
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
    /// The compiling process refused the file, with this message.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Process(String),
    #[error("{0}: make room there, or name another directory with `modules.cache_dir`")]
    NotKept(String),
    #[error("loading was given up, since nobody waited for it any more")]
    Unwanted,
}

fn quoted(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
