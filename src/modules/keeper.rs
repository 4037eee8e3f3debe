//! Keeps one module running. It follows the module's two files, and never lets a bad new version affect the running
//! one.
//!
//! A new version is compiled, checked and probed with recent messages while the old one runs. Then it takes over and is
//! watched for a while, with the old version still available.

mod absence;
mod event;
mod load;
mod rollback;

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::claims::{Claim, Taken};
use super::context::Context;
use super::controls::Request;
use super::files::Files;
use super::versions::{Id, Version, Versions};
use crate::config::OnReject;
use crate::pipeline::{Assignment, Pipeline, Recent};
use crate::status::{ModuleBoard, State};
use crate::transform::Trial;
use absence::{Absence, Doubt};
use event::Event;
use load::{GivenUp, superseded};

/// The pause before a broken pipeline restarts. Only a bug can break a pipeline.
const RESTART_DELAY: Duration = Duration::from_secs(1);

struct Keeper {
    context: Arc<Context>,
    name: String,
    board: ModuleBoard,
    versions: Versions,
    /// The last messages given to the module.
    recent: Recent,
    /// The same files that [`keep`] follows.
    files: watch::Receiver<Files>,
    /// The version in the directory, if the directory has a complete one.
    present: Option<Version>,
    running: Option<Running>,
    /// Set while files of the running version are missing.
    doubt: Option<Doubt>,
    /// The version that ran when its files disappeared. If the files come back, a new version is compared with it.
    stopped: Option<Candidate>,
    /// A good version that waits until another module leaves its consumer.
    blocked: Option<(Candidate, Taken)>,
}

/// A loaded version.
#[derive(Debug, Clone)]
struct Candidate {
    id: Id,
    assignment: Assignment,
    /// What the probe said.
    probe: Option<String>,
}

struct Running {
    pipeline: Pipeline,
    version: Candidate,
    claim: Claim,
    /// Set while the version is being watched.
    probation: Option<Probation>,
}

struct Probation {
    predecessor: Candidate,
    trial: Arc<Trial>,
    until: Instant,
}

/// Follows `files` until their sender or the module is gone, then drains.
pub(super) async fn keep(context: Arc<Context>, name: String, files: watch::Receiver<Files>) {
    let board = context.board.module(&name);
    let requests = context.controls.register(&name);
    let versions = Versions::open(&context.config, &name);
    let mut keeper = Keeper {
        context,
        name,
        board,
        versions,
        recent: Recent::default(),
        files: files.clone(),
        present: None,
        running: None,
        doubt: None,
        stopped: None,
        blocked: None,
    };
    let kept = AssertUnwindSafe(keeper.keep(files, requests)).catch_unwind().await;
    // A pipeline must not continue without its keeper. The keeper is restarted.
    drop(keeper.stop().await);
    keeper.context.controls.forget(&keeper.name);
    kept.unwrap_or_else(|panic| resume_unwind(panic));
}

impl Keeper {
    async fn keep(&mut self, mut files: watch::Receiver<Files>, mut requests: mpsc::Receiver<Request>) {
        let mut freed = self.context.claims.freed();
        loop {
            let newest = files.borrow_and_update().clone();
            self.files = files.clone();
            // This has to come before asking for the consumer. Whatever becomes free from here on leads to another try.
            freed.mark_unchanged();
            self.follow(newest).await;
            loop {
                match self.next_event(&mut files, &mut requests, &mut freed).await {
                    Event::Files { closed: true } | Event::Forgotten => return,
                    Event::Files { closed: false } => break,
                    Event::Failed(verdict) => self.fail(&verdict).await,
                    Event::Passed => self.pass().await,
                    Event::Request(request) => self.obey(request).await,
                    Event::Broken => self.restart().await,
                    Event::Freed => self.unblock().await,
                    Event::Others => self.follow_others().await,
                    Event::Absent(absence) => self.leave(absence).await,
                }
            }
        }
    }

