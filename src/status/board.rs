//! The board on which the running parts record their state, and from which the status is read. Writes are rare. What is
//! counted per message is in the metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{Timestamp, Unit};

use super::metrics::{Metrics, ModuleMetrics};
use super::report::{
    CentrifugoStatus, MemoryStatus, ModuleStatus, NatsStatus, RolledBack, State, Status, VersionStatus,
};
use crate::message::Stage;

/// A clone is the same board.
#[derive(Debug, Clone)]
pub struct StatusBoard {
    metrics: Metrics,
    started: String,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    shutting_down: bool,
    modules_known: bool,
    nats: NatsStatus,
    /// Why Centrifugo has not been reached since the start.
    unreached: Option<String>,
    modules: BTreeMap<String, ModuleBoard>,
}

/// The part of the board that one pipeline writes to. A clone is the same part.
#[derive(Debug, Clone)]
pub struct ModuleBoard {
    name: Arc<str>,
    metrics: ModuleMetrics,
    facts: Arc<Mutex<Facts>>,
}

#[derive(Debug)]
struct Facts {
    state: State,
    reason: Option<String>,
    since: String,
    stream: Option<String>,
    consumer: Option<String>,
    last_refusal: Option<String>,
    at_work: AtWork,
    trouble: Option<String>,
}

/// What is known about the version in use beside its hash.
#[derive(Debug, Clone, Default)]
pub struct AtWork {
    pub toml_sha256: Option<String>,
    pub since: Option<String>,
    pub predecessor: Option<VersionStatus>,
    pub rolled_back: Option<RolledBack>,
}

impl StatusBoard {
    pub fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            started: now(),
            inner: Arc::default(),
        }
    }

    /// `server` is the server's version.
    pub fn nats_connected(&self, server: &str) {
        self.inner().nats = NatsStatus {
            connected: true,
            server: Some(server.to_owned()),
            trouble: None,
        };
    }

    /// The reason is a sentence that says what to change. It is unknown until an attempt to connect has failed.
    pub fn nats_disconnected(&self, reason: Option<String>) {
        let mut inner = self.inner();
        inner.nats.connected = false;
        inner.nats.trouble = reason;
    }

    /// Sets why Centrifugo has not been reached since the start, or `None` once it was. From then on the pipelines know
    /// better.
    pub fn centrifugo_unreached(&self, trouble: Option<String>) {
        self.inner().unreached = trouble;
    }

    /// From now on the relay is not ready, whatever its pipelines do.
    pub fn shutting_down(&self) {
        self.inner().shutting_down = true;
    }

    /// From now on the board has every module that the directory held at the start.
    pub fn modules_known(&self) {
        self.inner().modules_known = true;
    }

    /// Returns the module's part of the board. A new part starts as [`State::Starting`].
    pub fn module(&self, name: &str) -> ModuleBoard {
        let mut inner = self.inner();
        if let Some(module) = inner.modules.get(name) {
            return module.clone();
        }
        let module = ModuleBoard::new(name, self.metrics.module(name));
        inner.modules.insert(name.to_owned(), module.clone());
        module
    }

    /// Removes the module and its metrics.
    pub fn remove(&self, name: &str) {
        self.inner().modules.remove(name);
        self.metrics.remove(name);
    }

    pub fn status(&self) -> Status {
        let inner = self.inner();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started.clone(),
            ready: inner.obstacles().is_empty(),
            nats: inner.nats.clone(),
            centrifugo: CentrifugoStatus {
                trouble: inner.centrifugo_trouble(),
            },
            memory: self.metrics.memory().map(|memory| MemoryStatus {
                used: memory.used() as u64,
                limit: memory.limit() as u64,
            }),
            modules: inner.modules.values().map(ModuleBoard::status).collect(),
        }
    }

    /// Returns why the relay is not ready, one sentence each. Empty if it is ready.
    pub fn obstacles(&self) -> Vec<String> {
        self.inner().obstacles()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn obstacles(&self) -> Vec<String> {
        let mut obstacles = Vec::new();
        if self.shutting_down {
            obstacles.push("shutting down".to_owned());
        }
        if !self.nats.connected {
            obstacles.push(match &self.nats.trouble {
                Some(reason) => format!("NATS is not connected: {reason}"),
                None => "NATS is not connected".to_owned(),
            });
        }
        if !self.modules_known {
            obstacles.push("the modules directory has not been read yet".to_owned());
        }
        obstacles.extend(
            self.centrifugo_trouble()
                .map(|trouble| format!("Centrifugo: {trouble}")),
        );
        obstacles.extend(self.modules.values().filter_map(ModuleBoard::obstacle));
        obstacles
    }

    /// All pipelines use the same Centrifugo, so trouble in one pipeline means trouble for all. A pipeline without
    /// trouble may not have tried.
    fn centrifugo_trouble(&self) -> Option<String> {
        let trouble = self.modules.values().find_map(|module| module.facts().trouble.clone());
        trouble.or_else(|| self.unreached.clone())
    }
}

