//! The board on which the running parts record their state, and from which the status is read. Writes are rare. What is
//! counted per message is in the metrics.

mod findings;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{Timestamp, Unit};
use slipring_core::place::Place;

use super::health::{Finding, Kind};
use super::metrics::{Latency, Metrics, ModuleMetrics};
use super::progress::Consumer;
use super::report::{
    Backlog, CentrifugoStatus, KnownVersion, MemoryStatus, ModuleStatus, NatsStatus, RejectionStatus, RolledBack,
    State, Status, VersionStatus, Versions,
};
use crate::message::{Rejection, Stage};

/// A clone is the same board.
#[derive(Debug, Clone)]
pub struct StatusBoard {
    metrics: Metrics,
    started: String,
    addresses: Arc<Addresses>,
    inner: Arc<Mutex<Inner>>,
}

/// Where the servers are, from the configuration. None of it is secret.
#[derive(Debug, Default)]
pub struct Addresses {
    pub nats: Vec<String>,
    pub centrifugo: Vec<String>,
}

#[derive(Debug, Default)]
struct Inner {
    shutting_down: bool,
    modules_known: bool,
    /// `None` as long as nothing needs NATS.
    nats: Option<NatsStatus>,
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
    /// The name of the server that holds it.
    server: &'static str,
    last_refusal: Option<String>,
    last_rejection: Option<RejectionStatus>,
    running_version: RunningVersion,
    trouble: Option<String>,
    /// Missing permissions.
    denied: Vec<String>,
    /// Messages whose dead letter cannot be stored, by place, and why.
    unstored: BTreeMap<Place, String>,
}

/// What is known about the version in use beside its hash.
#[derive(Debug, Clone, Default)]
pub struct RunningVersion {
    pub toml_sha256: Option<String>,
    pub since: Option<String>,
    pub predecessor: Option<VersionStatus>,
    pub rolled_back: Option<RolledBack>,
    /// The versions that a rollback can return to, and the one in use, the newest first.
    pub known: Vec<KnownVersion>,
}

