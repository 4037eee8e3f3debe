//! The ways back: from a version that failed while it was watched, by hand, after another relay, and after a restart.

use std::error::Error;

use anyhow::Context as _;
use tracing::{error, info};

use super::super::versions::{Entry, Id};
use super::{Candidate, Keeper, Running};
use crate::admin::{AtWork, Command, RolledBack, Verb, VersionStatus};
use crate::transform::Verdict;

impl Keeper {
    /// The version at work rejected what it should not have.
    pub(super) async fn fail(&mut self, verdict: &Verdict) {
        let Some(probation) = self.running.as_mut().and_then(|running| running.probation.take()) else {
            return;
        };
        self.go_back(probation.predecessor, &verdict.to_string()).await;
    }

    pub(super) fn pass(&mut self) {
        if let Some(running) = &mut self.running {
            running.probation = None;
            let assignment = &mut running.version.assignment;
            // With it goes what is left of the old one.
            assignment.trial = None;
            running.pipeline.assign(assignment.clone());
            info!(
                module = self.name,
                sha256 = &**running.version.assignment.module.sha256(),
                "the new version has done well while it was watched"
            );
        }
    }

    async fn go_back(&mut self, to: Candidate, reason: &str) {
        let bad = self.running.as_ref().map(|running| running.version.id.clone());
        let Some(bad) = bad else { return };
        error!(
            module = self.name,
            bad = bad.wasm_sha256,
            good = to.id.wasm_sha256,
            reason,
            "rolled back to the version before; what was rejected meanwhile is in the dead letters, and `slipring dead-letters replay` \
             mends it"
        );
        let files = self.present.as_ref().map_or(bad, |version| version.id.clone());
        self.versions.rolled_back(files, reason);
        self.board.metrics().rolled_back();
        self.put(to, None).await;
    }

    /// Puts to work what another relay on the same directory has, if that is something else.
    pub(super) async fn follow_others(&mut self) {
        if !self.versions.refresh().await {
            return;
        }
        let (Some(running), Some(current)) = (&self.running, self.versions.current()) else {
            return;
        };
        if running.version.id == current.id {
            self.show_versions();
            return;
        }
        let id = current.id.clone();
        info!(
            module = self.name,
            sha256 = id.wasm_sha256,
            "another relay has gone to this version, and so does this one"
        );
        match self.load_known(&id).await {
            Ok(candidate) => self.put(candidate, None).await,
            Err(error) => {
                let error = &*error as &dyn Error;
                error!(
                    module = self.name,
                    error, "the version of the other relay cannot be taken"
                );
            }
        }
    }

    pub(super) async fn obey(&mut self, command: Command) {
        let done = match command.verb {
            Verb::Rollback => self.roll_back().await,
            Verb::Retry => self.retry().await,
        };
        // Who asked may have gone.
        let _ = command.answer.send(done.map_err(|error| format!("{error:#}")));
    }

    async fn roll_back(&mut self) -> anyhow::Result<String> {
        let Some(predecessor) = self.versions.predecessor().cloned() else {
            anyhow::bail!("no version of `{}` is known from before the one at work", self.name);
        };
        anyhow::ensure!(self.running.is_some(), "no version of `{}` is at work", self.name);
        let candidate = match self.probation() {
            Some(probation) if probation.predecessor.id == predecessor.id => probation.predecessor.clone(),
            _ => self.load_known(&predecessor.id).await?,
        };
        self.go_back(candidate, "it was asked for").await;
        Ok(format!(
            "`{}` is back at {}, which was at work from {} on; the directory's files are taken again when they change, or with \
             `slipring modules retry {}`",
            self.name, predecessor.id.wasm_sha256, predecessor.since, self.name
        ))
    }

    async fn retry(&mut self) -> anyhow::Result<String> {
        let present = self.present.clone();
        let present = present.with_context(|| format!("the directory holds no whole version of `{}`", self.name))?;
        let is_at_work = |running: &Running| running.version.id == present.id;
        anyhow::ensure!(
            !self.running.as_ref().is_some_and(is_at_work),
            "what the directory holds of `{}` is at work",
            self.name
        );
        let candidate = match self.prepare(&present).await {
            Ok(candidate) => candidate,
            Err(error) => {
                self.say_refused(&error);
                return Err(error);
            }
        };
        self.versions.forgive();
        self.take(candidate).await;
        Ok(format!("`{}` takes what the directory holds", self.name))
    }

    /// Puts the version to work that was when the relay stopped.
    pub(super) async fn start_known(&mut self) -> anyhow::Result<()> {
        let id = self.versions.current().map(|entry| entry.id.clone());
        let id = id.context("no version is known from before")?;
        let candidate = self.load_known(&id).await?;
        self.put(candidate, None).await;
        Ok(())
    }

    async fn load_known(&self, id: &Id) -> anyhow::Result<Candidate> {
        let version = self.versions.read(id).await;
        let version = version.context("the files of the version before cannot be read")?;
        self.load(&version).await
    }

    /// Tells the board what is known of versions.
    pub(super) fn show_versions(&self) {
        let current = self.versions.current();
        let version = |entry: &Entry| VersionStatus {
            sha256: entry.id.wasm_sha256.clone(),
            toml_sha256: entry.id.toml_sha256.clone(),
            since: entry.since.clone(),
        };
        self.board.set_at_work(AtWork {
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
