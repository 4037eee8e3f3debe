//! The metrics of one module, and the events that change them.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use slipring_core::pipeline::Counters;
use slipring_core::publish::RequestOutcome;

use super::super::progress::Progress;
use super::super::report::State;
use crate::message::Stage;

/// A clone is the same metrics. The parent module, which encodes them, says what each one means.
#[derive(Debug, Clone)]
pub struct ModuleMetrics {
    pub(crate) received: Counter,
    pub(crate) transformed: Counter,
    pub(crate) dropped: Counter,
    pub(crate) expired: Counter,
    rejected_by_transform: Counter,
    rejected_by_publish: Counter,
    pub(crate) publications: Counter,
    pub(crate) publications_conflated: Counter,
    pub(crate) publish_retries: Counter,
    pub(crate) acks: Counter,
    pub(crate) missed: Counter,
    pub(crate) dead_letters: Counter,
    pub(crate) swaps: Counter,
    pub(crate) swaps_refused: Counter,
    pub(crate) rollbacks: Counter,
    pub(super) epochs: Counter,

    pub(crate) window_messages: Gauge,
    pub(crate) window_bytes: Gauge,
    pub(super) requests_in_flight: Gauge,
    /// In the order of `RequestOutcome::ALL`.
    requests: [Counter; RequestOutcome::ALL.len()],
    pub(super) dead_letter_store_failures: Counter,
    /// Seconds since 1970; 0 if there was none.
    pub(super) last_swap: Gauge<f64, AtomicU64>,
    state: Arc<Mutex<State>>,
    progress: Arc<Mutex<Progress>>,
    sha256: Arc<Mutex<Option<String>>>,

    pub(super) transform_seconds: Histogram,
    pub(super) delivery_seconds: Histogram,
    /// The same ages in microseconds, since they were read last.
    latencies: Arc<Mutex<Latencies>>,
    pub(super) request_seconds: Histogram,
    pub(super) batch_size: Histogram,
}

/// The time that half of some messages, and 99 % of them, took at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::status) struct Latency {
    pub p50: Duration,
    pub p99: Duration,
}

/// A call takes a few microseconds and may take as long as the module's `timeout`.
const TRANSFORM_SECONDS: [f64; 16] = [
    1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2, 1e-1, 1.0,
];

/// Milliseconds in normal operation, minutes while catching up.
const DELIVERY_SECONDS: [f64; 16] = [
    1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 300.0, 600.0,
];

/// Up to Centrifugo's own write timeout of 10 s.
const REQUEST_SECONDS: [f64; 13] = [5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 5.0, 10.0];

const BATCH_SIZES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// From one microsecond to one hour, with an error of 1 % at most. It takes 14 KiB.
type Latencies = hdrhistogram::Histogram<u32>;

const LONGEST_LATENCY: Duration = Duration::from_secs(3_600);

fn latencies() -> Latencies {
    Latencies::new_with_bounds(1, LONGEST_LATENCY.as_micros() as u64, 2).expect("the bounds are in order")
}

impl ModuleMetrics {
    pub(super) const COUNTER_TYPE: MetricType = <Counter as TypedMetric>::TYPE;

