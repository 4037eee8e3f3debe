//! What the relay counts and measures, per module, in the OpenMetrics text format. A pipeline takes a [`ModuleMetrics`]
//! once and then only touches atomics. Names, units and help texts are all in one place, the `encode` below.

mod admin;
mod format;
mod module;
mod process;
mod usage;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

use slipring_core::place::Place;
use slipring_core::publish::RequestOutcome;

use self::format::older;
use self::process::Process;
use self::usage::Usage;
use super::report::State;
use crate::memory::Memory;
use crate::message::Stage;

pub use self::admin::AdminRequests;
pub use self::format::Format;
pub(in crate::status) use self::module::Latency;
pub use self::module::ModuleMetrics;

/// All metrics of the process. A clone is the same metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    modules: Modules,
    admin_requests: AdminRequests,
    memory: Option<Memory>,
    process: Process,
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
        let mut all = Registry::default();
        all.register_collector(Box::new(Usage));
        let registry = all.sub_registry_with_prefix("slipring");
        registry.register_collector(Box::new(modules.clone()));
        let process = Process::default();
        registry.register_collector(Box::new(process.clone()));
        let admin_requests = AdminRequests::default();
        registry.register_collector(Box::new(admin_requests.clone()));
        if let Some(memory) = &memory {
            registry.register_collector(Box::new(memory.clone()));
        }
        Self {
            registry: Arc::new(all),
            modules,
            admin_requests,
            memory,
            process,
        }
    }

    /// Sets whether the relay is ready, and whether it can publish.
    pub fn set_ready(&self, ready: bool, centrifugo_up: bool) {
        self.process.set_ready(ready, centrifugo_up);
    }

    /// There is a connection to NATS. It counts if there was none before.
    pub fn nats_connected(&self) {
        self.process.set_nats_connected(true);
    }

    pub fn nats_disconnected(&self) {
        self.process.set_nats_connected(false);
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

    pub fn encode(&self, format: Format) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a string does not fail");
        match format {
            Format::OpenMetrics => text,
            Format::Text => older(&text),
        }
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
            "Limit of slipring_memory_used_bytes: `memory_limit`, or half of the memory of the machine or cgroup",
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

        page.family("messages_received", None, "Messages that the source delivered", |m| {
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
            "Messages skipped, in whole or in part, because they were older than `max_age`",
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
            "Publications sent again after a temporary error or a missing reply",
            |m| &m.publish_retries,
        )?;
        page.family(
            "acks",
            None,
            "Acks sent to JetStream or Redis; for JetStream, the consumer's ack floor shows if they took effect",
            |m| &m.acks,
        )?;
        page.family(
            "messages_missed",
            None,
            "Messages that were removed from the stream before they could be read",
            |m| &m.missed,
        )?;
        page.family("dead_letters", None, "Messages stored in the dead-letter stream", |m| {
            &m.dead_letters
        })?;
        page.family(
            "dead_letter_store_failures",
            None,
            "Failed attempts to store a dead letter; each is repeated until it succeeds",
            |m| &m.dead_letter_store_failures,
        )?;
        page.family(
            "swaps",
            None,
            "Swaps to a new module version: a new .wasm or a new .toml",
            |m| &m.swaps,
        )?;
        page.known(
            "last_swap_timestamp",
            Some(&Unit::Seconds),
            "When the last swap happened, in seconds since 1970; absent if there was none",
            |m| Some(m.last_swap.get()).filter(|at| *at > 0.0),
        )?;
        page.family(
            "swaps_refused",
            None,
            "New versions refused; the running version, if any, continued",
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
            "How often reading began at the first unsettled message, as after a new connection",
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
        let now = Instant::now();
        page.known(
            "lag_messages",
            None,
            "Messages of the module that are not settled, delivered or not; absent while unknown",
            |m| m.progress().lag(now).map(|lag| lag.messages as f64),
        )?;
        page.known(
            "lag",
            Some(&Unit::Seconds),
            "Age of the oldest delivered message that is not settled; if none is delivered, how long messages have waited; absent while unknown",
            |m| m.progress().lag(now).map(|lag| lag.seconds),
        )?;
        page.known(
            "consumer_pending_messages",
            None,
            "Messages that the consumer has not delivered yet, by the server's own count",
            |m| m.progress().consumer(now).map(|consumer| consumer.pending as f64),
        )?;
        page.known(
            "consumer_ack_pending_messages",
            None,
            "Messages delivered and not acknowledged, by the server's own count",
            |m| m.progress().consumer(now).map(|consumer| consumer.ack_pending as f64),
        )?;
        page.known(
            "consumer_ack_floor",
            None,
            "Stream sequence up to which everything is acknowledged, by the server's own count; absent for Redis",
            |m| match m.progress().consumer(now)?.ack_floor {
                Place::Sequence(sequence) => Some(sequence as f64),
                Place::Id(..) => None,
            },
        )?;
        page.known(
            "consumer_paused",
            None,
            "1 while the consumer is paused on the server, else 0",
            |m| {
                m.progress()
                    .consumer(now)
                    .map(|consumer| f64::from(consumer.paused_for.is_some()))
            },
        )?;
        page.known(
            "stalled",
            Some(&Unit::Seconds),
            "Time in which messages have waited while neither delivery nor ack floor moved; 0 if none wait",
            |m| m.progress().still(now).map(|still| still.as_secs_f64()),
        )?;
        page.family(
            "requests_in_flight",
            None,
            "Requests to Centrifugo without a reply yet",
            |m| &m.requests_in_flight,
        )?;
        page.requests()?;
        page.states()?;
        page.known(
            "halted",
            None,
            "1 while the pipeline is halted, else 0; prefer `slipring_module_state`",
            |m| Some(f64::from(m.state() == State::Halted)),
        )?;
        page.info()?;

        page.family(
            "transform",
            Some(&Unit::Seconds),
            "Time that the module took for one message",
            |m| &m.transform_seconds,
        )?;
        page.family(
            "delivery",
            Some(&Unit::Seconds),
            "Time from a message's timestamp until it is settled: confirmed, dropped, expired or dead-lettered",
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

    /// Encodes a gauge of those modules for which it is known.
    fn known(
        &mut self,
        name: &str,
        unit: Option<&Unit>,
        help: &str,
        of: impl Fn(&ModuleMetrics) -> Option<f64>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (module, metrics) in self.modules {
            let Some(value) = of(metrics) else { continue };
            let labels = [("module", module.as_str())];
            let encoder = family.encode_family(&labels)?;
            match value.fract() == 0.0 {
                true => ConstGauge::new(value as i64).encode(encoder)?,
                false => ConstGauge::new(value).encode(encoder)?,
            }
        }
        Ok(())
    }

    /// Encodes the state of each module: 1 for the state it is in, 0 for the others.
    fn states(&mut self) -> fmt::Result {
        let help = "1 for the state that the module is in, 0 for each other state";
        let mut family = self
            .encoder
            .encode_descriptor("module_state", help, None, MetricType::Gauge)?;
        for (module, metrics) in self.modules {
            for state in State::ALL {
                let word = state.to_string();
                let labels = [("module", module.as_str()), ("state", word.as_str())];
                ConstGauge::new(i64::from(metrics.state() == state)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn rejected(&mut self) -> fmt::Result {
        let stages = [Stage::Transform, Stage::Publish].map(|stage| (stage, stage.to_string()));
        let help = "Messages rejected: by the module, or by Centrifugo for one of their publications";
        let mut family =
            self.encoder
                .encode_descriptor("messages_rejected", help, None, ModuleMetrics::COUNTER_TYPE)?;
        for (module, metrics) in self.modules {
            for (stage, word) in &stages {
                let labels = [("module", module.as_str()), ("stage", word)];
                metrics.rejections(*stage).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn requests(&mut self) -> fmt::Result {
        let help = "Requests to Centrifugo that have ended, by outcome";
        let mut family = self
            .encoder
            .encode_descriptor("requests", help, None, ModuleMetrics::COUNTER_TYPE)?;
        for (module, metrics) in self.modules {
            for outcome in RequestOutcome::ALL {
                let labels = [("module", module.as_str()), ("outcome", outcome.as_str())];
                metrics.requests(outcome).encode(family.encode_family(&labels)?)?;
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
mod tests;
