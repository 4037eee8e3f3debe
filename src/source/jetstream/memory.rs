//! What the epochs of one pipeline leave to the next.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use slipring_core::place::Place;
use slipring_core::read::{Incarnation, Missed, Newest, Seen};

#[derive(Debug, Default)]
pub struct Memory {
    /// Remarks about settings, to make each only once.
    said: Mutex<Vec<String>>,
    /// The newest message that was handed on, and its stream.
    newest: Mutex<Newest>,
    /// What earlier runs of the pipeline had read when this run began.
    before: Newest,
    seen: Mutex<Seen>,
    /// Losses that were found but not reported yet. The epoch may be over by then.
    missed: Mutex<Vec<Missed>>,
    found: Notify,
}

impl Memory {
    /// Creates the memory of a run. `before` is what earlier runs of the pipeline have read.
    pub fn after(before: Newest) -> Self {
        Self {
            before,
            ..Self::default()
        }
    }

    /// Returns the newest message of this stream that an earlier run has read.
    pub(super) fn before(&self, stream: Incarnation) -> Option<Place> {
        self.before.of(stream)
    }

    /// Returns the texts that were not said before, and remembers them.
    pub(super) fn anew(&self, texts: &[String]) -> Vec<String> {
        let mut said = lock(&self.said);
        let anew: Vec<String> = texts.iter().filter(|text| !said.contains(text)).cloned().collect();
        said.extend(anew.iter().cloned());
        anew
    }

    /// Records that this message of this stream was handed on.
    pub fn handed_on(&self, stream: Incarnation, place: Place) {
        lock(&self.newest).handed_on(stream, place);
    }

    /// Returns the newest message of this stream that was handed on.
    pub(super) fn newest(&self, stream: Incarnation) -> Option<Place> {
        lock(&self.newest).of(stream)
    }

    /// Returns what is known from looking at the stream. A pipeline ends with its stream, and so does its memory.
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    pub(super) fn found(&self, missed: Missed) {
        lock(&self.missed).push(missed);
        self.found.notify_one();
    }

    /// Waits until a loss is found. Cancel-safe.
    pub(super) async fn finds(&self) {
        self.found.notified().await;
    }

    pub(super) fn take_missed(&self) -> Vec<Missed> {
        std::mem::take(&mut *lock(&self.missed))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
