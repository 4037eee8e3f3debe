//! The messages of the source that the screen keeps.

use std::collections::VecDeque;

use super::super::cases::Shown;
use super::super::news::Live;
use super::super::tally::Tally;

#[derive(Debug, Default)]
pub struct Stream {
    /// What is read. `None` until it is.
    pub what: Option<String>,
    pub tally: Tally,
    /// Oldest first.
    pub kept: VecDeque<Arrived>,
    /// What arrived since it was paused, oldest first.
    pub waiting: VecDeque<Arrived>,
    pub is_paused: bool,
    /// The number of the selected message, or `None` for the newest.
    selected: Option<u64>,
    arrived: u64,
}

#[derive(Debug)]
pub struct Arrived {
    number: u64,
    pub time: String,
    pub place: String,
    pub shown: Shown,
}

/// The messages that are kept, and their size.
const MAX_KEPT: usize = 1_000;
const MAX_BYTES: usize = 32 << 20;

impl Stream {
    pub fn arrive(&mut self, live: Live) {
        self.tally.count(&live.made.told);
        self.tally.skipped += live.skipped;
        self.arrived += 1;
        let arrived = Arrived {
            number: self.arrived,
            time: live.time,
            place: live.place,
            shown: Shown::Made(Box::new(live.made)),
        };
        let queue = if self.is_paused {
            &mut self.waiting
        } else {
            &mut self.kept
        };
        queue.push_back(arrived);
        limit(queue);
    }

    /// Stops the list, or lets it go on with what has arrived meanwhile.
    pub fn pause(&mut self) {
        self.is_paused = !self.is_paused;
        if !self.is_paused {
            self.kept.append(&mut self.waiting);
            limit(&mut self.kept);
            self.selected = None;
        }
    }

    /// Selects another message. The list stops, or it would go on below the eyes.
    pub fn select(&mut self, to: usize) {
        self.is_paused = true;
        let to = to.min(self.kept.len().saturating_sub(1));
        self.selected = self.kept.get(to).map(|arrived| arrived.number);
    }

    /// Returns where the selected message is. One that is gone gives way to the oldest.
    pub fn place(&self) -> usize {
        match self.selected {
            Some(number) => self.kept.iter().position(|one| one.number == number).unwrap_or(0),
            None => self.kept.len().saturating_sub(1),
        }
    }

    pub fn selected(&self) -> Option<&Arrived> {
        self.kept.get(self.place())
    }
}

/// Forgets the oldest.
fn limit(queue: &mut VecDeque<Arrived>) {
    let mut bytes: usize = queue.iter().map(|arrived| arrived.shown.size()).sum();
    while queue.len() > MAX_KEPT || bytes > MAX_BYTES && queue.len() > 1 {
        let Some(oldest) = queue.pop_front() else { break };
        bytes -= oldest.shown.size();
    }
}
