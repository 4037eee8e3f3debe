//! The window: the delivered messages that are not settled yet, and the settled ones still above the ack floor.
//!
//! It knows what may be acked and what a redelivery means: a message that this process has settled already is acked again, not
//! published again. It does no I/O and knows nothing of wasm or Centrifugo; the time comes in as an argument.
//!
//! Messages enter in the order of the stream and leave at the front, so a ticket is a position and finding one costs nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::load::Load;
use crate::message::{self, Message, Rejection, Results, Share};

#[cfg(test)]
mod tests;

/// Names a message from its arrival until it leaves the window. Later messages have higher tickets.
pub type Ticket = u64;

/// What bounds the replay after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub messages: usize,
    pub bytes: usize,
    /// From the arrival of the oldest message on.
    pub age: Duration,
}

#[derive(Debug)]
pub struct Window<R> {
    limits: Limits,
    entries: VecDeque<Entry<R>>,
    /// The ticket of `entries[0]`.
    front: Ticket,
    /// Of all entries, settled ones too: this bounds what a crash publishes again. And of the publications that wait: one message
    /// may become a thousand.
    bytes: usize,
    /// Of these, the publications.
    made: usize,
    /// The newest message that left the window: whatever was delivered up to it is settled.
    settled_through: Stored,
}

/// Which message it is: after a stream was rolled back its sequences name other messages, with later times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stored {
    sequence: u64,
    timestamp: u64,
}

impl From<&Message> for Stored {
    fn from(message: &Message) -> Self {
        Self {
            sequence: message.sequence,
            timestamp: message.timestamp,
        }
    }
}

#[derive(Debug)]
struct Entry<R> {
    stored: Stored,
    arrived: Instant,
    size: usize,
    /// Of its publications, until it is settled.
    made: usize,
    state: State,
    /// What acknowledges it. `None` between a reset and the redelivery: an ack of an epoch that is over means nothing.
    receipt: Option<R>,
    /// When JetStream last heard of this message.
    heard: Instant,
}

/// A receipt of 40 bytes beside what it points to: an ack subject takes some 80 bytes more.
const _: () = assert!(2 * size_of::<Entry<[u64; 5]>>() + 96 <= message::PLACE);

#[derive(Debug)]
enum State {
    /// Publications are open, or how many there will be is not known yet.
    Open {
        message: Arc<Message>,
        outstanding: Option<usize>,
        /// Whose publications they are, once there are some.
        by: Option<Load>,
        rejection: Option<Rejection>,
        refused: usize,
        /// At least one publication was never sent, for the message's age.
        expired: bool,
        /// Those that are concluded, if there is more to tell than one refusal.
        shares: Vec<Share>,
    },
    Settled,
}

/// What a delivery means to the window.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival<R> {
    /// Not seen before: transform it.
    New(Ticket),
    /// A redelivery of one that is in the window; its ack goes out in its turn.
    Pending,
    /// A redelivery of one that was settled and has left the window: ack it again.
    Settled(R),
    /// A redelivery from the middle of what this process has seen, which it never got. The order can't be kept from here.
    Misplaced,
    /// Another message with the sequence of one that was seen: the stream was rolled back to an earlier state.
    Reused,
}

/// All publications of a message are concluded.
#[derive(Debug)]
pub enum Conclusion {
    Confirmed,
    /// Centrifugo refused at least one for good, which this module made. The message is settled once its rejection is dealt with.
    Rejected(Arc<Message>, Rejection, Load),
}

