//! Errors of creating an engine and of loading a file.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::bindings::WORLD;

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("cannot create or open the directory {} for compiled modules", path.display())]
    CacheDirectory { path: PathBuf, source: io::Error },
    #[error(
        "other users can write to the directory {} for compiled modules, and could run code in this process: `chmod \
         700` it, or name one that does not exist yet", .0.display()
    )]
    CacheNotPrivate(PathBuf),
    #[error("cannot use the directory {} for compiled modules: {reason}", path.display())]
    Cache { path: PathBuf, reason: String },
    #[error(
        "cannot create a directory for compiled modules in {}: set `modules.cache_dir` to a writable directory, or set \
         TMPDIR",
        path.display()
    )]
    NoPlace { path: PathBuf, source: io::Error },
    #[error("cannot start the WebAssembly engine: {0}")]
    Engine(String),
    #[error("cannot start the thread that interrupts calls that take too long")]
    Ticker(#[source] io::Error),
}

/// Why a file cannot be a module. Each message says what was found and what is expected, but does not name the file.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the file is empty")]
    Empty,
    #[error("the file is not a WebAssembly binary but {0}")]
    NotWasm(String),
    #[error("the file is damaged or cut short: {0}")]
    Damaged(String),
    #[error(
        "the file's WebAssembly version {:02x} {:02x} {:02x} {:02x} is neither a component's nor a core module's",
        .0[0], .0[1], .0[2], .0[3]
    )]
    Version([u8; 4]),
    #[error(
        "the file is a core module without a description of its functions: it has neither the type section of \
         `{WORLD}` nor its exports `init` and `transform`. In Rust, build it with slipring-sdk, with --target \
         wasm32-wasip2"
    )]
    Untyped,
    #[error("the core module cannot be converted to a component: {0}")]
    Encode(String),
    #[error("the module cannot be compiled: {0}")]
    Compile(String),
    #[error(
        "the module imports {}, which the relay does not provide: a module may import `{WORLD}` and \
         WASI 0.2, except wasi:http",
        quoted(.0)
    )]
    Imports(Vec<String>),
    #[error(
        "the module was built for {found}, {age} interface than `{WORLD}`, which this relay has: build it with the \
         slipring-sdk of this relay, or run it in a relay that has {found}"
    )]
    Interface { found: String, age: &'static str },
    #[error("the module's imports do not match what the relay provides: {0}")]
    Link(String),
    #[error(
        "the module does not export the function `{name}` of `{WORLD}`{}. Is there a function with `#[transform]`?",
        if .found.is_empty() { ": it exports nothing".into() } else { format!("; it exports {}", quoted(.found)) }
    )]
    MissingExport { name: &'static str, found: Vec<String> },
    #[error("the module's exports do not match `{WORLD}`: {0}")]
    ExportType(String),
    #[error("the module failed in a test call: {0}")]
    Tried(String),
    #[error("the file has {bytes} bytes, but the limit is {max} (`modules.max_file_size`)")]
    TooLarge { bytes: usize, max: usize },
    #[error(
        "its components are nested deeper than {0}, more than any known compiler produces; `modules.max_nesting` sets \
         the limit"
    )]
    Nesting(usize),
    #[error(
        "the blocks of one of its functions are nested deeper than {0}, more than any known compiler produces; \
         the limit is 500 times `modules.max_nesting`"
    )]
    Blocks(usize),
    #[error("compiling it took more than {} s of processor time; `modules.compile_cpu` sets the limit", .0.as_secs())]
    Processor(Duration),
    #[error(
        "compiling it took more than {} s by the clock, ten times `modules.compile_cpu`. Is the machine overloaded?",
        .0.as_secs()
    )]
    Clock(Duration),
    #[error(
        "compiling it took more than {} MiB of memory; the limit is `modules.compile_memory`, or `memory_limit` if that is smaller",
        .0.div_ceil(1 << 20)
    )]
    Memory(usize),
    #[error("the file's contents are nested too deeply to compile")]
    Nested,
    /// The compiling process refused the file, with this message.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Process(String),
    #[error("{0}: free some space there, or set `modules.cache_dir` to another directory")]
    NotKept(String),
    #[error("loading was cancelled, because nothing was waiting for it any more")]
    Unwanted,
}

fn quoted(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
