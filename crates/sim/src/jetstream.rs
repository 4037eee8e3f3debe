//! JetStream in memory: one stream with one durable consumer, modelled after nats-server 2.15 (`server/consumer.go`).
//! Replies come out as pairs of an inbox and a [`Reply`]. The driver is the network between here and the relays.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use slipring_core::read::{ACK_WAIT, Held, Incarnation, Position};

/// How long a pin lasts without a pull of its holder.
pub(super) const PIN_TTL: Duration = Duration::from_secs(10);

const HEARTBEAT: Duration = Duration::from_secs(5);

/// The size of a message's subject, ack subject and headers.
pub(super) const WIRE_OVERHEAD: usize = 100;

/// Identifies a subscription. It is unique.
pub(super) type Inbox = u64;
pub(super) type PinId = u64;

#[derive(Debug)]
pub(super) struct JetStream {
    /// Counts the creations of the stream. `None` if there is none at the moment.
    stream: Option<u64>,
    incarnations: u64,
    messages: BTreeMap<u64, Stored>,
    last: u64,
    /// An acked message is removed.
    work_queue: bool,
    max_ack_pending: usize,
    consumer: Option<Consumer>,
    /// The state of the replica that becomes the next leader.
    replica: Option<Consumer>,
    waiting: VecDeque<Pull>,
    interest: BTreeSet<Inbox>,
    /// The messages that were acked, even if a leader forgot it.
    told: BTreeSet<u64>,
    pinned: bool,
    pin: Option<Pin>,
    pins: PinId,
    /// Pins that a leader forgot before they expired.
    forgotten: BTreeSet<PinId>,
    /// The oldest messages make room for newer ones.
    max_messages: Option<usize>,
}

/// The consumer after it was bound and reset, and what the stream holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    pub(super) stream: u64,
    pub(super) is_new: bool,
    /// All messages up to this sequence are acked.
    pub(super) floor: u64,
    /// The stream sequence of the last delivery before the reset.
    pub(super) delivered_through: u64,
    /// Something was unacknowledged before the reset.
    pub(super) waiting: bool,
    /// The consumer sequence of the last delivery.
    pub(super) delivered: u64,
    pub(super) to_come: u64,
    pub(super) held: Held,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    /// Identifies the message for ever, unlike its sequence.
    pub(super) number: u64,
    pub(super) timestamp: u64,
    pub(super) size: usize,
}

#[derive(Debug, Clone)]
struct Consumer {
    floor: u64,
    consumer_floor: u64,
    next: u64,
    next_consumer: u64,
    pending: BTreeMap<u64, Pending>,
    redeliver: BTreeSet<u64>,
}

#[derive(Debug, Clone)]
struct Pending {
    consumer_sequence: u64,
    deadline: Instant,
    deliveries: u32,
}

#[derive(Debug)]
struct Pin {
    id: PinId,
    until: Instant,
}

#[derive(Debug, Clone)]
pub(super) struct Pull {
    pub(super) inbox: Inbox,
    pub(super) batch: usize,
    pub(super) max_bytes: Option<usize>,
    pub(super) expires: Instant,
    pub(super) heartbeat: Instant,
    pub(super) pin: Option<PinId>,
}

#[derive(Debug, Clone)]
pub(super) enum Reply {
    Delivery(Delivered),
    Heartbeat,
    /// The pull ended with this much of it unused. `larger` is true if it ended because the next message is larger.
    Returned {
        messages: usize,
        bytes: usize,
        larger: bool,
    },
    /// The pull ended for this reason.
    Ended(&'static str),
    WrongPin,
}

#[derive(Debug, Clone)]
pub(super) struct Delivered {
    pub(super) stored: Stored,
    pub(super) sequence: u64,
    pub(super) consumer_sequence: u64,
    pub(super) deliveries: u32,
    pub(super) pending: u64,
    /// The pin of the answered pull.
    pub(super) pin: Option<PinId>,
}

pub(super) type Replies = Vec<(Inbox, Reply)>;

impl JetStream {
    pub(super) fn new(work_queue: bool, max_ack_pending: usize, pinned: bool, max_messages: Option<usize>) -> Self {
        Self {
            stream: Some(1),
            incarnations: 1,
            messages: BTreeMap::new(),
            last: 0,
            work_queue,
            max_ack_pending,
            consumer: None,
            replica: None,
            waiting: VecDeque::new(),
            interest: BTreeSet::new(),
            told: BTreeSet::new(),
            pinned,
            pin: None,
            pins: 0,
            forgotten: BTreeSet::new(),
            max_messages,
        }
    }

