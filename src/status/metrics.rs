//! What the relay counts and measures, per module, in the OpenMetrics text format. A pipeline takes a [`ModuleMetrics`]
//! once and then only touches atomics. Names, units and help texts are all in one place, the `encode` below.

mod admin;
mod module;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

use super::report::State;
use crate::memory::Memory;
use crate::message::Stage;
use crate::telemetry;

pub use admin::AdminRequests;
pub use module::ModuleMetrics;

/// The format of the metrics' text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    OpenMetrics,
    /// Prometheus' own, older format, which every tool reads.
    Text,
}

impl Format {
    /// Returns the format for a client with this `Accept` header. OpenMetrics has to be asked for.
    pub fn accepted(accept: &str) -> Self {
        let accepts = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let is_open = parts
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case("application/openmetrics-text"));
            is_open && !parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32)))
        };
        match accept.split(',').any(accepts) {
            true => Self::OpenMetrics,
            false => Self::Text,
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

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
        let mut registry = Registry::with_prefix("slipring");
        registry.register_collector(Box::new(modules.clone()));
        let process = Process::default();
        registry.register_collector(Box::new(process.clone()));
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
            process,
        }
    }

    /// Sets whether the relay is ready, and whether it can publish.
    pub fn set_ready(&self, ready: bool, centrifugo_up: bool) {
        let facts = &self.process.0;
        facts.ready.store(ready, Ordering::Relaxed);
        facts.centrifugo_up.store(centrifugo_up, Ordering::Relaxed);
    }

    /// There is a connection to NATS. It counts if there was none before.
    pub fn nats_connected(&self) {
        let facts = &self.process.0;
        if !facts.nats_connected.swap(true, Ordering::Relaxed) {
            facts.nats_connections.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn nats_disconnected(&self) {
        self.process.0.nats_connected.store(false, Ordering::Relaxed);
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

/// Turns OpenMetrics into Prometheus' older format. There a counter has its full name in each line, and neither units nor
/// the end are marked.
fn older(text: &str) -> String {
    let mut older = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let is_counter = |line: &str| line.starts_with("# TYPE ") && line.ends_with(" counter");
        // The help comes before the type.
        let is_of_counter =
            is_counter(line) || line.starts_with("# HELP ") && lines.peek().is_some_and(|next| is_counter(next));
        match line.strip_prefix("# ") {
            Some(comment) if comment.starts_with("UNIT ") || comment == "EOF" => continue,
            Some(comment) if is_of_counter => {
                let mut words = comment.splitn(3, ' ');
                let [keyword, name, rest] = [(); 3].map(|()| words.next().unwrap_or_default());
                older.push_str(&format!("# {keyword} {name}_total {rest}"));
            }
            _ => older.push_str(line),
        }
        older.push('\n');
    }
    older
}

/// What concerns the whole process. A clone is the same.
#[derive(Debug, Clone, Default)]
struct Process(Arc<Facts>);

#[derive(Debug, Default)]
struct Facts {
    ready: AtomicBool,
    nats_connected: AtomicBool,
    /// Connections to NATS so far.
    nats_connections: AtomicU64,
    centrifugo_up: AtomicBool,
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
                "1 while publishing to Centrifugo works, or nothing says otherwise, else 0",
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
            "Acks sent to JetStream; whether they took effect shows in the consumer's ack floor",
            |m| &m.acks,
        )?;
        page.family(
            "messages_missed",
            None,
            "Messages that the stream's limits removed before they could be read",
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
            "Age of the oldest delivered message that is not settled, since it was stored; absent while unknown",
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
            "Stream sequence up to which everything is acknowledged, by the server's own count",
            |m| m.progress().consumer(now).map(|consumer| consumer.ack_floor as f64),
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
        page.states()?;
        page.known(
            "halted",
            None,
            "1 while the pipeline is halted, else 0; `module_state` replaces it",
            |m| Some(f64::from(m.state() == State::Halted)),
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

    use super::super::progress::Consumer;
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
        insta::assert_snapshot!(metrics.encode(Format::OpenMetrics));
    }

    #[test]
    fn each_metric_has_a_row_in_the_reference() {
        let metrics = Metrics::with_memory(Memory::new(256 << 20));
        let orders = metrics.module("orders");
        orders.set_sha256(Some("abc"));
        orders.progress().answered(Instant::now(), Consumer::default());
        orders.swapped();
        let text = metrics.encode(Format::OpenMetrics);
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

    #[test]
    fn dashboard_and_alerts_use_only_metrics_that_exist() {
        let metrics = Metrics::with_memory(Memory::new(256 << 20));
        let orders = metrics.module("orders");
        orders.progress().answered(Instant::now(), Consumer::default());
        orders.swapped();
        let text = metrics.encode(Format::Text);
        for file in [
            include_str!("../../docs/operating/prometheus/dashboard.json"),
            include_str!("../../docs/operating/prometheus/alerts.yml"),
        ] {
            let is_name = |character: char| character.is_ascii_lowercase() || character == '_';
            let names = file.match_indices("slipring_").map(|(at, _)| {
                let rest = &file[at..];
                &rest[..rest.find(|character| !is_name(character)).unwrap_or(rest.len())]
            });
            let names: BTreeSet<&str> = names.collect();
            assert!(names.len() > 10);
            for name in names {
                let has = |end: &str| text.contains(&format!("\n{name}{end}"));
                assert!(has("{") || has(" "), "{name}");
            }
        }
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
                .encode(Format::OpenMetrics)
                .lines()
                .find_map(|line| line.strip_prefix(&start).map(str::to_owned))
        };
        assert_eq!((of("a").as_deref(), of("b").as_deref()), (Some("1"), Some("2")));
        let held = metrics.module("b");
        metrics.remove("b");
        held.count(&one);
        assert!(
            !metrics.encode(Format::OpenMetrics).contains("\"b\""),
            "{}",
            metrics.encode(Format::OpenMetrics)
        );
        metrics.module("b");
        assert_eq!(of("b").as_deref(), Some("0"));
    }

    #[test]
    fn only_the_hash_in_use_is_shown() {
        let metrics = Metrics::new();
        let orders = metrics.module("orders");
        assert!(!metrics.encode(Format::OpenMetrics).contains("module_info{"));
        orders.set_sha256(Some("abc"));
        orders.set_sha256(Some("def"));
        let text = metrics.encode(Format::OpenMetrics);
        assert!(
            text.contains("slipring_module_info{module=\"orders\",sha256=\"def\"} 1\n"),
            "{text}"
        );
        assert!(!text.contains("abc"), "{text}");
    }

    #[test]
    fn what_is_unknown_is_left_out() {
        let metrics = Metrics::new();
        let orders = metrics.module("orders");
        let has = |name: &str| {
            metrics
                .encode(Format::OpenMetrics)
                .contains(&format!("\n{name}{{module=\"orders\"}} "))
        };
        let known_later = [
            "slipring_lag_messages",
            "slipring_lag_seconds",
            "slipring_stalled_seconds",
            "slipring_consumer_paused",
        ];
        assert_eq!(known_later.map(has), [false; 4]);
        orders.progress().answered(Instant::now(), Consumer::default());
        assert_eq!(known_later.map(has), [true; 4]);
        orders.lag_unknown();
        assert_eq!(known_later.map(has), [false; 4]);
        assert!(!has("slipring_last_swap_timestamp_seconds"));
        orders.swapped();
        assert!(has("slipring_last_swap_timestamp_seconds"));
        assert!(!metrics.encode(Format::OpenMetrics).contains("NaN"));
    }

    #[test]
    fn each_state_has_a_sample() {
        let metrics = Metrics::new();
        metrics.module("orders").set_state(State::Halted);
        let text = metrics.encode(Format::Text);
        for state in State::ALL {
            let value = u8::from(state == State::Halted);
            let sample = format!("slipring_module_state{{module=\"orders\",state=\"{state}\"}} {value}\n");
            assert!(text.contains(&sample), "{sample} in {text}");
        }
    }

    #[test]
    fn a_client_gets_the_format_that_it_accepts() {
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/plain;version=0.0.4", Format::Text),
            ("application/openmetrics-text", Format::OpenMetrics),
            // As Prometheus asks.
            (
                "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            (
                "Application/OpenMetrics-Text; version=0.0.1; charset=utf-8",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0, text/plain", Format::Text),
            ("application/openmetrics-text-of-another-kind", Format::Text),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }

    #[test]
    fn the_older_format_names_counters_in_full_and_marks_no_end() {
        let open = "# HELP slipring_acks Acks sent.\n# TYPE slipring_acks counter\nslipring_acks_total 1\n\
                    # HELP slipring_lag_seconds Age\n# TYPE slipring_lag_seconds gauge\n\
                    # UNIT slipring_lag_seconds seconds\nslipring_lag_seconds 2.0\n# EOF\n";
        assert_eq!(
            older(open),
            "# HELP slipring_acks_total Acks sent.\n# TYPE slipring_acks_total counter\nslipring_acks_total 1\n\
             # HELP slipring_lag_seconds Age\n# TYPE slipring_lag_seconds gauge\nslipring_lag_seconds 2.0\n"
        );
    }
}
