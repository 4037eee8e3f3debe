//! Opens epochs and reads in them, as the relay's source does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use slipring_core::message::Message;
use slipring_core::read::{
    Delivery, EXPIRES, Epoch, Found, Gap, HEARTBEAT, Held, Incarnation, Lease, Resume, Retention, Returned, Room,
};

use super::pin::Pin;
use super::{Process, Receipt, RelayEvent, Running, number};
use crate::jetstream::{Bound, Delivered, Inbox, PIN_TTL, PinId, Pull, Reply, WIRE_OVERHEAD};
use crate::world::{Event, RelayId, ToServer, World};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the relay asks a stream what it holds.
const ASK_INTERVAL: Duration = Duration::from_secs(15);

#[derive(Debug)]
pub(super) enum Source {
    Closed,
    /// Asks for the pin first, with standby.
    Pinning {
        attempt: u64,
        /// The inbox for the answers.
        inbox: Option<Inbox>,
        /// When the last pull was sent.
        sent: Instant,
        /// Counts the pulls.
        pulls: u64,
    },
    Opening {
        attempt: u64,
        asked: bool,
    },
    Open(Box<Open>),
}

#[derive(Debug)]
pub(super) struct Open {
    stream: Incarnation,
    inbox: Inbox,
    generation: u64,
    epoch: Epoch,
    buffer: VecDeque<Reply>,
    /// Gaps to ask the stream about, and when it was last asked.
    gaps: Vec<Gap>,
    asked: Option<Instant>,
}

impl Process {
    /// Works like the relay's `Epoch::next`. Returns true if there was something.
    pub(super) fn read(&mut self, running: &mut Running, world: &mut World) -> Result<bool, String> {
        let Source::Open(open) = &mut running.source else {
            return Ok(false);
        };
        // The relay notices this while it has no room, too (`Epoch::lost`).
        if !self.connected || world.links[self.id].generation != open.generation {
            self.over(running, world, "the connection was lost", false);
            return Ok(false);
        }
        let Some(room) = running.run.room(world.now) else {
            return Ok(false);
        };
        open.pull(self.id, world, room, running.pin.map(|pin| pin.id));
        if open.epoch.silent_at().is_some_and(|silent| world.now >= silent) {
            self.over(running, world, "the server went silent", false);
            return Ok(false);
        }
        let (mut deliveries, mut bytes, mut end) = (Vec::new(), 0, None);
        while Epoch::takes(deliveries.len(), bytes, room)
            && end.is_none()
            && let Some(reply) = open.buffer.pop_front()
        {
            match reply {
                Reply::Delivery(delivered) if self.standby && delivered.pin != running.pin.map(|pin| pin.id) => {
                    end = Some(("somebody else is pinned", true));
                }
                Reply::Delivery(delivered) => {
                    let delivery = delivery(&delivered);
                    let size = delivered.stored.size + WIRE_OVERHEAD;
                    bytes += delivery.message.size();
                    let message = &delivery.message;
                    match open
                        .epoch
                        .delivered(delivered.consumer_sequence, size, message, delivery.pending)
                    {
                        Ok(gap) => open.gaps.extend(gap),
                        Err(_) => {
                            world.count("gap");
                            end = Some(("a gap", false));
                            continue;
                        }
                    }
                    deliveries.push(delivery);
                }
                Reply::Heartbeat => {}
                Reply::Returned {
                    messages,
                    bytes,
                    larger,
                } => open.epoch.returned(Returned {
                    messages,
                    bytes,
                    larger,
                }),
                Reply::Ended(reason) => end = Some((reason, false)),
                Reply::WrongPin => end = Some(("wrong pin", true)),
            }
        }
        if let Some((end, unpinned)) = end {
            self.over(running, world, end, unpinned);
            return Ok(false);
        }
        if deliveries.is_empty() {
            return Ok(false);
        }
        if let Some(last) = deliveries.last() {
            running.newest.handed_on(open.stream, last.message.place);
            self.supervision.has_read(open.stream, last.message.place);
        }
        self.deliver(running, world, deliveries)?;
        Ok(true)
    }