    /// Returns the pin that is valid now.
    pub(super) fn holder(&self, now: Instant) -> Option<PinId> {
        self.pin.as_ref().filter(|pin| pin.until > now).map(|pin| pin.id)
    }

    pub(super) fn has_forgotten(&self, pin: PinId) -> bool {
        self.forgotten.contains(&pin)
    }

    fn forget_the_pin(&mut self) {
        self.forgotten.extend(self.pin.take().map(|pin| pin.id));
    }

    /// Releases a pin whose holder no longer needs it.
    pub(super) fn unpin(&mut self, id: PinId) {
        self.pin.take_if(|pin| pin.id == id);
    }

    /// Returns the number of messages that are delivered and not acked.
    pub(super) fn pending(&self) -> usize {
        self.consumer.as_ref().map_or(0, |consumer| consumer.pending.len())
    }

    pub(super) fn has_consumer(&self) -> bool {
        self.consumer.is_some()
    }

    pub(super) fn floor(&self) -> u64 {
        self.consumer.as_ref().map_or(0, |consumer| consumer.floor)
    }

    pub(super) fn held(&self) -> Held {
        let first = self.messages.keys().next().copied().unwrap_or(self.last + 1);
        let messages = self.messages.len() as u64;
        Held {
            first,
            last: self.last,
            messages,
            bytes: 0,
            deleted: (self.last + 1 - first) - messages,
            newest: 0,
        }
    }

    /// Returns the incarnation of the stream, if there is one.
    pub(super) fn incarnation(&self) -> Option<u64> {
        self.stream
    }

    /// Stores a message after `skipped` messages on other subjects. Returns the incarnation of the stream, the
    /// sequence, and the messages that had to make room.
    pub(super) fn publish(&mut self, stored: Stored, skipped: u64) -> Option<(u64, u64, Vec<u64>)> {
        let stream = self.stream?;
        self.last += 1 + skipped;
        self.messages.insert(self.last, stored);
        let over = self
            .max_messages
            .map_or(0, |max| self.messages.len().saturating_sub(max));
        let gone = self.remove(over, false);
        Some((stream, self.last, gone))
    }

    /// Binds to the consumer. If there is none, creates it at the relay's position, provided that the position is in
    /// this stream.
    pub(super) fn bind(&mut self, position: Option<Position>) -> Option<u64> {
        let stream = self.stream?;
        if self.consumer.is_none() {
            // A work-queue stream must be read from its start.
            let here = |position: &Position| position.stream == Incarnation(i128::from(stream)) && !self.work_queue;
            let first = position
                .filter(here)
                .and_then(|position| position.next.number())
                .unwrap_or(1);
            self.consumer = Some(Consumer {
                floor: first - 1,
                consumer_floor: 0,
                next: first,
                next_consumer: 1,
                pending: BTreeMap::new(),
                redeliver: BTreeSet::new(),
            });
            self.replica.clone_from(&self.consumer);
        }
        Some(stream)
    }

    /// Resets the consumer to the ack floor. Returns how many unacked messages come again.
    pub(super) fn reset(&mut self) -> usize {
        let Some(consumer) = &mut self.consumer else { return 0 };
        let unread = consumer.next.max(consumer.floor + 1);
        let again = self.messages.range(consumer.floor + 1..unread);
        let again = again.filter(|(_, stored)| !self.told.contains(&stored.number)).count();
        *consumer = Consumer {
            floor: consumer.floor,
            consumer_floor: 0,
            next: consumer.floor + 1,
            next_consumer: 1,
            pending: BTreeMap::new(),
            redeliver: BTreeSet::new(),
        };
        // A reset takes a quorum.
        self.replica.clone_from(&self.consumer);
        again
    }

