//! The window holds the delivered messages that are not settled, and the settled ones above the ack floor.
//!
//! It decides what may be acked and what a redelivery means: a message that this process has already settled is acked
//! again, not published again. It does no I/O and knows nothing of WebAssembly or Centrifugo. Time is an argument.
//!
//! Messages enter in stream order and leave at the front, so a ticket is a position and a lookup is cheap.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::load::Load;
use crate::message::{self, Message, Rejection, Results, Share};
use crate::place::Place;

#[cfg(test)]
mod tests;

/// Identifies a message from its arrival until it leaves the window. Later messages have higher tickets.
pub type Ticket = u64;

/// Limits how much is replayed after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub messages: usize,
    pub bytes: usize,
    /// Counted from the arrival of the oldest message.
    pub age: Duration,
}

#[derive(Debug)]
pub struct Window<R> {
    limits: Limits,
    entries: VecDeque<Entry<R>>,
    /// The ticket of `entries[0]`.
    front: Ticket,
    /// Bytes of all entries, including settled ones, because a crash publishes them again. Waiting publications also
    /// count, because one message may become a thousand.
    bytes: usize,
    /// The part of `bytes` that publications take.
    made: usize,
    /// The newest message that left the window. Everything delivered up to it is settled.
    settled_through: Stored,
}

/// Identifies a message. After a stream is rolled back, its places refer to other messages, with later times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stored {
    place: Place,
    timestamp: u64,
}

impl From<&Message> for Stored {
    fn from(message: &Message) -> Self {
        Self {
            place: message.place,
            timestamp: message.timestamp,
        }
    }
}

#[derive(Debug)]
struct Entry<R> {
    stored: Stored,
    arrived: Instant,
    size: usize,
    /// Bytes of its publications, until the message is settled.
    made: usize,
    state: State,
    /// The receipt that acknowledges the message. `None` between a reset and the redelivery, because an ack of a past
    /// epoch has no effect.
    receipt: Option<R>,
    /// When the source last heard of this message.
    heard: Instant,
}

/// Checked for a receipt of 40 bytes. An ack subject that it points to takes about 80 bytes more.
const _: () = assert!(2 * size_of::<Entry<[u64; 5]>>() + 96 <= message::PLACE);

#[derive(Debug)]
enum State {
    /// Some publications are open, or their number is not known yet.
    Open {
        message: Arc<Message>,
        outstanding: Option<usize>,
        /// The load that made the publications, once there are some.
        by: Option<Load>,
        rejection: Option<Rejection>,
        refused: usize,
        /// At least one publication was left out because of the message's age.
        expired: bool,
        /// The concluded publications, if there is more to report than one refusal.
        shares: Vec<Share>,
    },
    Settled,
}

/// What a delivery means to the window.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival<R> {
    /// The message is new and has to be transformed.
    New(Ticket),
    /// A redelivery of a message in the window. Its ack goes out in its turn.
    Pending,
    /// A redelivery of a settled message that has left the window. It has to be acked again.
    Settled(R),
    /// A redelivery of a message that this process never received, although it received later ones. The order can no
    /// longer be kept.
    Misplaced,
    /// Another message with a known place: the stream was rolled back to an earlier state.
    Reused,
}

/// All publications of a message are concluded.
#[derive(Debug)]
pub enum Conclusion {
    Confirmed,
    /// Centrifugo permanently refused at least one publication of this load. The message is settled once its rejection
    /// is handled.
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
        if stored.place > newest.place {
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
        if stored.place <= self.settled_through.place {
            return if stored.timestamp <= self.settled_through.timestamp {
                Arrival::Settled(receipt)
            } else {
                Arrival::Reused
            };
        }
        let found = self
            .entries
            .binary_search_by_key(&stored.place, |entry| entry.stored.place);
        let Ok(index) = found else { return Arrival::Misplaced };
        let entry = &mut self.entries[index];
        if entry.stored != stored {
            return Arrival::Reused;
        }
        entry.heard = now;
        entry.receipt = Some(receipt);
        Arrival::Pending
    }

    /// The consumer is about to be reset. Acks of earlier deliveries then have no effect.
    pub fn begin_epoch(&mut self) {
        for entry in &mut self.entries {
            entry.receipt = None;
        }
    }

    /// Records how many publications the message became, their size in bytes, and the load that made them.
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