    pub(super) fn deliver(
        &mut self,
        running: &mut Running,
        world: &mut World,
        deliveries: Vec<Delivery<Receipt>>,
    ) -> Result<(), String> {
        for delivery in &deliveries {
            world.checker.comes(world.now, running.id, number(&delivery.message));
        }
        let messages = running.run.deliver(world.clock(), deliveries);
        let (length, limit) = (running.run.window().len(), self.settings.window.messages);
        if length > limit {
            return Err(format!("{length} messages are in the window, which takes {limit}"));
        }
        let chunk: Vec<_> = messages
            .into_iter()
            .map(|(ticket, message)| (ticket, number(&message)))
            .collect();
        if chunk.is_empty() {
            return Ok(());
        }
        for &(_, number) in &chunk {
            world.tell(|| format!("flow {} takes in message {number}", running.id));
            world.checker.taken_in((self.id, self.starts), running.id, number);
        }
        let took = world.millis(0..20);
        running.transformed_at = running.transformed_at.max(world.now + took);
        let event = RelayEvent::Transformed(running.id, chunk);
        world.at(running.transformed_at, Event::Relay(self.id, self.starts, event));
        Ok(())
    }

    pub(super) fn over(&mut self, running: &mut Running, world: &mut World, why: &str, unpinned: bool) {
        world.tell(|| format!("flow {}: the epoch is over: {why}", running.id));
        self.close(running, world);
        running.run.over(world.now, unpinned);
    }

    pub(super) fn close(&self, running: &mut Running, world: &mut World) {
        if let Source::Open(open) = std::mem::replace(&mut running.source, Source::Closed)
            && self.connected
            && open.generation == world.links[self.id].generation
        {
            self.send(world, ToServer::Unsubscribe(open.inbox));
        }
    }

    pub(super) fn disconnected(&self, running: &mut Running, world: &mut World) {
        if let Source::Pinning { .. } | Source::Opening { asked: true, .. } = running.source {
            running.source = Source::Closed;
            running.run.failed(world.now);
        }
    }

    /// Opens an epoch if it is due.
    pub(super) fn open(&mut self, running: &mut Running, world: &mut World) {
        if running.run.opens(world.now) {
            self.attempts += 1;
            let attempt = self.attempts;
            running.source = match self.standby && running.pin.is_none() {
                true => Source::Pinning {
                    attempt,
                    inbox: None,
                    sent: world.now,
                    pulls: 0,
                },
                false => Source::Opening { attempt, asked: false },
            };
        }
        if !self.connected {
            return;
        }
        match &mut running.source {
            Source::Pinning { inbox: None, .. } => self.pull_for_the_pin(running, world),
            Source::Opening { attempt, asked } if !*asked => {
                *asked = true;
                let begin = ToServer::Begin {
                    process: self.starts,
                    attempt: *attempt,
                    reset: true,
                    position: running.run.position(),
                };
                let attempt = *attempt;
                self.send(world, begin);
                self.later(world, REQUEST_TIMEOUT, RelayEvent::TimedOut(attempt));
            }
            _ => {}
        }
    }

    pub(super) fn began(&mut self, running: &mut Running, world: &mut World, bound: Option<Bound>) {
        let Some(bound) = bound else {
            running.source = Source::Closed;
            running.run.failed(world.now);
            return;
        };
        let stream = Incarnation(i128::from(bound.stream));
        let found = Found {
            is_new: bound.is_new,
            floor: bound.floor,
            delivered_through: bound.delivered_through,
            max_ack_pending: self.settings.window.messages,
            to_come: bound.to_come,
        };
        let resume = Resume::of(found, running.newest.of(stream), running.before.of(stream));
        let retention = Retention::new(self.keeps, resume.read_through, bound.waiting);
        let mut epoch = Epoch::begin(world.now, 1_024, bound.delivered, retention);
        let gaps = epoch.find(resume.floor, bound.held).into_iter().flatten().collect();
        if let Some(keeps) = self.keeps {
            running.seen.look(keeps, bound.held);
        }
        let inbox = world.identifier();
        world.open_inbox(self.id, inbox);
        self.send(world, ToServer::Subscribe(inbox));
        running.source = Source::Open(Box::new(Open {
            stream,
            inbox,
            generation: world.links[self.id].generation,
            epoch,
            buffer: VecDeque::new(),
            gaps,
            asked: None,
        }));
        running.run.began(world.now, stream, resume.again);
    }

