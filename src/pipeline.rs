//! Runs a module: connects its source, its workers, its publisher and its window, restarts them after trouble, and
//! drains them at the end. Only this part sees all the stages.

mod halt;
mod inspection;
mod judge;
mod recent;
pub mod replay;
mod run;
mod say;

pub use slipring_core::stamp::{Stamp, keyed};

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::FutureExt;
use tokio::runtime::{self, Runtime};
use tokio::sync::{Notify, oneshot, watch};
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
use crate::tap::Taps;
use crate::transform::{Module, STACK, Trial};

pub use crate::publish::Namespaces;
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
    pub taps: Taps,
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
    /// The name of the version, of the hashes of both files.
    pub version: Arc<str>,
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

/// A pipeline that runs on a thread of its own, with a runtime of its own: what it waits for wakes no other thread.
#[derive(Debug)]
pub struct Pipeline {
    assignments: watch::Sender<Assignment>,
    retry: Arc<Notify>,
    stop: CancellationToken,
    board: ModuleBoard,
    /// Closed without a value if the thread panics.
    ended: oneshot::Receiver<anyhow::Result<()>>,
    /// Beside the pipeline, which may be busy for long.
    _inspecting: AbortOnDropHandle<Infallible>,
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
        let (end, mut ended) = oneshot::channel();
        let name = board.name().to_owned();
        let owner = Owner {
            shared,
            assignments: receiver,
            recent,
            board: board.clone(),
            retry: Arc::clone(&retry),
            stop: stop.clone(),
            leave,
        };
        let supervise = move || {
            // Nobody waits for it if the owner panicked.
            let _ = end.send(owner.supervise());
        };
        if let Err(error) = thread::Builder::new().name(name).stack_size(STACK).spawn(supervise) {
            let (end, failed) = oneshot::channel();
            let _ = end.send(Err(error).context("starting a thread failed"));
            ended = failed;
        }
        Self {
            assignments,
            retry,
            stop,
            board,
            ended,
            _inspecting: AbortOnDropHandle::new(tokio::spawn(inspecting)),
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
        let module = self.board.name();
        match (&mut self.ended).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = format!("{error:#}");
                error!(module, error, "cannot start the module's pipeline, retrying");
                self.board.set_state(State::Waiting, Some(error));
            }
            Err(_) => error!(
                module,
                "a pipeline failed unexpectedly, which is a bug in Slipring; its unacknowledged messages will be \
                 redelivered"
            ),
        }
    }
}

impl Drop for Pipeline {
    /// If the owner panics, nothing must keep running unsupervised.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A runtime whose end waits for nothing, such as a check of what Centrifugo refused, which may still block a thread.
struct Impatient(Option<Runtime>);

impl Drop for Impatient {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What the thread of a pipeline has.
struct Owner {
    shared: Arc<Shared>,
    assignments: watch::Receiver<Assignment>,
    recent: Recent,
    board: ModuleBoard,
    retry: Arc<Notify>,
    stop: CancellationToken,
    leave: CancellationToken,
}

impl Owner {
    /// Runs the pipeline again and again until it is told to stop.
    fn supervise(mut self) -> anyhow::Result<()> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = Impatient(Some(runtime.context("starting a tokio runtime failed")?));
        let Some(runtime) = &runtime.0 else { return Ok(()) };
        let mut supervision = Supervision::default();
        loop {
            // The pipeline counts as halted until it is known that the cause of the halt is over.
            if supervision.trying().is_none() {
                self.board.set_state(State::Starting, None);
            }
            let (ended, trying) = run::run(runtime, &mut self, &mut supervision);
            let halted = match supervision.ended(Instant::now(), ended, trying) {
                Next::Stop => break,
                Next::Renew(reason) => {
                    warn!(module = self.board.name(), reason, "restarting the pipeline");
                    false
                }
                Next::Halted { reason, pause, still } => {
                    halt::say(&self.board, &reason, pause, still);
                    // An earlier request did not refer to this halt.
                    let _ = self.retry.notified().now_or_never();
                    true
                }
            };
            if runtime.block_on(self.pause(&mut supervision)).is_break() {
                break;
            }
            if halted {
                info!(module = self.board.name(), "resuming the halted pipeline");
            }
        }
        Ok(())
    }

    /// Waits until the next run should begin.
    async fn pause(&mut self, supervision: &mut Supervision) -> ControlFlow<()> {
        // Another load may have come while the run was ending.
        let mut begins = supervision.assigned(self.assignments.borrow_and_update().module.load_id());
        while !begins {
            let wakeup = supervision.next_wakeup();
            begins = tokio::select! {
                changed = self.assignments.changed() => match changed {
                    Ok(()) => supervision.assigned(self.assignments.borrow_and_update().module.load_id()),
                    Err(_) => return ControlFlow::Break(()),
                },
                () = self.retry.notified() => supervision.retry(),
                () = at(wakeup) => supervision.wake(Instant::now()),
                () = self.stop.cancelled() => return ControlFlow::Break(()),
                () = self.leave.cancelled() => return ControlFlow::Break(()),
            };
        }
        ControlFlow::Continue(())
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
