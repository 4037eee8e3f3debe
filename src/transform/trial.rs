//! Watches a new version of a module while the previous one is still available. Each message that the new version
//! rejects is also given to the old one. If the old version would have accepted too many of them, the new version has
//! failed.
//!
//! The workers check each message, so a bad version affects no more messages than allowed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use slipring_core::place::Place;
use tokio_util::sync::CancellationToken;

use super::module::Module;
use crate::message::{Message, Outcome, Rejection};

/// Shared by the workers and the task that rolls back.
#[derive(Debug)]
pub struct Trial {
    predecessor: Arc<Module>,
    until: Instant,
    max_rejects: u32,
    rejects: AtomicU32,
    failed: CancellationToken,
    verdict: std::sync::OnceLock<Verdict>,
}

/// Why a version failed its trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Messages that it rejected and its predecessor would not have.
    rejects: u32,
    /// The place of the last of these messages.
    place: Place,
    reason: String,
}

impl Trial {
    /// The trial fails with the first rejected message beyond `max_rejects`.
    pub fn new(predecessor: Arc<Module>, time: Duration, max_rejects: u32) -> Arc<Self> {
        Arc::new(Self {
            predecessor,
            until: Instant::now() + time,
            max_rejects,
            rejects: AtomicU32::new(0),
            failed: CancellationToken::new(),
            verdict: std::sync::OnceLock::new(),
        })
    }

    /// Returns true while the trial lasts. A failed trial lasts until the owner hears of the failure and the old
    /// version takes over.
    pub fn is_on(&self, now: Instant) -> bool {
        now < self.until || self.has_failed()
    }

    pub fn has_failed(&self) -> bool {
        self.failed.is_cancelled()
    }

    /// Waits until the trial has failed. It mostly never does.
    pub async fn failure(&self) -> Verdict {
        loop {
            self.failed.cancelled().await;
            if let Some(verdict) = self.verdict.get() {
                return verdict.clone();
            }
        }
    }

    pub(super) fn predecessor(&self) -> &Arc<Module> {
        &self.predecessor
    }

    /// Returns true if the new version's rejection is final, given the old version's outcome. Another thread may
    /// already have used up the allowed rejections.
    pub(super) fn allows(&self, message: &Message, rejection: &Rejection, old: &Outcome) -> bool {
        matches!(old, Outcome::Reject(_)) || self.count(message, rejection) <= self.max_rejects + 1
    }

    /// Handles messages whose publications Centrifugo refused permanently. The new version is at fault if the old one,
    /// which is called here, publishes the message but not on that channel. This blocks for the calls.
    pub fn refused<T>(&self, refused: &[(Arc<Message>, Rejection, T)]) {
        let mut instance = self.predecessor.instance();
        for (message, rejection, _) in refused {
            if self.has_failed() {
                return;
            }
            let Outcome::Publish(publications) = instance.call(message) else {
                continue;
            };
            let mut channels = publications.iter().flat_map(|publication| &publication.channels);
            if let Some(channel) = &rejection.channel
                && channels.all(|known| known != channel)
            {
                self.count(message, rejection);
            }
        }
    }

    fn count(&self, message: &Message, rejection: &Rejection) -> u32 {
        let rejects = self.rejects.fetch_add(1, Ordering::Relaxed) + 1;
        if rejects > self.max_rejects {
            let verdict = Verdict {
                rejects,
                place: message.place,
                reason: rejection.reason.clone(),
            };
            // If several threads get here, the first verdict is kept.
            let _ = self.verdict.set(verdict);
            self.failed.cancel();
        }
        rejects
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rejects, place, reason } = self;
        let messages = if *rejects == 1 { "message" } else { "messages" };
        write!(
            f,
            "the new version rejected {rejects} {messages} that the previous version accepts, the last one (sequence \
             {place}) because: {reason}"
        )
    }
}
