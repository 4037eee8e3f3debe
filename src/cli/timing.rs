//! Measures how long the calls of a module take.

use std::time::{Duration, Instant};

use crate::message::{Message, Outcome};
use crate::transform::Instance;

/// Codes of calls that ended without a result and were made twice. Their duration is not meaningful.
const BROKEN: [&str; 5] = ["trap", "timeout", "memory", "exit", "init"];

/// The instance should have been called before, because the first call also starts it.
pub fn timed(instance: &mut Instance, message: &Message) -> (Outcome, Option<Duration>) {
    let begun = Instant::now();
    let outcome = instance.call(message);
    let took = begun.elapsed();
    let returned = returned(&outcome);
    (outcome, returned.then_some(took))
}

/// Returns true if the call returned a result, even a rejection.
pub fn returned(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Reject(rejection) => !BROKEN.contains(&&*rejection.code),
        _ => true,
    }
}

/// Returns `None` without calls.
pub fn median(mut times: Vec<Duration>) -> Option<Duration> {
    let middle = times.len() / 2;
    (!times.is_empty()).then(|| *times.select_nth_unstable(middle).1)
}

/// Converts a duration for programs. The unit is in the name of the field.
pub fn microseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e7).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Rejection, Stage};

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        let median = |times: &[u64]| median(times.iter().copied().map(Duration::from_micros).collect());
        assert_eq!(median(&[9, 1, 5]), Some(Duration::from_micros(5)));
        assert_eq!(median(&[7]), Some(Duration::from_micros(7)));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_rejection_is_a_result_and_a_trap_is_none() {
        let rejected = |code: &'static str| {
            Outcome::Reject(Rejection {
                stage: Stage::Transform,
                code: code.into(),
                channel: None,
                reason: String::new(),
            })
        };
        assert!(returned(&Outcome::Drop) && returned(&rejected("rejected")) && returned(&rejected("json")));
        assert!(!returned(&rejected("trap")) && !returned(&rejected("timeout")));
    }

    #[test]
    fn programs_get_microseconds_with_one_decimal() {
        assert!((microseconds(Duration::from_nanos(12_345)) - 12.3).abs() < 1e-9);
    }
}
