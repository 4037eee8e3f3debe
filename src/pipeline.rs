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
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use slipring_core::load::LoadId;
use slipring_core::pipeline::Patience;

use crate::config::{self, ModuleConfig};
use crate::dead_letter::DeadLetters;
use crate::memory::Memory;
use crate::nats::Nats;
use crate::publish::Client;
use crate::status::{ModuleBoard, State};
use crate::transform::{Module, Trial};

pub use recent::Recent;

/// What made a fresh start necessary may be there again at once.
const RENEW_DELAY: Duration = Duration::from_secs(1);

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

/// How one run of a pipeline came to its end.
#[derive(Debug)]
enum Ended {
    /// It was told to stop, and drained.
    Stopped,
    /// It needs a fresh start.
    Renew(String),
    /// What follows in the stream must not overtake the message that halted it.
    Halted(Halted),
}

#[derive(Debug)]
struct Halted {
    reason: String,
    /// Another load than this one resumes it.
    by: LoadId,
    /// The sequence of the message, if the cause may end by itself.
    again: Option<u64>,
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

/// Waits for another version: that the one at work is not watched any more does not make it better.
///
/// It may have come while the run was ending.
async fn another(assignments: &mut watch::Receiver<Assignment>, halted: LoadId) -> Result<(), watch::error::RecvError> {
    while assignments.borrow_and_update().module.load_id() == halted {
        assignments.changed().await?;
    }
    Ok(())
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
    let mut patience = Patience::default();
    let mut trying = None;
    loop {
        // Until it is known that the cause of a halt is over, the pipeline counts as halted.
        if trying.is_none() {
            board.set_state(State::Starting, None);
        }
        let ended = run::run(&shared, &mut assignments, &mut trying, &recent, &board, &stop, &leave).await;
        match ended {
            Ended::Stopped => return,
            Ended::Renew(reason) => {
                warn!(module = board.name(), reason, "starting the pipeline afresh");
                tokio::select! {
                    () = tokio::time::sleep(RENEW_DELAY) => {}
                    () = stop.cancelled() => return,
                    () = leave.cancelled() => return,
                }
            }
            Ended::Halted(halted) => {
                let pause = halted.again.map(|_| patience.next(trying.is_some()));
                halt::say(&board, &halted, pause, trying.is_some());
                // Whoever asked before did not know of this halt.
                let _ = retry.notified().now_or_never();
                tokio::select! {
                    changed = another(&mut assignments, halted.by) => match changed {
                        Ok(()) => trying = None,
                        Err(_) => return,
                    },
                    () = retry.notified() => trying = halted.again,
                    () = over(pause) => trying = halted.again,
                    () = stop.cancelled() => return,
                    () = leave.cancelled() => return,
                }
                info!(module = board.name(), "resuming the halted pipeline");
            }
        }
    }
}

async fn over(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::Trial;
    use crate::transform::tests::wat::{Guest, limits};

    fn assignment() -> Assignment {
        Assignment {
            module: Guest::default().load(limits()).unwrap(),
            config: Arc::new(ModuleConfig::new("orders", "ORDERS")),
            trial: None,
        }
    }

    #[test]
    fn only_another_version_resumes_a_halted_pipeline_whenever_it_came() {
        let (old, new) = (assignment(), assignment());
        let (sender, mut assignments) = watch::channel(new.clone());
        let resumes = |assignments: &mut _| another(assignments, new.module.load_id()).now_or_never().is_some();
        assert!(!resumes(&mut assignments));
        let trial = Trial::new(Arc::clone(&old.module), Duration::from_secs(60), 0);
        sender.send_replace(Assignment {
            trial: Some(trial),
            ..new.clone()
        });
        assert!(!resumes(&mut assignments), "that it is watched makes it no other");
        sender.send_replace(old);
        assert!(resumes(&mut assignments));
        assert!(resumes(&mut assignments), "although it was seen before");
    }
}
