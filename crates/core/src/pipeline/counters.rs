//! What a pipeline counts, as plain numbers: whoever runs it exports them.

use std::time::Duration;

/// Since they were last taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages that were delivered for the first time in their epoch.
    pub received: u64,
    /// Messages that the module dropped.
    pub dropped: u64,
    /// Messages that were left out for their age, or a publication of them. Once a message.
    pub expired: u64,
    pub rejected_in_transform: u64,
    pub rejected_in_publish: u64,
    /// Publications that were confirmed.
    pub published: u64,
    /// Publications that gave up their place to a newer one of their channels.
    pub conflated: u64,
    /// Publications that were sent again.
    pub retried: u64,
    pub dead_lettered: u64,
    pub acked: u64,
    /// How old each message was when it was settled, since JetStream stored it.
    pub settled: Vec<Duration>,
}

/// How things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauges {
    /// In the window.
    pub messages: usize,
    /// In the window, in bytes.
    pub bytes: usize,
    /// Once something was read.
    pub lag: Option<Lag>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Messages of the stream that are not settled, delivered or not.
    pub messages: u64,
    /// Of the oldest one that was delivered and is not settled.
    pub age: Option<Duration>,
}
