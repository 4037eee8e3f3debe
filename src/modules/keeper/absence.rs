//! When a module's files go. Whoever copies a new version often removes the old one first, and for a moment nothing is there; so
//! what runs goes on for a few seconds, and it stays known for a while what a version that comes later is compared with.

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

/// How long a module that is gone is remembered, with the last messages that it was given.
const MEMORY: Duration = Duration::from_secs(60);

/// What of a module is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    Part(Missing),
    Whole,
}

/// Since when something is not there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doubt {
    absence: Absence,
    since: Instant,
}

impl Keeper {
    /// Something of the module is not there.
    pub(super) async fn miss(&mut self, absence: Absence) {
        let since = self.doubt.map_or_else(Instant::now, |doubt| doubt.since);
        self.doubt = Some(Doubt { absence, since });
        let Some(running) = &self.running else {
            return self.leave(absence).await;
        };
        // Who waits for its consumer learns that it will be free.
        running.claim.set_leaving(true);
        info!(
            module = self.name,
            seconds = PATIENCE.as_secs(),
            "the module's files have gone; it stops unless they come back soon"
        );
    }

    /// Whether the directory has nothing of the module, and it has stopped.
    pub(super) fn is_gone(&self) -> bool {
        self.running.is_none() && self.doubt.is_some_and(|doubt| doubt.absence == Absence::Whole)
    }

    /// Something is there, whatever it is.
    pub(super) fn is_back(&mut self) {
        self.doubt = None;
        // A module that was gone has no part of the board any more.
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
        // Whoever waits for its consumer starts after it was said what became of this module.
        let _claim = self.stop().await;
        match absence {
            Absence::Part(missing) => {
                let reason = format!("waiting for {}.{}", self.name, missing.extension());
                info!(module = self.name, reason, "the module is incomplete");
                self.board = self.context.board.module(&self.name);
                self.board.unloaded();
                self.board.set_state(State::Waiting, Some(reason));
            }
            Absence::Whole => {
                // Who puts it back means it.
                self.versions.forgive().await;
                info!(module = self.name, "the module was removed; its consumer stays");
                self.context.board.remove(&self.name);
            }
        }
    }
}

/// Waits until it is certain that the files of what runs do not come back: after a while, or when another module has `asked` for
/// the consumer, as it does after a renaming.
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

/// Waits until a module that is gone need not be remembered any more, if anything of it is known.
pub(super) async fn forgotten(doubt: Option<Doubt>, is_known: bool) {
    let Some(doubt) = doubt.filter(|doubt| doubt.absence == Absence::Whole) else {
        return pending().await;
    };
    sleep_until(doubt.since + if is_known { MEMORY } else { Duration::ZERO }).await;
}