    /// Returns the consumer sequence of the last delivery.
    pub(super) fn delivered(&self) -> u64 {
        self.consumer.as_ref().map_or(0, |consumer| consumer.next_consumer - 1)
    }

    /// Returns the stream sequence of the last delivery.
    pub(super) fn delivered_through(&self) -> u64 {
        self.consumer.as_ref().map_or(0, |consumer| consumer.next - 1)
    }

    /// Returns how many messages the consumer still has to deliver for the first time.
    pub(super) fn to_come(&self) -> usize {
        let next = self.consumer.as_ref().map_or(1, |consumer| consumer.next);
        self.messages.range(next..).count()
    }

    pub(super) fn subscribe(&mut self, inbox: Inbox) {
        self.interest.insert(inbox);
    }

    pub(super) fn unsubscribe(&mut self, inbox: Inbox) {
        self.interest.remove(&inbox);
    }

    pub(super) fn pull(&mut self, now: Instant, pull: Pull) -> Option<(Inbox, Reply)> {
        if self.consumer.is_none() {
            return Some((pull.inbox, Reply::Ended("No Responders")));
        }
        if let (Some(pin), Some(asked)) = (&mut self.pin, pull.pin) {
            if pin.id != asked {
                return Some((pull.inbox, Reply::WrongPin));
            }
            pin.until = now + PIN_TTL;
        }
        self.waiting.push_back(pull);
        None
    }

    /// Renews the pin as a pull of its holder does, without the rest of a pull. Returns false if another relay is
    /// pinned, and `None` if there is no consumer that could respond. A consumer without a pin accepts it.
    pub(super) fn renew(&mut self, now: Instant, id: PinId) -> Option<bool> {
        self.consumer.as_ref()?;
        let Some(pin) = self.pin.as_mut() else {
            return Some(true);
        };
        if pin.id == id {
            pin.until = now + PIN_TTL;
        }
        Some(pin.id == id)
    }

    /// Takes an ack of this sequence, whichever message it was meant for. Returns the message that is now done.
    pub(super) fn ack(&mut self, sequence: u64) -> Option<u64> {
        let consumer = self.consumer.as_mut()?;
        let number = self.messages.get(&sequence).map(|stored| stored.number);
        self.told.extend(number);
        if sequence >= consumer.next {
            return None;
        }
        consumer.redeliver.remove(&sequence);
        let pending = consumer.pending.remove(&sequence);
        if let Some(pending) = &pending {
            consumer.move_floor(pending.consumer_sequence, sequence);
        }
        if self.work_queue {
            self.messages.remove(&sequence);
        }
        pending.and(number)
    }

    pub(super) fn in_progress(&mut self, now: Instant, sequence: u64) {
        if let Some(pending) = self
            .consumer
            .as_mut()
            .and_then(|consumer| consumer.pending.get_mut(&sequence))
        {
            pending.deadline = now + ACK_WAIT;
        }
    }

    /// Lets time pass: pulls and pins expire, and messages not acked in time become due for redelivery. Returns the
    /// number of those messages.
    pub(super) fn tick(&mut self, now: Instant) -> (Replies, usize) {
        let mut replies = Replies::new();
        self.waiting.retain_mut(|pull| {
            if pull.expires <= now {
                replies.push((pull.inbox, pull.returned(false)));
                return false;
            }
            if pull.heartbeat <= now {
                pull.heartbeat = now + HEARTBEAT;
                replies.push((pull.inbox, Reply::Heartbeat));
            }
            true
        });
        self.pin.take_if(|pin| pin.until <= now);
        let mut expired = 0;
        if let Some(consumer) = &mut self.consumer {
            for (&sequence, pending) in &consumer.pending {
                if pending.deadline <= now && consumer.redeliver.insert(sequence) {
                    expired += 1;
                }
            }
        }
        self.replica.clone_from(&self.consumer);
        (replies, expired)
    }

