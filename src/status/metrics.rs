//! What the relay counts and measures, per module, in the OpenMetrics text format. A pipeline takes a [`ModuleMetrics`]
//! once and then only touches atomics. Names, units and help texts are all in one place, the `encode` below.

mod admin;
mod module;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::memory::Memory;
use crate::message::Stage;
use crate::telemetry;

pub use admin::AdminRequests;
pub use module::ModuleMetrics;

/// The content type of the text that [`Metrics::encode`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of the process. A clone is the same metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    modules: Modules,
    admin_requests: AdminRequests,
    memory: Option<Memory>,
}

/// Keyed by name, so that the text is sorted. `prometheus_client`'s own families would look up a label for each metric.
#[derive(Debug, Clone, Default)]
struct Modules(Arc<RwLock<BTreeMap<String, ModuleMetrics>>>);

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        Self::build(None)
    }

    /// Creates metrics that also report how much of this memory is used.
    pub fn with_memory(memory: Memory) -> Self {
        Self::build(Some(memory))
    }

    fn build(memory: Option<Memory>) -> Self {
        let modules = Modules::default();
        let mut registry = Registry::with_prefix("slipring");
        registry.register_collector(Box::new(modules.clone()));
        registry.register_collector(Box::new(Process));
        let admin_requests = AdminRequests::default();
        registry.register_collector(Box::new(admin_requests.clone()));
        if let Some(memory) = &memory {
            registry.register_collector(Box::new(memory.clone()));
        }
        Self {
            registry: Arc::new(registry),
            modules,
            admin_requests,
            memory,
        }
    }

    pub fn admin_requests(&self) -> &AdminRequests {
        &self.admin_requests
    }

    pub fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref()
    }

    /// Returns the module's metrics. New ones start at zero.
    pub fn module(&self, name: &str) -> ModuleMetrics {
        let mut modules = self.modules.0.write().unwrap_or_else(PoisonError::into_inner);
        modules.entry(name.to_owned()).or_default().clone()
    }

    /// Removes the module's metrics from the text. Code that still holds them may go on counting.
    pub fn remove(&self, name: &str) {
        self.modules
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }

    pub fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

/// Counters of the whole process.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let lost = ConstCounter::new(telemetry::lost_lines());
        let help = "Log lines lost because standard error did not accept them in time";
        let encoder = encoder.encode_descriptor("log_lines_lost", help, None, lost.metric_type())?;
        lost.encode(encoder)
    }
}

impl Collector for Memory {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut gauge = |name, help, bytes: usize| {
            let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, Some(&Unit::Bytes), gauge.metric_type())?)
        };
        gauge(
            "memory_used",
            "Memory in use by all modules for messages, publications and requests, and for compiling modules",
            self.used(),
        )?;
        gauge(
            "memory_limit",
            "Limit of that memory: `memory_limit`, or half of the machine's memory",
            self.limit(),
        )
    }
}

impl Collector for Modules {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let modules = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut page = Page {
            encoder,
            modules: &modules,
        };

        page.family("messages_received", None, "Messages that JetStream delivered", |m| {
            &m.received
        })?;
        page.family(
            "messages_transformed",
            None,
            "Messages that the module has processed, whatever the outcome",
            |m| &m.transformed,
        )?;
        page.family("messages_dropped", None, "Messages that the module dropped", |m| {
            &m.dropped
        })?;
        page.family(
            "messages_expired",
            None,
            "Messages left out, entirely or in part, because they were older than `max_age`",
            |m| &m.expired,
        )?;
        page.rejected()?;
        page.family(
            "publications",
            None,
            "Publications that Centrifugo confirmed; a broadcast is one",
            |m| &m.publications,
        )?;
        page.family(
            "publications_conflated",
            None,
            "Publications never sent because a newer one for their channel replaced them (`conflate`)",
            |m| &m.publications_conflated,
        )?;
        page.family(
            "publish_retries",
            None,
            "Publications sent again after a temporary error or a missing answer",
            |m| &m.publish_retries,
        )?;
        page.family("acks", None, "Messages acknowledged to JetStream", |m| &m.acks)?;
        page.family(
            "messages_missed",
            None,
            "Messages that the stream's limits removed before they could be read",
            |m| &m.missed,
        )?;
        page.family("dead_letters", None, "Messages stored in the dead-letter stream", |m| {
            &m.dead_letters
        })?;
        page.family("swaps", None, "Swaps to a new module or new settings", |m| &m.swaps)?;
        page.family(
            "swaps_refused",
            None,
            "New versions refused, while the old version kept running",
            |m| &m.swaps_refused,
        )?;
        page.family(
            "rollbacks",
            None,
            "Rollbacks to the previous version, automatic or by command",
            |m| &m.rollbacks,
        )?;
        page.family(
            "epochs",
            None,
            "Resets of the consumer, after which delivery starts again at its ack floor",
            |m| &m.epochs,
        )?;

