//! Handles a module whose files disappear. To copy a new version, people often remove the old one first, and for a
//! moment nothing is there. The module therefore runs on for a few seconds, and its version is remembered for a while,
//! so a later version can be compared with it.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use super::super::directory::Missing;
use super::Keeper;
use crate::status::State;

/// How long a module runs on without its files.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a removed module and its last messages are remembered.
const MEMORY: Duration = Duration::from_secs(60);

/// Which part of a module is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    Part(Missing),
    Whole,
}

/// Since when something is missing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doubt {
    absence: Absence,
    since: Instant,
}

impl Keeper {
    /// Something of the module is missing.
    pub(super) async fn miss(&mut self, absence: Absence) {
        let since = self.doubt.map_or_else(Instant::now, |doubt| doubt.since);
        self.doubt = Some(Doubt { absence, since });
        let Some(running) = &self.running else {
            return self.leave(absence).await;
        };
        // A module that waits for this consumer learns that it will be free.
        running.claim.set_leaving(true);
        info!(
            module = self.name,
            seconds = PATIENCE.as_secs(),
            "a file of the module is gone; unless the file comes back soon, the module stops"
        );
    }

    /// Returns true if the directory has nothing of the module and the module has stopped.
    pub(super) fn is_gone(&self) -> bool {
        self.running.is_none() && self.doubt.is_some_and(|doubt| doubt.absence == Absence::Whole)
    }

    /// Some file of the module is there again.
    pub(super) fn is_back(&mut self) {
        self.doubt = None;
        // A removed module no longer has a place on the board.
        self.board = self.context.board.module(&self.name);
        if let Some(running) = &self.running {
            running.claim.set_leaving(false);
        }
    }

    /// The files have not come back.
    pub(super) async fn leave(&mut self, absence: Absence) {
        if let Some(proven) = self.proven().cloned() {
            self.stopped = Some(proven);
        }
        // A module that waits for this consumer starts only after this module's end was reported.
        let _claim = self.stop().await;
        match absence {
            Absence::Part(missing) => {
                let reason = format!("{}.{} is missing", self.name, missing.extension());
                info!(module = self.name, reason, "the module is incomplete");
                self.board = self.context.board.module(&self.name);
                self.board.unloaded();
                self.board.set_state(State::Waiting, Some(reason));
            }
            Absence::Whole => {
                // If someone restores the module, they do it on purpose.
                self.versions.forgive().await;
                info!(
                    module = self.name,
                    "the module was removed; its consumer stays until you delete it"
                );
                self.context.board.remove(&self.name);
            }
        }
    }
}

/// Waits until it is certain that the files do not come back. This is after a while, or when another module has `asked`
/// for the consumer, as it does after a rename.
pub(super) async fn certain(doubt: Option<Doubt>, asked: Option<Arc<Notify>>) -> Absence {
    let (Some(doubt), Some(asked)) = (doubt, asked) else {
        return pending().await;
    };
    tokio::select! {
        () = sleep_until(doubt.since + PATIENCE) => {}
        () = asked.notified() => {}
    }
    doubt.absence
}

/// Waits until a removed module no longer has to be remembered, if anything is remembered.
pub(super) async fn forgotten(doubt: Option<Doubt>, is_known: bool) {
    let Some(doubt) = doubt.filter(|doubt| doubt.absence == Absence::Whole) else {
        return pending().await;
    };
    sleep_until(doubt.since + if is_known { MEMORY } else { Duration::ZERO }).await;
}