    fn probation(&self) -> Option<&Probation> {
        self.running.as_ref()?.probation.as_ref()
    }

    async fn follow(&mut self, files: Files) {
        self.blocked = None;
        self.present = match &files {
            Files::Present(version) => Some(version.clone()),
            _ => None,
        };
        match files {
            Files::Present(version) => {
                self.is_back();
                self.follow_version(version).await;
            }
            Files::Unreadable(trouble) => {
                self.is_back();
                self.refuse(&anyhow!(trouble)).await;
            }
            Files::Missing(missing) => self.miss(Absence::Part(missing)).await,
            Files::Gone => self.miss(Absence::Whole).await,
        }
    }

    async fn follow_version(&mut self, version: Version) {
        if self.is_withdrawn(&version).await {
            return;
        }
        if let Some(running) = self.running.as_ref().filter(|running| running.version.id == version.id) {
            // The refused version was taken back.
            let candidate = running.version.clone();
            self.began(&candidate).await;
            return;
        }
        match self.prepare(&version).await {
            Ok(candidate) => {
                // Another relay on the same directory may have been faster and has already rolled back.
                self.versions.refresh().await;
                if !self.is_withdrawn(&version).await {
                    self.take(candidate).await;
                }
            }
            // Nothing is known against this version.
            Err(error) if error.is::<GivenUp>() => info!(
                module = self.name,
                version = version.id.name(),
                reason = %error,
                "stopped loading this version"
            ),
            Err(error) => {
                self.refuse(&error).await;
                self.veto(&version.id, &error).await;
            }
        }
    }

    /// Another relay on the same directory may be running a version that this relay refuses. The other one may have had
    /// no messages to probe it with, if it was on standby. It then rolls back, too.
    async fn veto(&mut self, refused: &Id, error: &anyhow::Error) {
        let running_version = self.running.as_ref().map(|running| running.version.id.clone());
        let is_current = self.versions.current().is_some_and(|entry| entry.id == *refused);
        if let Some(running_version) = running_version.filter(|running_version| running_version != refused)
            && is_current
        {
            let reason = format!("another relay refused it: {error:#}");
            self.versions
                .rolled_back(&running_version, refused.clone(), &reason)
                .await;
            self.show_versions();
        }
    }

    /// Returns true if the version was rolled back. If nothing runs, starts the previous version.
    async fn is_withdrawn(&mut self, version: &Version) -> bool {
        let withdrawn = self.versions.withdrawn();
        let Some(withdrawn) = withdrawn.filter(|withdrawn| withdrawn.id == version.id) else {
            return false;
        };
        let reason = format!("it was rolled back at {}: {}", withdrawn.at, withdrawn.reason);
        if self.running.is_some() {
            info!(
                module = self.name,
                reason, "refused the version in the modules directory"
            );
            self.show_versions();
            return true;
        }
        error!(
            module = self.name,
            reason, "starting the previous version instead of the one in the modules directory"
        );
        if let Err(error) = self.start_known().await {
            self.say_refused(
                &error.context("cannot start the previous version in place of the one that was rolled back"),
            );
        }
        true
    }

    /// Compiles, checks and probes a version, and stores it for later rollbacks. The running version continues
    /// meanwhile.
    async fn prepare(&mut self, version: &Version) -> anyhow::Result<Candidate> {
        let mut candidate = tokio::select! {
            loaded = self.load(version) => loaded?,
            () = superseded(self.files.clone()) => return Err(GivenUp::Superseded.into()),
        };
        loop {
            tokio::select! {
                probed = self.probe(&candidate) => candidate.probe = Some(probed?),
                () = superseded(self.files.clone()) => return Err(GivenUp::Superseded.into()),
            }
            // The version that it was compared with may have failed in the meantime.
            let Some(failed) = self.probation().filter(|probation| probation.trial.has_failed()) else {
                break;
            };
            let verdict = failed.trial.failure().await;
            self.fail(&verdict).await;
        }
        if let Err(error) = self.versions.keep(version).await {
            let error = anyhow::Error::new(error).context(format!(
                "cannot save the new version in {}, where a later rollback needs it; free some space there, or set \
                 `modules.versions_dir` to another directory",
                self.context.config.versions_dir.display()
            ));
            if self.running.is_some() {
                return Err(error);
            }
            // No running version can be harmed.
            warn!(
                module = self.name,
                error = &*error as &dyn std::error::Error,
                "a later rollback to this version will not be possible"
            );
        }
        Ok(candidate)
    }

