//! Keeps count of the messages that were too old to be published, and tells of many at once.

use std::time::{Duration, Instant};

use super::effect::Notice;

/// At the most one notice in this time.
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

    /// Returns what has come together, if there is something and the last notice is a while ago.
    pub(super) fn tell(&mut self, now: Instant) -> Option<Notice> {
        if self.unlogged == 0 || self.logged.is_some_and(|logged| now - logged < LOG_INTERVAL) {
            return None;
        }
        let told = std::mem::replace(
            self,
            Self {
                logged: Some(now),
                ..Self::default()
            },
        );
        Some(Notice::Expired {
            messages: told.unlogged,
            youngest: told.youngest,
            oldest: told.oldest,
        })
    }
}
