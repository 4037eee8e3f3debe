//! One epoch of a consumer. It lasts as long as its deliveries are contiguous, and it asks for no more than there is
//! room for.

use std::time::{Duration, Instant};

use super::contiguity::{Contiguity, Misplaced};
use super::credit::{Ask, Credit, Room};
use super::retention::{Gap, Held, Retention};
use crate::message::Message;

/// How long a pull lives. A pull that the server forgot is then replaced.
pub const EXPIRES: Duration = Duration::from_secs(30);

/// How often the server reports that an idle pull is alive.
pub const HEARTBEAT: Duration = Duration::from_secs(5);

/// A pull counts as lost after two missed heartbeats, as in the NATS clients.
pub const SILENCE: Duration = Duration::from_secs(15);

/// The most messages handed on at once. They travel on together as one chunk.
pub const MAX_CHUNK: usize = 256;

/// Tracks what was requested and what has come.
#[derive(Debug)]
pub struct Epoch {
    credit: Credit,
    contiguity: Contiguity,
    retention: Retention,
    heard: Instant,
}

/// The server's report about a pull that has ended, with the amount left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Returned {
    pub messages: usize,
    pub bytes: usize,
    /// The next message was larger than the bytes left.
    pub larger: bool,
}

impl Epoch {
    /// `delivered` is the consumer sequence of the last delivery before the epoch. No pull asks for more than
    /// `max_batch` messages.
    pub fn begin(now: Instant, max_batch: usize, delivered: u64, retention: Retention) -> Self {
        Self {
            credit: Credit::of_pulls(max_batch),
            contiguity: Contiguity::after(delivered),
            retention,
            heard: now,
        }
    }

    /// Returns the gaps in what the stream held when the epoch started. See [`Retention::begin`].
    pub fn find(&mut self, floor: u64, held: Held) -> [Option<Gap>; 2] {
        self.retention.begin(floor, held)
    }

    /// Returns the next request and records it.
    pub fn ask(&mut self, now: Instant, room: Room) -> Option<Ask> {
        let ask = self.credit.ask(room)?;
        if !self.credit.is_open() {
            self.heard = now;
        }
        self.credit.asked(ask);
        Some(ask)
    }

    /// Records a sign of life from the server.
    pub fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Returns when the server has been silent for too long, or `None` without an open pull, because nothing is due
    /// then.
    pub fn silent_at(&self) -> Option<Instant> {
        self.credit.is_open().then(|| self.heard + SILENCE)
    }

    /// Records a delivery. `size` is its size as JetStream counts it, and `pending` is how many messages the consumer
    /// still has to deliver. Returns the gap before it, whose messages may be lost.
    pub fn delivered(
        &mut self,
        consumer_sequence: u64,
        size: usize,
        message: &Message,
        pending: u64,
    ) -> Result<Option<Gap>, Misplaced> {
        self.credit.delivered(size, message.size());
        self.contiguity.check(consumer_sequence)?;
        Ok(self.retention.delivered(message.sequence(), message.timestamp, pending))
    }

    pub fn returned(
        &mut self,
        Returned {
            messages,
            bytes,
            larger,
        }: Returned,
    ) {
        self.credit.returned(messages, bytes);
        if larger {
            self.credit.next_is_larger(bytes);
        }
    }

    /// Returns true if a chunk of this many messages and bytes can take one more.
    pub fn takes(messages: usize, bytes: usize, room: Room) -> bool {
        messages == 0 || (messages < MAX_CHUNK && bytes < room.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::read::retention::Keeps;

    const ROOM: Room = Room {
        messages: 10,
        bytes: 1 << 20,
        empty: true,
    };

    fn epoch(now: Instant) -> Epoch {
        Epoch::begin(now, 1_024, 0, Retention::new(None, None, false))
    }

    fn message(sequence: u64) -> Message {
        Message {
            subject: "orders.1".to_owned(),
            payload: Bytes::new(),
            headers: Vec::new(),
            stream: Arc::from("ORDERS"),
            place: sequence.into(),
            timestamp: 0,
            deliveries: 1,
            unreadable: None,
        }
    }

    #[test]
    fn the_server_is_silent_only_while_a_pull_is_open() {
        let start = Instant::now();
        let mut epoch = epoch(start);
        assert_eq!(epoch.silent_at(), None);
        let asked = start + Duration::from_secs(100);
        let ask = epoch.ask(asked, ROOM).expect("there is room");
        assert_eq!(epoch.silent_at(), Some(asked + SILENCE), "it counts from the pull on");
        let heard = asked + HEARTBEAT;
        epoch.heard(heard);
        assert_eq!(epoch.silent_at(), Some(heard + SILENCE));
        epoch.returned(Returned {
            messages: ask.batch,
            bytes: 0,
            larger: false,
        });
        assert_eq!(epoch.silent_at(), None);
    }

    #[test]
    fn a_delivery_out_of_turn_ends_it() {
        let mut epoch = epoch(Instant::now());
        assert_eq!(epoch.delivered(1, 100, &message(7), 2), Ok(None));
        let misplaced = Misplaced { expected: 2, found: 3 };
        assert_eq!(epoch.delivered(3, 100, &message(9), 0), Err(misplaced));
    }

    #[test]
    fn it_finds_what_the_stream_lost_before_it_began() {
        let keeps = Keeps {
            max_messages: Some(10),
            max_bytes: None,
            max_age: None,
            largest: 1_024,
            all: true,
        };
        let retention = Retention::new(Some(keeps), Some(7), false);
        assert!(retention.is_watched() && !Retention::new(None, Some(7), false).is_watched());
        let mut epoch = Epoch::begin(Instant::now(), 1_024, 0, retention);
        let held = Held {
            first: 10,
            last: 19,
            messages: 10,
            bytes: 1_000,
            deleted: 0,
            newest: 0,
        };
        let gaps = epoch
            .find(4, held)
            .map(|gap| gap.map(|gap| (gap.first, gap.last, gap.unread)));
        assert_eq!(gaps, [Some((5, 7, false)), Some((8, 9, true))]);
    }

    #[test]
    fn a_chunk_takes_one_message_whatever_its_size_and_more_while_there_is_room() {
        let room = Room { bytes: 100, ..ROOM };
        assert!(Epoch::takes(0, 0, Room { bytes: 0, ..ROOM }));
        assert!(Epoch::takes(1, 99, room) && !Epoch::takes(1, 100, room));
        assert!(!Epoch::takes(MAX_CHUNK, 0, room));
    }
}
