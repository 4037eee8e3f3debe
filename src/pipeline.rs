//! Runs a module: connects its source, its workers, its publisher and its window, restarts them after trouble, and
//! drains them at the end. Only this part sees all the stages.

mod halt;
mod inspection;
mod recent;
pub mod replay;
mod run;
mod say;

pub use slipring_core::stamp::{Stamp, keyed};

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use slipring_core::pipeline::{Next, Supervision};

use crate::config::{self, ModuleConfig};
use crate::dead_letter::DeadLetters;
use crate::memory::Memory;
use crate::publish::Client;
use crate::source::Connections;
use crate::status::{ModuleBoard, State};
use crate::transform::{Module, Trial};

pub use recent::Recent;

/// Shared by all pipelines.
#[derive(Debug)]
pub struct Shared {
    pub connections: Connections,
    pub centrifugo: Client,
    pub dead_letters: DeadLetters,
    pub publish: config::Publish,
    /// The memory limit for everything that passes through all pipelines.
    pub memory: Memory,
    /// `None` if no other relay uses the same consumers.
    pub standby: Option<config::Standby>,
    /// How long a stopping pipeline waits for what is in flight.
    pub grace: Duration,
}

/// A module and its configuration. They are exchanged together while the pipeline runs.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub module: Arc<Module>,
    pub config: Arc<ModuleConfig>,
    /// Set if the module has recently taken over from another one.
    pub trial: Option<Arc<Trial>>,
}

impl Assignment {
    /// Returns true if both are the same version, even if only one of them is on trial.
    pub fn is_same(&self, other: &Self) -> bool {
        self.module.load_id() == other.module.load_id() && self.config == other.config
    }

    /// Returns true if both get the same messages.
    pub fn reads_as(&self, other: &Self) -> bool {
        let (one, other) = (&self.config, &other.config);
        (&one.source, &one.stream, &one.subjects, &one.consumer)
            == (&other.source, &other.stream, &other.subjects, &other.consumer)
    }

    /// Returns true if the pipeline can continue with this assignment after the other, between two messages.
    pub fn can_follow(&self, other: &Self) -> bool {
        self.config.can_follow(&other.config)
    }
}

/// A pipeline that runs in its own task.
#[derive(Debug)]
pub struct Pipeline {
    assignments: watch::Sender<Assignment>,
    retry: Arc<Notify>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Pipeline {
    /// Starts the pipeline. Messages given to the module are added to `recent`. Cancelling `leave` ends the pipeline
    /// without draining, and the remaining messages are logged.
    pub fn start(
        shared: Arc<Shared>,
        assignment: Assignment,
        recent: Recent,
        board: ModuleBoard,
        leave: CancellationToken,
    ) -> Self {
        let (assignments, receiver) = watch::channel(assignment);
        let (stop, retry) = (CancellationToken::new(), Arc::default());
        let inspecting = inspection::inspect(shared.connections.clone(), receiver.clone(), board.clone());
        let supervised = supervise(shared, receiver, recent, board, Arc::clone(&retry), stop.clone(), leave);
        let task = tokio::spawn(async move {
            // Beside the pipeline, which may be busy for long.
            let _inspecting = AbortOnDropHandle::new(tokio::spawn(inspecting));
            supervised.await;
        });
        Self {
            assignments,
            retry,
            stop,
            task,
        }
    }

    /// Assigns another module, which takes over between two messages.
    pub fn assign(&self, assignment: Assignment) {
        self.assignments.send_replace(assignment);
    }

    /// Resumes the pipeline if it is halted.
    pub fn retry(&self) {
        self.retry.notify_one();
    }

    /// Stops pulling, finishes what is in flight, and acks it.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.ended().await;
    }

    /// Waits until the pipeline ends by itself, which happens only if it breaks. Cancel-safe.
    pub async fn ended(&mut self) {
        if let Err(error) = (&mut self.task).await {
            error!(
                %error,
                "a pipeline failed unexpectedly, which is a bug in Slipring; its unacknowledged messages will be \
                 delivered again"
            );
        }
    }
}

impl Drop for Pipeline {
    /// If the owner panics, nothing must keep running unsupervised.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Runs the pipeline again and again until it is told to stop.
async fn supervise(
    shared: Arc<Shared>,
    mut assignments: watch::Receiver<Assignment>,
    recent: Recent,
    board: ModuleBoard,
    retry: Arc<Notify>,
    stop: CancellationToken,
    leave: CancellationToken,
) {
    let mut supervision = Supervision::default();
    loop {
        // The pipeline counts as halted until it is known that the cause of the halt is over.
        if supervision.trying().is_none() {
            board.set_state(State::Starting, None);
        }
        let (ended, trying) = run::run(
            &shared,
            &mut assignments,
            &mut supervision,
            &recent,
            &board,
            &stop,
            &leave,
        )
        .await;
        let halted = match supervision.ended(Instant::now(), ended, trying) {
            Next::Stop => return,
            Next::Renew(reason) => {
                warn!(module = board.name(), reason, "restarting the pipeline");
                false
            }
            Next::Halted { reason, pause, still } => {
                halt::say(&board, &reason, pause, still);
                // An earlier request did not refer to this halt.
                let _ = retry.notified().now_or_never();
                true
            }
        };
        // Another load may have come while the run was ending.
        let mut begins = supervision.assigned(assignments.borrow_and_update().module.load_id());
        while !begins {
            let wakeup = supervision.next_wakeup();
            begins = tokio::select! {
                changed = assignments.changed() => match changed {
                    Ok(()) => supervision.assigned(assignments.borrow_and_update().module.load_id()),
                    Err(_) => return,
                },
                () = retry.notified() => supervision.retry(),
                () = at(wakeup) => supervision.wake(Instant::now()),
                () = stop.cancelled() => return,
                () = leave.cancelled() => return,
            };
        }
        if halted {
            info!(module = board.name(), "resuming the halted pipeline");
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