impl<R: Clone> Window<R> {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: VecDeque::new(),
            front: 0,
            bytes: 0,
            made: 0,
            settled_through: Stored::default(),
        }
    }

    /// Takes in a delivery. `now` starts the clock for [`Window::in_progress`].
    pub fn arrive(&mut self, message: &Arc<Message>, receipt: R, now: Instant) -> Arrival<R> {
        let stored = Stored::from(&**message);
        let newest = self.entries.back().map_or(self.settled_through, |entry| entry.stored);
        if stored.sequence > newest.sequence {
            let ticket = self.front + self.entries.len() as u64;
            let size = message.size();
            self.bytes += size;
            self.entries.push_back(Entry {
                stored,
                arrived: now,
                size,
                made: 0,
                state: State::Open {
                    message: Arc::clone(message),
                    outstanding: None,
                    by: None,
                    rejection: None,
                    refused: 0,
                    expired: false,
                    shares: Vec::new(),
                },
                receipt: Some(receipt),
                heard: now,
            });
            return Arrival::New(ticket);
        }
        if stored.sequence <= self.settled_through.sequence {
            return if stored.timestamp <= self.settled_through.timestamp {
                Arrival::Settled(receipt)
            } else {
                Arrival::Reused
            };
        }
        let found = self
            .entries
            .binary_search_by_key(&stored.sequence, |entry| entry.stored.sequence);
        let Ok(index) = found else { return Arrival::Misplaced };
        let entry = &mut self.entries[index];
        if entry.stored != stored {
            return Arrival::Reused;
        }
        entry.heard = now;
        entry.receipt = Some(receipt);
        Arrival::Pending
    }

    /// The consumer is about to be reset: acks of deliveries up to here mean nothing any more.
    pub fn begin_epoch(&mut self) {
        for entry in &mut self.entries {
            entry.receipt = None;
        }
    }

    /// The message became this many publications, which take so many bytes, `by` this module.
    pub fn expect(&mut self, ticket: Ticket, publications: usize, bytes: usize, by: Load) {
        if let Some(Entry {
            state: State::Open {
                outstanding, by: maker, ..
            },
            made,
            ..
        }) = self.entry(ticket)
        {
            *outstanding = Some(publications);
            *maker = Some(by);
            *made = bytes;
            self.bytes += bytes;
            self.made += bytes;
        }
    }

    /// A publication of the message is left out for its age. Returns whether it is the message's first; its conclusion follows.
    pub fn expire(&mut self, ticket: Ticket) -> bool {
        match self.entry(ticket) {
            Some(Entry {
                state: State::Open { expired, .. },
                ..
            }) => !std::mem::replace(expired, true),
            _ => false,
        }
    }

    /// Keeps what became of a publication that is about to be concluded, for [`Self::results`].
    pub fn keep(&mut self, ticket: Ticket, share: Share) {
        if let Some(Entry {
            state:
                State::Open {
                    outstanding: Some(open),
                    shares,
                    ..
                },
            ..
        }) = self.entry(ticket)
            // Of most messages it is the only one, and confirmed.
            && (*open > 1 || !shares.is_empty() || !share.refused.is_empty())
        {
            shares.push(share);
        }
    }

    /// What became of the publications that were kept of a message which is not settled yet.
    pub fn results(&self, ticket: Ticket) -> Option<Results> {
        match &self.entries.get(self.index(ticket)?)?.state {
            State::Open { shares, .. } if !shares.is_empty() => Some(Results::of(shares)),
            State::Open { .. } | State::Settled => None,
        }
    }

    /// The message holds so many more bytes until it is settled.
    pub fn hold(&mut self, ticket: Ticket, bytes: usize) {
        if let Some(entry) = self.entry(ticket) {
            entry.made += bytes;
            self.bytes += bytes;
            self.made += bytes;
        }
    }

    /// One publication of the message is concluded. Answers once all of them are.
    pub fn conclude(&mut self, ticket: Ticket, result: Result<(), Rejection>) -> Option<Conclusion> {
        let Some(Entry {
            state:
                State::Open {
                    message,
                    outstanding: Some(open),
                    by: Some(by),
                    rejection,
                    refused,
                    ..
                },
            ..
        }) = self.entry(ticket)
        else {
            return None;
        };
        if let Err(why) = result {
            *refused += 1;
            rejection.get_or_insert(why);
        }
        *open = open.saturating_sub(1);
        if *open > 0 {
            return None;
        }
        let Some(mut rejection) = rejection.take() else {
            return Some(Conclusion::Confirmed);
        };
        if *refused > 1 {
            rejection.reason.push_str(&format!(
                " (the first of {refused} refused publications of this message)"
            ));
        }
        Some(Conclusion::Rejected(Arc::clone(message), rejection, by.clone()))
    }

    /// Everything the message became is confirmed, dead-lettered or dropped. Returns the receipts to acknowledge now, in the order of the
    /// stream: acks go out only for what leaves the window at its front. On a work-queue or interest stream an ack above the
    /// floor is final, and after a crash the older message would be published again without the newer one behind it.
    pub fn settle(&mut self, ticket: Ticket) -> Vec<R> {
        let Some(entry) = self.entry(ticket) else {
            return Vec::new();
        };
        entry.state = State::Settled;
        let made = std::mem::take(&mut entry.made);
        self.bytes -= made;
        self.made -= made;
        let mut receipts = Vec::new();
        while let Some(Entry {
            state: State::Settled, ..
        }) = self.entries.front()
            && let Some(entry) = self.entries.pop_front()
        {
            self.settled_through = entry.stored;
            self.bytes -= entry.size;
            self.front += 1;
            receipts.extend(entry.receipt);
        }
        receipts
    }

    /// The message of a ticket that is not settled yet.
    pub fn message(&self, ticket: Ticket) -> Option<&Arc<Message>> {
        match &self.entries.get(self.index(ticket)?)?.state {
            State::Open { message, .. } => Some(message),
            State::Settled => None,
        }
    }

    /// Where to say `+WPI`, so that JetStream does not redeliver what it has not heard of for `interval`.
    pub fn in_progress(&mut self, now: Instant, interval: Duration) -> Vec<R> {
        let late = |entry: &Entry<R>| now - entry.heard >= interval;
        let mut receipts = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| late(entry)) {
            if let Some(receipt) = &entry.receipt {
                receipts.push(receipt.clone());
                entry.heard = now;
            }
        }
        receipts
    }

    /// Whether its oldest message is too old to take in more: a crash would publish again what has come since.
    pub fn is_overdue(&self, now: Instant) -> bool {
        let overdue = |oldest: &Entry<R>| now - oldest.arrived >= self.limits.age;
        self.entries.front().is_some_and(overdue)
    }

    /// How many more messages it takes.
    pub fn room_messages(&self, now: Instant) -> usize {
        if self.is_overdue(now) {
            return 0;
        }
        self.limits.messages.saturating_sub(self.entries.len())
    }

    /// How many more bytes it takes.
    pub fn room_bytes(&self) -> usize {
        self.limits.bytes.saturating_sub(self.bytes)
    }

    /// How many more bytes of messages it would take if these became nothing.
    pub fn room_message_bytes(&self) -> usize {
        self.limits.bytes.saturating_sub(self.bytes - self.made)
    }

    /// Messages from the ack floor to the newest.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes from the ack floor to the newest, with the publications that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Of these, the publications.
    pub fn made(&self) -> usize {
        self.made
    }

    /// The stream sequence from which on not everything is settled; `None` if nothing was delivered yet.
    pub fn resume_at(&self) -> Option<u64> {
        match self.entries.front() {
            Some(oldest) => Some(oldest.stored.sequence),
            None => (self.settled_through.sequence > 0).then_some(self.settled_through.sequence + 1),
        }
    }

    /// The stream sequences that are not settled yet: how many, the first and the last.
    pub fn unsettled(&self) -> Option<(usize, u64, u64)> {
        let mut open = self
            .entries
            .iter()
            .filter(|entry| matches!(entry.state, State::Open { .. }));
        let first = open.next()?.stored.sequence;
        let (count, last) = open.fold((1, first), |(count, _), entry| (count + 1, entry.stored.sequence));
        Some((count, first, last))
    }

    /// The oldest message that is not settled yet.
    pub fn oldest_unsettled(&self) -> Option<&Arc<Message>> {
        self.entries.iter().find_map(|entry| match &entry.state {
            State::Open { message, .. } => Some(message),
            State::Settled => None,
        })
    }

    fn index(&self, ticket: Ticket) -> Option<usize> {
        usize::try_from(ticket.checked_sub(self.front)?).ok()
    }

    fn entry(&mut self, ticket: Ticket) -> Option<&mut Entry<R>> {
        let index = self.index(ticket)?;
        self.entries.get_mut(index)
    }
}
