//! The limit of a tap's messages.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// Allows at most so many messages in any second. A bucket of tokens would allow nearly twice as many in the first one.
#[derive(Debug)]
pub(super) struct Rate {
    most: usize,
    /// When the last ones were allowed, oldest first.
    allowed: VecDeque<Instant>,
}

impl Rate {
    pub fn new(most: usize) -> Self {
        Self {
            most,
            allowed: VecDeque::with_capacity(most),
        }
    }

    /// Returns true if a message may be shown at this time, and counts it. Threads that read the clock at about the same
    /// time may come in any order.
    pub fn allows(&mut self, at: Instant) -> bool {
        if self.allowed.len() >= self.most {
            let oldest = self.allowed.front();
            if oldest.is_none_or(|oldest| at.saturating_duration_since(*oldest) < SECOND) {
                return false;
            }
            self.allowed.pop_front();
        }
        self.allowed.push_back(at);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn allowed(most: usize, times: &[u64]) -> Vec<u64> {
        let (start, mut rate) = (Instant::now(), Rate::new(most));
        let times = times.iter().copied();
        times
            .filter(|time| rate.allows(start + Duration::from_millis(*time)))
            .collect()
    }

    #[test]
    fn a_burst_is_shown_and_then_nothing_until_a_second_has_passed() {
        assert_eq!(
            allowed(2, &[0, 1, 2, 999, 1_000, 1_000, 1_001, 1_002]),
            [0, 1, 1_000, 1_001]
        );
        assert_eq!(allowed(1, &[0, 500, 999, 1_000, 1_999, 2_000]), [0, 1_000, 2_000]);
        assert!(allowed(0, &[0, 5_000]).is_empty());
    }

    proptest! {
        #[test]
        fn a_message_is_refused_only_if_the_last_second_is_full(
            most in 1_usize..60,
            pauses in vec(prop_oneof![0_u64..3, 0_u64..400, Just(1_000)], 1..400),
        ) {
            let mut now = 0;
            let times: Vec<u64> = pauses.iter().map(|pause| { now += pause; now }).collect();
            let (start, mut rate) = (Instant::now(), Rate::new(most));
            let mut shown: Vec<u64> = Vec::new();
            for time in times {
                let recent = shown.iter().filter(|shown| time - **shown < 1_000).count();
                let allows = rate.allows(start + Duration::from_millis(time));
                prop_assert_eq!(allows, recent < most, "at {}, after {:?}", time, shown);
                if allows {
                    shown.push(time);
                }
            }
        }
    }
}
