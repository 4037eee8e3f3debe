//! Log lines on standard error, for people or as JSON, filtered by `SLIPRING_LOG`.
//!
//! The log never blocks or ends the rest of the process. If standard error cannot take a line (a full disk, a pipe that
//! nobody reads, a closed descriptor), the line is lost and counted.

mod limit;
mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::panic::{self, PanicHookInfo};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{self, LevelFilter};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use self::limit::Limiter;
pub use self::limit::Suppressed;
use self::queue::Queue;
use crate::config::{Place, Problems};

/// The relay itself logs the state of its connections, so async-nats need not.
pub const DEFAULT_FILTER: &str = "info,async_nats=warn";

/// For commands whose connections matter to nobody while they work.
pub const QUIET_FILTER: &str = "info,async_nats=warn,slipring::nats=warn";

/// The variables with the filter and the format.
const FILTER: &str = "SLIPRING_LOG";
const FORMAT: &str = "SLIPRING_LOG_FORMAT";

/// How long the process waits at its end for lines that are not written yet.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Counted once per process, because a process has one standard error.
static LOST_LINES: AtomicU64 = AtomicU64::new(0);

/// Returns the number of log lines lost so far, because they were not taken in time or could not be written.
pub fn lost_lines() -> u64 {
    LOST_LINES.load(Ordering::Relaxed)
}

static SUPPRESSED_LINES: AtomicU64 = AtomicU64::new(0);

/// Counted once per process, like the log itself.
static LIMITER: OnceLock<Limiter> = OnceLock::new();

/// Returns the number of log lines left out so far, because the same had just been logged.
pub fn suppressed_lines() -> u64 {
    SUPPRESSED_LINES.load(Ordering::Relaxed)
}

/// Returns the log lines that were left out since the last call, by kind.
pub fn take_suppressed() -> Vec<Suppressed> {
    LIMITER.get().map(Limiter::take).unwrap_or_default()
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For log collectors, one object per line
    Json,
}

/// Returns the value of `SLIPRING_LOG`. An empty value counts as unset: tools that pass variables on set them empty.
pub fn filter(variable: Option<OsString>) -> Result<Option<String>, Problems> {
    text(FILTER, variable)
}

/// Returns the format that `SLIPRING_LOG_FORMAT` has, if it is set and not empty.
pub fn format(variable: Option<OsString>) -> Result<Option<Format>, Problems> {
    let Some(text) = text(FORMAT, variable)? else {
        return Ok(None);
    };
    let format = Format::from_str(text.trim(), false);
    format.map(Some).map_err(|_| {
        wrong(
            FORMAT,
            format!("there is no log format {text:?}; it must be \"text\" or \"json\""),
        )
    })
}

fn text(name: &str, variable: Option<OsString>) -> Result<Option<String>, Problems> {
    let text = variable.map(OsString::into_string).transpose();
    let text = text.map_err(|_| wrong(name, "its value is not UTF-8"))?;
    Ok(text.filter(|text| !text.trim().is_empty()))
}

/// Who waits until a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The caller waits. For commands, where a log line must not get in between the lines they print.
    Direct,
    /// Nobody waits. For the relay, which goes on when its log cannot be written.
    Queued,
}

/// The log of this process. Dropping it waits until all lines are written, at most one second.
#[derive(Debug, Default)]
pub struct Log {
    queue: Option<Queue>,
}

impl Log {
    /// Starts the log. Call it once per process. `filter` is the value of `SLIPRING_LOG` or the command's default.
    ///
    /// # Errors
    ///
    /// [`Problems`] if the filter is invalid; any other error if the log cannot be started.
    pub fn start(format: Format, mode: Mode, filter: &str) -> anyhow::Result<Self> {
        let filter = parse(filter)?;
        let started = match mode {
            Mode::Direct => install(format, filter, None, io::stderr).map(|()| Self { queue: None }),
            Mode::Queued => {
                // A handle of its own: a thread that writes to a pipe that nobody reads can hold Rust's lock forever.
                let stderr = io::stderr().as_fd().try_clone_to_owned();
                let queue = Queue::start(File::from(stderr.context("cannot open standard error")?), &LOST_LINES)?;
                panic::set_hook(Box::new(log_panic));
                let lines = queue.clone();
                install(
                    format,
                    filter,
                    Some(LIMITER.get_or_init(Limiter::default).clone()),
                    move || lines.clone(),
                )
                .map(|()| Self { queue: Some(queue) })
            }
        };
        started.context("cannot start the log")
    }

