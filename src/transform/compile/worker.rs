//! The process that compiles one file. It reads the file from standard input, leaves the code in a directory, and
//! writes the reason to standard output if it fails. It expects a hostile file and limits its own resources.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, nice, setrlimit};
use wasmtime::component::{Component, Linker};

use super::super::bindings::TransformIndices;
use super::super::cache::{entry_in, wasmtime_cache};
use super::super::error::LoadError;
use super::super::host::{self, State};
use super::super::{binary, interface, settings};
use crate::config::Bounds;

/// Exit codes besides 0 for a good file.
pub(super) const REFUSED: u8 = 3;
pub(super) const NOT_KEPT: u8 = 4;

/// Stack size of the compiling thread. wasmparser and Cranelift recurse in some places.
const STACK: usize = 8 * 1024 * 1024;

/// Stack size of the thread that loads the code again. It is half of the size that the relay's threads have for this,
/// so code that would crash the relay crashes this process first.
const LOADING_STACK: usize = 1024 * 1024;

/// Compiling has lower priority than running modules.
const NICENESS: i32 = 5;

/// The first argument of such a process. It is no command for users and does not appear in `--help` or in completions.
const COMMAND: &str = "compile-module";

/// The instructions for such a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// A directory for this process alone, in which wasmtime's cache leaves the code.
    pub scratch: PathBuf,
    pub bounds: Bounds,
}

impl Order {
    pub(super) fn arguments(scratch: &Path, bounds: &Bounds) -> [OsString; 6] {
        let Bounds {
            file_size,
            cpu: _,
            memory,
            nesting,
        } = bounds;
        let numbers = [file_size, memory, nesting].map(|number| number.to_string().into());
        let [file_size, memory, nesting] = numbers;
        let cpu = bounds.cpu_seconds().to_string().into();
        [COMMAND.into(), scratch.into(), file_size, cpu, memory, nesting]
    }

    /// Parses the program's arguments if they are those of such a process.
    pub fn from_arguments(arguments: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let arguments: Vec<OsString> = arguments.into_iter().skip(1).collect();
        let [command, scratch, numbers @ ..] = arguments.as_slice() else {
            return None;
        };
        let numbers: Vec<u64> = numbers
            .iter()
            .map(|number| number.to_str()?.parse().ok())
            .collect::<Option<_>>()?;
        let &[file_size, cpu, memory, nesting] = numbers.as_slice() else {
            return None;
        };
        let number = |number: u64| usize::try_from(number).ok();
        (command == COMMAND).then_some(Self {
            scratch: scratch.into(),
            bounds: Bounds {
                file_size: number(file_size)?,
                cpu: Duration::from_secs(cpu),
                memory: number(memory)?,
                nesting: number(nesting)?,
            },
        })
    }
}

/// Compiles the file from `input`: its length in 8 bytes, the file, and then nothing until the relay closes the pipe.
/// The error, if any, goes to `output`.
pub fn work(order: &Order, mut input: impl Read + Send + 'static, output: &mut dyn Write) -> ExitCode {
    let done = match confine(&order.bounds).and_then(|()| receive(&mut input)) {
        Ok(wasm) => {
            thread::spawn(move || end_with(input));
            run(wasm, order)
        }
        Err(error) => Err(LoadError::NotKept(format!("cannot start compiling: {error}"))),
    };
    let (code, words) = match done {
        Ok(()) => (0, String::new()),
        Err(LoadError::NotKept(reason)) => (NOT_KEPT, reason),
        Err(refused) => (REFUSED, refused.to_string()),
    };
    // The reader may have gone.
    let _ = output.write_all(words.as_bytes()).and_then(|()| output.flush());
    ExitCode::from(code)
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
    // The first limit sends a signal that explains the end; the second one kills.
    let seconds = bounds.cpu_seconds();
    limit(Resource::Cpu, seconds, seconds + 1)?;
    let memory = bounds.memory as u64;
    // Limits private writable memory, which is what compiling takes. Only Linux counts mapped memory in this limit.
    let of_memory = if cfg!(target_os = "linux") {
        Resource::Data
    } else {
        Resource::As
    };
    limit(of_memory, memory, memory)?;
    // Both calls are optional, so errors are ignored.
    let _ = nice(NICENESS);
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // A core dump that is piped to another program ignores the limit.
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

fn receive(input: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; size_of::<u64>()];
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

/// The relay may be killed. Nobody else would then end this process.
fn end_with(mut input: impl Read) {
    let _ = io::copy(&mut input, &mut io::sink());
    std::process::exit(i32::from(NOT_KEPT));
}

fn run(wasm: Vec<u8>, order: &Order) -> Result<(), LoadError> {
    let not_kept = |error: io::Error| LoadError::NotKept(format!("{}: {error}", order.scratch.display()));
    let mut config = settings::with_compiler();
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
            "there is no space for the code, or no permission to write it",
        )));
    }
    on_a_thread(LOADING_STACK, move || load(&engine, &wasm)).map_err(not_kept)?
}

/// Does everything that the relay does before any code of the guest runs.
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

/// A panic there ends this process, with its message on standard error.
fn on_a_thread<T: Send + 'static>(stack: usize, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let thread = thread::Builder::new()
        .name("compile".into())
        .stack_size(stack)
        .spawn(work)?;
    thread.join().or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_understood_as_it_is_given() {
        let bounds = Bounds {
            file_size: 1,
            cpu: Duration::from_millis(1_500),
            memory: 3,
            nesting: 4,
        };
        let arguments = Order::arguments(Path::new("/scratch"), &bounds);
        let order = Order::from_arguments(["slipring".into()].into_iter().chain(arguments));
        let expected = Order {
            scratch: "/scratch".into(),
            bounds: Bounds {
                cpu: Duration::from_secs(2),
                ..bounds
            },
        };
        assert_eq!(order, Some(expected));
        for other in [&["slipring", "run"][..], &["slipring", "compile-module"], &["slipring"]] {
            assert_eq!(Order::from_arguments(other.iter().map(OsString::from)), None);
        }
    }
}
