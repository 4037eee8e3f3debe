//! What is known about an open tap, and what it takes of the messages that it is offered.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::Made;
use super::rate::Rate;
use super::shown::Shown;
use crate::message::Outcome;

/// The most messages that wait for the client.
pub(super) const MOST_WAITING: usize = 64;

/// The most memory of the messages that wait for the client, in bytes. One message takes less than a fifth of it.
pub(super) const WAITING_BYTES: usize = 4 << 20;

/// Which messages a tap shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// `None` for all modules.
    pub module: Option<String>,
    /// Only messages that are published to this channel.
    pub channel: Option<String>,
}

#[derive(Debug)]
pub(super) struct Viewer {
    filter: Filter,
    rate: Mutex<Rate>,
    sender: mpsc::Sender<Shown>,
    /// The memory of the messages that wait.
    bytes: AtomicUsize,
    /// How many messages were left out since the last one that was shown.
    skipped: AtomicU64,
}

impl Viewer {
    pub fn new(filter: Filter, rate: usize) -> (Self, mpsc::Receiver<Shown>) {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        let viewer = Self {
            filter,
            rate: Mutex::new(Rate::new(rate)),
            sender,
            bytes: AtomicUsize::new(0),
            skipped: AtomicU64::new(0),
        };
        (viewer, receiver)
    }

    pub fn follows(&self, module: &str) -> bool {
        self.filter.module.as_deref().is_none_or(|followed| followed == module)
    }

    /// Shows the message or counts it, unless the filter is for others.
    pub fn offer(&self, made: &Made<'_>) {
        if self.filter.passes(made.outcome) && self.show(made).is_none() {
            self.skipped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns `None` if the message must be left out.
    fn show(&self, made: &Made<'_>) -> Option<()> {
        // Another thread holds the lock for some nanoseconds only. But it may lose its processor just then, even for long if
        // it has a low priority, so a pipeline must not wait for it.
        if !self.rate.try_lock().ok()?.allows(made.at) {
            return None;
        }
        let place = self.sender.try_reserve().ok()?;
        let mut shown = Shown::of(made);
        let before = self.bytes.fetch_add(shown.bytes(), Ordering::Relaxed);
        if before + shown.bytes() > WAITING_BYTES {
            self.taken(&shown);
            return None;
        }
        shown.skipped = self.skipped.swap(0, Ordering::Relaxed);
        place.send(shown);
        Some(())
    }

    /// The message no longer waits.
    pub fn taken(&self, shown: &Shown) {
        self.bytes.fetch_sub(shown.bytes(), Ordering::Relaxed);
    }
}

impl Filter {
    /// Returns true if the outcome is one of those that are wanted.
    fn passes(&self, outcome: &Outcome) -> bool {
        let Some(wanted) = &self.channel else { return true };
        let Outcome::Publish(publications) = outcome else {
            return false;
        };
        let mut channels = publications.iter().flat_map(|publication| &publication.channels);
        channels.any(|channel| **channel == **wanted)
    }
}

#[cfg(test)]
impl Viewer {
    /// Returns the memory of the messages that wait.
    pub fn waiting(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns how many messages the next one will report as left out.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }
}
