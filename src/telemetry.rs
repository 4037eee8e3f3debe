//! Log lines on standard error: for people or as JSON, filtered by `SLIPRING_LOG`.
//!
//! The log can't hold up or end what it tells of: whatever standard error is (a full disk, a pipe that nobody reads, closed), a line
//! that can't be written is lost and counted.

mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use self::queue::Queue;
use crate::config::{Place, Problems};

/// What async-nats says about connections, the relay says itself.
pub const DEFAULT_FILTER: &str = "info,async_nats=warn";

/// For commands whose connections are nobody's concern while they hold.
pub const QUIET_FILTER: &str = "info,async_nats=warn,slipring::nats=warn";

/// How long the end of the process waits for lines that are still to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Of the process, since it has one standard error.
static LOST_LINES: AtomicU64 = AtomicU64::new(0);

/// Log lines that were lost so far: nobody took them in time, or they could not be written.
pub fn lost_lines() -> u64 {
    LOST_LINES.load(Ordering::Relaxed)
}

/// How log lines look.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For log collectors, one object a line
    Json,
}

/// What `SLIPRING_LOG` is set to. An empty one is none, as it is where a variable is passed on that nobody has set.
pub fn filter(variable: Option<OsString>) -> Result<Option<String>, Problems> {
    let text = variable.map(OsString::into_string).transpose();
    let text = text.map_err(|_| wrong("its value is not UTF-8, as every value here must be"))?;
    Ok(text.filter(|text| !text.trim().is_empty()))
}

/// Who waits for a line to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Whoever logs it: for commands, whose lines must not get between what they print.
    Direct,
    /// Nobody: for the relay, which goes on when its log can't.
    Queued,
}

/// The log of this process. Dropping it waits until all lines are written, for a second at the most.
#[derive(Debug, Default)]
pub struct Log {
    queue: Option<Queue>,
}

impl Log {
    /// Starts the log. To be called once in a process; `filter` is what `SLIPRING_LOG` is set to, or the command's default.
    ///
    /// # Errors
    ///
    /// [`Problems`] if the filter is not one; any other error if the log can't be started.
    pub fn start(format: Format, mode: Mode, filter: &str) -> anyhow::Result<Self> {
        let filter = parse(filter)?;
        let started = match mode {
            Mode::Direct => install(format, filter, io::stderr).map(|()| Self { queue: None }),
            Mode::Queued => {
                // A handle of its own: whoever holds the lock of Rust's may hold it for ever, in front of a pipe that nobody reads.
                let stderr = io::stderr().as_fd().try_clone_to_owned();
                let queue = Queue::start(File::from(stderr.context("no handle on standard error")?), &LOST_LINES)?;
                panic::set_hook(Box::new(log_panic));
                let lines = queue.clone();
                install(format, filter, move || lines.clone()).map(|()| Self { queue: Some(queue) })
            }
        };
        started.context("the log can't be started")
    }

    /// Writes a text as it is, behind all lines so far.
    pub fn print(&mut self, text: &dyn Display) {
        let text = format!("{text}\n");
        // Nobody is left who could be told that this failed.
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

fn install<W>(format: Format, filter: EnvFilter, writer: W) -> anyhow::Result<()>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_env_filter(filter)
        // It would tell of a line that can't be written by `eprintln!`, which panics for the same reason.
        .log_internal_errors(false);
    let installed = match format {
        Format::Text => builder
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .try_init(),
        Format::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    installed.map_err(|error| anyhow::anyhow!(error))
}

/// Rust's own hook waits until standard error takes what it writes.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    error!(
        thread = thread::current().name(),
        location,
        backtrace,
        "a task panicked, which is a bug in Slipring: {}",
        panic.payload_as_str().unwrap_or("without a message")
    );
}

fn parse(filter: &str) -> Result<EnvFilter, Problems> {
    EnvFilter::builder().parse(filter).map_err(|error| {
        let right = "it must be a level such as \"debug\", or a list such as \"warn,slipring=debug\"";
        wrong(format!("{filter:?} is not a filter of log lines ({error}); {right}"))
    })
}

fn wrong(message: impl Into<String>) -> Problems {
    let place = Place::Variable {
        name: "SLIPRING_LOG".to_owned(),
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

    /// For a process to end that has something to do.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A task panics in a process of its own, since the hook and the log are the process's. Its standard error is a pipe.
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
        // More than a pipe holds, and less than the queue does.
        (0..2_000).for_each(|number| error!(number, "a line that is long enough for a pipe to be full soon"));
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
        SLIPRING_LOG: "slipring=loud" is not a filter of log lines (error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5); it must be a level such as "debug", or a list such as "warn,slipring=debug"
        "#);
    }
}
