//! A version of a module that has just taken over, with the one before it at hand: what the new one rejects is shown to the old
//! one, and when the old one would have accepted too much of it, the new one is out.
//!
//! The workers look at each message, so that a bad version touches no more of them than it was allowed to.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::module::Module;
use crate::message::{Message, Outcome, Rejection};

/// Shared by the workers, and by whoever puts the old version back.
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
    /// The last of them, in its stream.
    sequence: u64,
    reason: String,
}

impl Trial {
    /// It fails with the first message more than `max_rejects`.
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

    /// The old version takes over again as soon as its owner hears of the failure; until then the trial stays.
    pub fn is_on(&self, now: Instant) -> bool {
        now < self.until || self.has_failed()
    }

    pub fn has_failed(&self) -> bool {
        self.failed.is_cancelled()
    }

    /// Waits until it has failed, which it mostly does not.
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

    /// The new version rejected this message, and the old one made this of it. Whether that stands: another thread may have seen the
    /// last one that it was allowed.
    pub(super) fn allows(&self, message: &Message, rejection: &Rejection, old: &Outcome) -> bool {
        matches!(old, Outcome::Reject(_)) || self.count(message, rejection) <= self.max_rejects + 1
    }

    /// Centrifugo refused for good what was made of these messages. That is the new version's fault if the old one, which is called
    /// here, publishes the message and not on that channel. Blocks as long.
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
                sequence: message.sequence,
                reason: rejection.reason.clone(),
            };
            // Of several threads the first one tells.
            let _ = self.verdict.set(verdict);
            self.failed.cancel();
        }
        rejects
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rejects,
            sequence,
            reason,
        } = self;
        let messages = if *rejects == 1 { "message" } else { "messages" };
        write!(
            f,
            "{rejects} {messages} were rejected that would not have been with the version before, the last one (sequence {sequence}) because: {reason}"
        )
    }
}
