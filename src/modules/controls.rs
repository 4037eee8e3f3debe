//! How what a person asks for reaches the keepers of the modules.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

/// A clone leads to the same keepers.
#[derive(Debug, Clone, Default)]
pub struct Controls(Arc<Mutex<BTreeMap<String, mpsc::Sender<Command>>>>);

/// What a keeper is asked to do, and where it says how that went: a sentence either way.
#[derive(Debug)]
pub struct Command {
    pub verb: Verb,
    pub answer: oneshot::Sender<Result<String, String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Back to the version before.
    Rollback,
    /// What the directory holds is tried again.
    Retry,
}

/// Why nobody does it.
#[derive(Debug, PartialEq, Eq)]
pub enum Unheard {
    /// These there are.
    Unknown(Vec<String>),
    /// It does what it was asked before, or is going.
    Busy,
}

impl Controls {
    /// From now on the module's commands come out here. It ends with the receiver.
    pub fn register(&self, name: &str) -> mpsc::Receiver<Command> {
        let (sender, receiver) = mpsc::channel(1);
        self.keepers().insert(name.to_owned(), sender);
        receiver
    }

    /// Forgets a module whose commands nobody takes any more.
    pub fn forget(&self, name: &str) {
        let mut keepers = self.keepers();
        if keepers.get(name).is_some_and(mpsc::Sender::is_closed) {
            keepers.remove(name);
        }
    }

    /// Waits for the keeper's answer.
    pub async fn ask(&self, name: &str, verb: Verb) -> Result<Result<String, String>, Unheard> {
        let keeper = self.keepers().get(name).cloned();
        let Some(keeper) = keeper else {
            return Err(Unheard::Unknown(self.keepers().keys().cloned().collect()));
        };
        let (answer, answered) = oneshot::channel();
        keeper.try_send(Command { verb, answer }).map_err(|_| Unheard::Busy)?;
        answered.await.map_err(|_| Unheard::Busy)
    }

    fn keepers(&self) -> MutexGuard<'_, BTreeMap<String, mpsc::Sender<Command>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
