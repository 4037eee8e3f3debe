//! What the epochs of one pipeline leave to the next.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use slipring_core::read::{Missed, Newest, Seen, StreamIdentity};

#[derive(Debug, Default)]
pub struct Memory {
    /// About settings, so that it is said once.
    said: Mutex<Vec<String>>,
    /// The newest message that was handed on, of which stream.
    newest: Mutex<Newest>,
    /// What earlier runs of the pipeline had read when this one began.
    before: Newest,
    seen: Mutex<Seen>,
    /// What was found to be lost and is not told yet. The epoch may be over by the time it is found.
    missed: Mutex<Vec<Missed>>,
    found: Notify,
}

impl Memory {
    /// The memory of a run. `before`: what earlier runs of the pipeline have read.
    pub fn after(before: Newest) -> Self {
        Self {
            before,
            ..Self::default()
        }
    }

    /// The newest message of this stream that an earlier run has read.
    pub(super) fn before(&self, stream: StreamIdentity) -> Option<u64> {
        self.before.of(stream)
    }

    /// Those that were not said before. They count as said.
    pub(super) fn anew(&self, texts: &[String]) -> Vec<String> {
        let mut said = lock(&self.said);
        let anew: Vec<String> = texts.iter().filter(|text| !said.contains(text)).cloned().collect();
        said.extend(anew.iter().cloned());
        anew
    }

    /// This message of this stream was handed on.
    pub fn handed_on(&self, stream: StreamIdentity, sequence: u64) {
        lock(&self.newest).handed_on(stream, sequence);
    }

    /// The newest message of this stream that was handed on.
    pub(super) fn newest(&self, stream: StreamIdentity) -> Option<u64> {
        lock(&self.newest).of(stream)
    }

    /// What looking at the stream has shown. A pipeline ends with its stream, and its memory does too.
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    pub(super) fn found(&self, missed: Missed) {
        lock(&self.missed).push(missed);
        self.found.notify_one();
    }

    /// Waits until something is found to be lost. May be dropped at any time.
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
