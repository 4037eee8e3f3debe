//! The process that compiles one file: it takes the file from standard input, leaves the code in a directory, and says on
//! standard output why it can't. It must expect the worst of the file, and takes no more than it was allowed.

use std::io::{self, Read};
use std::path::PathBuf;
use std::thread;

use rustix::process::{Resource, Rlimit, nice, setrlimit};
use wasmtime::component::{Component, Linker};

use super::super::bindings::TransformIndices;
use super::super::cache::{entry_in, wasmtime_cache};
use super::super::engine::config;
use super::super::host::{self, State};
use super::super::module::LoadError;
use super::super::{binary, interface};
use crate::config::Bounds;

/// How the process ends, beside 0 for a good file.
pub(super) const REFUSED: u8 = 3;
pub(super) const NOT_KEPT: u8 = 4;

/// Of the thread that compiles. wasmparser and Cranelift go down recursively in some places.
const STACK: usize = 8 * 1024 * 1024;

/// Of the thread that loads the code again: half of what the relay's threads have for the same, so that what would end the relay
/// ends this process before.
const LOADING_STACK: usize = 1024 * 1024;

/// Compiling gives way to what runs.
const NICENESS: i32 = 5;

/// Of a file that is larger than it may be, no more than this is read.
const LENGTH: usize = size_of::<u64>();

/// What such a process is told.
#[derive(Debug, Clone)]
pub struct Order {
    /// A directory of its own, in which wasmtime's cache leaves the code.
    pub scratch: PathBuf,
    pub bounds: Bounds,
}

/// Compiles what comes from `input`: the length of the file in 8 bytes, the file, and then nothing until whoever waits for the
/// result has gone. Returns the exit code, and what is to be said.
pub fn work(order: Order, mut input: impl Read + Send + 'static) -> (u8, String) {
    match confine(&order.bounds).and_then(|()| receive(&mut input)) {
        Ok(wasm) => {
            thread::spawn(move || end_with(input));
            match run(wasm, order) {
                Ok(()) => (0, String::new()),
                Err(LoadError::NotKept(reason)) => (NOT_KEPT, reason),
                Err(refused) => (REFUSED, refused.to_string()),
            }
        }
        Err(error) => (NOT_KEPT, format!("cannot begin to compile: {error}")),
    }
}

fn confine(bounds: &Bounds) -> io::Result<()> {
    let limit = |resource, current: u64, maximum: u64| {
        let limit = Rlimit {
            current: Some(current),
            maximum: Some(maximum),
        };
        setrlimit(resource, limit)
    };
    limit(Resource::Core, 0, 0)?;
    // With the first one comes a signal that says why; the second one kills.
    let seconds = bounds.cpu_seconds();
    limit(Resource::Cpu, seconds, seconds + 1)?;
    let memory = bounds.memory as u64;
    limit(
        if cfg!(target_os = "linux") {
            Resource::Data
        } else {
            Resource::As
        },
        memory,
        memory,
    )?;
    // Both are courtesies.
    let _ = nice(NICENESS);
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}

fn receive(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; LENGTH];
    input.read_exact(&mut length)?;
    let length = usize::try_from(u64::from_le_bytes(length)).map_err(io::Error::other)?;
    let mut wasm = Vec::new();
    wasm.try_reserve_exact(length).map_err(io::Error::other)?;
    input.take(length as u64).read_to_end(&mut wasm)?;
    if wasm.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(wasm)
}

/// Whoever wanted the result may be killed; then nobody would end this process.
fn end_with(mut input: impl Read) {
    let _ = io::copy(&mut input, &mut io::sink());
    std::process::exit(i32::from(NOT_KEPT));
}

fn run(wasm: Vec<u8>, order: Order) -> Result<(), LoadError> {
    let not_kept = |error: io::Error| LoadError::NotKept(format!("{}: {error}", order.scratch.display()));
    let mut config = config();
    config.cache(Some(
        wasmtime_cache(&order.scratch).map_err(|error| LoadError::NotKept(error.to_string()))?,
    ));
    let engine = wasmtime::Engine::new(&config).map_err(|error| LoadError::NotKept(format!("{error:#}")))?;
    let bounds = order.bounds;
    let (engine, wasm) = on_a_thread(STACK, move || {
        let compiled = super::component(&engine, &wasm, &bounds);
        compiled.map(|_| (engine, wasm))
    })
    .map_err(not_kept)??;
    if entry_in(&order.scratch).ok().flatten().is_none() {
        return Err(not_kept(io::Error::other(
            "there is no room for the code, or no leave to write it",
        )));
    }
    on_a_thread(LOADING_STACK, move || load(&engine, &wasm)).map_err(not_kept)?
}

/// All that the relay does before anything of the guest runs.
fn load(engine: &wasmtime::Engine, wasm: &[u8]) -> Result<(), LoadError> {
    let component = binary::component(wasm)?;
    let component =
        Component::from_binary(engine, &component).map_err(|error| LoadError::Compile(format!("{error:#}")))?;
    let linker = host::linker(engine).map_err(|error| LoadError::Link(format!("{error:#}")))?;
    check(engine, &linker, &component)
}

fn check(engine: &wasmtime::Engine, linker: &Linker<State>, component: &Component) -> Result<(), LoadError> {
    interface::check(engine, component)?;
    let pre = linker
        .instantiate_pre(component)
        .map_err(|error| LoadError::Link(format!("{error:#}")))?;
    TransformIndices::new(&pre).map_err(|error| LoadError::ExportType(format!("{error:#}")))?;
    Ok(())
}

/// What panics there ends this process, with the words of the panic on standard error.
fn on_a_thread<T: Send + 'static>(stack: usize, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let thread = thread::Builder::new()
        .name("compile".into())
        .stack_size(stack)
        .spawn(work)?;
    thread.join().or_else(|panic| std::panic::resume_unwind(panic))
}