impl ModuleBoard {
    fn new(name: &str, metrics: ModuleMetrics) -> Self {
        let facts = Facts {
            state: State::Starting,
            reason: None,
            since: now(),
            stream: None,
            consumer: None,
            last_refusal: None,
            at_work: AtWork::default(),
            trouble: None,
        };
        Self {
            name: name.into(),
            metrics,
            facts: Arc::new(Mutex::new(facts)),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn metrics(&self) -> &ModuleMetrics {
        &self.metrics
    }

    /// Sets the state and its reason. The time of the last change stays if only the reason is new.
    pub fn set_state(&self, state: State, reason: Option<String>) {
        self.metrics.halted(state == State::Halted);
        let mut facts = self.facts();
        if facts.state != state {
            facts.state = state;
            facts.since = now();
        }
        facts.reason = reason;
    }

    pub fn is_halted(&self) -> bool {
        self.facts().state == State::Halted
    }

    pub fn set_source(&self, stream: &str, consumer: &str) {
        let mut facts = self.facts();
        facts.stream = Some(stream.to_owned());
        facts.consumer = Some(consumer.to_owned());
    }

    /// A module with this hash is in use.
    pub fn loaded(&self, sha256: &str) {
        self.metrics.set_sha256(Some(sha256));
    }

    /// The version in the directory is in use.
    pub fn accepted(&self) {
        self.facts().last_refusal = None;
    }

    /// No module is in use any more: one of its files is gone, and its pipeline has stopped.
    pub fn unloaded(&self) {
        self.metrics.set_sha256(None);
        self.metrics.lag_unknown();
        let mut facts = self.facts();
        (facts.stream, facts.consumer) = (None, None);
        (facts.last_refusal, facts.trouble) = (None, None);
        facts.at_work = AtWork::default();
    }

    /// A module with this hash has taken over.
    pub fn swapped(&self, sha256: &str) {
        self.metrics.swapped();
        self.loaded(sha256);
    }

    /// A new file was refused, and the module in use stays.
    pub fn refused(&self, reason: &str) {
        self.metrics.swap_refused();
        self.facts().last_refusal = Some(reason.to_owned());
    }

    pub fn set_at_work(&self, at_work: AtWork) {
        self.facts().at_work = at_work;
    }

    /// Sets why this pipeline cannot publish anything (a wrong key, no reply), or `None` once it can again.
    pub fn set_trouble(&self, trouble: Option<String>) {
        self.facts().trouble = trouble;
    }

    /// Returns why the module should run and does not.
    fn obstacle(&self) -> Option<String> {
        let (name, facts) = (&self.name, self.facts());
        let word = match facts.state {
            State::Running | State::Standby | State::Draining => return None,
            State::Waiting if self.metrics.sha256().is_none() => return None,
            State::Waiting => "is waiting",
            State::Starting | State::Unknown => "is starting",
            State::Halted => "is halted",
            State::Failed => "has failed",
        };
        Some(match &facts.reason {
            Some(reason) => format!("{name} {word}: {reason}"),
            None => format!("{name} {word}"),
        })
    }

    fn status(&self) -> ModuleStatus {
        let (metrics, facts) = (&self.metrics, self.facts());
        let size = |gauge: i64| u64::try_from(gauge).unwrap_or(0);
        ModuleStatus {
            name: self.name.to_string(),
            state: facts.state,
            reason: facts.reason.clone(),
            sha256: metrics.sha256(),
            since: facts.since.clone(),
            stream: facts.stream.clone(),
            consumer: facts.consumer.clone(),
            received: metrics.received.get(),
            transformed: metrics.transformed.get(),
            dropped: metrics.dropped.get(),
            expired: metrics.expired.get(),
            rejected: metrics.rejections(Stage::Transform).get() + metrics.rejections(Stage::Publish).get(),
            published: metrics.publications.get(),
            conflated: metrics.publications_conflated.get(),
            missed: metrics.missed.get(),
            retried: metrics.publish_retries.get(),
            toml_sha256: facts.at_work.toml_sha256.clone(),
            working_since: facts.at_work.since.clone(),
            predecessor: facts.at_work.predecessor.clone(),
            rolled_back: facts.at_work.rolled_back.clone(),
            rollbacks: metrics.rollbacks.get(),
            swaps: metrics.swaps.get(),
            refused_swaps: metrics.swaps_refused.get(),
            last_refusal: facts.last_refusal.clone(),
            lag_messages: metrics.lag_messages(),
            lag_seconds: metrics.lag_seconds(),
            window_messages: size(metrics.window_messages.get()),
            window_bytes: size(metrics.window_bytes.get()),
        }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rounded to milliseconds. More digits only make it harder to read.
fn now() -> String {
    let now = Timestamp::now();
    now.round(Unit::Millisecond).unwrap_or(now).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use slipring_core::pipeline::Counters;

    use super::*;
    use crate::memory::Memory;

    /// Returns a board with NATS connected.
    fn board() -> StatusBoard {
        let board = StatusBoard::new(Metrics::with_memory(Memory::new(256 << 20)));
        board.nats_connected("2.15.2");
        board.modules_known();
        board
    }

    #[test]
    fn the_contract() {
        let mut board = board();
        board.started = "2026-01-01T00:00:00Z".to_owned();
        let orders = board.module("orders");
        orders.set_state(State::Running, None);
        orders.set_source("ORDERS", "slipring-orders");
        orders.loaded("abc");
        orders.facts().since = "2026-01-01T00:00:01Z".to_owned();
        let metrics = orders.metrics();
        metrics.received.inc_by(10);
        metrics.transformed.inc_by(9);
        metrics.count(&Counters {
            dropped: 1,
            expired: 1,
            rejected_in_transform: 2,
            rejected_in_publish: 1,
            published: 5,
            retried: 4,
            ..Counters::default()
        });
        metrics.lag(1, Some(Duration::from_millis(250)));
        metrics.window(3, 300);
        board.module("later").facts().since = "2026-01-01T00:00:02Z".to_owned();
        insta::assert_snapshot!(serde_json::to_string_pretty(&board.status()).unwrap());
    }

    #[test]
    fn ready_means_that_all_that_should_run_runs() {
        let check = |state, expected: &[&str]| {
            let board = board();
            board.module("orders").set_state(state, Some("why".to_owned()));
            assert_eq!(board.obstacles(), expected);
            assert_eq!(board.status().ready, expected.is_empty());
        };
        check(State::Running, &[]);
        check(State::Waiting, &[]);
        check(State::Draining, &[]);
        check(State::Starting, &["orders is starting: why"]);
        check(State::Halted, &["orders is halted: why"]);
        check(State::Failed, &["orders has failed: why"]);
    }

    #[test]
    fn waiting_for_a_file_is_not_waiting_for_a_stream() {
        let board = board();
        let orders = board.module("orders");
        orders.loaded("abc");
        orders.set_source("ORDERS", "slipring-orders");
        orders.set_state(State::Waiting, Some("the stream ORDERS does not exist".to_owned()));
        assert_eq!(
            board.obstacles(),
            ["orders is waiting: the stream ORDERS does not exist"]
        );
        orders.unloaded();
        orders.set_state(State::Waiting, Some("waiting for orders.toml".to_owned()));
        assert_eq!(board.obstacles(), [""; 0]);
        let status = board.status().modules.remove(0);
        assert_eq!(
            (status.sha256, status.stream, status.consumer, status.lag_messages),
            (None, None, None, None)
        );
    }

    #[test]
    fn the_process_has_obstacles_of_its_own() {
        let board = StatusBoard::new(Metrics::new());
        assert_eq!(
            board.obstacles(),
            ["NATS is not connected", "the modules directory has not been read yet"]
        );
        board.nats_connected("2.15.2");
        board.modules_known();
        assert_eq!(board.obstacles(), [""; 0]);
        board.nats_disconnected(None);
        assert_eq!(
            board.status().nats,
            NatsStatus {
                connected: false,
                server: Some("2.15.2".to_owned()),
                trouble: None
            }
        );
        board.shutting_down();
        assert_eq!(board.obstacles(), ["shutting down", "NATS is not connected"]);
    }

    #[test]
    fn trouble_with_centrifugo_lasts_until_the_pipeline_that_had_it_takes_it_back() {
        let board = board();
        let (a, b) = (board.module("a"), board.module("b"));
        a.set_state(State::Running, None);
        b.set_state(State::Running, None);
        b.set_trouble(Some("401: wrong API key".to_owned()));
        a.set_trouble(None);
        assert_eq!(board.obstacles(), ["Centrifugo: 401: wrong API key"]);
        assert_eq!(board.status().centrifugo.trouble.as_deref(), Some("401: wrong API key"));
        board.remove("b");
        assert_eq!(board.status().centrifugo.trouble, None);
        assert!(board.status().ready);
    }

    #[test]
    fn a_centrifugo_that_was_never_reached_is_an_obstacle() {
        let board = board();
        board.centrifugo_unreached(Some("connection refused".to_owned()));
        assert_eq!(board.obstacles(), ["Centrifugo: connection refused"]);
        assert_eq!(board.status().centrifugo.trouble.as_deref(), Some("connection refused"));
        board.centrifugo_unreached(None);
        assert_eq!(board.obstacles(), [""; 0]);
    }

    #[test]
    fn a_refusal_is_shown_until_a_good_module_comes() {
        let board = board();
        let orders = board.module("orders");
        orders.loaded("abc");
        orders.refused("no export `transform`");
        let status = board.status().modules.remove(0);
        assert_eq!(
            (status.refused_swaps, status.swaps, status.sha256.as_deref()),
            (1, 0, Some("abc"))
        );
        assert_eq!(status.last_refusal.as_deref(), Some("no export `transform`"));
        orders.swapped("def");
        orders.accepted();
        let status = board.status().modules.remove(0);
        assert_eq!(
            (status.refused_swaps, status.swaps, status.sha256.as_deref()),
            (1, 1, Some("def"))
        );
        assert_eq!(status.last_refusal, None);
    }

    #[test]
    fn a_state_begins_when_it_changes() {
        let board = board();
        let orders = board.module("orders");
        orders.facts().since = "before".to_owned();
        orders.set_state(State::Starting, Some("the stream ORDERS does not exist".to_owned()));
        assert_eq!(board.status().modules[0].since, "before");
        orders.set_state(State::Halted, None);
        assert_ne!(board.status().modules[0].since, "before");
        assert!(
            board
                .metrics
                .encode()
                .contains("slipring_halted{module=\"orders\"} 1\n")
        );
        orders.set_state(State::Running, None);
        assert!(
            board
                .metrics
                .encode()
                .contains("slipring_halted{module=\"orders\"} 0\n")
        );
    }
}
