//! A process that `up` has started, with its log in a file. Dropping it kills it, with everything that it has started.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::time::sleep;

use super::tied;

/// How often a process is checked that should start or end soon.
pub const SOON: Duration = Duration::from_millis(5);

/// How many lines of a log are shown with an error.
const LAST_LINES: usize = 8;

pub struct Child {
    pub name: &'static str,
    pub log: PathBuf,
    process: process::Child,
    status: Option<ExitStatus>,
}

impl Child {
    /// Starts `program`. It gets a process group of its own, so that Ctrl-C in a terminal reaches only this process, which
    /// ends the others in order. Call this on the main thread.
    pub fn start(
        name: &'static str,
        program: &Path,
        log: PathBuf,
        arrange: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Self> {
        let starting = || -> io::Result<process::Child> {
            let file = File::create(&log)?;
            let mut command = tied::command(program)?;
            arrange(&mut command);
            command
                .stdin(Stdio::null())
                .stdout(file.try_clone()?)
                .stderr(file)
                .process_group(0)
                .spawn()
        };
        let process = starting().with_context(|| format!("cannot start {name} ({})", program.display()))?;
        Ok(Self {
            name,
            log,
            process,
            status: None,
        })
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.process.try_wait().ok().flatten();
        }
        self.status
    }

    pub fn signal(&mut self, signal: Signal) {
        if self.exited().is_none() {
            // It was not waited for yet, so its ID cannot belong to another one. It may have ended just now.
            let _ = kill_process(Pid::from_child(&self.process), signal);
        }
    }

    /// Asks it to end, and kills it after `patience`, or when `hurry` returns true.
    pub async fn stop(mut self, patience: Duration, hurry: impl Fn() -> bool) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + patience;
        while self.exited().is_none() && Instant::now() < deadline && !hurry() {
            sleep(SOON).await;
        }
    }

    /// Returns an error for a process that has ended although it should run.
    pub fn has_ended(&self, status: ExitStatus) -> anyhow::Error {
        anyhow!("{} has ended ({status}).{}", self.name, self.last_words())
    }

    /// Returns the last lines of its log, to complete an error.
    pub fn last_words(&self) -> String {
        let log = self.log.display();
        let text = self.logged();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        match &lines[lines.len().saturating_sub(LAST_LINES)..] {
            [] => format!(" Its log, {log}, is empty"),
            last => format!(" The end of its log, {log}:\n  {}", last.join("\n  ")),
        }
    }

    /// Returns its whole log.
    pub fn logged(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.exited().is_none() {
            let _ = kill_process_group(Pid::from_child(&self.process), Signal::KILL);
            let _ = self.process.wait();
        }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("name", &self.name)
            .field("id", &self.process.id())
            .finish_non_exhaustive()
    }
}