    /// Delivers messages to the open pulls, redeliveries first.
    pub(super) fn deliver(&mut self, now: Instant) -> Replies {
        let mut replies = Replies::new();
        while let Some(sequence) = self.next_to_deliver() {
            let stored = self.messages[&sequence];
            let size = stored.size + WIRE_OVERHEAD;
            let Some(index) = self.next_waiting(now, size, &mut replies) else {
                break;
            };
            let pull = &mut self.waiting[index];
            let (inbox, pin) = (pull.inbox, pull.pin);
            pull.batch -= 1;
            pull.max_bytes = pull.max_bytes.map(|bytes| bytes - size);
            if pull.batch == 0 || pull.max_bytes == Some(0) {
                self.waiting.remove(index);
            }
            let left = self.messages.range(sequence + 1..).count() as u64;
            let consumer = self.consumer.as_mut().expect("it has something to deliver");
            consumer.redeliver.remove(&sequence);
            consumer.next = consumer.next.max(sequence + 1);
            let consumer_sequence = consumer.next_consumer;
            consumer.next_consumer += 1;
            let pending = consumer.pending.entry(sequence).or_insert(Pending {
                consumer_sequence,
                deadline: now,
                deliveries: 0,
            });
            pending.deadline = now + ACK_WAIT;
            pending.deliveries += 1;
            let delivered = Delivered {
                stored,
                sequence,
                consumer_sequence,
                deliveries: pending.deliveries,
                pending: left,
                pin,
            };
            replies.push((inbox, Reply::Delivery(delivered)));
        }
        replies
    }

    fn next_to_deliver(&mut self) -> Option<u64> {
        let consumer = self.consumer.as_mut()?;
        while let Some(&sequence) = consumer.redeliver.first() {
            if self.messages.contains_key(&sequence) {
                return Some(sequence);
            }
            consumer.forget(sequence);
        }
        if consumer.pending.len() >= self.max_ack_pending {
            return None;
        }
        self.messages
            .range(consumer.next..)
            .next()
            .map(|(&sequence, _)| sequence)
    }

    /// Returns the pull that gets a message of this size.
    fn next_waiting(&mut self, now: Instant, size: usize, replies: &mut Replies) -> Option<usize> {
        let mut index = 0;
        while let Some(pull) = self.waiting.get_mut(index) {
            if pull.expires <= now || !self.interest.contains(&pull.inbox) {
                self.waiting.remove(index);
                continue;
            }
            let mut claims = false;
            if self.pinned {
                match (&self.pin, pull.pin) {
                    (Some(pin), Some(id)) if pin.id == id => {}
                    (None, None) => claims = true,
                    (Some(_), None) => {
                        index += 1;
                        continue;
                    }
                    (_, Some(_)) => {
                        replies.push((pull.inbox, Reply::WrongPin));
                        self.waiting.remove(index);
                        continue;
                    }
                }
            }
            if pull.max_bytes.is_some_and(|bytes| bytes < size) {
                replies.push((pull.inbox, pull.returned(true)));
                self.waiting.remove(index);
                continue;
            }
            if claims {
                self.pins += 1;
                pull.pin = Some(self.pins);
                self.pin = Some(Pin {
                    id: self.pins,
                    until: now + PIN_TTL,
                });
            }
            return Some(index);
        }
        None
    }

    /// Changes the leader. Pulls and the pin exist only in the leader's memory. With `behind`, changes that were not
    /// replicated are lost as well.
    pub(super) fn change_leader(&mut self, behind: bool, told: bool) -> Replies {
        if behind {
            self.consumer.clone_from(&self.replica);
        }
        self.forget_the_pin();
        let told = self.end_pulls("Leadership Change").into_iter().filter(|_| told);
        told.collect()
    }

    /// Removes the newest messages, at most `count`, that were not on disk yet. Returns them.
    pub(super) fn roll_back(&mut self, count: usize) -> Vec<u64> {
        let mut gone = Vec::new();
        while gone.len() < count
            && let Some((sequence, stored)) = self.messages.pop_last()
        {
            gone.push(stored.number);
            self.last = sequence - 1;
        }
        if let Some(consumer) = &mut self.consumer {
            consumer.reconcile(self.last);
        }
        self.replica.clone_from(&self.consumer);
        gone
    }

