//! Finds what is wrong with the relay and its modules, from what is on the board.

use std::time::Instant;

use jiff::{Timestamp, Unit};

use super::super::health::{Finding, Kind};
use super::super::progress::STALL;
use super::super::report::State;
use super::{Inner, ModuleBoard};

impl Inner {
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut findings = self.own_findings();
        // One bad module must not stop a rollout while others do their work.
        let others_run = self
            .modules
            .values()
            .any(|module| !module.is_incomplete() && module.facts().state != State::Failed);
        let failed = if others_run {
            Kind::FailedAmongOthers
        } else {
            Kind::Failed
        };
        findings.extend(self.modules.values().flat_map(|module| module.findings(failed)));
        findings
    }

    /// Returns what concerns no single module.
    pub(super) fn own_findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut find = |kind, text: String| findings.push(Finding::of_relay(kind, text));
        if self.shutting_down {
            find(Kind::ShuttingDown, "shutting down".to_owned());
        }
        if let Some(nats) = self.nats.as_ref().filter(|nats| !nats.connected) {
            find(
                Kind::Nats,
                match &nats.trouble {
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
}

impl ModuleBoard {
    /// Returns what is wrong with the module. `failed` is the kind for a module that cannot run.
    pub(super) fn findings(&self, failed: Kind) -> Vec<Finding> {
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
        if let Some((place, why)) = facts.unstored.first_key_value() {
            let letters = facts.unstored.len();
            find(
                Kind::DeadLetters,
                format!(
                    "cannot store dead letters ({letters} waiting, the first for message {place}), so these messages \
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
        let server = facts.server;
        let is_jetstream = server == "NATS";
        // A missing permission is the better reason.
        if let Some((since, why)) = progress.silent(now).filter(|_| facts.denied.is_empty()) {
            find(
                Kind::NoAnswer,
                format!(
                    "has an unknown lag: {server} has not reported for {} s how many messages of `{stream}` wait \
                     ({why}). Check {server} and the network to it",
                    since.as_secs()
                ),
            );
        }
        if let Some(paused) = progress.paused(now) {
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
            let seconds = since.as_secs();
            find(
                Kind::AcksIgnored,
                match is_jetstream {
                    true => format!(
                        "is stuck: the ack floor of the consumer `{consumer}` has not followed the relay's acks for \
                         {seconds} s. Look for a missing permission to publish to `$JS.ACK.{stream}.{consumer}.>`"
                    ),
                    false => format!(
                        "is stuck: {server} has not recorded for {seconds} s that messages of `{stream}` are settled. \
                         The log shows what was tried"
                    ),
                },
            );
        }
        // What keeps Centrifugo from publishing also keeps the floor where it is.
        let still = progress
            .still(now)
            .filter(|still| *still >= STALL && facts.trouble.is_none());
        if let (Some(still), Some(backlog)) = (still, progress.consumer(now)) {
            let look = match is_jetstream {
                true => format!("; `nats consumer info {stream} {consumer}` shows the server's view"),
                false => String::new(),
            };
            find(
                Kind::Stalled,
                format!(
                    "has stalled: for {} s nothing has been delivered or acknowledged, while {} messages wait in \
                     `{stream}` and {} are delivered and not acknowledged. The log shows what was tried{look}",
                    still.as_secs(),
                    backlog.pending,
                    backlog.ack_pending
                ),
            );
        }
        findings
    }

    /// Returns true if the module waits for one of its two files.
    fn is_incomplete(&self) -> bool {
        self.facts().state == State::Waiting && self.metrics.sha256().is_none()
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
}
