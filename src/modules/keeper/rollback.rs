//! Rolls back: after a failed trial, by hand, after another relay, and after a restart.

use std::error::Error;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tokio::sync::oneshot;
use tracing::{error, info};

use super::super::controls::{Loaded, Request, Verb};
use super::super::versions::{Entry, Id, Version};
use super::load::load;
use super::{Candidate, Keeper};
use crate::pipeline::Assignment;
use crate::status::{KnownVersion, RolledBack, RunningVersion, Trial, VersionStatus};
use crate::transform::Verdict;

impl Keeper {
    /// The running version rejected messages that it should have accepted.
    pub(super) async fn fail(&mut self, verdict: &Verdict) {
        let Some(probation) = self.running.as_mut().and_then(|running| running.probation.take()) else {
            return;
        };
        let Some(running) = &self.running else { return };
        let bad = running.version.id.clone();
        let good = probation.predecessor.id.clone();
        let reason = verdict.to_string();
        // These were replaced before their trials were over, so nobody knows whether they are good.
        let skipped = self.versions.all().map(|entry| &entry.id);
        let skipped = skipped.skip_while(|id| **id == bad).take_while(|id| **id != good);
        let skipped: Vec<String> = skipped.map(Id::name).collect();
        let skipped = (!skipped.is_empty()).then(|| skipped.join(", "));
        error!(
            module = self.name,
            bad = bad.name(),
            good = good.name(),
            skipped,
            reason,
            "rolled back to the last proven version; with `on_reject = \"dead-letter\"`, the messages rejected in the meantime are \
             dead letters, which `slipring dead-letters replay` can publish"
        );
        self.go_back(probation.predecessor, bad, &reason).await;
    }

    pub(super) async fn pass(&mut self) {
        if let Some(running) = &mut self.running {
            running.probation = None;
            let assignment = &mut running.version.assignment;
            // This also drops the last reference to the old version.
            assignment.trial = None;
            running.pipeline.assign(assignment.clone());
            info!(
                module = self.name,
                version = &*running.version.assignment.version,
                "the new version passed its trial"
            );
            let id = &running.version.id;
            if self.versions.current().is_some_and(|current| current.id == *id) {
                self.versions.passed().await;
            }
            self.show_versions();
        }
    }

    /// Runs an earlier version. `files` are not accepted again by themselves.
    async fn go_back(&mut self, to: Candidate, files: Id, reason: &str) {
        self.blocked = None;
        self.versions.rolled_back(&to.id, files, reason).await;
        self.board.metrics().rolled_back();
        self.put(to, None).await;
    }

    /// Follows another relay on the same directory: back at once, forward only if the new version does well here, too.
    pub(super) async fn follow_others(&mut self) {
        let is_news = self.versions.refresh().await;
        let (Some(running), Some(current)) = (&self.running, self.versions.current()) else {
            return;
        };
        let (running_version, current) = (&running.version.id, current.id.clone());
        if *running_version == current {
            if is_news {
                self.show_versions();
            }
        } else if self.versions.withdrawn().is_some() && !self.versions.knows(running_version) {
            self.follow_back(&current, is_news).await;
        } else if is_news && let Some(version) = self.present.clone().filter(|version| version.id == current) {
            self.follow_version(version).await;
        }
    }

    /// This is tried again and again, but an obstacle is logged only once.
    async fn follow_back(&mut self, id: &Id, is_news: bool) {
        match self.load_known(id).await {
            Ok(candidate) => {
                info!(
                    module = self.name,
                    version = id.name(),
                    "another relay rolled back to this version, doing the same"
                );
                self.blocked = None;
                self.put(candidate, None).await;
            }
            Err(error) if is_news => {
                let error = &*error as &dyn Error;
                error!(
                    module = self.name,
                    error, "another relay rolled back to an earlier version, which cannot be loaded here; retrying"
                );
            }
            Err(_) => {}
        }
    }

