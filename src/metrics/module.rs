//! The metrics of one module, resolved.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};

use crate::message::Stage;

/// A clone is the same metrics. What each of them means is said where they are encoded, in the parent module.
#[derive(Debug, Clone)]
pub struct ModuleMetrics {
    pub received: Counter,
    pub transformed: Counter,
    pub dropped: Counter,
    rejected_by_transform: Counter,
    rejected_by_publish: Counter,
    pub publications: Counter,
    pub publish_retries: Counter,
    pub acks: Counter,
    pub dead_letters: Counter,
    pub swaps: Counter,
    pub swaps_refused: Counter,
    pub epochs: Counter,

    pub window_messages: Gauge,
    pub window_bytes: Gauge,
    /// NaN while not known, as the next one.
    pub(super) lag_messages: Gauge<f64, AtomicU64>,
    pub(super) lag_seconds: Gauge<f64, AtomicU64>,
    pub requests_in_flight: Gauge,
    pub halted: Gauge,
    sha256: Arc<Mutex<Option<String>>>,

    pub transform_seconds: Histogram,
    pub delivery_seconds: Histogram,
    pub request_seconds: Histogram,
    pub batch_size: Histogram,
}

/// A call takes a few microseconds and may take as long as the module's `timeout`.
const TRANSFORM_SECONDS: [f64; 16] = [
    1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2, 1e-1, 1.0,
];

/// Milliseconds when all is well, minutes while catching up.
const DELIVERY_SECONDS: [f64; 16] = [
    1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 300.0, 600.0,
];

/// Up to Centrifugo's own write time-out of 10 s.
const REQUEST_SECONDS: [f64; 13] = [5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 5.0, 10.0];

const BATCH_SIZES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

impl ModuleMetrics {
    pub(super) const REJECTED_TYPE: MetricType = <Counter as TypedMetric>::TYPE;

    pub fn rejected(&self, stage: Stage) -> &Counter {
        match stage {
            Stage::Transform => &self.rejected_by_transform,
            Stage::Publish => &self.rejected_by_publish,
        }
    }

    /// `None`: not known.
    pub fn set_lag(&self, messages: Option<u64>, seconds: Option<f64>) {
        self.lag_messages
            .set(messages.map_or(f64::NAN, |messages| messages as f64));
        self.lag_seconds.set(seconds.unwrap_or(f64::NAN));
    }

    pub fn lag_messages(&self) -> Option<u64> {
        Some(self.lag_messages.get())
            .filter(|lag| !lag.is_nan())
            .map(|lag| lag as u64)
    }

    pub fn lag_seconds(&self) -> Option<f64> {
        Some(self.lag_seconds.get()).filter(|lag| !lag.is_nan())
    }

    /// The file in use, or none.
    pub fn set_sha256(&self, sha256: Option<&str>) {
        *self.sha256.lock().unwrap_or_else(PoisonError::into_inner) = sha256.map(str::to_owned);
    }

    pub fn sha256(&self) -> Option<String> {
        self.sha256.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Default for ModuleMetrics {
    fn default() -> Self {
        let metrics = Self {
            received: Counter::default(),
            transformed: Counter::default(),
            dropped: Counter::default(),
            rejected_by_transform: Counter::default(),
            rejected_by_publish: Counter::default(),
            publications: Counter::default(),
            publish_retries: Counter::default(),
            acks: Counter::default(),
            dead_letters: Counter::default(),
            swaps: Counter::default(),
            swaps_refused: Counter::default(),
            epochs: Counter::default(),
            window_messages: Gauge::default(),
            window_bytes: Gauge::default(),
            lag_messages: Gauge::default(),
            lag_seconds: Gauge::default(),
            requests_in_flight: Gauge::default(),
            halted: Gauge::default(),
            sha256: Arc::default(),
            transform_seconds: Histogram::new(TRANSFORM_SECONDS),
            delivery_seconds: Histogram::new(DELIVERY_SECONDS),
            request_seconds: Histogram::new(REQUEST_SECONDS),
            batch_size: Histogram::new(BATCH_SIZES),
        };
        metrics.set_lag(None, None);
        metrics
    }
}