impl StatusBoard {
    pub fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            started: now(),
            addresses: Arc::default(),
            inner: Arc::default(),
        }
    }

    /// Says where the servers are.
    pub fn with_addresses(self, addresses: Addresses) -> Self {
        Self {
            addresses: Arc::new(addresses),
            ..self
        }
    }

    /// `server` is the server's version.
    pub fn nats_connected(&self, server: &str) {
        self.metrics.nats_connected();
        self.inner().nats = Some(NatsStatus {
            connected: true,
            server: Some(server.to_owned()),
            ..NatsStatus::default()
        });
    }

    /// The reason is a sentence that says what to change. It is unknown until an attempt to connect has failed.
    pub fn nats_disconnected(&self, reason: Option<String>) {
        self.metrics.nats_disconnected();
        let mut inner = self.inner();
        let nats = inner.nats.get_or_insert_default();
        nats.connected = false;
        nats.trouble = reason;
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
            nats: inner.nats.clone().map(|nats| NatsStatus {
                servers: self.addresses.nats.clone(),
                ..nats
            }),
            centrifugo: CentrifugoStatus {
                endpoints: self.addresses.centrifugo.clone(),
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

    /// Returns the modules that stand by, each with the reason.
    pub fn standing_by(&self) -> Vec<(String, String)> {
        let inner = self.inner();
        let standing_by = inner.modules.iter().filter_map(|(name, module)| {
            let facts = module.facts();
            let reason = facts.reason.clone().filter(|_| facts.state == State::Standby)?;
            Some((name.clone(), reason))
        });
        standing_by.collect()
    }

    /// Returns the versions of a module. `None` if there is no such module.
    pub fn versions(&self, name: &str) -> Option<Versions> {
        let module = self.inner().modules.get(name)?.clone();
        let facts = module.facts();
        Some(Versions {
            module: name.to_owned(),
            versions: facts.running_version.known.clone(),
            rolled_back: facts.running_version.rolled_back.clone(),
            last_refusal: facts.last_refusal.clone(),
        })
    }

    /// Returns how long the messages took that were settled since the last call, by module.
    pub(super) fn take_latencies(&self) -> BTreeMap<String, Latency> {
        let inner = self.inner();
        let modules = inner.modules.iter();
        let latencies = modules.filter_map(|(name, module)| Some((name.clone(), module.metrics.take_latency()?)));
        latencies.collect()
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
            server: "NATS",
            last_refusal: None,
            last_rejection: None,
            running_version: RunningVersion::default(),
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
            if state == State::Running {
                self.metrics.progress().may_move(Instant::now());
            }
        }
        facts.reason = reason;
    }

    pub fn is_halted(&self) -> bool {
        self.facts().state == State::Halted
    }

    /// `server` is what holds it, for people: `NATS` or `Redis`.
    pub fn set_source(&self, stream: &str, consumer: &str, server: &'static str) {
        let mut facts = self.facts();
        facts.server = server;
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
        (facts.last_refusal, facts.last_rejection, facts.trouble) = (None, None, None);
        facts.unstored.clear();
        facts.denied.clear();
        facts.running_version = RunningVersion::default();
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

    /// The server was not asked, because there is no connection.
    pub fn not_asked(&self) {
        self.metrics.progress().not_asked();
    }

    /// There is no consumer whose state the server could tell.
    pub fn no_consumer(&self) {
        self.metrics.progress().absent();
    }

    /// Records how far the pipeline is. It has settled everything up to `settled_through`, and its
    /// oldest unsettled message has the age `oldest`. `given` is the number of unsettled and pending messages, if messages
    /// have been delivered since the last call.
    pub fn worked(&self, now: Instant, settled_through: Option<Place>, oldest: Option<Duration>, given: Option<u64>) {
        self.metrics.progress().worked(now, settled_through, oldest, given);
    }

    /// The dead letter of this message cannot be stored for now.
    pub fn letter_not_stored(&self, place: Place, why: String) {
        self.metrics.dead_letter_not_stored();
        self.facts().unstored.insert(place, why);
    }

    /// The dead letter of this message is stored.
    pub fn letter_stored(&self, place: Place) {
        self.facts().unstored.remove(&place);
    }

    /// No run of the pipeline publishes or stores anything now, so what one could not do is no trouble any more. Its
    /// messages come again.
    pub fn no_run(&self) {
        let mut facts = self.facts();
        facts.unstored.clear();
        facts.trouble = None;
    }

    pub fn set_running_version(&self, running_version: RunningVersion) {
        self.facts().running_version = running_version;
    }

    /// A message was rejected for this reason.
    pub fn rejected(&self, rejection: &Rejection) {
        self.facts().last_rejection = Some(RejectionStatus {
            at: now(),
            stage: rejection.stage.to_string(),
            code: rejection.code.to_string(),
            channel: rejection.channel.as_deref().map(str::to_owned),
            reason: rejection.reason.clone(),
        });
    }

    /// Sets why this pipeline cannot publish anything (a wrong key, no reply), or `None` once it can again.
    pub fn set_trouble(&self, trouble: Option<String>) {
        let mut facts = self.facts();
        if facts.trouble.is_some() && trouble.is_none() {
            self.metrics.progress().may_move(Instant::now());
        }
        facts.trouble = trouble;
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
            toml_sha256: facts.running_version.toml_sha256.clone(),
            running_since: facts.running_version.since.clone(),
            predecessor: facts.running_version.predecessor.clone(),
            rolled_back: facts.running_version.rolled_back.clone(),
            rollbacks: metrics.rollbacks.get(),
            swaps: metrics.swaps.get(),
            refused_swaps: metrics.swaps_refused.get(),
            last_refusal: facts.last_refusal.clone(),
            last_rejection: facts.last_rejection.clone(),
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
mod tests;
