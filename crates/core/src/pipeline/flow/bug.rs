//! Rules of the flow that a test can switch off, to see that the simulator of pipelines notices.

use std::collections::BTreeSet;

use super::Flow;
use crate::message::Rejection;
use crate::now::Now;
use crate::publish::SchedulerBug;
use crate::read::StreamIdentity;
use crate::window::{self, Ticket};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    AckBeforeConfirmation,
    /// A message whose publication failed with the code [`NAK`] is given back to JetStream.
    Naks,
    /// The sequences of a stream that was made anew are taken for the old ones.
    MistakesStreams,
    /// What comes again after a reset is published again, with other keys.
    FreshKeysAfterReset,
    AckAnywhere,
    /// Where only the newest matters, nothing waits until what an earlier flow may have got has come again.
    PublishesAtOnce,
    /// `max_age` is looked at when a message arrives, and not again.
    LooksAtArrivalsOnly,
    Scheduler(SchedulerBug),
}

/// The code of a failure that the mutant [`Bug::Naks`] takes for a reason to.
pub const NAK: u32 = 4_242;

#[derive(Debug)]
pub(super) struct State<R> {
    bug: Option<Bug>,
    naks: Vec<R>,
}

impl<R> Default for State<R> {
    fn default() -> Self {
        Self {
            bug: None,
            naks: Vec::new(),
        }
    }
}

impl<R> State<R> {
    pub(super) fn looks_at_arrivals_only(&self) -> bool {
        self.bug == Some(Bug::LooksAtArrivalsOnly)
    }
}

impl<R: Clone> Flow<R> {
    pub fn put_in(&mut self, bug: Bug) {
        self.bug.bug = Some(bug);
        match bug {
            Bug::Naks => self.window.put_in(Some(window::Bug::Forgets(BTreeSet::new()))),
            Bug::AckAnywhere => self.window.put_in(Some(window::Bug::AckAnywhere)),
            Bug::Scheduler(bug) => self.scheduler.put_in(Some(bug)),
            _ => {}
        }
    }

    pub fn take_naks(&mut self) -> Vec<R> {
        std::mem::take(&mut self.bug.naks)
    }

    /// The epoch is over.
    pub fn forget_what_is_settled(&mut self) {
        self.window.forget_all();
        if let Some(stream) = &mut self.stream {
            // Part of each key.
            stream.created += 1_000_000;
        }
    }

    pub(super) fn mistaken(&self, stream: StreamIdentity) -> StreamIdentity {
        match self.bug.bug {
            Some(Bug::MistakesStreams | Bug::FreshKeysAfterReset) => self.stream.unwrap_or(stream),
            _ => stream,
        }
    }

    pub(super) fn mistakes_streams(&self) -> bool {
        self.bug.bug == Some(Bug::MistakesStreams)
    }

    pub(super) fn publishes_at_once(&self) -> bool {
        self.bug.bug == Some(Bug::PublishesAtOnce)
    }

    pub(super) fn ack_before_confirmation(&mut self, now: Now, ticket: Ticket) {
        if self.bug.bug == Some(Bug::AckBeforeConfirmation) {
            self.settle(now, ticket);
        }
    }

    /// Whether the message was given back.
    pub(super) fn naks(&mut self, ticket: Ticket, rejection: &Rejection) -> bool {
        let naks = self.bug.bug == Some(Bug::Naks) && *rejection.code == *NAK.to_string();
        if naks {
            let (nak, acks) = self.window.forget(ticket);
            self.bug.naks.extend(nak);
            acks.into_iter().for_each(|receipt| self.ack(receipt));
        }
        naks
    }
}