        page.family(
            "window_messages",
            None,
            "Messages between the ack floor and the newest delivered one",
            |m| &m.window_messages,
        )?;
        page.family(
            "window",
            Some(&Unit::Bytes),
            "Size of the messages in the window",
            |m| &m.window_bytes,
        )?;
        page.family(
            "lag_messages",
            None,
            "Messages in the stream that are not settled yet, delivered or not; NaN if unknown",
            |m| &m.lag_messages,
        )?;
        page.family(
            "lag",
            Some(&Unit::Seconds),
            "Age of the oldest delivered message that is not settled, since JetStream stored it; NaN if unknown",
            |m| &m.lag_seconds,
        )?;
        page.family(
            "requests_in_flight",
            None,
            "Requests to Centrifugo without an answer yet",
            |m| &m.requests_in_flight,
        )?;
        page.family(
            "halted",
            None,
            "1 while the pipeline is halted, waiting for a new version or retrying, else 0",
            |m| &m.halted,
        )?;
        page.info()?;

        page.family(
            "transform",
            Some(&Unit::Seconds),
            "Time of one call of the module",
            |m| &m.transform_seconds,
        )?;
        page.family(
            "delivery",
            Some(&Unit::Seconds),
            "Time from storage in JetStream until a message is settled: confirmed, dropped, expired or dead-lettered",
            |m| &m.delivery_seconds,
        )?;
        page.family(
            "request",
            Some(&Unit::Seconds),
            "Time of one request to Centrifugo",
            |m| &m.request_seconds,
        )?;
        page.family("batch_size", None, "Publications in one request to Centrifugo", |m| {
            &m.batch_size
        })
    }
}

struct Page<'e, 'm> {
    encoder: DescriptorEncoder<'e>,
    modules: &'m BTreeMap<String, ModuleMetrics>,
}

impl Page<'_, '_> {
    /// Encodes one metric of every module. The unit becomes the end of its name.
    fn family<M>(&mut self, name: &str, unit: Option<&Unit>, help: &str, of: fn(&ModuleMetrics) -> &M) -> fmt::Result
    where
        M: EncodeMetric + TypedMetric,
    {
        let mut family = self.encoder.encode_descriptor(name, help, unit, M::TYPE)?;
        for (module, metrics) in self.modules {
            of(metrics).encode(family.encode_family(&[("module", module.as_str())])?)?;
        }
        Ok(())
    }

