//! The board on which the running parts record their state, and from which the status is read. Writes are rare. What is
//! counted per message is in the metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{Timestamp, Unit};

use super::health::{Finding, Kind};
use super::metrics::{Metrics, ModuleMetrics};
use super::progress::{Consumer, STALL};
use super::report::{
    Backlog, CentrifugoStatus, MemoryStatus, ModuleStatus, NatsStatus, RolledBack, State, Status, VersionStatus,
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
    /// Missing permissions that concern no single module.
    denied: Vec<String>,
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
    /// Missing permissions.
    denied: Vec<String>,
    /// Messages whose dead letter cannot be stored, by stream sequence, and why.
    unstored: BTreeMap<u64, String>,
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
        self.metrics.nats_connected();
        self.inner().nats = NatsStatus {
            connected: true,
            server: Some(server.to_owned()),
            trouble: None,
        };
    }

    /// The reason is a sentence that says what to change. It is unknown until an attempt to connect has failed.
    pub fn nats_disconnected(&self, reason: Option<String>) {
        self.metrics.nats_disconnected();
        let mut inner = self.inner();
        inner.nats.connected = false;
        inner.nats.trouble = reason;
    }

    /// Sets the permissions that NATS denies: for a module, or for the relay as a whole.
    pub fn set_denied(&self, denied: &[(Option<String>, String)]) {
        let of = |module: Option<&str>| {
            let denied = denied.iter().filter(|(denied, _)| denied.as_deref() == module);
            denied.map(|(_, text)| text.clone()).collect()
        };
        let mut inner = self.inner();
        inner.denied = of(None);
        for (name, module) in &inner.modules {
            module.facts().denied = of(Some(name));
        }
    }

    /// Returns what each module reads: its name, stream and consumer.
    pub fn sources(&self) -> Vec<(String, String, String)> {
        let inner = self.inner();
        let sources = inner.modules.values().filter_map(|module| {
            let facts = module.facts();
            Some((module.name.to_string(), facts.stream.clone()?, facts.consumer.clone()?))
        });
        sources.collect()
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
        let (obstacles, warnings) = inner.findings().into_iter().partition(Finding::is_obstacle);
        let obstacles: Vec<Finding> = obstacles;
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.started.clone(),
            ready: obstacles.is_empty(),
            obstacles,
            warnings,
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

    /// Returns everything that is wrong now, the relay's own first.
    pub fn findings(&self) -> Vec<Finding> {
        self.inner().findings()
    }

    /// Returns what is wrong with this module, or with the relay as a whole. `None` if there is no such module. Whether
    /// other modules run makes no difference.
    pub fn findings_of(&self, name: &str) -> Option<Vec<Finding>> {
        let inner = self.inner();
        let module = inner.modules.get(name)?;
        let mut findings = inner.own_findings();
        findings.extend(module.findings(Kind::Failed));
        Some(findings)
    }

    /// Writes into the metrics whether the relay is ready.
    pub fn measure(&self) {
        let (ready, trouble) = {
            let inner = self.inner();
            (
                !inner.findings().iter().any(Finding::is_obstacle),
                inner.centrifugo_trouble(),
            )
        };
        self.metrics.set_ready(ready, trouble.is_none());
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn findings(&self) -> Vec<Finding> {
        let mut findings = self.own_findings();
        // One bad module must not stop a rollout while others do their work.
        let others_run = self
            .modules
            .values()
            .any(|module| module.facts().state != State::Failed);
        let failed = if others_run {
            Kind::FailedAmongOthers
        } else {
            Kind::Failed
        };
        findings.extend(self.modules.values().flat_map(|module| module.findings(failed)));
        findings
    }

    /// Returns what concerns no single module.
    fn own_findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut find = |kind, text: String| findings.push(Finding::of_relay(kind, text));
        if self.shutting_down {
            find(Kind::ShuttingDown, "shutting down".to_owned());
        }
        if !self.nats.connected {
            find(
                Kind::Nats,
                match &self.nats.trouble {
                    Some(trouble) => format!("NATS is not connected: {trouble}"),
                    None => "NATS is not connected".to_owned(),
                },
            );
        }
        if !self.modules_known {
            find(
                Kind::Directory,
                "the modules directory has not been read yet".to_owned(),
            );
        }
        if let Some(trouble) = self.centrifugo_trouble() {
            find(Kind::Centrifugo, format!("Centrifugo: {trouble}"));
        }
        for denied in &self.denied {
            find(Kind::Permission, format!("the relay {denied}"));
        }
        findings
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
            denied: Vec::new(),
            unstored: BTreeMap::new(),
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
        self.metrics.set_state(state);
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
        facts.unstored.clear();
        facts.denied.clear();
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

    /// The server has told the state of the consumer, at this moment.
    pub fn inspected(&self, now: Instant, consumer: Consumer) {
        self.metrics.progress().answered(now, consumer);
    }

    /// The server has not told the state of the consumer, for this reason.
    pub fn not_inspected(&self, now: Instant, why: String) {
        self.metrics.progress().unanswered(now, why);
    }

    /// There is no consumer whose state the server could tell.
    pub fn no_consumer(&self) {
        self.metrics.progress().absent();
    }

    /// Records how far the pipeline is. It has settled everything up to the stream sequence `settled_through`, and its
    /// oldest unsettled message has the age `oldest`. `given` is the number of unsettled and pending messages, if messages
    /// have been delivered since the last call.
    pub fn worked(&self, now: Instant, settled_through: Option<u64>, oldest: Option<Duration>, given: Option<u64>) {
        self.metrics.progress().worked(now, settled_through, oldest, given);
    }

    /// The dead letter of this message cannot be stored for now.
    pub fn letter_not_stored(&self, sequence: u64, why: String) {
        self.metrics.dead_letter_not_stored();
        self.facts().unstored.insert(sequence, why);
    }

    /// The dead letter of this message is stored.
    pub fn letter_stored(&self, sequence: u64) {
        self.facts().unstored.remove(&sequence);
    }

    /// Nobody tries any more to store the module's dead letters. Their messages come again.
    pub fn letters_given_up(&self) {
        self.facts().unstored.clear();
    }

    pub fn set_at_work(&self, at_work: AtWork) {
        self.facts().at_work = at_work;
    }

    /// Sets why this pipeline cannot publish anything (a wrong key, no reply), or `None` once it can again.
    pub fn set_trouble(&self, trouble: Option<String>) {
        self.facts().trouble = trouble;
    }

    /// Returns what is wrong with the module. `failed` is the kind for a module that cannot run.
    fn findings(&self, failed: Kind) -> Vec<Finding> {
        let mut findings = Vec::new();
        let facts = self.facts();
        let mut find = |kind, text: String| findings.push(Finding::of_module(kind, &self.name, text));
        for denied in &facts.denied {
            find(Kind::Permission, denied.clone());
        }
        if let Some((kind, word)) = self.idle(facts.state, failed) {
            find(
                kind,
                match &facts.reason {
                    Some(reason) => format!("{word}: {reason}"),
                    None => word.to_owned(),
                },
            );
        }
        if let Some((sequence, why)) = facts.unstored.first_key_value() {
            let letters = facts.unstored.len();
            find(
                Kind::DeadLetters,
                format!(
                    "cannot store dead letters ({letters} waiting, the first of message {sequence}), so these messages \
                     stay unacknowledged: {why}"
                ),
            );
        }
        let now = Instant::now();
        let progress = self.metrics.progress();
        let (stream, consumer) = (facts.stream.as_deref(), facts.consumer.as_deref());
        let (Some(stream), Some(consumer)) = (stream, consumer) else {
            return findings;
        };
        // A missing permission is the better reason.
        if let Some((since, why)) = progress.silent(now).filter(|_| facts.denied.is_empty()) {
            find(
                Kind::NoAnswer,
                format!(
                    "has an unknown backlog: NATS has not told the state of the consumer `{consumer}` for {} s ({why}). \
                     Check NATS and the network to it",
                    since.as_secs()
                ),
            );
        }
        if let Some(paused) = progress.consumer(now).and_then(|consumer| consumer.paused_for) {
            let until = Timestamp::now() + paused;
            let until = until.round(Unit::Second).unwrap_or(until);
            let waiting = progress.lag(now).map_or(0, |lag| lag.messages);
            find(
                Kind::Paused,
                format!(
                    "is paused on the server until {until}, and {waiting} messages wait; to resume it, run `nats consumer \
                     resume {stream} {consumer}`"
                ),
            );
        }
        if facts.state != State::Running {
            return findings;
        }
        if let Some(since) = progress.acks_ignored(now) {
            find(
                Kind::AcksIgnored,
                format!(
                    "is stuck: the ack floor of the consumer `{consumer}` has not followed the relay's acks for {} s. Look \
                     for a missing permission to publish to `$JS.ACK.{stream}.{consumer}.>`",
                    since.as_secs()
                ),
            );
        }
        // What keeps Centrifugo from publishing also keeps the floor where it is.
        let still = progress
            .still(now)
            .filter(|still| *still >= STALL && facts.trouble.is_none());
        if let (Some(still), Some(backlog)) = (still, progress.consumer(now)) {
            find(
                Kind::Stalled,
                format!(
                    "has stalled: for {} s, {} messages have been waiting in the stream `{stream}` and {} have been \
                     delivered and not settled, and neither has changed. The log has what was tried; `nats consumer info \
                     {stream} {consumer}` shows the server's view",
                    still.as_secs(),
                    backlog.pending,
                    backlog.ack_pending
                ),
            );
        }
        findings
    }

    /// Returns why a module that should run does not.
    fn idle(&self, state: State, failed: Kind) -> Option<(Kind, &'static str)> {
        Some(match state {
            State::Running | State::Standby | State::Draining => return None,
            State::Waiting if self.metrics.sha256().is_none() => return None,
            State::Waiting => (Kind::Waiting, "is waiting"),
            State::Starting | State::Unknown => (Kind::Starting, "is starting"),
            State::Halted => (Kind::Halted, "is halted"),
            State::Failed => (failed, "has failed"),
        })
    }

    fn status(&self) -> ModuleStatus {
        let (metrics, facts) = (&self.metrics, self.facts());
        let size = |gauge: i64| u64::try_from(gauge).unwrap_or(0);
        let now = Instant::now();
        let (lag, consumer, still) = {
            let progress = metrics.progress();
            (progress.lag(now), progress.consumer(now), progress.still(now))
        };
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
            running_since: facts.at_work.since.clone(),
            predecessor: facts.at_work.predecessor.clone(),
            rolled_back: facts.at_work.rolled_back.clone(),
            rollbacks: metrics.rollbacks.get(),
            swaps: metrics.swaps.get(),
            refused_swaps: metrics.swaps_refused.get(),
            last_refusal: facts.last_refusal.clone(),
            lag_messages: lag.map(|lag| lag.messages),
            lag_seconds: lag.map(|lag| lag.seconds),
            backlog: consumer.map(|consumer| Backlog {
                pending: consumer.pending,
                ack_pending: consumer.ack_pending,
                ack_floor: consumer.ack_floor,
                paused: consumer.paused_for.is_some(),
                stalled_seconds: still.unwrap_or_default().as_secs_f64(),
            }),
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

    use super::super::metrics::Format;
    use super::*;
    use crate::memory::Memory;

    /// Returns a board with NATS connected.
    fn board() -> StatusBoard {
        let board = StatusBoard::new(Metrics::with_memory(Memory::new(256 << 20)));
        board.nats_connected("2.15.2");
        board.modules_known();
        board
    }

    fn obstacles(board: &StatusBoard) -> Vec<String> {
        let findings = board.findings().into_iter();
        findings
            .filter(Finding::is_obstacle)
            .map(|finding| finding.to_string())
            .collect()
    }

    fn warnings(board: &StatusBoard) -> Vec<String> {
        let findings = board.findings().into_iter();
        findings
            .filter(|finding| !finding.is_obstacle())
            .map(|finding| finding.to_string())
            .collect()
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
        metrics.window(3, 300);
        let consumer = Consumer {
            ack_floor: 7,
            ..Consumer::default()
        };
        orders.inspected(Instant::now(), consumer);
        board.module("later").facts().since = "2026-01-01T00:00:02Z".to_owned();
        insta::assert_snapshot!(serde_json::to_string_pretty(&board.status()).unwrap());
    }

    #[test]
    fn ready_means_that_all_that_should_run_runs() {
        let check = |state, expected: &[&str]| {
            let board = board();
            board.module("orders").set_state(state, Some("why".to_owned()));
            assert_eq!(obstacles(&board), expected);
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
            obstacles(&board),
            ["orders is waiting: the stream ORDERS does not exist"]
        );
        orders.unloaded();
        orders.set_state(State::Waiting, Some("waiting for orders.toml".to_owned()));
        assert_eq!(obstacles(&board), [""; 0]);
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
            obstacles(&board),
            ["NATS is not connected", "the modules directory has not been read yet"]
        );
        board.nats_connected("2.15.2");
        board.modules_known();
        assert_eq!(obstacles(&board), [""; 0]);
        board.nats_disconnected(None);
        assert_eq!(
            board.status().nats,
            NatsStatus {
                connected: false,
                server: Some("2.15.2".to_owned()),
                trouble: None,
            }
        );
        board.shutting_down();
        assert_eq!(obstacles(&board), ["shutting down", "NATS is not connected"]);
    }

    #[test]
    fn trouble_with_centrifugo_lasts_until_the_pipeline_that_had_it_takes_it_back() {
        let board = board();
        let (a, b) = (board.module("a"), board.module("b"));
        a.set_state(State::Running, None);
        b.set_state(State::Running, None);
        b.set_trouble(Some("401: wrong API key".to_owned()));
        a.set_trouble(None);
        assert_eq!(obstacles(&board), ["Centrifugo: 401: wrong API key"]);
        assert_eq!(board.status().centrifugo.trouble.as_deref(), Some("401: wrong API key"));
        board.remove("b");
        assert_eq!(board.status().centrifugo.trouble, None);
        assert!(board.status().ready);
    }

    #[test]
    fn a_centrifugo_that_was_never_reached_is_an_obstacle() {
        let board = board();
        board.centrifugo_unreached(Some("connection refused".to_owned()));
        assert_eq!(obstacles(&board), ["Centrifugo: connection refused"]);
        assert_eq!(board.status().centrifugo.trouble.as_deref(), Some("connection refused"));
        board.centrifugo_unreached(None);
        assert_eq!(obstacles(&board), [""; 0]);
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
    fn one_failed_module_among_others_is_a_warning() {
        let board = board();
        let (orders, bills) = (board.module("orders"), board.module("bills"));
        orders.set_state(State::Failed, Some("no such export".to_owned()));
        bills.set_state(State::Failed, None);
        assert_eq!(
            obstacles(&board),
            ["bills has failed", "orders has failed: no such export"]
        );
        bills.set_state(State::Running, None);
        assert_eq!(obstacles(&board), [""; 0]);
        assert_eq!(warnings(&board), ["orders has failed: no such export"]);
    }

    /// Returns a board with a running module, and that module.
    fn running() -> (StatusBoard, ModuleBoard) {
        let board = board();
        let orders = board.module("orders");
        orders.set_source("ORDERS", "slipring-orders");
        orders.set_state(State::Running, None);
        (board, orders)
    }

    fn kinds(board: &StatusBoard) -> Vec<Kind> {
        board.findings().into_iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn a_stall_is_told_unless_the_reason_is_known() {
        let (board, orders) = running();
        let now = Instant::now();
        let stalled = |orders: &ModuleBoard| {
            let waiting = Consumer {
                pending: 200,
                ..Consumer::default()
            };
            orders.inspected(now.checked_sub(STALL).unwrap(), waiting);
            orders.inspected(now, waiting);
        };
        stalled(&orders);
        let found = obstacles(&board);
        assert!(
            found[0].starts_with("orders has stalled: for 30 s, 200 messages have been waiting"),
            "{found:?}"
        );
        assert_eq!(board.status().modules[0].backlog.as_ref().unwrap().pending, 200);
        orders.set_trouble(Some("connection refused".to_owned()));
        assert_eq!(kinds(&board), [Kind::Centrifugo]);
        orders.set_trouble(None);
        orders.set_state(State::Halted, None);
        assert_eq!(kinds(&board), [Kind::Halted]);
        orders.set_state(State::Standby, None);
        assert_eq!(kinds(&board), []);
        assert_eq!(
            board.status().modules[0].lag_messages,
            Some(200),
            "the backlog is known all the same"
        );
    }

    #[test]
    fn a_missing_permission_is_told_of_the_module_and_explains_the_silence() {
        let (board, orders) = running();
        let now = Instant::now();
        for seconds in [20, 10, 0] {
            orders.not_inspected(
                now.checked_sub(Duration::from_secs(seconds)).unwrap(),
                "late".to_owned(),
            );
        }
        assert_eq!(kinds(&board), [Kind::NoAnswer]);
        let denied = |module: Option<&str>| (module.map(str::to_owned), "lacks a permission: …".to_owned());
        board.set_denied(&[denied(Some("orders"))]);
        assert_eq!(obstacles(&board), ["orders lacks a permission: …"]);
        board.set_denied(&[denied(None)]);
        assert_eq!(kinds(&board), [Kind::Permission, Kind::NoAnswer]);
        assert_eq!(obstacles(&board)[0], "the relay lacks a permission: …");
        board.set_denied(&[]);
        assert_eq!(kinds(&board), [Kind::NoAnswer]);
    }

    #[test]
    fn a_dead_letter_is_missed_until_it_is_stored_or_given_up() {
        let (board, orders) = running();
        orders.letter_not_stored(7, "no space".to_owned());
        orders.letter_not_stored(7, "no space".to_owned());
        orders.letter_not_stored(9, "no space".to_owned());
        let found = obstacles(&board);
        assert!(
            found[0].contains("(2 waiting, the first of message 7)") && found[0].ends_with("no space"),
            "{found:?}"
        );
        orders.letter_stored(7);
        assert_eq!(kinds(&board), [Kind::DeadLetters]);
        orders.letters_given_up();
        assert_eq!(kinds(&board), []);
        let text = board.metrics.encode(Format::Text);
        assert!(
            text.contains("slipring_dead_letter_store_failures_total{module=\"orders\"} 3\n"),
            "{text}"
        );
    }

    #[test]
    fn the_metrics_say_whether_the_relay_is_ready() {
        let (board, orders) = running();
        let ready = |board: &StatusBoard, expected: u8| {
            board.measure();
            let text = board.metrics.encode(Format::Text);
            assert!(text.contains(&format!("\nslipring_ready {expected}\n")), "{text}");
        };
        ready(&board, 1);
        orders.set_trouble(Some("connection refused".to_owned()));
        ready(&board, 0);
        assert!(
            board
                .metrics
                .encode(Format::Text)
                .contains("\nslipring_centrifugo_up 0\n")
        );
        orders.set_trouble(None);
        ready(&board, 1);
        board.nats_disconnected(None);
        ready(&board, 0);
        assert!(
            board
                .metrics
                .encode(Format::Text)
                .contains("\nslipring_nats_connected 0\n")
        );
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
                .encode(Format::OpenMetrics)
                .contains("slipring_halted{module=\"orders\"} 1\n")
        );
        orders.set_state(State::Running, None);
        assert!(
            board
                .metrics
                .encode(Format::OpenMetrics)
                .contains("slipring_halted{module=\"orders\"} 0\n")
        );
    }
}
