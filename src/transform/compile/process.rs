//! Starts the process that compiles a file, watches over it, and says in words how it ended.

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

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(3);

/// Of what it says.
const MAX_WORDS: u64 = 4 * 1024;

/// How often it is measured what a process holds, in looks.
const MEASURE: u32 = 10;

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Of all processes that compile now, in bytes.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// The memory that all processes hold which compile for this one, in bytes, as measured last. At most two of them do at once, each
/// with up to [`Bounds::memory`].
pub fn memory_held() -> usize {
    HELD.load(Ordering::Relaxed)
}

/// From now on files are compiled in processes that this program starts of itself. For a `main` that does what
/// `Order::from_arguments` finds; otherwise, as in tests and measurements, files are compiled where they
/// are loaded.
pub fn in_processes() {
    // Where an upgrade has replaced the file, this still is the program that runs.
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

/// Leaves the code of a file in the directory `scratch`, and blocks as long. It is given up soon after it is not `wanted` any more.
pub(in super::super) fn compile(
    wasm: &[u8],
    scratch: &Path,
    bounds: &Bounds,
    wanted: &dyn Fn() -> bool,
) -> Result<(), LoadError> {
    // Sending it would only take time.
    if wasm.len() > bounds.file_size {
        return Err(LoadError::TooLarge {
            bytes: wasm.len(),
            max: bounds.file_size,
        });
    }
    let not_started = |error: io::Error| LoadError::Process(format!("cannot start the process that compiles: {error}"));
    let mut child = Killed(start(scratch, bounds).map_err(not_started)?);
    let child = &mut child.0;
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (ended, output, errors) = thread::scope(|scope| {
        // It is sent and heard while the process works.
        let sending = thread::Builder::new()
            .name("send module".into())
            .spawn_scoped(scope, move || send(wasm, input));
        let output = thread::Builder::new().spawn_scoped(scope, move || words(output));
        let errors = thread::Builder::new().spawn_scoped(scope, move || words(errors));
        let ended = watch_over(child, bounds, wanted);
        // Whichever way it went, the threads end with it.
        let _ = child.kill();
        drop(sending.map_err(not_started)?.join());
        let heard = |heard: io::Result<thread::ScopedJoinHandle<'_, String>>| {
            let heard = heard.map_err(not_started)?.join();
            heard.map_err(|_| LoadError::Process("listening to the process that compiles broke".into()))
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

/// Returns what has to stay open: when it is closed, the process knows that nobody waits for it.
fn send(wasm: &[u8], input: Option<ChildStdin>) -> Option<ChildStdin> {
    let mut input = input?;
    let length = (wasm.len() as u64).to_le_bytes();
    // What can't be written any more was not wanted.
    let sent = input.write_all(&length).and_then(|()| input.write_all(wasm));
    sent.ok().map(|()| input)
}

fn start(scratch: &Path, bounds: &Bounds) -> io::Result<Child> {
    let program = PROGRAM.get().ok_or(io::ErrorKind::NotFound)?;
    let mut command = Command::new(program);
    command
        .arg0("slipring")
        .args(worker::Order::arguments(scratch, bounds))
        // No secret of the relay's is there for whatever a file might do to a compiler.
        .env_clear()
        // Address space that is kept for later would count as taken.
        .env("_RJEM_MALLOC_CONF", "retain:false")
        .current_dir("/")
        // Ctrl-C is for the relay, which ends it.
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

/// A process's part of what all of them hold.
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

/// In bytes, where the system tells.
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

/// It ended as it should not have: what the file made of it.
fn died(ended: ExitStatus, words: &str, bounds: &Bounds) -> LoadError {
    let signal = |signal: Signal| ended.signal() == Some(signal.as_raw());
    if signal(Signal::XCPU) {
        LoadError::Processor(bounds.cpu)
    } else if words.contains("has overflowed its stack") || signal(Signal::SEGV) {
        LoadError::Nested
    } else if words.contains("memory allocation of") || words.contains(OUT_OF_MEMORY) {
        LoadError::Memory(bounds.memory)
    } else if signal(Signal::KILL) {
        LoadError::Process(
            "the process that compiles was killed, perhaps because the machine has too little memory".into(),
        )
    } else {
        // The first line says the most: a panic's next ones are of the thread that waited for it.
        let words = one_line(words.trim());
        LoadError::Process(format!("the process that compiles broke ({ended}): {words}"))
    }
}

/// As the system says it, with the number by which it is the same in each language.
const OUT_OF_MEMORY: &str = "(os error 12)";

fn said(words: String, bounds: &Bounds) -> LoadError {
    if words.contains(OUT_OF_MEMORY) {
        LoadError::Memory(bounds.memory)
    } else {
        LoadError::Refused(words)
    }
}

/// Takes all that is said, so that the process never waits for somebody to listen, and keeps the beginning.
fn words(pipe: Option<impl Read>) -> String {
    let mut words = Vec::new();
    if let Some(mut pipe) = pipe {
        // What can't be read is not worth an error beside the one that it should explain.
        let _ = pipe.by_ref().take(MAX_WORDS).read_to_end(&mut words);
        let _ = io::copy(&mut pipe, &mut io::sink());
    }
    String::from_utf8_lossy(&words).into_owned()
}

/// Ends with whoever started it.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        // Without it, it would stay in the system's list.
        let _ = self.0.wait();
    }
}
