//! Keeps count of the messages that were too old to be published, and says so in the log: one line for many.

use std::time::{Duration, Instant};

use tracing::warn;

/// At the most one line a module in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Expired {
    unlogged: u64,
    youngest: Duration,
    oldest: Duration,
    logged: Option<Instant>,
}

impl Expired {
    /// A message of this age was left out.
    pub(super) fn left_out(&mut self, age: Duration) {
        self.youngest = if self.unlogged == 0 {
            age
        } else {
            self.youngest.min(age)
        };
        self.oldest = self.oldest.max(age);
        self.unlogged += 1;
    }

    /// Says what has come together, if there is something and the last line is a while ago.
    pub(super) fn tell(&mut self, now: Instant, module: &str) {
        if self.unlogged == 0 || self.logged.is_some_and(|logged| now - logged < LOG_INTERVAL) {
            return;
        }
        warn!(
            module,
            messages = self.unlogged,
            youngest_seconds = self.youngest.as_secs_f64(),
            oldest_seconds = self.oldest.as_secs_f64(),
            "left out messages older than `max_age`; if they were fresh, compare this machine's clock with that of nats-server"
        );
        *self = Self {
            logged: Some(now),
            ..Self::default()
        };
    }
}
