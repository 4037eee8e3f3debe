//! Collects the messages that were pending when they come again, and finds out whether all have come.
//!
//! This relies on one fact: while the consumer's max_ack_pending is 1, the server delivers nothing new as long as
//! anything is pending. So once as many different messages have come as were pending, they are the pending ones, except
//! for messages acked meanwhile. Those are at or below the ack floor, or the server counts fewer pending messages. A
//! new message can come only when nothing is pending any more, and it is then the only pending one.

use std::collections::BTreeMap;

use super::Delivery;

/// The state of a consumer as the server reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Messages delivered and not acked.
    pub pending: usize,
    /// All messages up to this stream sequence are acked.
    pub floor: u64,
    /// The consumer sequence of the last delivery to any client.
    pub delivered: u64,
}

/// One round of collecting.
#[derive(Debug)]
pub struct Collection<R> {
    /// Messages pending at the start.
    due: usize,
    /// The last delivery of each message, by stream sequence.
    held: BTreeMap<u64, Delivery<R>>,
    /// The consumer sequence of the last known delivery.
    delivered: u64,
    /// Pending messages that do not come because the stream has lost them.
    lost: usize,
}

impl<R> Collection<R> {
    pub fn new(opening: Snapshot) -> Self {
        Self {
            due: opening.pending,
            held: BTreeMap::new(),
            delivered: opening.delivered,
            lost: 0,
        }
    }

    /// Returns how many messages are to come. A single request asks for exactly this many, so it asks for all of them
    /// and for nothing else.
    pub fn due(&self) -> usize {
        self.due
    }

    /// Returns how many different messages have come.
    pub fn came(&self) -> usize {
        self.held.len()
    }

    pub fn is_complete(&self) -> bool {
        self.held.len() + self.lost >= self.due
    }

    /// Records a delivery of a message, the first or another one.
    pub fn take(&mut self, consumer_sequence: u64, delivery: Delivery<R>) {
        self.delivered = self.delivered.max(consumer_sequence);
        self.held.insert(delivery.message.sequence(), delivery);
    }

    /// Returns true if the round can still be completed, given the current state of the server.
    pub fn goes_on(&self, now: Snapshot) -> bool {
        now.pending == self.due
    }

    /// Declares the missing messages lost and returns how many they are.
    pub fn give_up(&mut self) -> usize {
        self.lost = self.due.saturating_sub(self.held.len());
        self.lost
    }

