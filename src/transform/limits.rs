//! What one module may use, and the accountants that wasmtime asks: before a guest's memory grows, and while a call takes long.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{ResourceLimiter, UpdateDeadline};

use crate::config::{ModuleConfig, VersionSource};

/// A call ends at most three ticks after its time-out. A hundred wake-ups a second cost nothing that can be measured.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// What a module may take, and what of it may come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of one call, in processor time.
    pub timeout: Duration,
    /// Of one instance, in bytes, all its memories together.
    pub memory: usize,
    /// Of `init`, in processor time. It may parse and build what every call then uses, and runs once an instance.
    pub init_timeout: Duration,
    /// Publications that one message may become: enough for a fan-out to every row of a large table, and few enough that one
    /// message cannot fill the publisher's queues.
    pub max_publications: usize,
    /// Channels of all publications of one message together. A broadcast costs Centrifugo one publication a channel.
    pub max_channels: usize,
    /// Bytes that one message may become. It is also what a guest may hand over in any single call to the host.
    pub max_output: usize,
    /// Whether a channel may have only one publication of a message: both would have the message's sequence as their version, and
    /// Centrifugo would show only the first.
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

/// How long a call has run, in processor time of its thread. By the clock, a readable message would become a dead letter because the
/// machine had something else to do. A guest can't wait, so what does not run takes nothing from anybody.
#[derive(Debug)]
pub(super) struct Timer {
    timeout: Duration,
    /// What the thread had used when this was first looked at.
    since: Option<Duration>,
}

impl Timer {
    /// In epochs. A call that is over by then, as most are, is never looked at.
    pub const FIRST_LOOK: u64 = 1;

    pub fn new(timeout: Duration) -> Self {
        Self { timeout, since: None }
    }

    /// Whether the call may go on, and until when.
    pub fn look(&mut self) -> UpdateDeadline {
        let now = thread_time();
        let used = now.saturating_sub(*self.since.get_or_insert(now));
        match self.timeout.checked_sub(used) {
            Some(left) if !left.is_zero() => UpdateDeadline::Continue(ticks(left)),
            _ => UpdateDeadline::Interrupt,
        }
    }
}

/// Processor time that the calling thread has used.
fn thread_time() -> Duration {
    // Neither is ever negative.
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// In epochs from now. The current tick is already under way, hence one more: a call never gets less than its time.
fn ticks(time: Duration) -> u64 {
    let ticks = time.as_nanos().div_ceil(TICK.as_nanos());
    u64::try_from(ticks).unwrap_or(u64::MAX / 2).min(u64::MAX / 2) + 1
}

/// Bounds what wasmtime allocates for one instance.
#[derive(Debug)]
pub(super) struct Limiter {
    limit: usize,
    used: usize,
    denied: bool,
}

/// Elements of one table, of 8 bytes each: some ten times what an interpreter compiled to WebAssembly has.
const MAX_TABLE_ELEMENTS: usize = 200_000;
/// A component in Rust has fewer than ten of each, one in Python some dozens.
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

    /// Bytes of all memories.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Whether the guest asked for more than there is since the last call of this.
    pub fn take_denied(&mut self) -> bool {
        std::mem::take(&mut self.denied)
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The module's own maximum, not the relay's limit.
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
