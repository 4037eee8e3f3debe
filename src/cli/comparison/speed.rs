//! Decides whether one module is slower than the other. Both ran on the same messages, one after the other, so other
//! load on the machine affected both.

use std::time::Duration;

use crate::cli::timing::median;

/// A smaller ratio of the medians is not worth mentioning.
const NOTABLE: f64 = 1.1;

/// How far the share of slower calls has to be from one half, in standard deviations of a fair coin. A deviation of 4
/// occurs by chance once in 16,000 times.
const CERTAIN: f64 = 4.0;

/// The calls that returned a result with both modules.
#[derive(Debug, Default)]
pub struct Speed {
    old: Vec<Duration>,
    new: Vec<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    Same,
    Slower,
    Faster,
}

/// The times of all calls of one module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Took {
    pub median: Duration,
    pub total: Duration,
}

impl Speed {
    pub fn add(&mut self, old: Duration, new: Duration) {
        self.old.push(old);
        self.new.push(new);
    }

    /// Returns the times of the old and the new module. `None` if there were no such calls.
    pub fn took(&self) -> Option<(Took, Took)> {
        took(&self.old).zip(took(&self.new))
    }

    /// Differences that may be chance, or are too small to matter, count as no difference.
    pub fn pace(&self) -> Pace {
        let Some((old, new)) = self.took() else {
            return Pace::Same;
        };
        let pairs = self.old.iter().zip(&self.new);
        let slower = pairs.clone().filter(|(old, new)| new > old).count() as f64;
        let faster = pairs.filter(|(old, new)| new < old).count() as f64;
        let certainty = (slower - faster) / (slower + faster).max(1.0).sqrt();
        let ratio = new.median.as_secs_f64() / old.median.as_secs_f64().max(f64::MIN_POSITIVE);
        if certainty > CERTAIN && ratio > NOTABLE {
            Pace::Slower
        } else if certainty < -CERTAIN && ratio < 1.0 / NOTABLE {
            Pace::Faster
        } else {
            Pace::Same
        }
    }
}

fn took(times: &[Duration]) -> Option<Took> {
    Some(Took {
        median: median(times.to_vec())?,
        total: times.iter().sum(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(calls: u64, old: impl Fn(u64) -> u64, new: impl Fn(u64) -> u64) -> Pace {
        let mut speed = Speed::default();
        for call in 0..calls {
            speed.add(Duration::from_nanos(old(call)), Duration::from_nanos(new(call)));
        }
        speed.pace()
    }

    /// Returns some noise that is the same each time.
    fn noise(call: u64) -> u64 {
        call.wrapping_mul(6_364_136_223_846_793_005).rotate_left(17) % 2_000
    }

    #[test]
    fn twice_the_time_is_slower_and_half_of_it_faster() {
        let (one, two) = (|call| 5_000 + noise(call), |call| 10_000 + noise(call + 1));
        assert_eq!(pace(100, one, two), Pace::Slower);
        assert_eq!(pace(100, two, one), Pace::Faster);
    }

    #[test]
    fn noise_and_little_and_few_calls_say_nothing() {
        assert_eq!(
            pace(10_000, |call| 5_000 + noise(call), |call| 5_000 + noise(call + 1)),
            Pace::Same
        );
        assert_eq!(pace(10_000, |_| 5_000, |_| 5_100), Pace::Same, "2 percent");
        assert_eq!(pace(10, |_| 5_000, |_| 10_000), Pace::Same, "ten calls");
        assert_eq!(pace(0, |_| 0, |_| 0), Pace::Same);
        // One call in a hundred waits for the machine.
        assert_eq!(
            pace(100, |_| 5_000, |call| if call == 7 { 9_000_000 } else { 5_000 }),
            Pace::Same
        );
    }

    #[test]
    fn median_and_total_are_of_all_calls() {
        let mut speed = Speed::default();
        for time in [1, 2, 9] {
            speed.add(Duration::from_millis(time), Duration::from_millis(2 * time));
        }
        let (old, new) = speed.took().unwrap();
        assert_eq!(
            (old.median, old.total),
            (Duration::from_millis(2), Duration::from_millis(12))
        );
        assert_eq!(
            (new.median, new.total),
            (Duration::from_millis(4), Duration::from_millis(24))
        );
    }
}