    /// Adds a pipeline's counts. Most events change only a few of them.
    pub fn count(&self, counters: &Counters) {
        let &Counters {
            received,
            dropped,
            expired,
            rejected_in_transform,
            rejected_in_publish,
            published,
            conflated,
            retried,
            dead_lettered,
            acked,
            ref settled,
        } = counters;
        for (more, counter) in [
            (received, &self.received),
            (dropped, &self.dropped),
            (expired, &self.expired),
            (rejected_in_transform, &self.rejected_by_transform),
            (rejected_in_publish, &self.rejected_by_publish),
            (published, &self.publications),
            (conflated, &self.publications_conflated),
            (retried, &self.publish_retries),
            (dead_lettered, &self.dead_letters),
            (acked, &self.acks),
        ] {
            if more > 0 {
                counter.inc_by(more);
            }
        }
        if settled.is_empty() {
            return;
        }
        let mut latencies = self.latencies();
        for age in settled {
            self.delivery_seconds.observe(age.as_secs_f64());
            latencies.saturating_record(u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// Returns how long the messages took that were settled since the last call, from when they were stored in the source.
    /// `None` if there were none.
    pub(in crate::status) fn take_latency(&self) -> Option<Latency> {
        let mut latencies = self.latencies();
        if latencies.is_empty() {
            return None;
        }
        let quantile = |quantile| Duration::from_micros(latencies.value_at_quantile(quantile));
        let latency = Latency {
            p50: quantile(0.5),
            p99: quantile(0.99),
        };
        latencies.reset();
        Some(latency)
    }

    fn latencies(&self) -> MutexGuard<'_, Latencies> {
        self.latencies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a call of the module that has returned.
    pub fn transformed(&self, took: Duration) {
        self.transformed.inc();
        self.transform_seconds.observe(took.as_secs_f64());
    }

    /// Records a request to Centrifugo.
    pub fn requested(&self, publications: usize) {
        self.batch_size.observe(publications as f64);
    }

    /// Records the reply to a request, or its failure.
    pub fn answered(&self, outcome: RequestOutcome, took: Duration) {
        self.requests(outcome).inc();
        self.request_seconds.observe(took.as_secs_f64());
    }

    pub(super) fn requests(&self, outcome: RequestOutcome) -> &Counter {
        &self.requests[outcome as usize]
    }

    /// Adds messages that can no longer be read.
    pub fn missed(&self, messages: u64) {
        self.missed.inc_by(messages);
    }

    pub fn epoch_began(&self) {
        self.epochs.inc();
    }

    pub fn swapped(&self) {
        self.swaps.inc();
        self.last_swap.set(Timestamp::now().as_millisecond() as f64 / 1e3);
    }

    /// Records a failed attempt to store a dead letter.
    pub fn dead_letter_not_stored(&self) {
        self.dead_letter_store_failures.inc();
    }

    pub fn rolled_back(&self) {
        self.rollbacks.inc();
    }

    pub fn swap_refused(&self) {
        self.swaps_refused.inc();
    }

    pub fn window(&self, messages: usize, bytes: usize) {
        self.window_messages.set(messages as i64);
        self.window_bytes.set(bytes as i64);
    }

    /// Returns what is known about the progress of the pipeline.
    pub(in crate::status) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing reads from the stream, so nothing is known about it.
    pub fn lag_unknown(&self) {
        self.progress().absent();
    }

    pub fn in_flight(&self, requests: usize) {
        self.requests_in_flight.set(requests as i64);
    }

    pub(in crate::status) fn set_state(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    pub(super) fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the hash of the file in use, if there is one.
    pub fn set_sha256(&self, sha256: Option<&str>) {
        *self.sha256.lock().unwrap_or_else(PoisonError::into_inner) = sha256.map(str::to_owned);
    }

    pub fn sha256(&self) -> Option<String> {
        self.sha256.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn rejections(&self, stage: Stage) -> &Counter {
        match stage {
            Stage::Transform => &self.rejected_by_transform,
            Stage::Publish => &self.rejected_by_publish,
        }
    }
}

impl Default for ModuleMetrics {
    fn default() -> Self {
        Self {
            received: Counter::default(),
            transformed: Counter::default(),
            dropped: Counter::default(),
            expired: Counter::default(),
            rejected_by_transform: Counter::default(),
            rejected_by_publish: Counter::default(),
            publications: Counter::default(),
            publications_conflated: Counter::default(),
            publish_retries: Counter::default(),
            acks: Counter::default(),
            missed: Counter::default(),
            dead_letters: Counter::default(),
            swaps: Counter::default(),
            swaps_refused: Counter::default(),
            rollbacks: Counter::default(),
            epochs: Counter::default(),
            window_messages: Gauge::default(),
            window_bytes: Gauge::default(),
            requests_in_flight: Gauge::default(),
            requests: Default::default(),
            dead_letter_store_failures: Counter::default(),
            last_swap: Gauge::default(),
            state: Arc::new(Mutex::new(State::Starting)),
            progress: Arc::default(),
            sha256: Arc::default(),
            transform_seconds: Histogram::new(TRANSFORM_SECONDS),
            delivery_seconds: Histogram::new(DELIVERY_SECONDS),
            latencies: Arc::new(Mutex::new(latencies())),
            request_seconds: Histogram::new(REQUEST_SECONDS),
            batch_size: Histogram::new(BATCH_SIZES),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(metrics: &ModuleMetrics, ages: impl IntoIterator<Item = Duration>) {
        metrics.count(&Counters {
            settled: ages.into_iter().collect(),
            ..Counters::default()
        });
    }

    /// Returns true if the second is the first within the precision of the histogram.
    fn is_about(expected: Duration, found: Duration) -> bool {
        found.abs_diff(expected) <= expected / 100
    }

    #[test]
    fn the_latency_is_that_of_the_messages_since_the_last_call() {
        let metrics = ModuleMetrics::default();
        assert_eq!(metrics.take_latency(), None);
        settle(&metrics, (1..=50).map(Duration::from_millis));
        settle(&metrics, (51..=100).map(Duration::from_millis));
        let latency = metrics.take_latency().unwrap();
        assert!(is_about(Duration::from_millis(50), latency.p50), "{latency:?}");
        assert!(is_about(Duration::from_millis(99), latency.p99), "{latency:?}");
        assert_eq!(metrics.take_latency(), None);
        settle(&metrics, []);
        assert_eq!(metrics.take_latency(), None);
        settle(&metrics, [Duration::from_micros(250)]);
        let latency = metrics.take_latency().unwrap();
        assert!(is_about(Duration::from_micros(250), latency.p99), "{latency:?}");
    }

    #[test]
    fn a_latency_beyond_the_bounds_counts_as_the_longest() {
        let metrics = ModuleMetrics::default();
        settle(&metrics, [Duration::ZERO, Duration::MAX]);
        let latency = metrics.take_latency().unwrap();
        assert!(latency.p50 <= Duration::from_micros(1), "{latency:?}");
        assert!(is_about(LONGEST_LATENCY, latency.p99), "{latency:?}");
    }
}
