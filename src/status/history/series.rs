//! The samples of one module: a ring with a place for each of the last seconds.

use std::ops::RangeInclusive;
use std::time::Instant;

use super::super::metrics::Latency;
use super::super::report::ModuleStatus;
use super::report::{ModuleHistory, ModuleSample};

/// How many seconds are kept: 15 minutes.
pub(super) const KEPT: u64 = 900;

/// What is known about a second. It is not a number where nothing is, which takes less memory than an `Option`: a hundred
/// modules need 2.5 MB.
#[derive(Debug, Clone, Copy)]
struct Point {
    received: f32,
    published: f32,
    rejected: f32,
    lag_messages: f32,
    lag_seconds: f32,
    latency_p50_ms: f32,
    latency_p99_ms: f32,
}

const UNKNOWN: Point = Point {
    received: f32::NAN,
    published: f32::NAN,
    rejected: f32::NAN,
    lag_messages: f32::NAN,
    lag_seconds: f32::NAN,
    latency_p50_ms: f32::NAN,
    latency_p99_ms: f32::NAN,
};

#[derive(Debug, Clone, Copy)]
struct Counts {
    received: u64,
    published: u64,
    rejected: u64,
}

#[derive(Debug)]
pub(super) struct Series {
    points: Box<[Point]>,
    /// The newest counters, and when they were read.
    counts: Option<(Instant, Counts)>,
    /// The second of the newest sample.
    pub newest: u64,
}

impl Series {
    pub fn new() -> Self {
        Self {
            points: vec![UNKNOWN; KEPT as usize].into_boxed_slice(),
            counts: None,
            newest: 0,
        }
    }

    /// Forgets what is in the place of this second.
    pub fn clear(&mut self, second: u64) {
        *self.place(second) = UNKNOWN;
    }

    /// The module is not there. If it comes back, its counters begin again.
    pub fn absent(&mut self) {
        self.counts = None;
    }

    /// Adds the sample of this second, and returns it.
    pub fn add(&mut self, second: u64, now: Instant, module: &ModuleStatus, latency: Option<Latency>) -> ModuleSample {
        let counts = Counts {
            received: module.received,
            published: module.published,
            rejected: module.rejected,
        };
        let before = self.counts.replace((now, counts));
        // Counters that went back belong to another module of that name.
        let before = before.filter(|(_, before)| before.precede(&counts));
        let rate = |of: fn(&Counts) -> u64| {
            let (then, before) = before.as_ref()?;
            let passed = now.saturating_duration_since(*then);
            rounded((of(&counts) - of(before)) as f64 / passed.as_secs_f64())
        };
        let sample = ModuleSample {
            received: rate(|counts| counts.received),
            published: rate(|counts| counts.published),
            rejected: rate(|counts| counts.rejected),
            lag_messages: module.lag_messages,
            lag_seconds: module.lag_seconds.and_then(rounded),
            latency_p50_ms: latency.and_then(|latency| rounded(latency.p50.as_secs_f64() * 1e3)),
            latency_p99_ms: latency.and_then(|latency| rounded(latency.p99.as_secs_f64() * 1e3)),
        };
        *self.place(second) = Point::from(&sample);
        self.newest = second;
        sample
    }

    /// Returns what is known of the steps of so many seconds that begin at these times. `known` are the seconds that the
    /// ring holds.
    pub fn report(&self, name: &str, times: &[u64], step: u64, known: RangeInclusive<u64>) -> ModuleHistory {
        let mut history = ModuleHistory {
            name: name.to_owned(),
            ..ModuleHistory::default()
        };
        for time in times {
            let seconds = *known.start().max(time)..=*known.end().min(&(time + step - 1));
            let points = || seconds.clone().map(|second| &self.points[(second % KEPT) as usize]);
            let average = |of: fn(&Point) -> f32| average(points().map(of));
            let highest = |of: fn(&Point) -> f32| highest(points().map(of));
            history.received.push(average(|point| point.received));
            history.published.push(average(|point| point.published));
            history.rejected.push(average(|point| point.rejected));
            let lag_messages = highest(|point| point.lag_messages);
            history.lag_messages.push(lag_messages.map(|messages| messages as u64));
            history.lag_seconds.push(highest(|point| point.lag_seconds));
            history.latency_p50_ms.push(highest(|point| point.latency_p50_ms));
            history.latency_p99_ms.push(highest(|point| point.latency_p99_ms));
        }
        history
    }

    fn place(&mut self, second: u64) -> &mut Point {
        &mut self.points[(second % KEPT) as usize]
    }
}

impl Counts {
    /// Returns true if none of them is lower in `later`.
    fn precede(&self, later: &Self) -> bool {
        self.received <= later.received && self.published <= later.published && self.rejected <= later.rejected
    }
}

impl From<&ModuleSample> for Point {
    fn from(sample: &ModuleSample) -> Self {
        let known = |value: Option<f32>| value.unwrap_or(f32::NAN);
        Self {
            received: known(sample.received),
            published: known(sample.published),
            rejected: known(sample.rejected),
            lag_messages: known(sample.lag_messages.map(|messages| messages as f32)),
            lag_seconds: known(sample.lag_seconds),
            latency_p50_ms: known(sample.latency_p50_ms),
            latency_p99_ms: known(sample.latency_p99_ms),
        }
    }
}

fn average(values: impl Iterator<Item = f32>) -> Option<f32> {
    let known = values.filter(|value| !value.is_nan());
    let (sum, count) = known.fold((0.0, 0.0), |(sum, count), value| (sum + f64::from(value), count + 1.0));
    rounded(sum / count)
}

fn highest(values: impl Iterator<Item = f32>) -> Option<f32> {
    values.filter(|value| !value.is_nan()).reduce(f32::max)
}

/// Rounds to three digits after the point, which is a microsecond in a latency. More would only make the report longer.
/// Returns `None` for what is no number.
fn rounded(value: f64) -> Option<f32> {
    let rounded = (value * 1e3).round() / 1e3;
    rounded.is_finite().then_some(rounded as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_modules_need_less_than_3_mb() {
        let series = Series::new();
        assert!(100 * size_of_val(&*series.points) < 3_000_000);
    }
}
