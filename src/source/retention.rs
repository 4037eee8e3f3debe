//! Notices when a stream's limits removed messages before they could be read.
//!
//! Limits (`max_msgs`, `max_bytes`, `max_age`) take messages from the front of a stream: a loss is what is missing between the last
//! message that was read and the first that the stream still holds. No other gap is one: messages of other subjects, those that were
//! deleted by hand or replaced by newer ones of their subject, those that a mirror does not take. What is counted is exact. Where it can't
//! be, since other things take messages away as well, it is said without a number.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy, Stream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::debug;

use super::memory::Memory;

/// How often a stream is asked what it still holds.
const ASK_INTERVAL: Duration = Duration::from_secs(15);

/// How often at the most it is asked for gaps that are most likely messages of other subjects.
const REST: Duration = Duration::from_secs(1);

/// Gaps that wait until the stream has been asked. More come at once only where messages are deleted by hand, a great many of them.
const WAITING_GAPS: usize = 4_096;

/// How often it is asked in vain for the gaps of an epoch that is over: it may be gone for good.
const MAX_FAILURES: usize = 20;

/// The largest message that a server takes by default, and what it adds to one in its store.
const LARGEST_MESSAGE: u64 = (1 << 20) + 1_024;

/// How far the clocks of server and relay may be apart.
const SKEW: Duration = Duration::from_secs(5);

/// Messages that the stream's limits removed, so that nobody can read them any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    pub first: u64,
    pub last: u64,
    /// How many there were from `first` to `last`, at the most.
    pub messages: u64,
    /// Each of them was there, and the module would have read it.
    pub exact: bool,
}

/// Sequences that did not come where they were due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) first: u64,
    pub(super) last: u64,
    /// When the message before it was stored, nanoseconds since 1970, if that is known.
    after: Option<u64>,
    /// Nobody got them before.
    unread: bool,
    /// Messages of other subjects make no gaps.
    likely: bool,
}

/// By what a stream loses messages, and what of it a module reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Keeps {
    max_messages: Option<u64>,
    max_bytes: Option<u64>,
    max_age: Option<Duration>,
    largest: u64,
    /// Each sequence is a message that the module reads, and only limits remove any, unless somebody does it by hand.
    all: bool,
}

/// What a stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// Sequences between first and last that it does not hold.
    pub(super) deleted: u64,
    /// When the last one was stored, nanoseconds since 1970.
    pub(super) newest: u64,
}