    /// Leaves out a publication of the message for its age. Returns true if it is the message's first. The caller
    /// concludes it next.
    pub fn expire(&mut self, ticket: Ticket) -> bool {
        match self.entry(ticket) {
            Some(Entry {
                state: State::Open { expired, .. },
                ..
            }) => !std::mem::replace(expired, true),
            _ => false,
        }
    }

    /// Records the result of a publication that is about to be concluded, for [`Self::results`].
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
            // Most messages have a single publication, which is confirmed and needs no record.
            && (*open > 1 || !shares.is_empty() || !share.refused.is_empty())
        {
            shares.push(share);
        }
    }

    /// Returns the recorded results of a message that is not settled yet.
    pub fn results(&self, ticket: Ticket) -> Option<Results> {
        match &self.entries.get(self.index(ticket)?)?.state {
            State::Open { shares, .. } if !shares.is_empty() => Some(Results::of(shares)),
            State::Open { .. } | State::Settled => None,
        }
    }

    /// Adds bytes that the message holds until it is settled.
    pub fn hold(&mut self, ticket: Ticket, bytes: usize) {
        if let Some(entry) = self.entry(ticket) {
            entry.made += bytes;
            self.bytes += bytes;
            self.made += bytes;
        }
    }

    /// Concludes one publication of the message. Returns the conclusion once all of them are concluded.
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

    /// Settles a message: everything it became is confirmed, dead-lettered or dropped. Returns the receipts to
    /// acknowledge now, in stream order. Acks go out only for messages that leave the window at its front. On a
    /// work-queue or interest stream an ack above the floor is final, and after a crash the older message would be
    /// published again without the newer one after it.
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

    /// Returns the message of a ticket that is not settled yet.
    pub fn message(&self, ticket: Ticket) -> Option<&Arc<Message>> {
        match &self.entries.get(self.index(ticket)?)?.state {
            State::Open { message, .. } => Some(message),
            State::Settled => None,
        }
    }

    /// Returns the receipts for a `+WPI` ack, which keeps JetStream from redelivering messages that it has not heard of
    /// for `interval`.
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

    /// Returns true if the oldest message is so old that the window takes no more. After a crash, everything since
    /// would be published again.
    pub fn is_overdue(&self, now: Instant) -> bool {
        let overdue = |oldest: &Entry<R>| now - oldest.arrived >= self.limits.age;
        self.entries.front().is_some_and(overdue)
    }

    /// Returns how many more messages fit.
    pub fn room_messages(&self, now: Instant) -> usize {
        if self.is_overdue(now) {
            return 0;
        }
        self.limits.messages.saturating_sub(self.entries.len())
    }

    /// Returns how many more bytes fit.
    pub fn room_bytes(&self) -> usize {
        self.limits.bytes.saturating_sub(self.bytes)
    }

    /// Returns how many more bytes of messages would fit if they became no publications.
    pub fn room_message_bytes(&self) -> usize {
        self.limits.bytes.saturating_sub(self.bytes - self.made)
    }

    /// Returns the number of messages from the ack floor to the newest.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the bytes from the ack floor to the newest message, including waiting publications.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the part of [`Self::bytes`] that publications take.
    pub fn made(&self) -> usize {
        self.made
    }

    /// Returns the place from which on not everything is settled, or `None` if nothing was delivered yet.
    pub fn resume_at(&self) -> Option<Place> {
        match self.entries.front() {
            Some(oldest) => Some(oldest.stored.place),
            None => self.settled_through().map(Place::next),
        }
    }

    /// Returns the place of the newest message that left the window. Everything delivered up to it is settled, and
    /// its acks went out or will when it is redelivered. `None` if no message has left.
    pub fn settled_through(&self) -> Option<Place> {
        Some(self.settled_through.place).filter(|place| *place > Place::default())
    }

    /// Returns the number of unsettled messages, and the places of the first and the last.
    pub fn unsettled(&self) -> Option<(usize, Place, Place)> {
        let mut open = self
            .entries
            .iter()
            .filter(|entry| matches!(entry.state, State::Open { .. }));
        let first = open.next()?.stored.place;
        let (count, last) = open.fold((1, first), |(count, _), entry| (count + 1, entry.stored.place));
        Some((count, first, last))
    }

    /// Returns the oldest message that is not settled.
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
