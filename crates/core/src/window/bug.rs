//! Rules of the window that a test can switch off, to see that the simulator of pipelines notices.

use std::collections::BTreeSet;

use super::{Stored, Ticket, Window};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bug {
    /// Acks go out as soon as a message is settled.
    AckAnywhere,
    /// These sequences were given back, and are new when they come again.
    Forgets(BTreeSet<u64>),
}

impl<R: Clone> Window<R> {
    pub(crate) fn put_in(&mut self, bug: Option<Bug>) {
        self.bug = bug;
    }

    /// Gives a message back. Answers where to say so, and where to ack now.
    pub(crate) fn forget(&mut self, ticket: Ticket) -> (Option<R>, Vec<R>) {
        let Some(entry) = self.entry(ticket) else {
            return (None, Vec::new());
        };
        let (sequence, receipt) = (entry.stored.sequence, entry.receipt.take());
        if let Some(Bug::Forgets(sequences)) = &mut self.bug {
            sequences.insert(sequence);
        }
        (receipt, self.settle(ticket))
    }

    pub(super) fn was_forgotten(&mut self, sequence: u64) -> bool {
        match &mut self.bug {
            Some(Bug::Forgets(sequences)) => sequences.remove(&sequence),
            _ => false,
        }
    }

    pub(super) fn ack_at_once(&mut self, ticket: Ticket, receipts: &mut Vec<R>) {
        if self.bug == Some(Bug::AckAnywhere) {
            receipts.extend(self.entry(ticket).and_then(|entry| entry.receipt.take()));
        }
    }

    /// Whatever comes is new.
    pub(crate) fn forget_all(&mut self) {
        self.front += self.entries.len() as u64;
        self.entries.clear();
        self.bytes = 0;
        self.settled_through = Stored::default();
    }
}
