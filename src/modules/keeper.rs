//! Keeps one module: follows what its two files say, and never lets a bad new one touch what runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::sync::watch;
use tracing::{error, info};

use super::Context;
use super::lease::{Lease, Taken};
use super::watch::Missing;
use crate::admin::{ModuleBoard, State};
use crate::config;
use crate::pipeline::{Assignment, Pipeline};
use crate::transform::{Limits, Module};

/// What the directory holds of one module.
#[derive(Debug, Clone)]
pub(super) enum Files {
    Present {
        wasm: Arc<[u8]>,
        wasm_sha256: String,
        toml: String,
    },
    Missing(Missing),
    Unreadable(String),
    Gone,
}

/// A pipeline that breaks, which only a bug makes it do, is started again after this pause.
const RESTART_DELAY: Duration = Duration::from_secs(1);

struct Keeper {
    context: Arc<Context>,
    name: String,
    board: ModuleBoard,
    running: Option<Running>,
    /// A good module that waits until another one leaves its consumer.
    blocked: Option<(Assignment, Taken)>,
}

struct Running {
    pipeline: Pipeline,
    assignment: Assignment,
    lease: Lease,
}

/// Follows `files` until their sender is gone, then drains.
pub(super) async fn keep(context: Arc<Context>, name: String, mut files: watch::Receiver<Files>) {
    let board = context.board.module(&name);
    let mut freed = context.leases.freed();
    let mut keeper = Keeper {
        context,
        name,
        board,
        running: None,
        blocked: None,
    };
    loop {
        let newest = files.borrow_and_update().clone();
        // Before the consumer is asked for: what becomes free from here on is tried again.
        freed.mark_unchanged();
        keeper.follow(newest).await;
        loop {
            tokio::select! {
                biased;
                changed = files.changed() => {
                    if changed.is_err() {
                        drop(keeper.stop().await);
                        return;
                    }
                    break;
                }
                () = broken(&mut keeper.running) => keeper.restart().await,
                // The sender lives in the keeper's own context.
                Ok(()) = freed.changed(), if keeper.blocked.is_some() => keeper.unblock().await,
            }
        }
    }
}

impl Keeper {
    async fn follow(&mut self, files: Files) {
        if !matches!(files, Files::Gone) {
            // A module that was gone has no part of the board any more.
            self.board = self.context.board.module(&self.name);
        }
        self.blocked = None;
        match files {
            Files::Present {
                wasm,
                wasm_sha256,
                toml,
            } => match self.load(wasm, &wasm_sha256, &toml).await {
                Ok(assignment) => self.take(assignment).await,
                Err(error) => self.refuse(&error),
            },
            Files::Unreadable(trouble) => self.refuse(&anyhow!(trouble)),
            Files::Missing(missing) => {
                drop(self.stop().await);
                let reason = format!("waiting for {}.{}", self.name, missing.extension());
                info!(module = self.name, reason, "the module is incomplete");
                self.board.unloaded();
                self.board.set_state(State::Waiting, Some(reason));
            }
            Files::Gone => {
                // Whoever waits for its consumer starts after this was said.
                let _lease = self.stop().await;
                info!(module = self.name, "the module was removed; its consumer stays");
                self.context.board.remove(&self.name);
            }
        }
    }

    /// Reads the configuration, compiles, checks and tries the module; the one that runs goes on meanwhile.
    async fn load(&self, wasm: Arc<[u8]>, sha256: &str, toml: &str) -> anyhow::Result<Assignment> {
        let file = format!("{}.toml", self.name);
        let config = Arc::new(config::parse_module(Path::new(&file), toml)?);
        if let Some(Running { assignment, .. }) = &self.running
            && assignment.module.sha256() == sha256
            && assignment.config == config
        {
            return Ok(assignment.clone());
        }
        let _one_at_a_time = self.context.compiling.acquire().await?;
        let (engine, name) = (self.context.engine.clone(), self.name.clone());
        let limits = Limits::new(config.timeout, config.memory);
        let settings = config.settings.clone();
        let loading = move || Module::load(&engine, &name, &wasm, &settings, limits);
        let module = tokio::task::spawn_blocking(loading)
            .await
            .context("loading the module broke")?;
        let module = module.with_context(|| format!("{}.wasm cannot be used", self.name))?;
        Ok(Assignment { module, config })
    }

