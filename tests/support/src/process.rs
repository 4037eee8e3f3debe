//! A child process with its log. It ends when its owner does: in `Drop`, or by a watchdog if this process is killed
//! before it can drop anything.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::{Usage, eventually};

/// Enough for every test, and a bound for a process that does nothing but complain.
const KEPT_LINES: usize = 100_000;

pub struct Process {
    name: String,
    child: Child,
    watchdog: Child,
    readers: Vec<JoinHandle<()>>,
    log: Arc<Mutex<VecDeque<String>>>,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`. It gets a process group of its own, so that Ctrl-C in a terminal reaches only us, and we stop
    /// it gracefully.
    pub fn spawn(name: &str, command: &mut Command) -> Result<Self> {
        Self::spawn_with_stderr(name, command, Stdio::piped())
    }

    /// Starts `command` with another standard error, which is not in the log.
    pub fn spawn_with_stderr(name: &str, command: &mut Command, stderr: Stdio) -> Result<Self> {
        crate::test_timeout::watch();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {name} ({})", command.get_program().display()))?;
        let log = Arc::default();
        let mut readers = Vec::new();
        readers.extend(child.stdout.take().map(|pipe| read_lines(pipe, &log)));
        readers.extend(child.stderr.take().map(|pipe| read_lines(pipe, &log)));
        let watchdog = match watch(&child) {
            Ok(watchdog) => watchdog,
            Err(error) => {
                end(&mut child);
                return Err(error).with_context(|| format!("starting the watchdog of {name}"));
            }
        };
        Ok(Self {
            name: name.to_owned(),
            child,
            watchdog,
            readers,
            log,
            status: None,
        })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns what it has used of the machine so far.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.id())
    }

    /// Returns its exit status, once it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.status.is_none()
            && let Ok(Some(status)) = self.child.try_wait()
        {
            self.ended(status);
        }
        self.status
    }

    pub async fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        let waited = eventually(patience, what, async || self.exited().ok_or("it runs")).await;
        waited.with_context(|| self.tail())
    }

    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.exited() {
            return Err(anyhow!("{} has ended already ({status})\n{}", self.name, self.tail()));
        }
        kill_process(Pid::from_child(&self.child), signal).with_context(|| format!("signalling {}", self.name))
    }

    /// Pauses it (`SIGSTOP`) until it is resumed or killed. Its connections stay open. Returns when all of its threads
    /// have stopped, which takes longer than a request on a busy machine.
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        // Also waits for its end, or this would wait forever. `NOWAIT` leaves both for the next caller.
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        retry_on_intr(|| waitid(WaitId::Pid(Pid::from_child(&self.child)), stopped))
            .map(drop)
            .with_context(|| format!("waiting for {} to stop", self.name))
    }

    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Does what Ctrl-C does.
    pub fn interrupt(&mut self) -> Result<()> {
        self.signal(Signal::INT)
    }

    /// Ends it at once, without a chance to clean up.
    pub fn kill(&mut self) {
        if self.exited().is_none() {
            let status = end(&mut self.child);
            status.into_iter().for_each(|status| self.ended(status));
        }
    }

    /// Asks it to end, and kills it if it does not within `patience`.
    pub async fn stop(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let waited = self.wait(patience).await;
        if waited.is_err() {
            self.kill();
        }
        waited
    }

    /// Waits until it has written a line for which `fits` returns true. Fails at once if it ends before.
    pub async fn line(&mut self, patience: Duration, what: &str, fits: impl Fn(&str) -> bool) -> Result<String> {
        let waiting = eventually(patience, format!("{what} in the log of {}", self.name), async || {
            // Checked first, so that everything it wrote before its end is in the log.
            let exited = self.exited();
            match self.log().into_iter().find(|line| fits(line)) {
                Some(line) => Ok(Ok(line)),
                None => exited
                    .map(|status| Err(anyhow!("{} ended ({status}) before {what}", self.name)))
                    .ok_or("no such line"),
            }
        });
        waiting.await.flatten().with_context(|| self.tail())
    }

    /// Returns the lines of its standard output and standard error.
    pub fn log(&self) -> Vec<String> {
        lock(&self.log).iter().cloned().collect()
    }

    /// Returns its last lines, for an error message.
    pub fn tail(&self) -> String {
        let log = lock(&self.log);
        let last: Vec<&str> = log
            .iter()
            .skip(log.len().saturating_sub(20))
            .map(String::as_str)
            .collect();
        format!("the last lines of {}:\n  {}", self.name, last.join("\n  "))
    }

    fn ended(&mut self, status: ExitStatus) {
        self.status = Some(status);
        // The watchdog ends first, before the process ID can be reused.
        end(&mut self.watchdog);
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name)
            .field("id", &self.child.id())
            .finish_non_exhaustive()
    }
}

/// Kills `child` however this process ends: the kernel then closes our end of the pipe, and `read` returns.
fn watch(child: &Child) -> std::io::Result<Child> {
    Command::new("sh")
        .args([
            "-c",
            r#"read -r _; kill -KILL "$1""#,
            "watchdog",
            &child.id().to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

fn end(child: &mut Child) -> Option<ExitStatus> {
    // Both fail only for a child that is gone.
    let _ = child.kill();
    child.wait().ok()
}

fn read_lines(pipe: impl Read + Send + 'static, log: &Arc<Mutex<VecDeque<String>>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let mut log = lock(&log);
            if log.len() == KEPT_LINES {
                log.pop_front();
            }
            log.push_back(String::from_utf8_lossy(&line).into_owned());
        }
    })
}

/// A panic elsewhere must not hide the log that explains it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        Process::spawn("a shell", Command::new("sh").args(["-c", script])).unwrap()
    }

    fn runs(id: u32) -> bool {
        rustix::process::test_kill_process(Pid::from_raw(id as i32).unwrap()).is_ok()
    }

    #[tokio::test]
    async fn keeps_what_the_process_writes_on_both_streams() {
        let mut process = shell("echo out; echo err >&2");
        process.wait(Duration::from_secs(5)).await.unwrap();
        let mut log = process.log();
        log.sort();
        assert_eq!(log, ["err", "out"]);
    }

    #[tokio::test]
    async fn a_process_that_ends_early_is_reported_with_its_last_words() {
        let error = shell("echo no such port; exit 3")
            .line(Duration::from_secs(5), "readiness", |line| line == "ready")
            .await;
        let error = format!("{:#}", error.unwrap_err());
        assert!(
            error.contains("exit status: 3") && error.contains("no such port"),
            "{error}"
        );
    }

    #[test]
    fn dropping_ends_the_process_and_its_watchdog() {
        let process = shell("exec sleep 1000");
        let (child, watchdog) = (process.child.id(), process.watchdog.id());
        assert!(runs(child) && runs(watchdog));
        drop(process);
        assert!(!runs(child) && !runs(watchdog));
    }

    #[tokio::test]
    async fn a_paused_process_does_nothing_until_it_is_resumed() {
        let mut process = shell("while sleep 0.01; do echo tick; done");
        let ticks = async |process: &mut Process, count| {
            let more = async || {
                if process.log().len() >= count {
                    Ok(())
                } else {
                    Err("too few")
                }
            };
            eventually(Duration::from_secs(5), format!("{count} ticks"), more)
                .await
                .unwrap();
        };
        ticks(&mut process, 1).await;
        process.pause().unwrap();
        // The shell's `sleep` may still be ending, and the shell's output may still be on its way.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let before = process.log().len();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(process.log().len(), before);
        process.resume().unwrap();
        ticks(&mut process, before + 2).await;
    }

    #[tokio::test]
    async fn the_watchdog_ends_the_process_when_its_owner_is_gone() {
        let mut process = shell("exec sleep 1000");
        drop(process.watchdog.stdin.take());
        let status = process.wait(Duration::from_secs(5)).await.unwrap();
        assert_eq!(status.to_string(), "signal: 9 (SIGKILL)");
    }
}
