//! Computes the wait before a retry. It doubles with each failure up to a limit. Jitter keeps pipelines that failed
//! together from coming back together.

use std::time::Duration;

use fastrand::Rng;

#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

impl Backoff {
    /// Returns the delay after `failures` consecutive failures, at least one: between half and the whole of
    /// `first`·2^(`failures` − 1).
    pub(super) fn delay(self, failures: u32, rng: &mut Rng) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.longest);
        whole.mul_f64(0.5 + rng.f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_a_bound_and_keeps_away_from_zero() {
        let backoff = Backoff {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(30),
        };
        let mut rng = Rng::with_seed(1);
        for (failures, whole) in [(1, 100), (2, 200), (3, 400), (9, 25_600), (10, 30_000), (1000, 30_000)] {
            let whole = Duration::from_millis(whole);
            let delays: Vec<_> = (0..100).map(|_| backoff.delay(failures, &mut rng)).collect();
            assert!(
                delays.iter().all(|&delay| whole / 2 <= delay && delay <= whole),
                "{failures}: {delays:?}"
            );
            assert!(delays.iter().any(|&delay| delay != delays[0]), "no jitter");
        }
    }
}
