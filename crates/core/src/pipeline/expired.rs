//! Counts the messages that were too old to publish and reports them in batches.

use std::time::{Duration, Instant};

use super::effect::Notice;

/// At most one notice per interval.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Expired {
    unlogged: u64,
    youngest: Duration,
    oldest: Duration,
    logged: Option<Instant>,
}

impl Expired {
    /// Counts a message of this age.
    pub(super) fn left_out(&mut self, age: Duration) {
        self.youngest = if self.unlogged == 0 {
            age
        } else {
            self.youngest.min(age)
        };
        self.oldest = self.oldest.max(age);
        self.unlogged += 1;
    }

    /// Returns a notice if there is something to report and the last notice is at least `LOG_INTERVAL` ago.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_together_is_told_at_once_and_not_too_often() {
        let start = Instant::now();
        let mut expired = Expired::default();
        assert!(expired.tell(start).is_none(), "there is nothing to tell");
        for seconds in [7, 5, 9] {
            expired.left_out(Duration::from_secs(seconds));
        }
        let told = |notice| match notice {
            Some(Notice::Expired {
                messages,
                youngest,
                oldest,
            }) => Some((messages, youngest.as_secs(), oldest.as_secs())),
            None => None,
            other => panic!("it tells of something else: {other:?}"),
        };
        assert_eq!(told(expired.tell(start)), Some((3, 5, 9)));
        assert!(expired.tell(start + LOG_INTERVAL).is_none(), "all of it was told");
        expired.left_out(Duration::from_secs(6));
        assert!(expired.tell(start + LOG_INTERVAL - Duration::from_millis(1)).is_none());
        assert_eq!(told(expired.tell(start + LOG_INTERVAL)), Some((1, 6, 6)));
    }
}