impl Keeps {
    /// `None`: it has no limits, or what is acknowledged leaves it as well, so that no gap tells of a loss.
    pub(super) fn of(stream: &stream::Config, subjects: &[String]) -> Option<Self> {
        let limit = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0);
        // Otherwise a full stream takes no more.
        let drops = stream.discard == DiscardPolicy::Old;
        let (max_messages, max_bytes) = (limit(stream.max_messages), limit(stream.max_bytes));
        let (max_messages, max_bytes) = (max_messages.filter(|_| drops), max_bytes.filter(|_| drops));
        let max_age = Some(stream.max_age).filter(|age| !age.is_zero());
        let limited = max_messages.is_some() || max_bytes.is_some() || max_age.is_some();
        if stream.retention != RetentionPolicy::Limits || !limited {
            return None;
        }
        // A transform stores under other subjects than the stream's own, sources bring some of their own.
        let plain = stream.subject_transform.is_none() && stream.sources.as_ref().is_none_or(Vec::is_empty);
        let covered = |held: &String| subjects.iter().any(|subject| crate::config::covers(subject, held));
        let reads_all = subjects.is_empty()
            || subjects.iter().any(|subject| subject == ">")
            || (plain && !stream.subjects.is_empty() && stream.subjects.iter().all(covered));
        let only_limits = stream.mirror.is_none()
            && stream.max_messages_per_subject <= 0
            && !stream.allow_rollup
            && !stream.allow_message_ttl
            && stream.subject_delete_marker_ttl.is_none_or(|ttl| ttl.is_zero())
            && !stream.allow_message_schedules;
        Some(Self {
            max_messages,
            max_bytes,
            max_age,
            largest: u64::try_from(stream.max_message_size)
                .ok()
                .filter(|size| *size > 0)
                .map_or(LARGEST_MESSAGE, |size| size + 1_024),
            all: reads_all && only_limits,
        })
    }

    /// What of a gap the limits removed, where the stream holds this now.
    pub(super) fn judge(&self, gap: Gap, held: Held, seen: Seen, now: u64) -> Option<Missed> {
        let last = gap.last.min(held.first.checked_sub(1)?);
        if last < gap.first || !self.are_at_work(gap, held, now) {
            return None;
        }
        Some(Missed {
            first: gap.first,
            last,
            messages: last - gap.first + 1,
            exact: self.all && gap.unread && held.deleted == 0 && gap.first > seen.uncertain_through,
        })
    }

    /// Whether the limits can be what removed the messages of this gap: somebody may have purged the stream.
    fn are_at_work(&self, gap: Gap, held: Held, now: u64) -> bool {
        let old = |age: Duration| {
            let age = nanoseconds(age);
            let now = now.max(held.newest).saturating_add(nanoseconds(SKEW));
            gap.after.is_none_or(|after| after.saturating_add(age) <= now)
        };
        self.are_reached(held) || self.max_age.is_some_and(old)
    }

    /// Whether the next message pushes others out.
    fn are_reached(&self, held: Held) -> bool {
        let reached = |limit: Option<u64>, is: u64| limit.is_some_and(|limit| is >= limit);
        reached(self.max_messages, held.messages + held.deleted)
            || reached(self.max_bytes, held.bytes.saturating_add(self.largest))
    }
}

/// What looking at a stream again and again has shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// The first sequence that it held the last time.
    first: u64,
    /// Messages up to there may have been removed by hand.
    uncertain_through: u64,
}

impl Seen {
    pub(super) fn look(&mut self, keeps: Keeps, held: Held) {
        let moved = self.first > 0 && held.first > self.first;
        if held.deleted > 0 {
            self.uncertain_through = held.last;
        } else if moved && keeps.max_age.is_none() && !keeps.are_reached(held) {
            self.uncertain_through = self.uncertain_through.max(held.first - 1);
        }
        self.first = held.first;
    }
}

impl From<&stream::State> for Held {
    fn from(state: &stream::State) -> Self {
        Self {
            first: state.first_sequence,
            last: state.last_sequence,
            messages: state.messages,
            bytes: state.bytes,
            deleted: state.deleted_count.unwrap_or(0),
            newest: u64::try_from(state.last_timestamp.unix_timestamp_nanos()).unwrap_or(0),
        }
    }
}

/// What was read so far, within an epoch. No I/O.
#[derive(Debug)]
pub(super) struct Retention {
    keeps: Option<Keeps>,
    /// The stream sequence that may come next; not known before a new consumer has delivered something.
    next: Option<u64>,
    /// When the last one that came was stored.
    stored: Option<u64>,
    /// Something that is to be read waited behind the last delivery.
    waiting: bool,
}

impl Retention {
    /// `read_through`: what was delivered and is not lost to anybody, in this pipeline or before; `None` for a new consumer.
    pub(super) fn new(keeps: Option<Keeps>, read_through: Option<u64>, waiting: bool) -> Self {
        Self {
            keeps,
            next: read_through.map(|sequence| sequence + 1),
            stored: None,
            waiting,
        }
    }

    /// What the stream, as it was found, does not hold any more. `floor`: what follows was not acknowledged, and yet delivered up to where
    /// it was read. Whoever got it may have published it.
    pub(super) fn begin(&mut self, floor: u64, held: Held) -> [Option<Gap>; 2] {
        let (Some(next), Some(gone)) = (self.next, held.first.checked_sub(1)) else {
            return [None, None];
        };
        let unacknowledged = self.gap(floor + 1, gone.min(next - 1));
        let unread = self.gap(next, gone);
        self.next = Some(next.max(held.first));
        [unacknowledged.map(|gap| Gap { unread: false, ..gap }), unread]
    }