    pub(super) fn message(
        &mut self,
        running: &mut Running,
        world: &mut World,
        generation: u64,
        inbox: Inbox,
        reply: Reply,
    ) {
        if !self.connected || generation != world.links[self.id].generation {
            return;
        }
        match &mut running.source {
            Source::Pinning {
                attempt,
                inbox: Some(own),
                sent,
                ..
            } if *own == inbox => match reply {
                Reply::Delivery(Delivered { pin: Some(id), .. }) => {
                    let (attempt, sent) = (*attempt, *sent);
                    world.count("pinned");
                    world.checker.pinned(world.now, running.id);
                    world.tell(|| format!("relay {} is pinned", self.id));
                    running.pin = Some(Pin {
                        id,
                        lease: Lease::given(sent, PIN_TTL),
                    });
                    running.run.lease(world.now, running.pin.map(|pin| pin.lease));
                    running.source = Source::Opening { attempt, asked: false };
                    self.send(world, ToServer::Unsubscribe(inbox));
                    self.renew(running, world, id);
                }
                Reply::Heartbeat => {}
                // The next attempt binds to the consumer again.
                Reply::Ended(_) => {
                    running.source = Source::Closed;
                    running.run.failed(world.now);
                }
                _ => self.ask_for_the_pin(running, world),
            },
            Source::Open(open) if open.inbox == inbox => {
                open.epoch.heard(world.now);
                open.buffer.push_back(reply);
            }
            _ => {}
        }
    }

    /// Asks the stream what it holds, for gaps and at intervals.
    pub(super) fn look_out(&self, running: &mut Running, world: &mut World) {
        let Source::Open(open) = &mut running.source else {
            return;
        };
        if self.keeps.is_none() {
            return;
        }
        let due = open.asked.is_none_or(|asked| world.now >= asked + ASK_INTERVAL);
        if due || !open.gaps.is_empty() {
            open.asked = Some(world.now);
            let ask = ToServer::Holds {
                process: self.starts,
                flow: running.id,
            };
            self.send(world, ask);
        }
    }

    /// Finds out which part of the gaps was lost to the stream's limits.
    pub(super) fn judge(
        &mut self,
        running: &mut Running,
        world: &mut World,
        incarnation: u64,
        held: Held,
    ) -> Result<(), String> {
        let (Source::Open(open), Some(keeps)) = (&mut running.source, self.keeps) else {
            return Ok(());
        };
        if open.stream != Incarnation(i128::from(incarnation)) {
            return Ok(());
        }
        let seen = running.seen;
        for gap in std::mem::take(&mut open.gaps) {
            let missed = keeps.judge(gap, held, seen, world.timestamp());
            let missed = missed.and_then(|missed| self.supervision.missed(open.stream, missed));
            if let Some(missed) = missed.filter(|missed| missed.exact) {
                world.tell(|| format!("flow {} has missed {missed:?}", running.id));
                world.count("missed");
                world.checker.missed((self.id, self.starts), incarnation, missed)?;
            }
        }
        running.seen.look(keeps, held);
        Ok(())
    }
}

impl Open {
    fn pull(&mut self, relay: RelayId, world: &mut World, room: Room, pin: Option<PinId>) {
        while let Some(ask) = self.epoch.ask(world.now, room) {
            let pull = Pull {
                inbox: self.inbox,
                batch: ask.batch,
                max_bytes: ask.max_bytes,
                expires: world.now + EXPIRES,
                heartbeat: world.now + HEARTBEAT,
                pin,
            };
            world.send_to_server(relay, ToServer::Pull(pull));
        }
    }
}

fn delivery(delivered: &Delivered) -> Delivery<Receipt> {
    let mut payload = delivered.stored.number.to_le_bytes().to_vec();
    payload.resize(delivered.stored.size.max(payload.len()), 0);
    let message = Message {
        subject: "orders".to_owned(),
        payload: Bytes::from(payload),
        headers: Vec::new(),
        stream: Arc::from("ORDERS"),
        place: delivered.sequence.into(),
        timestamp: delivered.stored.timestamp,
        deliveries: delivered.deliveries,
        unreadable: None,
    };
    Delivery {
        message: Arc::new(message),
        receipt: Receipt {
            number: delivered.stored.number,
            sequence: delivered.sequence,
        },
        pending: delivered.pending,
    }
}