    /// Runs a version in place of the current one.
    async fn take(&mut self, candidate: Candidate) {
        // The trial may have failed since the last check, because writing files to disk takes time.
        if let Some(failed) = self.probation().filter(|probation| probation.trial.has_failed()) {
            let verdict = failed.trial.failure().await;
            self.fail(&verdict).await;
        }
        let predecessor = match self.proven().filter(|proven| proven.id != candidate.id) {
            Some(proven) => Some(proven.clone()),
            None => self.last_known(&candidate.id).await,
        };
        let probation = predecessor.and_then(|predecessor| watched(&candidate, predecessor));
        self.put(candidate, probation).await;
    }

    /// Returns the version to compare a new one with: the running one, or its predecessor while the running one is
    /// watched. If nothing runs because the files disappeared, it is the version that ran until then.
    fn proven(&self) -> Option<&Candidate> {
        let Some(running) = &self.running else {
            return self.stopped.as_ref();
        };
        let probation = running.probation.as_ref();
        Some(probation.map_or(&running.version, |probation| &probation.predecessor))
    }

    /// If nothing runs, returns the version that ran when the relay stopped or the module became incomplete, unless it
    /// is the new one.
    async fn last_known(&self, new: &Id) -> Option<Candidate> {
        let id = self.versions.current().map(|entry| &entry.id).filter(|id| *id != new)?;
        match self.load_known(id).await {
            Ok(known) => Some(known),
            Err(error) => {
                let error = &*error as &dyn std::error::Error;
                warn!(
                    module = self.name,
                    error, "cannot load the previous version, so the new one cannot be rolled back automatically"
                );
                None
            }
        }
    }
    async fn put(&mut self, mut candidate: Candidate, probation: Option<Probation>) {
        candidate.assignment.trial = probation.as_ref().map(|probation| Arc::clone(&probation.trial));
        let reads_as = |running: &Running| candidate.assignment.reads_as(&running.version.assignment);
        if !self.running.as_ref().is_some_and(reads_as) {
            self.recent.clear();
        }
        let assignment = &candidate.assignment;
        match &mut self.running {
            Some(running) if assignment.can_follow(&running.version.assignment) => {
                running.pipeline.assign(assignment.clone());
                running.probation = probation;
                running.version = candidate.clone();
                self.began(&candidate).await;
            }
            // The consumer, or how much is read from it at once, has changed. The old pipeline has to finish before the
            // new one starts.
            Some(running) if running.claim.is_for(&assignment.config) => {
                if let Some(claim) = self.stop().await {
                    self.start(candidate, claim, probation).await;
                }
            }
            _ => match self.context.claims.take(&self.name, &assignment.config) {
                Ok(claim) => {
                    drop(self.stop().await);
                    self.start(candidate, claim, probation).await;
                }
                Err(taken) => self.block(candidate, taken).await,
            },
        }
    }

    /// Waits because another module has the consumer. The running version continues until that module leaves it.
    async fn block(&mut self, candidate: Candidate, taken: Taken) {
        if taken.leaving {
            let reason = format!("waiting for the module `{}` to finish with the consumer", taken.by);
            info!(
                module = self.name,
                reason, "this version starts when its consumer is free"
            );
            if self.running.is_none() {
                self.board.set_state(State::Starting, Some(reason));
            }
        } else {
            self.say_refused(&anyhow!(taken.clone()));
        }
        self.blocked = Some((candidate, taken));
    }