    /// Returns the pending messages in stream order if the server agrees with the round: it delivered nothing that did
    /// not come here, and the number of pending messages is the same. Otherwise another round or another look is
    /// needed.
    pub fn release(mut self, closing: Snapshot) -> Result<Vec<Delivery<R>>, Self> {
        // Messages that were acked while they came again are done. Processing them once more would put them after newer
        // messages.
        self.held = self.held.split_off(&(closing.floor + 1));
        if closing.delivered == self.delivered && closing.pending == self.held.len() + self.lost {
            Ok(self.held.into_values().collect())
        } else {
            Err(self)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, VecDeque};
    use std::sync::Arc;

    use super::*;
    use crate::message::Message;

    fn delivery(sequence: u64, consumer_sequence: u64) -> Delivery<String> {
        let message = Message {
            subject: "orders".to_owned(),
            payload: bytes::Bytes::new(),
            headers: Vec::new(),
            stream: Arc::from("ORDERS"),
            place: sequence.into(),
            timestamp: 0,
            deliveries: 2,
            unreadable: None,
        };
        Delivery {
            message: Arc::new(message),
            receipt: format!("ack.{sequence}.{consumer_sequence}"),
            pending: 0,
        }
    }

    fn snapshot(pending: usize, floor: u64, delivered: u64) -> Snapshot {
        Snapshot {
            pending,
            floor,
            delivered,
        }
    }

    fn sequences(held: &[Delivery<String>]) -> Vec<u64> {
        held.iter().map(|delivery| delivery.message.sequence()).collect()
    }

    #[test]
    fn all_come_in_the_order_of_the_stream_each_once_with_its_latest_ack() {
        let mut collection = Collection::new(snapshot(3, 4, 10));
        for (consumer_sequence, sequence) in [(11, 7), (12, 5), (13, 7)] {
            collection.take(consumer_sequence, delivery(sequence, consumer_sequence));
            assert!(!collection.is_complete());
        }
        collection.take(14, delivery(6, 14));
        assert!(collection.is_complete());
        let held = collection.release(snapshot(3, 4, 14)).unwrap();
        assert_eq!(sequences(&held), [5, 6, 7]);
        assert_eq!(held[2].receipt.as_str(), "ack.7.13");
    }

    #[test]
    fn it_knows_how_many_are_to_come_and_how_many_came() {
        let mut collection = Collection::new(snapshot(3, 4, 10));
        for (came, sequence) in [7, 5, 7].into_iter().enumerate() {
            assert_eq!((collection.due(), collection.came()), (3, came));
            collection.take(11 + came as u64, delivery(sequence, 11 + came as u64));
        }
        assert_eq!((collection.due(), collection.came()), (3, 2), "one came twice");
        assert!(collection.goes_on(snapshot(3, 4, 13)) && !collection.goes_on(snapshot(2, 5, 13)));
    }

    #[test]
    fn what_was_acked_meanwhile_is_left_out() {
        let mut collection = Collection::new(snapshot(2, 4, 10));
        collection.take(11, delivery(5, 11));
        collection.take(12, delivery(6, 12));
        assert_eq!(sequences(&collection.release(snapshot(1, 5, 12)).unwrap()), [6]);
    }

    #[test]
    fn what_somebody_else_got_calls_for_another_round() {
        let complete = || {
            let mut collection = Collection::new(snapshot(1, 4, 10));
            collection.take(11, delivery(5, 11));
            collection
        };
        assert!(
            complete().release(snapshot(1, 4, 12)).is_err(),
            "it was delivered again"
        );
        assert!(
            complete().release(snapshot(2, 4, 12)).is_err(),
            "a new one was delivered"
        );
        assert!(
            complete().release(snapshot(1, 5, 12)).is_err(),
            "it was acked and a new one delivered"
        );
        assert!(!complete().goes_on(snapshot(0, 5, 11)), "it was acked");
    }

    #[test]
    fn what_the_stream_has_lost_is_given_up() {
        let mut collection = Collection::new(snapshot(3, 4, 10));
        collection.take(11, delivery(6, 11));
        assert_eq!(collection.give_up(), 2);
        assert!(collection.is_complete());
        assert_eq!(sequences(&collection.release(snapshot(3, 4, 11)).unwrap()), [6]);
    }

    /// A consumer as nats-server implements it, with clients that are gone but still have open pulls, and with late
    /// acks.
    struct Consumer {
        random: fastrand::Rng,
        max_ack_pending: usize,
        /// Stream sequences that are delivered and not acked.
        pending: BTreeSet<u64>,
        redeliveries: VecDeque<u64>,
        next: u64,
        delivered: u64,
        /// How many messages will go to another client.
        stolen: u32,
    }

    impl Consumer {
        fn new(seed: u64) -> Self {
            let mut random = fastrand::Rng::with_seed(seed);
            let next = random.u64(2..12);
            let pending: BTreeSet<u64> = (1..next).filter(|_| random.bool()).collect();
            Self {
                max_ack_pending: 1,
                redeliveries: VecDeque::new(),
                delivered: next + random.u64(..5),
                stolen: random.u32(..12),
                pending,
                next,
                random,
            }
        }

        fn snapshot(&self) -> Snapshot {
            Snapshot {
                pending: self.pending.len(),
                floor: self.pending.first().map_or(self.next, |first| *first) - 1,
                delivered: self.delivered,
            }
        }

        /// Returns the next message to deliver, as `getNextMsg` does.
        fn deliver(&mut self) -> Option<(u64, Delivery<String>)> {
            let sequence = match self.redeliveries.pop_front() {
                Some(sequence) => sequence,
                None if self.pending.len() < self.max_ack_pending => {
                    self.next += 1;
                    self.pending.insert(self.next - 1);
                    self.next - 1
                }
                None => return None,
            };
            self.delivered += 1;
            Some((self.delivered, delivery(sequence, self.delivered)))
        }

        /// Plays an event that the relay has no part in.
        fn happen(&mut self) {
            match self.random.u32(..8) {
                0 if self.stolen > 0 => {
                    self.stolen -= 1;
                    self.deliver();
                }
                // Late acks come in any order, and only for messages delivered before.
                1 if self.stolen > 0 => {
                    let late = self.random.u64(1..self.next);
                    self.pending.remove(&late);
                    self.redeliveries.retain(|sequence| *sequence != late);
                }
                2 | 3 => {
                    let again = self.pending.iter().copied();
                    let again: Vec<u64> = again.filter(|s| !self.redeliveries.contains(s)).collect();
                    self.redeliveries.extend(again);
                }
                _ => {}
            }
        }
    }

    /// Plays one hold-back round by round, as `hold_back.rs` of the relay does.
    fn hold_back(consumer: &mut Consumer) -> Vec<u64> {
        loop {
            consumer.max_ack_pending = 1;
            let mut collection = Collection::new(consumer.snapshot());
            while !collection.is_complete() {
                let mut asked = collection.due();
                for _ in 0..30 {
                    consumer.happen();
                    if asked > 0
                        && let Some((sequence, delivery)) = consumer.deliver()
                    {
                        asked -= 1;
                        collection.take(sequence, delivery);
                    }
                }
                let now = consumer.snapshot();
                if !collection.is_complete() && !collection.goes_on(now) {
                    collection = Collection::new(now);
                }
            }
            consumer.happen();
            consumer.max_ack_pending = 10;
            consumer.happen();
            if let Ok(held) = collection.release(consumer.snapshot()) {
                return sequences(&held);
            }
        }
    }

    #[test]
    fn whatever_happens_meanwhile_exactly_what_is_pending_is_released() {
        let mut rounds_with_new = 0;
        for seed in 0..20_000 {
            let mut consumer = Consumer::new(seed);
            let newest = consumer.next;
            let held = hold_back(&mut consumer);
            let pending: Vec<u64> = consumer.pending.iter().copied().collect();
            assert_eq!(held, pending, "with the seed {seed}");
            rounds_with_new += u32::from(consumer.next > newest);
        }
        assert!(
            rounds_with_new > 100,
            "new messages came among the old only {rounds_with_new} times"
        );
    }
}