    async fn take(&mut self, assignment: Assignment) {
        match &mut self.running {
            Some(running) if assignment.can_follow(&running.assignment) => {
                if Arc::ptr_eq(&assignment.module, &running.assignment.module) {
                    // What was refused was taken back.
                    self.board.loaded(assignment.module.sha256());
                } else {
                    running.pipeline.assign(assignment.clone());
                    running.assignment = assignment;
                }
            }
            // What it reads, and how much of it at once, has changed: finish there, then begin here.
            Some(running) if running.lease.is_for(&assignment.config) => {
                if let Some(lease) = self.stop().await {
                    self.start(assignment, lease);
                }
            }
            _ => match self.context.leases.acquire(&self.name, &assignment.config) {
                Ok(lease) => {
                    drop(self.stop().await);
                    self.start(assignment, lease);
                }
                Err(taken) => self.block(assignment, taken),
            },
        }
    }

    /// The consumer is another module's. What runs goes on until that one leaves it.
    fn block(&mut self, assignment: Assignment, taken: Taken) {
        if taken.leaving {
            let reason = format!("waiting for the module `{}` to finish with the consumer", taken.by);
            info!(module = self.name, reason, "the module starts later");
            if self.running.is_none() {
                self.board.set_state(State::Starting, Some(reason));
            }
        } else {
            self.refuse(&anyhow!(taken.clone()));
        }
        self.blocked = Some((assignment, taken));
    }

    /// A consumer has become free, perhaps the one that is waited for.
    async fn unblock(&mut self) {
        let Some((assignment, before)) = self.blocked.take() else {
            return;
        };
        match self.context.leases.acquire(&self.name, &assignment.config) {
            Err(taken) if taken == before => self.blocked = Some((assignment, taken)),
            Err(taken) => self.block(assignment, taken),
            Ok(lease) => {
                drop(self.stop().await);
                self.start(assignment, lease);
            }
        }
    }

    /// Says why the new files are not taken. What runs goes on.
    fn refuse(&self, error: &anyhow::Error) {
        let reason = format!("{error:#}");
        let goes_on = self.running.is_some();
        error!(
            module = self.name,
            reason,
            the_old_one_goes_on = goes_on,
            "refused the module's new files"
        );
        self.board.refused(&reason);
        if !goes_on {
            self.board.set_state(State::Failed, Some(reason));
        }
    }

    fn start(&mut self, assignment: Assignment, lease: Lease) {
        info!(
            module = self.name,
            sha256 = assignment.module.sha256(),
            "starting the module"
        );
        let shared = Arc::clone(&self.context.shared);
        let leave = self.context.shutdown.now.clone();
        let pipeline = Pipeline::start(shared, assignment.clone(), self.board.clone(), leave);
        self.running = Some(Running {
            pipeline,
            assignment,
            lease,
        });
    }

    async fn restart(&mut self) {
        let Some(Running { assignment, lease, .. }) = self.running.take() else {
            return;
        };
        if self.context.shutdown.now.is_cancelled() {
            return;
        }
        tokio::time::sleep(RESTART_DELAY).await;
        self.start(assignment, lease);
    }

    /// Drains, and gives back the lease that the pipeline held to the end.
    async fn stop(&mut self) -> Option<Lease> {
        let Running { pipeline, lease, .. } = self.running.take()?;
        lease.leaving();
        pipeline.stop().await;
        Some(lease)
    }
}

/// Waits for the pipeline to end by itself.
async fn broken(running: &mut Option<Running>) {
    match running {
        Some(running) => running.pipeline.ended().await,
        None => std::future::pending().await,
    }
}
