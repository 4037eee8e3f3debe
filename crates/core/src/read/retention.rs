//! Notices when a stream's limits removed messages before they could be read.
//!
//! Limits (`max_msgs`, `max_bytes`, `max_age`) take messages from the front of a stream: a loss is what is missing between the last
//! message that was read and the first that the stream still holds. No other gap is one: messages of other subjects, those that were
//! deleted by hand or replaced by newer ones of their subject, those that a mirror does not take. What is counted is exact. Where it can't
//! be, since other things take messages away as well, it is said without a number.

#[cfg(test)]
mod tests;

use std::time::Duration;

/// The largest message that a server takes by default, and what it adds to one in its store.
pub const LARGEST_MESSAGE: u64 = (1 << 20) + 1_024;

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
pub struct Gap {
    pub first: u64,
    pub last: u64,
    /// When the message before it was stored, nanoseconds since 1970, if that is known.
    pub after: Option<u64>,
    /// Nobody got them before.
    pub unread: bool,
    /// Messages of other subjects make no gaps.
    pub likely: bool,
}

/// By what a stream loses messages, and what of it a module reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeps {
    pub max_messages: Option<u64>,
    pub max_bytes: Option<u64>,
    pub max_age: Option<Duration>,
    /// What the largest message takes in the store, in bytes.
    pub largest: u64,
    /// Each sequence is a message that the module reads, and only limits remove any, unless somebody does it by hand.
    pub all: bool,
}

/// What a stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub first: u64,
    pub last: u64,
    pub messages: u64,
    pub bytes: u64,
    /// Sequences between first and last that it does not hold.
    pub deleted: u64,
    /// When the last one was stored, nanoseconds since 1970.
    pub newest: u64,
}

impl Keeps {
    /// What of a gap the limits removed, where the stream holds this now.
    pub fn judge(&self, gap: Gap, held: Held, seen: Seen, now: u64) -> Option<Missed> {
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
    pub fn look(&mut self, keeps: Keeps, held: Held) {
        let moved = self.first > 0 && held.first > self.first;
        if held.deleted > 0 {
            self.uncertain_through = held.last;
        } else if moved && keeps.max_age.is_none() && !keeps.are_reached(held) {
            self.uncertain_through = self.uncertain_through.max(held.first - 1);
        }
        self.first = held.first;
    }
}

/// What was read so far, within an epoch.
#[derive(Debug)]
pub struct Retention {
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
    pub fn new(keeps: Option<Keeps>, read_through: Option<u64>, waiting: bool) -> Self {
        Self {
            keeps,
            next: read_through.map(|sequence| sequence + 1),
            stored: None,
            waiting,
        }
    }

    /// What the stream, as it was found, does not hold any more. `floor`: what follows was not acknowledged, and yet delivered up to where
    /// it was read. Whoever got it may have published it.
    pub fn begin(&mut self, floor: u64, held: Held) -> [Option<Gap>; 2] {
        let (Some(next), Some(gone)) = (self.next, held.first.checked_sub(1)) else {
            return [None, None];
        };
        let unacknowledged = self.gap(floor + 1, gone.min(next - 1));
        let unread = self.gap(next, gone);
        self.next = Some(next.max(held.first));
        [unacknowledged.map(|gap| Gap { unread: false, ..gap }), unread]
    }

    /// Whether a gap may be a loss at all.
    pub fn is_watched(&self) -> bool {
        self.keeps.is_some()
    }

    /// A delivery. `pending` is how many the consumer has still to deliver.
    pub fn delivered(&mut self, sequence: u64, stored: u64, pending: u64) -> Option<Gap> {
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

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
