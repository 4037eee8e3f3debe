//! Detects messages that a stream's limits removed before they could be read.
//!
//! Limits (`max_msgs`, `max_bytes`, `max_age`) remove messages from the front of a stream. A loss is therefore a gap
//! between the last message that was read and the first that the stream still holds. Other gaps are no losses: messages
//! of other subjects, messages deleted by hand or replaced by newer ones of their subject, and messages that a mirror
//! does not take. A count is always exact. Where other causes also remove messages and no exact count is possible, the
//! loss is reported without a number.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::place::Place;

/// The largest message that a server accepts by default, plus the overhead in its store.
pub const LARGEST_MESSAGE: u64 = (1 << 20) + 1_024;

/// The largest expected difference between the clocks of server and relay.
const SKEW: Duration = Duration::from_secs(5);

/// Messages that the stream's limits removed, which can no longer be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    pub first: Place,
    pub last: Place,
    /// The most messages from `first` to `last` that may be missing.
    pub messages: u64,
    /// True if each of them existed and the module would have read it.
    pub exact: bool,
}

impl Missed {
    /// Returns the part of the loss that is after this place.
    pub fn after(self, through: Place) -> Self {
        let first = self.first.max(through.next());
        let known = match (self.first, first) {
            (Place::Sequence(all), Place::Sequence(rest)) => rest - all,
            // How many there were between two IDs is unknown.
            _ => 0,
        };
        Self {
            first,
            messages: self.messages.saturating_sub(known),
            ..self
        }
    }
}

/// Sequences that did not come when they were due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub first: u64,
    pub last: u64,
    /// When the message before the gap was stored, in nanoseconds since 1970, if known.
    pub after: Option<u64>,
    /// No pipeline received the messages before.
    pub unread: bool,
    /// True if messages of other subjects cannot explain the gap.
    pub likely: bool,
}

/// How a stream loses messages, and which of them a module reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeps {
    pub max_messages: Option<u64>,
    pub max_bytes: Option<u64>,
    pub max_age: Option<Duration>,
    /// The size of the largest message in the store, in bytes.
    pub largest: u64,
    /// True if the module reads every sequence and only limits remove messages, apart from deletions by hand.
    pub all: bool,
}

/// What a stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub first: u64,
    pub last: u64,
    pub messages: u64,
    pub bytes: u64,
    /// Sequences between first and last that the stream does not hold.
    pub deleted: u64,
    /// When the last message was stored, in nanoseconds since 1970.
    pub newest: u64,
}

impl Keeps {
    /// Returns the part of a gap that the limits removed, given what the stream holds now.
    pub fn judge(&self, gap: Gap, held: Held, seen: Seen, now: u64) -> Option<Missed> {
        let last = gap.last.min(held.first.checked_sub(1)?);
        if last < gap.first || !self.are_at_work(gap, held, now) {
            return None;
        }
        Some(Missed {
            first: gap.first.into(),
            last: last.into(),
            messages: last - gap.first + 1,
            exact: self.all && gap.unread && held.deleted == 0 && gap.first > seen.uncertain_through,
        })
    }

    /// Returns true if the limits can have removed the messages of this gap. The cause may also be a purge.
    fn are_at_work(&self, gap: Gap, held: Held, now: u64) -> bool {
        let old = |age: Duration| {
            let age = nanoseconds(age);
            let now = now.max(held.newest).saturating_add(nanoseconds(SKEW));
            gap.after.is_none_or(|after| after.saturating_add(age) <= now)
        };
        self.are_reached(held) || self.max_age.is_some_and(old)
    }

    /// Returns true if the next message pushes others out.
    fn are_reached(&self, held: Held) -> bool {
        let reached = |limit: Option<u64>, is: u64| limit.is_some_and(|limit| is >= limit);
        reached(self.max_messages, held.messages + held.deleted)
            || reached(self.max_bytes, held.bytes.saturating_add(self.largest))
    }
}

/// What repeated looks at a stream have shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// The first sequence that the stream held at the last look.
    first: u64,
    /// Messages up to this sequence may have been removed by hand.
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

/// What was read so far within an epoch.
#[derive(Debug)]
pub struct Retention {
    keeps: Option<Keeps>,
    /// The next stream sequence that may come. It is unknown before the first delivery of a new consumer.
    next: Option<u64>,
    /// When the last delivered message was stored.
    stored: Option<u64>,
    /// Further messages waited behind the last delivery.
    waiting: bool,
}

impl Retention {
    /// `read_through` is the sequence up to which messages were delivered and are not lost, in this pipeline or before.
    /// It is `None` for a new consumer.
    pub fn new(keeps: Option<Keeps>, read_through: Option<u64>, waiting: bool) -> Self {
        Self {
            keeps,
            next: read_through.map(|sequence| sequence + 1),
            stored: None,
            waiting,
        }
    }

    /// Returns the gaps in what the stream held when the epoch started. Messages after `floor` were not acked, but
    /// those up to the last read one were delivered. Whoever received them may have published them.
    pub fn begin(&mut self, floor: u64, held: Held) -> [Option<Gap>; 2] {
        let (Some(next), Some(gone)) = (self.next, held.first.checked_sub(1)) else {
            return [None, None];
        };
        let unacknowledged = self.gap(floor + 1, gone.min(next - 1));
        let unread = self.gap(next, gone);
        self.next = Some(next.max(held.first));
        [unacknowledged.map(|gap| Gap { unread: false, ..gap }), unread]
    }

    /// Returns true if a gap can be a loss at all.
    pub fn is_watched(&self) -> bool {
        self.keeps.is_some()
    }

    /// Records a delivery and returns the gap before it. `pending` is how many messages the consumer still has to
    /// deliver.
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

    /// Returns these sequences as a gap if they may be a loss. If the module reads all of the stream, every gap may be
    /// one. Otherwise, a message must have been waiting.
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
