//! A module at work: wires its source, its workers, its publisher and its window, starts them again after trouble, and drains
//! them at the end. Only this part sees all the stages.

mod halt;
mod intake;
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
use tracing::{error, info, warn};

use slipring_core::pipeline::{Next, Supervision};

use crate::config::{self, ModuleConfig};
use crate::dead_letter::DeadLetters;
use crate::memory::Memory;
use crate::nats::Nats;
use crate::publish::Client;
use crate::status::{ModuleBoard, State};
use crate::transform::{Module, Trial};

pub use recent::Recent;

/// What all pipelines share.
#[derive(Debug)]
pub struct Shared {
    pub nats: Nats,
    pub centrifugo: Client,
    pub dead_letters: DeadLetters,
    pub publish: config::Publish,
    /// What passes through all pipelines may take no more than this.
    pub memory: Memory,
    /// `None`: there is no other relay on the same consumers.
    pub standby: Option<config::Standby>,
    /// How long what is in flight may take when a pipeline stops.
    pub grace: Duration,
}

/// A module and what its `.toml` says: exchanged as one while the pipeline runs.
#[derive(Debug, Clone)]
pub struct Assignment {
    pub module: Arc<Module>,
    pub config: Arc<ModuleConfig>,
    /// The module has taken over from another one a short while ago.
    pub trial: Option<Arc<Trial>>,
}

impl Assignment {
    /// Whether both are the same version, though one may be watched and the other not.
    pub fn is_same(&self, other: &Self) -> bool {
        self.module.load_id() == other.module.load_id() && self.config == other.config
    }

    /// Whether both get the same messages.
    pub fn reads_as(&self, other: &Self) -> bool {
        let (one, other) = (&self.config, &other.config);
        (&one.stream, &one.subjects, &one.consumer) == (&other.stream, &other.subjects, &other.consumer)
    }

    /// Whether the pipeline can go on with this one after the other, between two messages.
    pub fn can_follow(&self, other: &Self) -> bool {
        self.config.can_follow(&other.config)
    }
}

/// A pipeline that runs on its own task.
#[derive(Debug)]
pub struct Pipeline {
    assignments: watch::Sender<Assignment>,
    retry: Arc<Notify>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Pipeline {
    /// Starts it. What its module gets is put into `recent`. `leave` ends it without draining; what remains is said.
    pub fn start(
        shared: Arc<Shared>,
        assignment: Assignment,
        recent: Recent,
        board: ModuleBoard,
        leave: CancellationToken,
    ) -> Self {
        let (assignments, receiver) = watch::channel(assignment);
        let (stop, retry) = (CancellationToken::new(), Arc::default());
        let supervised = supervise(shared, receiver, recent, board, Arc::clone(&retry), stop.clone(), leave);
        let task = tokio::spawn(supervised);
        Self {
            assignments,
            retry,
            stop,
            task,
        }
    }

    /// Gives it another module, which takes over between two messages.
    pub fn assign(&self, assignment: Assignment) {
        self.assignments.send_replace(assignment);
    }

    /// Resumes it if it is halted.
    pub fn retry(&self) {
        self.retry.notify_one();
    }

    /// Stops pulling, finishes what is in flight, acks it.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.ended().await;
    }

    /// Waits until it has ended by itself, which it does only if it broke. May be dropped and called again.
    pub async fn ended(&mut self) {
        if let Err(error) = (&mut self.task).await {
            error!(%error, "a pipeline broke, which is a bug in Slipring; what it held is delivered again");
        }
    }
}

impl Drop for Pipeline {
    /// Its owner may break; nothing must go on that nobody knows of.
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
        // Until it is known that the cause of a halt is over, the pipeline counts as halted.
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
                warn!(module = board.name(), reason, "starting the pipeline afresh");
                false
            }
            Next::Halted { reason, pause, still } => {
                halt::say(&board, &reason, pause, still);
                // Whoever asked before did not know of this halt.
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