    pub(super) fn delete_consumer(&mut self) -> Replies {
        (self.consumer, self.replica) = (None, None);
        self.forget_the_pin();
        self.end_pulls("Consumer Deleted")
    }

    /// Deletes the stream. Returns the lost messages.
    pub(super) fn delete(&mut self) -> (Replies, Vec<u64>) {
        self.stream = None;
        self.last = 0;
        let gone = std::mem::take(&mut self.messages);
        (
            self.delete_consumer(),
            gone.into_values().map(|stored| stored.number).collect(),
        )
    }

    pub(super) fn create(&mut self) {
        self.incarnations += 1;
        self.stream = Some(self.incarnations);
    }

    /// Removes the oldest messages, at most `count`, as a purge or retention does. Returns them.
    pub(super) fn remove(&mut self, count: usize, purge: bool) -> Vec<u64> {
        let mut gone = Vec::new();
        while gone.len() < count
            && let Some((sequence, stored)) = self.messages.pop_first()
        {
            gone.push(stored.number);
            if let Some(consumer) = &mut self.consumer
                && !purge
            {
                consumer.forget(sequence);
            }
        }
        if purge && let Some(consumer) = &mut self.consumer {
            let first = self.messages.keys().next().copied().unwrap_or(self.last + 1);
            consumer.purge(first);
        }
        gone
    }

    /// Returns true if everything was delivered and acked.
    pub(super) fn is_done(&self) -> bool {
        let done =
            |consumer: &Consumer| consumer.pending.is_empty() && self.messages.range(consumer.next..).next().is_none();
        match &self.consumer {
            Some(consumer) => done(consumer),
            None => self.stream.is_some() && self.messages.is_empty(),
        }
    }

    pub(super) fn exists(&self) -> bool {
        self.stream.is_some()
    }

    fn end_pulls(&mut self, reason: &'static str) -> Replies {
        let pulls = std::mem::take(&mut self.waiting);
        pulls
            .into_iter()
            .map(|pull| (pull.inbox, Reply::Ended(reason)))
            .collect()
    }
}

impl Consumer {
    /// Like `moveAckFloor` in nats-server.
    fn move_floor(&mut self, consumer_sequence: u64, sequence: u64) {
        if self.pending.is_empty() {
            (self.consumer_floor, self.floor) = (self.next_consumer - 1, self.next - 1);
        } else if consumer_sequence == self.consumer_floor + 1 {
            (self.consumer_floor, self.floor) = (consumer_sequence, sequence);
            if let Some((&next, pending)) = self.pending.range(sequence + 1..).next() {
                (self.consumer_floor, self.floor) = (pending.consumer_sequence - 1, next - 1);
            }
        }
    }

    /// The message no longer exists.
    fn forget(&mut self, sequence: u64) {
        self.redeliver.remove(&sequence);
        if let Some(pending) = self.pending.remove(&sequence) {
            self.move_floor(pending.consumer_sequence, sequence);
        }
    }

    /// Like `reconcileStateWithStream` in nats-server: the stream ends here.
    fn reconcile(&mut self, last: u64) {
        self.floor = self.floor.min(last);
        self.next = self.next.min(last + 1);
        self.pending.split_off(&(last + 1));
        self.redeliver.split_off(&(last + 1));
    }

    /// Messages before `first` no longer exist.
    fn purge(&mut self, first: u64) {
        self.next = self.next.max(first);
        if self.floor < first {
            self.floor = first - 1;
            while let Some(entry) = self.pending.first_entry()
                && *entry.key() < first
            {
                self.consumer_floor = self.consumer_floor.max(entry.get().consumer_sequence);
                entry.remove();
            }
        }
        if self.pending.is_empty() {
            (self.consumer_floor, self.floor) = (self.next_consumer - 1, self.next - 1);
        }
        self.redeliver = self.redeliver.split_off(&first);
    }
}

impl Pull {
    fn returned(&self, larger: bool) -> Reply {
        Reply::Returned {
            messages: self.batch,
            bytes: self.max_bytes.unwrap_or(0),
            larger,
        }
    }
}
