//! What has come again of the messages that were pending, and whether that is all. No I/O.
//!
//! It relies on this: while the consumer's max_ack_pending is 1, the server delivers nothing new as long as anything is pending. So when
//! as many different messages have come as were pending, they are those, except for what was acked meanwhile; that is at or below
//! the ack floor, or makes the server count fewer. A new message can come only when nothing is pending any more, and is then
//! pending alone.

use std::collections::BTreeMap;

use crate::source::Delivery;

/// What the server says of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// How many messages are delivered and not acked.
    pub pending: usize,
    /// All up to this stream sequence are acked.
    pub floor: u64,
    /// The consumer sequence of the last delivery, to whomever.
    pub delivered: u64,
}

/// One round of collecting.
#[derive(Debug)]
pub struct Collection {
    /// How many messages were pending at the start.
    due: usize,
    /// By stream sequence, each as it was delivered last.
    held: BTreeMap<u64, Delivery>,
    /// The consumer sequence of the last delivery that is known.
    delivered: u64,
    /// How many are pending and do not come, since the stream has lost them.
    lost: usize,
}

impl Collection {
    pub fn new(opening: Snapshot) -> Self {
        Self {
            due: opening.pending,
            held: BTreeMap::new(),
            delivered: opening.delivered,
            lost: 0,
        }
    }

    /// How many messages there are to come. No more may be asked for at once, so that all are asked for and nothing else.
    pub fn due(&self) -> usize {
        self.due
    }

    /// How many different ones have come.
    pub fn came(&self) -> usize {
        self.held.len()
    }

    pub fn is_complete(&self) -> bool {
        self.held.len() + self.lost >= self.due
    }

    /// A message was delivered, the first time or again.
    pub fn take(&mut self, consumer_sequence: u64, delivery: Delivery) {
        self.delivered = self.delivered.max(consumer_sequence);
        self.held.insert(delivery.message.sequence, delivery);
    }

    /// Whether the round can still be completed, as the server has it now.
    pub fn goes_on(&self, now: Snapshot) -> bool {
        now.pending == self.due
    }

    /// What is missing is taken for lost. Answers how many that are.
    pub fn give_up(&mut self) -> usize {
        self.lost = self.due.saturating_sub(self.held.len());
        self.lost
    }

    /// The messages that are pending, in the order of the stream, if the server's view is that of the round: nothing was delivered that
    /// did not come here, and just as many are pending. Otherwise another round is needed, or another look.
    pub fn release(mut self, closing: Snapshot) -> Result<Vec<Delivery>, Self> {
        // What was acked while it came again has been dealt with: once more, and it would follow what is newer.
        self.held = self.held.split_off(&(closing.floor + 1));
        if closing.delivered == self.delivered && closing.pending == self.held.len() + self.lost {
            Ok(self.held.into_values().collect())
        } else {
            Err(self)
        }
    }
}
