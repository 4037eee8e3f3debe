//! Outcomes that wait for messages before theirs.

use std::collections::VecDeque;

use super::Transformed;
use super::weight::of_outcome;
use crate::load::LoadId;
use crate::window::Ticket;

/// A queue that knows its size in bytes.
#[derive(Debug, Default)]
pub(super) struct Later {
    outcomes: VecDeque<Transformed>,
    bytes: usize,
}

impl Later {
    pub(super) fn push(&mut self, transformed: Transformed) {
        self.bytes += of_outcome(&transformed.outcome);
        self.outcomes.push_back(transformed);
    }

    /// Returns the ticket of the first one, and the load that made it.
    pub(super) fn front(&self) -> Option<(Ticket, LoadId)> {
        let first = self.outcomes.front()?;
        Some((first.ticket, first.by.id))
    }

    pub(super) fn pop(&mut self) -> Option<Transformed> {
        let first = self.outcomes.pop_front()?;
        self.bytes -= of_outcome(&first.outcome);
        Some(first)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }
}