    fn rejected(&mut self) -> fmt::Result {
        let stages = [Stage::Transform, Stage::Publish].map(|stage| (stage, stage.to_string()));
        let help = "Messages rejected: by the module, or by Centrifugo for one of their publications";
        let mut family =
            self.encoder
                .encode_descriptor("messages_rejected", help, None, ModuleMetrics::REJECTED_TYPE)?;
        for (module, metrics) in self.modules {
            for (stage, word) in &stages {
                let labels = [("module", module.as_str()), ("stage", word)];
                metrics.rejections(*stage).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn info(&mut self) -> fmt::Result {
        let one = ConstGauge::new(1);
        let help = "The module's file in use, by the hash of its content; always 1";
        let mut family = self
            .encoder
            .encode_descriptor("module_info", help, None, one.metric_type())?;
        for (module, metrics) in self.modules {
            if let Some(sha256) = metrics.sha256() {
                one.encode(family.encode_family(&[("module", module.as_str()), ("sha256", sha256.as_str())])?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use slipring_core::pipeline::Counters;

    use super::*;

    #[test]
    fn names_units_and_meanings() {
        let memory = Memory::new(256 << 20);
        let account = memory.open();
        account.hold(5_000, 0);
        let metrics = Metrics::with_memory(memory);
        let orders = metrics.module("orders");
        orders.set_sha256(Some("abc"));
        orders.count(&Counters {
            received: 1,
            rejected_in_publish: 1,
            ..Counters::default()
        });
        orders.window(3, 1_000);
        orders.transformed(Duration::from_micros(3));
        insta::assert_snapshot!(metrics.encode());
    }

    #[test]
    fn each_metric_has_a_row_in_the_reference() {
        let metrics = Metrics::with_memory(Memory::new(256 << 20));
        metrics.module("orders").set_sha256(Some("abc"));
        let text = metrics.encode();
        let mut encoded = BTreeSet::new();
        let mut family = None;
        for line in text.lines() {
            if let Some(name_and_type) = line.strip_prefix("# TYPE ") {
                family = name_and_type.split_once(' ');
            } else if line.starts_with("slipring_") {
                // The first sample of a family shows its labels.
                let Some((name, of_type)) = family.take() else { continue };
                let total = if of_type == "counter" { "_total" } else { "" };
                encoded.insert(format!("| `{name}{total}` | {of_type} | {} |", labels(line)));
            }
        }
        let page = include_str!("../../docs/reference/metrics.md");
        let rows = page.lines().filter(|line| line.starts_with("| `slipring_"));
        let first_cells = |row: &str| row.split_inclusive('|').take(4).collect::<String>();
        assert_eq!(rows.map(first_cells).collect::<BTreeSet<_>>(), encoded);
    }

    /// Returns the names of a sample's labels, as the reference writes them.
    fn labels(sample: &str) -> String {
        let labels = sample.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
        let Some((labels, _)) = labels else {
            return "none".to_owned();
        };
        let names = labels.split(',').filter_map(|label| label.split_once('='));
        names
            .map(|(name, _)| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ")
    }

    #[test]
    fn a_handle_is_the_modules_own_until_it_is_removed() {
        let metrics = Metrics::new();
        let one = Counters {
            received: 1,
            ..Counters::default()
        };
        metrics.module("b").count(&one);
        metrics.module("a").count(&one);
        metrics.module("b").count(&one);
        let of = |module: &str| {
            let start = format!("slipring_messages_received_total{{module=\"{module}\"}} ");
            metrics
                .encode()
                .lines()
                .find_map(|line| line.strip_prefix(&start).map(str::to_owned))
        };
        assert_eq!((of("a").as_deref(), of("b").as_deref()), (Some("1"), Some("2")));
        let held = metrics.module("b");
        metrics.remove("b");
        held.count(&one);
        assert!(!metrics.encode().contains("\"b\""), "{}", metrics.encode());
        metrics.module("b");
        assert_eq!(of("b").as_deref(), Some("0"));
    }

    #[test]
    fn only_the_hash_in_use_is_shown() {
        let metrics = Metrics::new();
        let orders = metrics.module("orders");
        assert!(!metrics.encode().contains("module_info{"));
        orders.set_sha256(Some("abc"));
        orders.set_sha256(Some("def"));
        let text = metrics.encode();
        assert!(
            text.contains("slipring_module_info{module=\"orders\",sha256=\"def\"} 1\n"),
            "{text}"
        );
        assert!(!text.contains("abc"), "{text}");
    }

    #[test]
    fn a_lag_is_unknown_at_first() {
        let metrics = Metrics::new();
        let orders = metrics.module("orders");
        assert_eq!((orders.lag_messages(), orders.lag_seconds()), (None, None));
        assert!(
            metrics
                .encode()
                .contains("slipring_lag_seconds{module=\"orders\"} NaN\n"),
            "{}",
            metrics.encode()
        );
        orders.lag(7, Some(Duration::from_millis(500)));
        assert_eq!((orders.lag_messages(), orders.lag_seconds()), (Some(7), Some(0.5)));
        orders.lag_unknown();
        assert_eq!((orders.lag_messages(), orders.lag_seconds()), (None, None));
    }
}
