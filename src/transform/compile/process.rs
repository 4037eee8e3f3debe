//! Starts the process that compiles a file, watches it, and describes how it ended.

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::super::error::LoadError;
use super::super::failure::one_line;
use super::worker;
use crate::config::Bounds;

/// How often the relay checks on a process.
const LOOK: Duration = Duration::from_millis(3);

/// The most bytes of a process's output that are kept.
const MAX_WORDS: u64 = 4 * 1024;

/// How often the memory of a process is measured, in checks.
const MEASURE: u32 = 10;

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// The memory of all processes that are compiling now, in bytes.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// Returns the last measured memory, in bytes, of all processes that compile for this one. At most two compile at the
/// same time, each with up to [`Bounds::memory`].
pub fn memory_held() -> usize {
    HELD.load(Ordering::Relaxed)
}

/// From now on, files are compiled in processes that this program starts of itself. Only a `main` that handles
/// `Order::from_arguments` may call this. Otherwise, as in tests and benchmarks, files are compiled in the process that
/// loads them.
pub fn in_processes() {
    // This path still runs the current program after an upgrade has replaced its file.
    let own = Path::new("/proc/self/exe");
    let program = if own.exists() {
        Ok(own.to_owned())
    } else {
        std::env::current_exe()
    };
    if let Ok(program) = program {
        let _ = PROGRAM.set(program);
    }
}

pub(in super::super) fn can_be_started() -> bool {
    PROGRAM.get().is_some()
}

/// Compiles a file and leaves its code in the directory `scratch`. Blocks until then. It gives up soon after the code
/// is no longer `wanted`.
pub(in super::super) fn compile(
    wasm: &[u8],
    scratch: &Path,
    bounds: &Bounds,
    wanted: &dyn Fn() -> bool,
) -> Result<(), LoadError> {
    // Sending a file that is too large would only waste time.
    if wasm.len() > bounds.file_size {
        return Err(LoadError::TooLarge {
            bytes: wasm.len(),
            max: bounds.file_size,
        });
    }
    let not_started = |error: io::Error| LoadError::Process(format!("cannot start the compiler process: {error}"));
    let mut child = Killed(start(scratch, bounds).map_err(not_started)?);
    let child = &mut child.0;
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (ended, output, errors) = thread::scope(|scope| {
        // The file is sent and output is read while the process works.
        let sending = thread::Builder::new()
            .name("send module".into())
            .spawn_scoped(scope, move || send(wasm, input));
        let output = thread::Builder::new().spawn_scoped(scope, move || words(output));
        let errors = thread::Builder::new().spawn_scoped(scope, move || words(errors));
        let ended = watch_over(child, bounds, wanted);
        // Whatever the result, this ends the threads.
        let _ = child.kill();
        drop(sending.map_err(not_started)?.join());
        let heard = |heard: io::Result<thread::ScopedJoinHandle<'_, String>>| {
            let heard = heard.map_err(not_started)?.join();
            heard.map_err(|_| LoadError::Process("the connection to the compiler process was lost".into()))
        };
        Ok((ended?, heard(output)?, heard(errors)?))
    })?;
    match ended.code() {
        Some(0) => Ok(()),
        Some(code) if code == i32::from(worker::REFUSED) => Err(said(output, bounds)),
        Some(code) if code == i32::from(worker::NOT_KEPT) => Err(LoadError::NotKept(output)),
        _ => Err(died(ended, &errors, bounds)),
    }
}

/// Sends the file. Returns the pipe, which has to stay open: when it closes, the process knows that nobody waits for
/// it.
fn send(wasm: &[u8], input: Option<ChildStdin>) -> Option<ChildStdin> {
    let mut input = input?;
    let length = (wasm.len() as u64).to_le_bytes();
    // A process that reads no further does not want the rest.
    let sent = input.write_all(&length).and_then(|()| input.write_all(wasm));
    sent.ok().map(|()| input)
}

fn start(scratch: &Path, bounds: &Bounds) -> io::Result<Child> {
    let program = PROGRAM.get().ok_or(io::ErrorKind::NotFound)?;
    let mut command = Command::new(program);
    command
        .arg0("slipring")
        .args(worker::Order::arguments(scratch, bounds))
        // A file that attacks the compiler must not find the relay's secrets in its environment.
        .env_clear()
        // Address space that the allocator retains would count as used.
        .env("_RJEM_MALLOC_CONF", "retain:false")
        .current_dir("/")
        // Ctrl-C is meant for the relay, which ends this process itself.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn()
}

fn watch_over(child: &mut Child, bounds: &Bounds, wanted: &dyn Fn() -> bool) -> Result<ExitStatus, LoadError> {
    let start = Instant::now();
    let mut held = Held::default();
    for look in 0_u32.. {
        if look.is_multiple_of(MEASURE) {
            held.set(resident(child.id()).unwrap_or_default());
        }
        let ended = child.try_wait();
        if let Some(ended) = ended.map_err(|error| LoadError::Process(error.to_string()))? {
            return Ok(ended);
        }
        if !wanted() {
            return Err(LoadError::Unwanted);
        }
        if start.elapsed() > bounds.clock() {
            return Err(LoadError::Clock(bounds.clock()));
        }
        thread::sleep(LOOK);
    }
    Err(LoadError::Clock(bounds.clock()))
}

/// The contribution of one process to the total.
#[derive(Default)]
struct Held(usize);

impl Held {
    fn set(&mut self, bytes: usize) {
        HELD.fetch_add(bytes, Ordering::Relaxed);
        HELD.fetch_sub(self.0, Ordering::Relaxed);
        self.0 = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Returns the resident memory in bytes, if the system reports it.
fn resident(process: u32) -> Option<usize> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    kilobytes
        .trim()
        .strip_suffix(" kB")?
        .parse::<usize>()
        .ok()?
        .checked_mul(1024)
}

/// Explains a process that ended abnormally because of the file.
fn died(ended: ExitStatus, words: &str, bounds: &Bounds) -> LoadError {
    let signal = |signal: Signal| ended.signal() == Some(signal.as_raw());
    if signal(Signal::XCPU) {
        LoadError::Processor(bounds.cpu)
    } else if words.contains("has overflowed its stack") || signal(Signal::SEGV) {
        LoadError::Nested
    } else if words.contains("memory allocation of") || words.contains(OUT_OF_MEMORY) {
        LoadError::Memory(bounds.memory)
    } else if signal(Signal::KILL) {
        LoadError::Process("the compiler process was killed, perhaps because the machine has too little memory".into())
    } else {
        // The first line says the most. After a panic, the next lines come from the thread that waited for it.
        let words = one_line(words.trim());
        LoadError::Process(format!("the compiler process failed ({ended}): {words}"))
    }
}

/// The number is the same in every language of the system's error message.
const OUT_OF_MEMORY: &str = "(os error 12)";

fn said(words: String, bounds: &Bounds) -> LoadError {
    if words.contains(OUT_OF_MEMORY) {
        LoadError::Memory(bounds.memory)
    } else {
        LoadError::Refused(words)
    }
}

/// Reads all output, so the process never blocks on writing, and keeps the beginning.
fn words(pipe: Option<impl Read>) -> String {
    let mut words = Vec::new();
    if let Some(mut pipe) = pipe {
        // A read error is less useful than the error that the output should explain.
        let _ = pipe.by_ref().take(MAX_WORDS).read_to_end(&mut words);
        let _ = io::copy(&mut pipe, &mut io::sink());
    }
    String::from_utf8_lossy(&words).into_owned()
}

/// Kills the process when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        // Without this, the process would stay in the process table.
        let _ = self.0.wait();
    }
}
