//! Passes commands from users to the keepers of the modules.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

/// A clone reaches the same keepers.
#[derive(Debug, Clone, Default)]
pub struct Controls(Arc<Mutex<BTreeMap<String, mpsc::Sender<Command>>>>);

/// A command for a keeper, and the channel for its reply. The reply is a sentence in either case.
#[derive(Debug)]
pub struct Command {
    pub verb: Verb,
    pub answer: oneshot::Sender<Result<String, String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Return to the previous version.
    Rollback,
    /// Try again what the directory holds.
    Retry,
}

/// Why no keeper takes the command.
#[derive(Debug, PartialEq, Eq)]
pub enum Unheard {
    /// There is no such module. These are the known ones.
    Unknown(Vec<String>),
    /// The keeper is busy with an earlier command, or it is ending.
    Busy,
}

impl Controls {
    /// Returns a receiver for the module's commands. Dropping it ends the registration.
    pub fn register(&self, name: &str) -> mpsc::Receiver<Command> {
        let (sender, receiver) = mpsc::channel(1);
        self.keepers().insert(name.to_owned(), sender);
        receiver
    }

    /// Forgets a module whose receiver is gone.
    pub fn forget(&self, name: &str) {
        let mut keepers = self.keepers();
        if keepers.get(name).is_some_and(mpsc::Sender::is_closed) {
            keepers.remove(name);
        }
    }

    /// Sends a command and waits for the keeper's reply.
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
