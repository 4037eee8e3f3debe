//! How fast connections are tried.
//!
//! A server may accept a connection and end it at once, such as with credentials that expire in this very second. To
//! count only the failed attempts would then mean to try again without a pause, so all attempts count.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest pause between two attempts to connect.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// After this time without an attempt, a connection counts as one that held. It is longer than the longest pause and the
/// time that an attempt may take together.
const HELD: Duration = Duration::from_secs(15);

/// Counts the attempts to connect to NATS.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Mutex<Option<(Instant, u32)>>,
}

impl Pace {
    /// Returns how long to wait before the next attempt.
    pub(super) fn delay(&self) -> Duration {
        self.delay_at(Instant::now())
    }

    fn delay_at(&self, now: Instant) -> Duration {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let attempts = match *last {
            Some((at, attempts)) if now.saturating_duration_since(at) < HELD => attempts + 1,
            _ => 0,
        };
        let delay = match attempts {
            0 => Duration::ZERO,
            attempts => (Duration::from_millis(100) * (1 << attempts.min(10))).min(MAX_DELAY),
        };
        *last = Some((now + delay, attempts));
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_get_slower_even_if_each_of_them_seems_to_succeed() {
        let (pace, begin) = (Pace::default(), Instant::now());
        let mut now = begin;
        let mut in_the_first_second = 0;
        for _ in 0..20 {
            now += pace.delay_at(now);
            in_the_first_second += u32::from(now < begin + Duration::from_secs(1));
        }
        assert!(in_the_first_second <= 4, "{in_the_first_second}");
        assert_eq!(pace.delay_at(now), MAX_DELAY);
    }

    #[test]
    fn after_a_connection_that_held_the_next_one_is_tried_at_once() {
        let (pace, begin) = (Pace::default(), Instant::now());
        for _ in 0..10 {
            pace.delay_at(begin);
        }
        assert_eq!(pace.delay_at(begin + MAX_DELAY + HELD), Duration::ZERO);
    }
}
