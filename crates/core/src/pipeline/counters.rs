//! The counters of a pipeline as plain numbers. The caller exports them.

use std::time::Duration;

/// Counts since the last call of `take_counters`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages delivered for the first time in their epoch.
    pub received: u64,
    /// Messages that the module dropped.
    pub dropped: u64,
    /// Messages left out for their age, entirely or in part. Each message counts once.
    pub expired: u64,
    pub rejected_in_transform: u64,
    pub rejected_in_publish: u64,
    /// Confirmed publications.
    pub published: u64,
    /// Publications replaced by a newer one of their channels.
    pub conflated: u64,
    /// Publications sent again.
    pub retried: u64,
    pub dead_lettered: u64,
    pub acked: u64,
    /// The age of each message when it was settled, counted from when JetStream stored it.
    pub settled: Vec<Duration>,
}

/// The current state of a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauges {
    /// Messages in the window.
    pub messages: usize,
    /// Bytes in the window.
    pub bytes: usize,
    /// Set once something was read.
    pub lag: Option<Lag>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Unsettled messages of the stream, delivered or not.
    pub messages: u64,
    /// The age of the oldest delivered message that is not settled.
    pub age: Option<Duration>,
}
