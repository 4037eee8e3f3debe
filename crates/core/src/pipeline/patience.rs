//! Decides when a halted pipeline tries again by itself.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);

/// The wait before the next try. It doubles after each failed try.
#[derive(Debug, Default)]
pub struct Patience {
    failures: u32,
}

impl Patience {
    /// Returns the wait after a halt. `again` is true if the pipeline was trying out whether the last halt is over.
    pub fn next(&mut self, again: bool) -> Duration {
        self.failures = if again { self.failures + 1 } else { 0 };
        FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_longer_each_time_until_a_try_went_well() {
        let mut patience = Patience::default();
        let pauses = [false, true, true, true, true, true, false].map(|again| patience.next(again).as_secs());
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60, 5]);
    }
}
