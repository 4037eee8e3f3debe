//! Passes commands and questions from users to the keepers of the modules.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::config::ModuleConfig;
use crate::message::Message;
use crate::transform::Module;

/// How many requests may wait for a keeper. Further ones are told that it is busy.
const QUEUE: usize = 12;

/// Places that only commands take, so that nobody who looks keeps a rollback out.
const FOR_COMMANDS: usize = 4;

/// A clone reaches the same keepers.
#[derive(Debug, Clone, Default)]
pub struct Controls(Arc<Mutex<BTreeMap<String, mpsc::Sender<Request>>>>);

/// A request to a keeper, and the channel for its reply.
#[derive(Debug)]
pub enum Request {
    /// The reply is a sentence in either case.
    Command(Verb, oneshot::Sender<Result<String, String>>),
    /// Asks for the running version, or for the one that this text names.
    Version(Option<String>, oneshot::Sender<Result<Loaded, String>>),
    /// Asks for the last messages that the module was given.
    Recent(oneshot::Sender<Vec<Arc<Message>>>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Return to the version that this text names, or to the previous one.
    Rollback(Option<String>),
    /// Try again what the directory holds.
    Retry,
}

/// A version of a module that can be called, without any effect on the one that runs.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The name of the version.
    pub version: String,
    pub module: Arc<Module>,
    pub config: Arc<ModuleConfig>,
}

/// Why no keeper takes the request.
#[derive(Debug, PartialEq, Eq)]
pub enum Unheard {
    /// There is no such module. These are the known ones.
    Unknown(Vec<String>),
    /// The keeper is busy with earlier requests, or it is ending.
    Busy,
}

impl Controls {
    /// Returns a receiver for the module's requests. Dropping it ends the registration.
    pub fn register(&self, name: &str) -> mpsc::Receiver<Request> {
        let (sender, receiver) = mpsc::channel(QUEUE);
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
    pub async fn command(&self, name: &str, verb: Verb) -> Result<Result<String, String>, Unheard> {
        self.ask(name, 0, |answer| Request::Command(verb, answer)).await
    }

    /// Returns the running version of a module, or the one that `version` names: a name of a version, or the beginning of
    /// one. The error is a sentence.
    pub async fn version(&self, name: &str, version: Option<String>) -> Result<Result<Loaded, String>, Unheard> {
        self.ask(name, FOR_COMMANDS, |answer| Request::Version(version, answer))
            .await
    }

    /// Returns the last messages that the module was given, oldest first.
    pub async fn recent(&self, name: &str) -> Result<Vec<Arc<Message>>, Unheard> {
        self.ask(name, FOR_COMMANDS, Request::Recent).await
    }

    /// Sends a request that leaves so many places free.
    async fn ask<T>(
        &self,
        name: &str,
        free: usize,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Unheard> {
        let keeper = self.keepers().get(name).cloned();
        let Some(keeper) = keeper else {
            return Err(Unheard::Unknown(self.keepers().keys().cloned().collect()));
        };
        if !keeper.is_closed() && keeper.capacity() <= free && free > 0 {
            return Err(Unheard::Busy);
        }
        let (answer, answered) = oneshot::channel();
        keeper.try_send(request(answer)).map_err(|_| Unheard::Busy)?;
        answered.await.map_err(|_| Unheard::Busy)
    }

    fn keepers(&self) -> MutexGuard<'_, BTreeMap<String, mpsc::Sender<Request>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn whoever_looks_leaves_room_for_a_command() {
        let controls = Controls::default();
        let mut requests = controls.register("orders");
        let looking = (0..QUEUE).map(|_| controls.recent("orders"));
        let mut looking: Vec<_> = looking.map(Box::pin).collect();
        let refused = looking.iter_mut().filter_map(|look| look.now_or_never());
        assert_eq!(refused.filter(|look| *look == Err(Unheard::Busy)).count(), FOR_COMMANDS);
        let command = controls.command("orders", Verb::Retry);
        let keeper = async {
            while let Some(request) = requests.recv().await {
                if let Request::Command(_, answer) = request {
                    answer.send(Ok("done".to_owned())).unwrap();
                    return;
                }
            }
        };
        let (done, ()) = tokio::join!(command, keeper);
        assert_eq!(done, Ok(Ok("done".to_owned())));
    }
}
