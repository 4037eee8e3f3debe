//! The events that a keeper waits for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::super::controls::Request;
use super::super::files::Files;
use super::absence::{self, Absence};
use super::{Keeper, Running};
use crate::transform::{Trial, Verdict};

/// How often a module's record is checked. If several relays share a directory, a version that one of them rolls back
/// must not return when another takes over.
const LOOK_AROUND: Duration = Duration::from_secs(2);

/// An event that wakes a keeper.
pub(super) enum Event {
    /// The directory holds something else, or nobody watches it any more.
    Files {
        closed: bool,
    },
    /// The running version failed its trial.
    Failed(Verdict),
    /// The running version has been watched for long enough.
    Passed,
    Request(Request),
    Broken,
    /// A consumer has become free.
    Freed,
    /// It is time to check which versions other relays on the same directory run.
    Others,
    /// The module's files have not come back.
    Absent(Absence),
    /// Nobody has restored the module after it was removed.
    Forgotten,
}

impl Keeper {
    pub(super) async fn next_event(
        &mut self,
        files: &mut watch::Receiver<Files>,
        requests: &mut mpsc::Receiver<Request>,
        freed: &mut watch::Receiver<()>,
    ) -> Event {
        let trial = self.probation().map(|probation| Arc::clone(&probation.trial));
        let until = self.probation().map(|probation| probation.until);
        let asked = self.running.as_ref().map(|running| running.claim.asked());
        let is_running = self.running.is_some();
        tokio::select! {
            biased;
            // This comes before the files, because a new version is compared with the running one.
            verdict = failed(trial) => Event::Failed(verdict),
            changed = files.changed() => Event::Files { closed: changed.is_err() },
            Some(request) = requests.recv() => Event::Request(request),
            () = over(until) => Event::Passed,
            () = broken(&mut self.running) => Event::Broken,
            // The sender lives in the keeper's own context.
            Ok(()) = freed.changed(), if self.blocked.is_some() => Event::Freed,
            absence = absence::certain(self.doubt, asked) => Event::Absent(absence),
            () = absence::forgotten(self.doubt.filter(|_| !is_running), self.stopped.is_some()) => Event::Forgotten,
            () = tokio::time::sleep(LOOK_AROUND), if is_running => Event::Others,
        }
    }
}

/// Waits for the pipeline to end by itself.
async fn broken(running: &mut Option<Running>) {
    match running {
        Some(running) => running.pipeline.ended().await,
        None => std::future::pending().await,
    }
}

async fn failed(trial: Option<Arc<Trial>>) -> Verdict {
    match trial {
        Some(trial) => trial.failure().await,
        None => std::future::pending().await,
    }
}

async fn over(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}
