//! The modules directory as it changes: which modules it holds, with their whole content, as soon as a file has stopped
//! changing. What that means for pipelines is decided elsewhere; here nothing is compiled, parsed or started.
//!
//! The content's hash decides. Events of the file system only say when to look again, and a poll looks anyway, because
//! network file systems send none. All file I/O happens on tokio's blocking threads; what follows from what was seen is in
//! `settle`, which does no I/O and takes the time as an argument.

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
pub use scan::Rules;
use scan::Scan;
use settle::Settle;

/// How often the directory is looked at without any event: often enough that nobody waits for it on a network file system,
/// and one `stat` a file is cheap.
const POLL: Duration = Duration::from_secs(2);

/// One save makes several events; they are answered by one look, this long after the first.
const HINT_DELAY: Duration = Duration::from_millis(50);

/// One directory that is watched; ask it with [`Directory::next_change`]. It looks only while it is asked, and loses nothing in between,
/// since it compares with what it told last.
#[derive(Debug)]
pub struct Directory {
    settle: Settle,
    wake: Arc<Notify>,
    poll: Duration,
    next_look: Instant,
    /// The part that does I/O; away on a blocking thread while `looking` is set.
    eyes: Option<Eyes>,
    looking: Option<JoinHandle<(Eyes, Scan)>>,
    told: VecDeque<Change>,
    /// Every file that was there at the start had been looked at to the end.
    all_seen: bool,
    complete: CancellationToken,
}

#[derive(Debug)]
struct Eyes {
    dir: PathBuf,
    rules: Rules,
    /// None: by polling alone.
    hints: Option<Hints>,
}

impl Directory {
    /// The directory need not exist yet. Must be called within a tokio runtime.
    pub fn new(dir: &Path, rules: Rules) -> Self {
        Self::build(dir, rules, POLL, true)
    }

    fn build(dir: &Path, rules: Rules, poll: Duration, events: bool) -> Self {
        // Events carry absolute paths. If the working directory is gone, the path stays relative and polling does the work.
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

    /// Cancelled once all that was in the directory at the start has been told. Only [`Directory::next_change`] gets it there.
    pub fn complete(&self) -> CancellationToken {
        self.complete.clone()
    }

    /// Waits for the next change; the first ones tell what is there at the start. Safe to cancel (in a `select!`): nothing is
    /// lost, the next call goes on.
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

    /// Starts a scan unless a cancelled call left one running, and waits for it.
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
            // The runtime is shutting down and will not start the scan any more.
            Err(_) => std::future::pending().await,
        }
    }
}