    pub(super) async fn obey(&mut self, request: Request) {
        // Nobody waits any more for what came from a client that has gone. A rollback might do harm by now.
        match request {
            Request::Command(_, answer) if answer.is_closed() => {}
            Request::Version(_, answer) if answer.is_closed() => {}
            Request::Command(verb, answer) => {
                let done = match verb {
                    _ if self.is_gone() => Err(anyhow!("the module `{}` was removed", self.name)),
                    Verb::Rollback(to) => self.roll_back(to.as_deref()).await,
                    Verb::Retry => self.retry().await,
                };
                let _ = answer.send(done.map_err(|error| format!("{error:#}")));
            }
            Request::Version(text, answer) => self.lend(text.as_deref(), answer).await,
            Request::Recent(answer) => drop(answer.send(self.recent.messages())),
        }
    }

    /// Sends a version to a client that wants to call it. Loading takes place beside the keeper, which has better things to
    /// do.
    async fn lend(&self, text: Option<&str>, answer: oneshot::Sender<Result<Loaded, String>>) {
        let running = self.running.as_ref().map(|running| &running.version);
        let id = match text {
            Some(text) => self.named(text).map(|entry| entry.id.clone()),
            None => running
                .map(|version| version.id.clone())
                .with_context(|| format!("no version of `{}` is running", self.name)),
        };
        let version = match id {
            Ok(id) => match running.filter(|version| version.id == id) {
                Some(version) => return drop(answer.send(Ok(lent(version.clone())))),
                None => self.files_of(&id).await,
            },
            Err(error) => Err(error),
        };
        let (context, name) = (Arc::clone(&self.context), self.name.clone());
        let loading = async move { load(&context, &name, &version?).await };
        // It ends by itself: loading is limited in time, and ends with the relay or when the client leaves.
        tokio::spawn(async move {
            let mut answer = answer;
            let loaded = tokio::select! {
                () = answer.closed() => return,
                loaded = loading => loaded,
            };
            let _ = answer.send(loaded.map(lent).map_err(|error| format!("{error:#}")));
        });
    }

