//! How a run comes to its end: why, how long it may take, and what remains.

use tracing::{debug, warn};

use super::Run;
use crate::load::LoadId;
use crate::pipeline::{Ended, Halted};

/// The run is coming to its end: nothing is pulled any more.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) kind: EndingKind,
    pub(super) deadline: tokio::time::Instant,
}

#[derive(Debug)]
pub(super) enum EndingKind {
    /// What was delivered is finished, then the pipeline stops.
    Drain,
    /// What was delivered is finished, then the pipeline starts afresh.
    Renew(String),
    /// What is before the message that halted it is finished as far as the order allows.
    /// With the load of the module that it waits to be rid of.
    Halt(String, LoadId),
    /// Nothing more is published: another relay may be at it.
    Yield,
}

impl Run<'_> {
    pub(super) fn renew(&mut self, reason: &str) {
        self.end_with(EndingKind::Renew(reason.to_owned()));
    }

    /// The first ending counts, except that a halt goes before a drain: it publishes less.
    pub(super) fn end_with(&mut self, kind: EndingKind) {
        if self.ending.is_some() && !matches!(kind, EndingKind::Halt(..)) {
            return;
        }
        debug!(module = self.board.name(), ?kind, "the run is ending");
        self.intake.close();
        let stopped = matches!(
            self.ending,
            Some(Ending {
                kind: EndingKind::Drain,
                ..
            })
        );
        let deadline = self.ending.as_ref().map(|ending| ending.deadline);
        let deadline = deadline.unwrap_or_else(|| tokio::time::Instant::now() + self.shared.grace);
        // Told to stop and halted meanwhile: it stops.
        let kind = if stopped { EndingKind::Drain } else { kind };
        self.ending = Some(Ending { kind, deadline });
    }

    pub(super) fn is_done(&self) -> bool {
        let Some(ending) = &self.ending else { return false };
        let quiet = self.requests.is_empty() && self.dead_letters.is_empty() && self.unstored.is_empty();
        let halting = matches!(ending.kind, EndingKind::Halt(..) | EndingKind::Yield);
        let drained = self.flow.is_drained() && (halting || self.transforming == 0);
        (quiet && drained) || tokio::time::Instant::now() >= ending.deadline
    }

    pub(super) async fn end(self) -> Ended {
        // Said first, since the acks may take their time.
        if let Some((messages, first, last)) = self.flow.window().unsettled() {
            warn!(
                module = self.board.name(),
                messages, first, last, "left unsettled, not acknowledged: these stream sequences are delivered again"
            );
        }
        self.acks.flush().await;
        if !matches!(
            self.ending,
            Some(Ending {
                kind: EndingKind::Yield,
                ..
            })
        ) {
            self.intake.release().await;
        }
        match self.ending {
            Some(Ending {
                kind: EndingKind::Halt(reason, by),
                ..
            }) => Ended::Halted(Halted {
                reason,
                by,
                again: self.flow.again(),
            }),
            Some(Ending {
                kind: EndingKind::Renew(reason),
                ..
            }) => Ended::Renew(reason),
            Some(Ending {
                kind: EndingKind::Yield,
                ..
            }) => Ended::Renew("this relay lost its pin, and another one may read from the consumer".to_owned()),
            Some(Ending {
                kind: EndingKind::Drain,
                ..
            })
            | None => Ended::Stopped,
        }
    }
}