    /// A consumer has become free, perhaps the one that the module waits for.
    async fn unblock(&mut self) {
        let Some((candidate, before)) = self.blocked.take() else {
            return;
        };
        match self.context.claims.take(&self.name, &candidate.assignment.config) {
            Err(taken) if taken == before => self.blocked = Some((candidate, taken)),
            Err(taken) => self.block(candidate, taken).await,
            Ok(claim) => {
                drop(self.stop().await);
                self.start(candidate, claim, None).await;
            }
        }
    }

    /// Reports why the new files are refused. The running version continues. If nothing runs, the version that ran when
    /// the relay stopped is started.
    async fn refuse(&mut self, error: &anyhow::Error) {
        self.say_refused(error);
        let known = self.versions.current().map(|entry| entry.id.clone());
        let other = known.is_some() && known != self.present.as_ref().map(|version| version.id.clone());
        if self.running.is_none() && other {
            match self.start_known().await {
                Ok(()) => info!(module = self.name, "started the previous version instead"),
                Err(error) => {
                    let error = &*error as &dyn std::error::Error;
                    error!(
                        module = self.name,
                        error, "the previous version cannot be started either"
                    );
                }
            }
        }
    }

    fn say_refused(&self, error: &anyhow::Error) {
        if error.is::<GivenUp>() {
            return;
        }
        let reason = format!("{error:#}");
        let goes_on = self.running.is_some();
        error!(
            module = self.name,
            reason,
            still_running = goes_on,
            "refused the module's new files"
        );
        self.board.refused(&reason);
        if !goes_on {
            self.board.set_state(State::Failed, Some(reason));
        }
    }

    async fn start(&mut self, candidate: Candidate, claim: Claim, probation: Option<Probation>) {
        let assignment = candidate.assignment.clone();
        info!(
            module = self.name,
            version = &*assignment.version,
            "starting the module"
        );
        let shared = Arc::clone(&self.context.shared);
        let leave = self.context.shutdown.now.clone();
        let pipeline = Pipeline::start(shared, assignment, self.recent.clone(), self.board.clone(), leave);
        self.stopped = None;
        self.running = Some(Running {
            pipeline,
            version: candidate.clone(),
            claim,
            probation,
        });
        self.began(&candidate).await;
    }

    /// Records that a version runs.
    async fn began(&mut self, candidate: &Candidate) {
        let id = &candidate.id;
        let is_present = self.present.as_ref().is_some_and(|version| version.id == *id);
        self.versions.began(id, is_present, candidate.probe.as_deref()).await;
        if is_present {
            self.board.accepted();
        }
        self.show_versions();
    }

    async fn restart(&mut self) {
        let Some(Running {
            version,
            claim,
            probation,
            ..
        }) = self.running.take()
        else {
            return;
        };
        if self.context.shutdown.now.is_cancelled() {
            return;
        }
        tokio::time::sleep(RESTART_DELAY).await;
        self.start(version, claim, probation).await;
    }

    /// Drains the pipeline and returns the claim, which it held to the end.
    async fn stop(&mut self) -> Option<Claim> {
        let Running { pipeline, claim, .. } = self.running.take()?;
        claim.set_leaving(true);
        pipeline.stop().await;
        Some(claim)
    }
}

/// Returns how to watch a version that follows this one.
fn watched(candidate: &Candidate, predecessor: Candidate) -> Option<Probation> {
    let (new, old) = (&candidate.assignment, &predecessor.assignment);
    if new.config.watch.is_zero() || !new.reads_as(old) {
        return None;
    }
    // One more rejection halts the pipeline.
    let max_rejects = match new.config.on_reject {
        OnReject::Halt => 0,
        OnReject::DeadLetter | OnReject::Drop => new.config.watch_max_rejects.min(new.config.max_consecutive_rejects),
    };
    Some(Probation {
        trial: Trial::new(Arc::clone(&old.module), new.config.watch, max_rejects),
        until: Instant::now() + new.config.watch,
        predecessor,
    })
}