    /// Returns the version that this text names.
    fn named(&self, text: &str) -> anyhow::Result<&Entry> {
        let mut found = self.versions.all().filter(|entry| entry.id.is_meant_by(text));
        match (found.next(), found.next()) {
            (Some(entry), None) => Ok(entry),
            (Some(one), Some(other)) => anyhow::bail!(
                "{text:?} matches several versions of `{}`, such as {} and {}; use more characters",
                self.name,
                one.id.name(),
                other.id.name()
            ),
            (None, _) => {
                let known: Vec<String> = self.versions.all().map(|entry| entry.id.name()).collect();
                let known = if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                };
                anyhow::bail!(
                    "the relay keeps no version of `{}` that begins with {text:?}; it keeps {known}",
                    self.name
                )
            }
        }
    }

    async fn roll_back(&mut self, to: Option<&str>) -> anyhow::Result<String> {
        let to = match to {
            Some(text) => self.named(text)?.clone(),
            None => {
                let predecessor = self.versions.predecessor().cloned();
                predecessor.with_context(|| format!("`{}` has no earlier version to roll back to", self.name))?
            }
        };
        let running_version = self.running.as_ref().map(|running| running.version.id.clone());
        let running_version = running_version.with_context(|| format!("no version of `{}` is running", self.name))?;
        anyhow::ensure!(
            to.id != running_version,
            "the version {} of `{}` is already running",
            to.id.name(),
            self.name
        );
        if self.present.as_ref().is_some_and(|present| present.id == to.id) {
            // It may have been rolled back itself, so it has its probe and its trial.
            return self.retry().await;
        }
        let candidate = match self.probation() {
            Some(probation) if probation.predecessor.id == to.id => probation.predecessor.clone(),
            _ => self.load_known(&to.id).await?,
        };
        // The directory may hold another refused version. Whatever it holds counts as rolled back.
        let files = self
            .present
            .as_ref()
            .map_or(running_version.clone(), |version| version.id.clone());
        info!(
            module = self.name,
            from = running_version.name(),
            to = to.id.name(),
            "rolling back, as requested"
        );
        self.go_back(candidate, files, "a rollback was requested").await;
        self.is_not_blocked()?;
        Ok(format!(
            "rolled `{}` back from {} to {}, which took over at {}; the files in the modules directory are loaded \
             again when they change, or when you run `slipring modules retry {}`",
            self.name,
            running_version.name(),
            to.id.name(),
            to.since,
            self.name
        ))
    }

    async fn retry(&mut self) -> anyhow::Result<String> {
        let present = self.present.clone();
        let present = present.with_context(|| {
            let name = &self.name;
            format!("{name}.wasm or {name}.toml in the modules directory is missing or cannot be read")
        })?;
        if let Some(running) = self.running.as_ref().filter(|running| running.version.id == present.id) {
            anyhow::ensure!(
                self.board.is_halted(),
                "the version of `{}` in the modules directory is already running",
                self.name
            );
            info!(module = self.name, "resuming the halted module, as requested");
            running.pipeline.retry();
            return Ok(format!("`{}` resumes where it halted", self.name));
        }
        let candidate = match self.prepare(&present).await {
            Ok(candidate) => candidate,
            Err(error) => {
                self.say_refused(&error);
                return Err(error);
            }
        };
        self.take(candidate).await;
        self.is_not_blocked()?;
        Ok(format!("`{}` swaps to the version in the modules directory", self.name))
    }

    /// The command will be carried out later if something blocks it.
    fn is_not_blocked(&self) -> anyhow::Result<()> {
        match &self.blocked {
            None => Ok(()),
            Some((_, taken)) => anyhow::bail!("accepted, but the change to `{}` is waiting: {taken}", self.name),
        }
    }

    /// Runs the version that ran when the relay stopped.
    pub(super) async fn start_known(&mut self) -> anyhow::Result<()> {
        let id = self.versions.current().map(|entry| entry.id.clone());
        let id = id.context("no previous version is known")?;
        let candidate = self.load_known(&id).await?;
        self.put(candidate, None).await;
        Ok(())
    }

    pub(super) async fn load_known(&self, id: &Id) -> anyhow::Result<Candidate> {
        self.load(&self.files_of(id).await?).await
    }

    async fn files_of(&self, id: &Id) -> anyhow::Result<Version> {
        let version = self.versions.read(id).await;
        version.with_context(|| format!("cannot read the files of the version {}", id.name()))
    }

    /// Shows on the board what is known about versions.
    pub(super) fn show_versions(&self) {
        let current = self.versions.current();
        let version = |entry: &Entry| VersionStatus {
            sha256: entry.id.wasm_sha256.clone(),
            toml_sha256: entry.id.toml_sha256.clone(),
            since: entry.since.clone(),
        };
        let running = self.running.as_ref();
        let known = |entry: &Entry| {
            let running = running.filter(|running| running.version.id == entry.id);
            KnownVersion {
                version: entry.id.name(),
                sha256: entry.id.wasm_sha256.clone(),
                toml_sha256: entry.id.toml_sha256.clone(),
                since: entry.since.clone(),
                running: running.is_some(),
                probe: entry.probe.clone(),
                trial: match running {
                    Some(running) if running.probation.is_some() => Some(Trial::Running),
                    _ => entry.passed.is_some().then_some(Trial::Passed),
                },
            }
        };
        self.board.set_running_version(RunningVersion {
            toml_sha256: current.map(|entry| entry.id.toml_sha256.clone()),
            since: current.map(|entry| entry.since.clone()),
            predecessor: self.versions.predecessor().map(version),
            known: self.versions.all().map(known).collect(),
            rolled_back: self.versions.withdrawn().map(|withdrawn| RolledBack {
                sha256: withdrawn.id.wasm_sha256.clone(),
                toml_sha256: withdrawn.id.toml_sha256.clone(),
                at: withdrawn.at.clone(),
                reason: withdrawn.reason.clone(),
            }),
        });
    }
}

fn lent(candidate: Candidate) -> Loaded {
    let Assignment {
        module,
        config,
        version,
        ..
    } = candidate.assignment;
    Loaded {
        version: version.to_string(),
        module,
        config,
    }
}
