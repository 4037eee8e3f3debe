//! The last 15 minutes, a sample each second: how much each module received and published, how far it was behind, and what
//! happened. It is what the page and `slipring top` draw. Metrics for Prometheus are in `metrics`, and hold no past.

mod changes;
mod recorder;
mod report;
mod series;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use self::recorder::{Moment, Recorder};
use super::board::StatusBoard;

pub use self::report::{HistoryReport, LiveSample, Mark, MarkKind, ModuleHistory, ModuleSample};

/// A clone is the same history.
#[derive(Debug, Clone, Default)]
pub struct History(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    recorder: Mutex<Recorder>,
    newest: watch::Sender<Option<Arc<LiveSample>>>,
}

impl History {
    /// Takes a sample each second, for ever. If the process was stopped for a while, its seconds remain unknown.
    pub async fn follow(&self, board: StatusBoard) {
        loop {
            self.take(&board);
            tokio::time::sleep(until_next(unix_now())).await;
        }
    }

    fn take(&self, board: &StatusBoard) {
        let latencies = board.take_latencies();
        let status = board.status();
        let now = Moment {
            unix: unix_now().as_secs_f64(),
            instant: Instant::now(),
        };
        let sample = self.recorder().add(now, status, &latencies);
        self.0.newest.send_replace(Some(Arc::new(sample)));
    }

    /// Returns the last 15 minutes in steps of so many seconds, of all modules or of this one. Rates are averaged, and of
    /// the rest the highest value counts. A module that was removed is forgotten when its newest sample is 15 minutes old, or
    /// earlier if many were removed.
    pub fn read(&self, step: u32, module: Option<&str>) -> HistoryReport {
        self.recorder().report(step, module)
    }

    /// Returns the marks of the last 15 minutes with higher IDs than this one, the oldest first.
    pub fn marks_after(&self, id: u64) -> Vec<Mark> {
        self.recorder().marks_after(id)
    }

    /// Returns a receiver of the newest sample, which a new receiver counts as not seen yet. There is none until the first
    /// one is taken.
    pub fn samples(&self) -> watch::Receiver<Option<Arc<LiveSample>>> {
        let mut samples = self.0.newest.subscribe();
        samples.mark_changed();
        samples
    }

    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.0.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns how long it is until the middle of the next second. There a sample belongs to that second even if it is taken
/// a little too late or too early.
fn until_next(now: Duration) -> Duration {
    Duration::from_millis(1_500) - Duration::from_nanos(u64::from(now.subsec_nanos()))
}

#[cfg(test)]
mod tests;