    /// A delivery. `pending` is how many the consumer has still to deliver.
    pub(super) fn delivered(&mut self, sequence: u64, stored: u64, pending: u64) -> Option<Gap> {
        let next = self.next.unwrap_or(sequence);
        let gap = if sequence > next {
            self.gap(next, sequence - 1)
        } else {
            None
        };
        self.waiting = pending > 0;
        if sequence >= next {
            self.next = Some(sequence + 1);
            self.stored = Some(stored);
        }
        gap
    }

    /// Whether these sequences may be a loss. Where all of a stream is read every gap may be; otherwise something has to have waited.
    fn gap(&self, first: u64, last: u64) -> Option<Gap> {
        let keeps = self.keeps?;
        (first <= last && (keeps.all || self.waiting)).then_some(Gap {
            first,
            last,
            after: self.stored,
            unread: true,
            likely: keeps.all,
        })
    }
}

/// Asks the stream what became of the messages of a gap.
#[derive(Debug)]
pub(super) struct Lookout {
    gaps: mpsc::Sender<Gap>,
    /// The first sequence that the stream held when it was asked last.
    oldest: watch::Receiver<u64>,
    /// When it may be asked for an unlikely gap.
    rested: Instant,
}

impl Lookout {
    /// Ends when it is dropped. Where no gap is a loss it asks nothing and finds nothing.
    pub(super) fn over(stream: Stream, subjects: Vec<String>, retention: &Retention, memory: Arc<Memory>) -> Self {
        let (gaps, to_look_at) = mpsc::channel(WAITING_GAPS);
        let (sender, oldest) = watch::channel(stream.cached_info().state.first_sequence);
        if retention.keeps.is_some() {
            tokio::spawn(look_out(stream, subjects, memory, to_look_at, sender));
        }
        Self {
            gaps,
            oldest,
            rested: Instant::now(),
        }
    }

    pub(super) fn look_at(&mut self, gap: Gap, now: Instant) {
        if !gap.likely {
            if now < self.rested && *self.oldest.borrow() <= gap.first {
                return;
            }
            self.rested = now + REST;
        }
        // Full: it is not the limits that make so many gaps at once.
        let _ = self.gaps.try_send(gap);
    }
}

async fn look_out(
    stream: Stream,
    subjects: Vec<String>,
    memory: Arc<Memory>,
    mut gaps: mpsc::Receiver<Gap>,
    oldest: watch::Sender<u64>,
) {
    let mut open: Vec<Gap> = Vec::new();
    let mut failures = 0;
    let found = stream.cached_info();
    if let Some(keeps) = Keeps::of(&found.config, &subjects) {
        memory.seen().look(keeps, Held::from(&found.state));
    }
    loop {
        tokio::select! {
            () = tokio::time::sleep(ASK_INTERVAL) => {}
            received = gaps.recv_many(&mut open, WAITING_GAPS), if open.is_empty() => if received == 0 { return; },
        }
        let info = match stream.get_info().await {
            Ok(info) => info,
            // It is asked again, for the same gaps, even if the epoch is over: the next one begins behind them.
            Err(error) => {
                failures += 1;
                if gaps.is_closed() && (open.is_empty() || failures > MAX_FAILURES) {
                    return;
                }
                debug!(
                    error = &error as &dyn std::error::Error,
                    "the stream cannot be asked what it holds"
                );
                continue;
            }
        };
        failures = 0;
        let held = Held::from(&info.state);
        if let Some(keeps) = Keeps::of(&info.config, &subjects) {
            let seen = *memory.seen();
            for gap in open.drain(..) {
                if let Some(missed) = keeps.judge(gap, held, seen, now()) {
                    memory.found(missed);
                }
            }
            memory.seen().look(keeps, held);
        }
        open.clear();
        oldest.send_replace(held.first);
        if gaps.is_closed() {
            return;
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, nanoseconds)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
