//! Rolls back: after a failed trial, by hand, after another relay, and after a restart.

use std::error::Error;

use anyhow::{Context as _, anyhow};
use tracing::{error, info};

use super::super::controls::{Command, Verb};
use super::super::versions::{Entry, Id};
use super::{Candidate, Keeper};
use crate::status::{RolledBack, RunningVersion, VersionStatus};
use crate::transform::Verdict;

impl Keeper {
    /// The running version rejected messages that it should have accepted.
    pub(super) async fn fail(&mut self, verdict: &Verdict) {
        let Some(probation) = self.running.as_mut().and_then(|running| running.probation.take()) else {
            return;
        };
        let Some(running) = &self.running else { return };
        let bad = running.version.id.clone();
        let reason = verdict.to_string();
        error!(
            module = self.name,
            bad = bad.wasm_sha256,
            good = probation.predecessor.id.wasm_sha256,
            reason,
            "rolled back to the previous version; with `on_reject = \"dead-letter\"`, the messages rejected in the meantime are \
             dead letters, which `slipring dead-letters replay` can publish"
        );
        self.go_back(probation.predecessor, bad, &reason).await;
    }

    pub(super) fn pass(&mut self) {
        if let Some(running) = &mut self.running {
            running.probation = None;
            let assignment = &mut running.version.assignment;
            // This also drops the last reference to the old version.
            assignment.trial = None;
            running.pipeline.assign(assignment.clone());
            info!(
                module = self.name,
                sha256 = &**running.version.assignment.module.sha256(),
                "the new version passed its trial"
            );
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
                    sha256 = id.wasm_sha256,
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

    pub(super) async fn obey(&mut self, command: Command) {
        let done = match command.verb {
            _ if self.is_gone() => Err(anyhow!("the module `{}` was removed", self.name)),
            Verb::Rollback => self.roll_back().await,
            Verb::Retry => self.retry().await,
        };
        // The client may have gone.
        let _ = command.answer.send(done.map_err(|error| format!("{error:#}")));
    }

    async fn roll_back(&mut self) -> anyhow::Result<String> {
        let Some(predecessor) = self.versions.predecessor().cloned() else {
            anyhow::bail!("`{}` has no earlier version to roll back to", self.name);
        };
        let running_version = self.running.as_ref().map(|running| running.version.id.clone());
        let running_version = running_version.with_context(|| format!("no version of `{}` is running", self.name))?;
        let candidate = match self.probation() {
            Some(probation) if probation.predecessor.id == predecessor.id => probation.predecessor.clone(),
            _ => self.load_known(&predecessor.id).await?,
        };
        // The directory may hold another refused version. Whatever it holds counts as rolled back.
        let files = self
            .present
            .as_ref()
            .map_or(running_version.clone(), |version| version.id.clone());
        info!(
            module = self.name,
            from = running_version.wasm_sha256,
            to = predecessor.id.wasm_sha256,
            "rolling back to the previous version, as requested"
        );
        self.go_back(candidate, files, "a rollback was requested").await;
        self.is_not_blocked()?;
        Ok(format!(
            "rolled `{}` back to {}, which took over at {}; the files in the modules directory are loaded \
             again when they change, or when you run `slipring modules retry {}`",
            self.name, predecessor.id.wasm_sha256, predecessor.since, self.name
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
        let version = self.versions.read(id).await;
        let version = version.context("cannot read the files of the previous version")?;
        self.load(&version).await
    }

    /// Shows on the board what is known about versions.
    pub(super) fn show_versions(&self) {
        let current = self.versions.current();
        let version = |entry: &Entry| VersionStatus {
            sha256: entry.id.wasm_sha256.clone(),
            toml_sha256: entry.id.toml_sha256.clone(),
            since: entry.since.clone(),
        };
        self.board.set_running_version(RunningVersion {
            toml_sha256: current.map(|entry| entry.id.toml_sha256.clone()),
            since: current.map(|entry| entry.since.clone()),
            predecessor: self.versions.predecessor().map(version),
            rolled_back: self.versions.withdrawn().map(|withdrawn| RolledBack {
                sha256: withdrawn.id.wasm_sha256.clone(),
                toml_sha256: withdrawn.id.toml_sha256.clone(),
                at: withdrawn.at.clone(),
                reason: withdrawn.reason.clone(),
            }),
        });
    }
}
