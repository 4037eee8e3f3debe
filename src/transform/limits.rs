//! The limits of a module, and their enforcement for wasmtime: before a guest's memory grows, and during long calls.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{ResourceLimiter, UpdateDeadline};

use crate::config::{ModuleConfig, VersionSource};

/// A message is cut off at most three ticks after its timeout. A hundred wake-ups per second have no measurable cost.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// The limits for the resources and the output of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For one message, in processor time.
    pub timeout: Duration,
    /// For one instance, in bytes of all its memories together.
    pub memory: usize,
    /// For `init`, in processor time. It runs once per instance, and may parse and build data that every call then
    /// uses.
    pub init_timeout: Duration,
    /// The most publications of one message. It allows a fan-out to every row of a large table, but one message cannot
    /// fill the publisher's queues.
    pub max_publications: usize,
    /// The most channels of all publications of one message together. A broadcast costs Centrifugo one publication per
    /// channel.
    pub max_channels: usize,
    /// The most bytes that one message may become. A single call to the host may pass the same amount.
    pub max_output: usize,
    /// Set if a channel may have only one publication per message. Otherwise both would have the message's sequence as
    /// their version, and Centrifugo would show only the first.
    pub one_a_channel: bool,
}

impl Limits {
    pub const INIT_TIMEOUT: Duration = Duration::from_secs(5);
    pub const MAX_PUBLICATIONS: usize = 10_000;
    pub const MAX_CHANNELS: usize = 100_000;
    pub const MAX_OUTPUT: usize = 16 * 1024 * 1024;

    pub fn new(timeout: Duration, memory: usize) -> Self {
        Self {
            timeout,
            memory,
            init_timeout: Self::INIT_TIMEOUT.max(timeout),
            max_publications: Self::MAX_PUBLICATIONS,
            max_channels: Self::MAX_CHANNELS,
            max_output: Self::MAX_OUTPUT,
            one_a_channel: false,
        }
    }
}

impl From<&ModuleConfig> for Limits {
    fn from(config: &ModuleConfig) -> Self {
        Self {
            one_a_channel: config.version == VersionSource::Sequence,
            ..Self::new(config.timeout, config.memory)
        }
    }
}

/// Measures a call in processor time of its thread. With wall-clock time, a good message would become a dead letter
/// because the machine was busy with something else. A guest cannot wait, so a call that does not run takes nothing
/// from others.
#[derive(Debug)]
pub(super) struct Timer {
    timeout: Duration,
    /// The thread's processor time at the first look.
    since: Option<Duration>,
}

impl Timer {
    /// In epochs. Most calls are over by then and are never looked at.
    pub const FIRST_LOOK: u64 = 1;

    pub fn new(timeout: Duration) -> Self {
        Self { timeout, since: None }
    }

    /// Counts from now on, not only from the first look on.
    pub fn started(self) -> Self {
        let since = Some(thread_time());
        Self { since, ..self }
    }

    /// Returns whether the call may continue, and until when.
    pub fn look(&mut self) -> UpdateDeadline {
        let now = thread_time();
        let used = now.saturating_sub(*self.since.get_or_insert(now));
        match self.timeout.checked_sub(used) {
            Some(left) if !left.is_zero() => UpdateDeadline::Continue(ticks(left)),
            _ => UpdateDeadline::Interrupt,
        }
    }
}

/// Returns the processor time of the calling thread.
pub(super) fn thread_time() -> Duration {
    // Neither part is ever negative.
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// Converts a duration into epochs from now. One tick is added because the current one is already in progress, so a
/// call never gets less than its time.
fn ticks(time: Duration) -> u64 {
    let ticks = time.as_nanos().div_ceil(TICK.as_nanos());
    u64::try_from(ticks).unwrap_or(u64::MAX / 2).min(u64::MAX / 2) + 1
}

/// Limits what wasmtime allocates for one instance.
#[derive(Debug)]
pub(super) struct Limiter {
    limit: usize,
    used: usize,
    denied: bool,
}

/// The most elements of one table, of 8 bytes each. It is about ten times what an interpreter compiled to WebAssembly
/// needs.
const MAX_TABLE_ELEMENTS: usize = 200_000;
/// A component in Rust has fewer than ten of each, one in Python a few dozen.
const MAX_INSTANCES: usize = 1_000;
const MAX_TABLES: usize = 1_000;
const MAX_MEMORIES: usize = 100;

impl Limiter {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            used: 0,
            denied: false,
        }
    }

    /// Returns the bytes of all memories.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Returns true if the guest was refused memory since the last call of this function.
    pub fn take_denied(&mut self) -> bool {
        std::mem::take(&mut self.denied)
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The limit of the module itself applies here, not the relay's.
            return Ok(false);
        }
        self.denied |= used > self.limit;
        if used <= self.limit {
            self.used = used;
        }
        Ok(used <= self.limit)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS && maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_are_counted_together() {
        let mut limiter = Limiter::new(100);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 40, None).unwrap());
        assert!(!limiter.take_denied());
        assert!(!limiter.memory_growing(40, 41, None).unwrap());
        assert_eq!(limiter.used(), 100);
        assert!(limiter.take_denied());
        assert!(!limiter.take_denied());
    }

    #[test]
    fn a_growth_beyond_the_memory_s_own_maximum_is_not_counted() {
        let mut limiter = Limiter::new(100);
        assert!(!limiter.memory_growing(0, 60, Some(50)).unwrap());
        assert_eq!((limiter.used(), limiter.take_denied()), (0, false));
    }

    #[test]
    fn a_call_gets_at_least_its_time() {
        assert_eq!(ticks(Duration::from_millis(100)), 11);
        assert_eq!(ticks(Duration::from_micros(1)), 2);
        assert!(ticks(Duration::MAX) <= u64::MAX / 2 + 1);
    }
}
