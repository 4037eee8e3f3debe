//! The metrics of the whole process.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::telemetry;

/// What concerns the whole process. A clone is the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Process(Arc<Facts>);

#[derive(Debug, Default)]
struct Facts {
    ready: AtomicBool,
    nats_connected: AtomicBool,
    /// Connections to NATS so far.
    nats_connections: AtomicU64,
    centrifugo_up: AtomicBool,
}

impl Process {
    /// Sets whether the relay is ready, and whether it can publish.
    pub(super) fn set_ready(&self, ready: bool, centrifugo_up: bool) {
        self.0.ready.store(ready, Ordering::Relaxed);
        self.0.centrifugo_up.store(centrifugo_up, Ordering::Relaxed);
    }

    pub(super) fn set_nats_connected(&self, connected: bool) {
        let before = self.0.nats_connected.swap(connected, Ordering::Relaxed);
        if connected && !before {
            self.0.nats_connections.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Facts {
            ready,
            nats_connected,
            nats_connections,
            centrifugo_up,
        } = &*self.0;
        let one = ConstGauge::new(1);
        let help = "The relay's version; always 1";
        let mut family = encoder.encode_descriptor("build_info", help, None, MetricType::Gauge)?;
        one.encode(family.encode_family(&[("version", env!("CARGO_PKG_VERSION"))])?)?;
        for (name, help, fact) in [
            ("ready", "1 while the relay is ready, as `/readyz` says, else 0", ready),
            (
                "nats_connected",
                "1 while the relay is connected to NATS, else 0",
                nats_connected,
            ),
            (
                "centrifugo_up",
                "0 while publishing to Centrifugo does not work, else 1",
                centrifugo_up,
            ),
        ] {
            let gauge = ConstGauge::new(i64::from(fact.load(Ordering::Relaxed)));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let reconnects = nats_connections.load(Ordering::Relaxed).saturating_sub(1);
        for (name, help, count) in [
            ("nats_reconnects", "Connections to NATS after the first one", reconnects),
            (
                "log_lines_lost",
                "Log lines lost because standard error did not accept them in time",
                telemetry::lost_lines(),
            ),
            (
                "log_lines_suppressed",
                "Log lines left out because they repeat earlier ones",
                telemetry::suppressed_lines(),
            ),
        ] {
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}