    /// Writes the text unchanged, after all lines so far.
    pub fn print(&mut self, text: &dyn Display) {
        let text = format!("{text}\n");
        // If this fails, there is no way left to report it.
        let _ = match &mut self.queue {
            Some(queue) => queue.write_all(text.as_bytes()),
            None => io::stderr().write_all(text.as_bytes()),
        };
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(queue) = &self.queue {
            queue.flush_within(LAST_LINES);
        }
    }
}

/// `limiter` leaves out lines that repeat others.
fn install<W>(format: Format, filter: EnvFilter, limiter: Option<Limiter>, writer: W) -> anyhow::Result<()>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        // tracing-subscriber would report an unwritable line with `eprintln!`, which panics for the same reason.
        .log_internal_errors(false);
    let lines = match format {
        Format::Text => lines.with_ansi(colours()).with_target(false).boxed(),
        Format::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    let lines = lines.with_filter(limiter.map_or_else(
        || filter::FilterExt::boxed(LevelFilter::TRACE),
        filter::FilterExt::boxed,
    ));
    let installed = tracing_subscriber::registry().with(filter).with(lines).try_init();
    installed.map_err(|error| anyhow::anyhow!(error))
}

/// Returns true if a person reads the log on a terminal and wants colours (https://no-color.org).
fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Rust's own hook blocks until standard error takes the message.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    error!(
        thread = thread::current().name(),
        location,
        backtrace,
        "a task panicked, which is a bug in Slipring: {}",
        panic.payload_as_str().unwrap_or("(no message)")
    );
}

fn parse(filter: &str) -> Result<EnvFilter, Problems> {
    EnvFilter::builder().parse(filter).map_err(|error| {
        let right = "it must be a level such as \"debug\", or a list such as \"warn,slipring=debug\"";
        wrong(FILTER, format!("{filter:?} is not a log filter ({error}); {right}"))
    })
}

fn wrong(variable: &str, message: impl Into<String>) -> Problems {
    let place = Place::Variable {
        name: variable.to_owned(),
    };
    Problems::one(place, message)
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read};
    use std::process::{Child, Command};
    use std::time::Instant;

    use insta::assert_snapshot;

    use super::*;

    /// How long to wait until a child process has ended.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// Starts a process in which a task panics, because the hook and the log belong to the whole process. Its standard
    /// error is a pipe.
    fn panicking() -> (Child, PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--ignored",
            "--exact",
            "--nocapture",
            "telemetry::tests::logs_much_and_panics",
        ]);
        (command.stderr(writer).spawn().unwrap(), reader)
    }

    #[test]
    #[ignore = "for a process of its own, which the tests below start"]
    fn logs_much_and_panics() {
        let _log = Log::start(Format::Text, Mode::Queued, DEFAULT_FILTER).unwrap();
        // More than a pipe holds, and less than the queue holds.
        (0..2_000).for_each(|number| {
            error!(
                number,
                not_logged = 0_u64,
                "a line that is long enough for a pipe to be full soon"
            )
        });
        let panicked = thread::spawn(|| panic!("as asked")).join();
        assert!(panicked.is_err() && lost_lines() == 0);
    }

    #[test]
    fn a_panic_does_not_wait_for_the_log() {
        let (mut child, reader) = panicking();
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    child.kill().unwrap();
                    panic!("it hangs");
                }
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        assert!(status.success(), "{status}");
        drop(reader);
    }

    #[test]
    fn a_panic_is_a_line_of_the_log() {
        let (mut child, mut reader) = panicking();
        let mut log = String::new();
        reader.read_to_string(&mut log).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(
            log.contains("ERROR a task panicked, which is a bug in Slipring: as asked"),
            "{log}"
        );
        assert!(log.contains("src/telemetry.rs:"), "{log}");
    }

    #[test]
    fn a_filter_that_says_nothing_is_none() {
        for nothing in [None, Some("".into()), Some(" ".into())] {
            assert_eq!(filter(nothing).unwrap(), None);
        }
        assert_eq!(filter(Some("debug".into())).unwrap().as_deref(), Some("debug"));
    }

    #[test]
    fn a_wrong_filter_is_refused() {
        assert!(parse("warn,slipring=debug").is_ok());
        assert!(parse(DEFAULT_FILTER).is_ok() && parse(QUIET_FILTER).is_ok());
        assert_snapshot!(parse("slipring=loud").unwrap_err(), @r#"
        SLIPRING_LOG: "slipring=loud" is not a log filter (error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5); it must be a level such as "debug", or a list such as "warn,slipring=debug"
        "#);
    }
}
