//! Watches the modules directory and reports its modules with their whole content as soon as their files have stopped
//! changing. What this means for pipelines is decided elsewhere. Nothing is compiled, parsed or started here.
//!
//! Changes are detected by the hash of the content. File system events only say when to look again, and a poll looks
//! anyway, because network file systems send no events. All file I/O happens on tokio's blocking threads. The
//! conclusions are drawn in `settle`, which does no I/O and takes the time as an argument.

mod change;
mod hints;
mod scan;
mod settle;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

pub use change::{Change, Missing};
use hints::Hints;
use scan::Scan;
pub use scan::{Kind, Part, Rules};
use settle::Settle;

/// How often the directory is checked without any event. This is short enough for a network file system, and one `stat`
/// per file is cheap.
const POLL: Duration = Duration::from_secs(2);

/// One save causes several events. A single look follows them, this long after the first.
const HINT_DELAY: Duration = Duration::from_millis(50);

/// A watched directory. [`Directory::next_change`] returns its changes. It looks only during that call. It misses
/// nothing in between, because it compares with the last change that it returned.
#[derive(Debug)]
pub struct Directory {
    settle: Settle,
    wake: Arc<Notify>,
    poll: Duration,
    next_look: Instant,
    /// The part that does I/O. It is on a blocking thread while `looking` is set.
    eyes: Option<Eyes>,
    looking: Option<JoinHandle<(Eyes, Scan)>>,
    told: VecDeque<Change>,
    /// Set once every file that existed at the start was read completely.
    all_seen: bool,
    complete: CancellationToken,
}

#[derive(Debug)]
struct Eyes {
    dir: PathBuf,
    rules: Rules,
    /// `None` means polling only.
    hints: Option<Hints>,
}

impl Directory {
    /// The directory does not have to exist yet. Must be called within a tokio runtime.
    pub fn new(dir: &Path, rules: Rules) -> Self {
        Self::build(dir, rules, POLL, true)
    }

    fn build(dir: &Path, rules: Rules, poll: Duration, events: bool) -> Self {
        // Events carry absolute paths. If the working directory is gone, the path stays relative, and only polling
        // finds changes.
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let wake = Arc::new(Notify::new());
        let hints = events.then(|| Hints::new(&dir, wake.clone()));
        Self {
            settle: Settle::new(dir.clone()),
            wake,
            poll,
            next_look: Instant::now(),
            eyes: Some(Eyes { dir, rules, hints }),
            looking: None,
            told: VecDeque::new(),
            all_seen: false,
            complete: CancellationToken::new(),
        }
    }

    /// Cancelled once everything in the directory at the start was returned. This happens only through calls of
    /// [`Directory::next_change`].
    pub fn complete(&self) -> CancellationToken {
        self.complete.clone()
    }

    /// Waits for the next change. The first changes describe what is there at the start. Cancel-safe in a `select!`:
    /// nothing is lost, and the next call continues.
    pub async fn next_change(&mut self) -> Change {
        loop {
            if let Some(change) = self.told.pop_front() {
                return change;
            }
            if self.all_seen {
                self.complete.cancel();
            }
            if self.looking.is_none() {
                self.wait_for_time_to_look().await;
            }
            let scan = self.look().await;
            let (at, read) = (scan.finished, scan.files.is_ok());
            self.told.extend(self.settle.observe(scan));
            self.all_seen |= read && self.settle.next_due().is_none();
            let poll = at + self.poll;
            self.next_look = self.settle.next_due().map_or(poll, |due| due.min(poll));
        }
    }

    async fn wait_for_time_to_look(&mut self) {
        loop {
            tokio::select! {
                () = sleep_until(self.next_look.into()) => return,
                () = self.wake.notified() => self.next_look = self.next_look.min(Instant::now() + HINT_DELAY),
            }
        }
    }

    /// Starts a scan, unless a cancelled call left one running, and waits for it.
    async fn look(&mut self) -> Scan {
        let looking = self.looking.get_or_insert_with(|| {
            let mut eyes = self.eyes.take().expect("the eyes are here while nothing is looking");
            let known = self.settle.known(Instant::now());
            spawn_blocking(move || {
                if let Some(hints) = &mut eyes.hints {
                    hints.attach();
                }
                let scan = scan::scan(&eyes.dir, &known, eyes.rules);
                (eyes, scan)
            })
        });
        match looking.await {
            Ok((eyes, scan)) => {
                self.looking = None;
                self.eyes = Some(eyes);
                scan
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is shutting down and will no longer start the scan.
            Err(_) => std::future::pending().await,
        }
    }
}
