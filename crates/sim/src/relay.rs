//! A relay's process around the flow: what `run` and `intake` and `source` do with I/O, done with events. The flow, the window, the
//! scheduler, the contiguity and the credit are the product's own.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use slipring_core::load::{Load, LoadId};
use slipring_core::message::Message;
use slipring_core::pipeline::{Effect, Flow, OnReject, Settings, Transformed};
use slipring_core::publish::Limits;
use slipring_core::read::{Again, Contiguity, Credit, Delivery, Position, Room, StreamIdentity};
use slipring_core::window::Ticket;

use super::checker::{FlightId, FlowId};
use super::jetstream::{Delivered, Inbox, PIN_TTL, PinId, Pull, Reply, WIRE_OVERHEAD};
use super::mutants::{self, Bug};
use super::world::{Event, RelayId, ToServer, World};
const RENEW_DELAY: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_secs(1);
const MAX_CHUNK: usize = 256;
const MAX_TRANSFORMING: usize = 512;
const SILENCE: Duration = Duration::from_secs(15);
const LASTING: Duration = Duration::from_secs(10);
const MAX_DELAY: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const EXPIRES: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How often the holder of the pin renews it, and by how much its own lease is shorter than the server's.
const RENEW_EVERY: Duration = Duration::from_secs(2);
const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// What acknowledges a message: an ack names its sequence only.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receipt {
    number: u64,
    sequence: u64,
}

#[derive(Debug)]
pub(super) struct Relay {
    id: RelayId,
    /// Counts its starts.
    pub(super) process: u64,
    settings: Settings,
    publish: Limits,
    grace: Duration,
    pinned: bool,
    pub(super) life: Life,
    connected: bool,
    attempts: u64,
    pin: Option<Pin>,
    /// Stopped by a signal: what happens waits here.
    pub(super) paused: Option<Vec<RelayEvent>>,
}

#[derive(Debug)]
pub(super) enum Life {
    /// There is no process.
    Down,
    /// It waits for the pin.
    Standby {
        inbox: Option<Inbox>,
        since: Instant,
    },
    Running(Box<Run>),
    /// It begins afresh in a moment.
    Renewing,
    Halted,
}

#[derive(Debug)]
struct Pin {
    id: PinId,
    /// `None`: not confirmed yet.
    lease: Option<Instant>,
    given: Instant,
    asked: Instant,
}

#[derive(Debug)]
pub(super) struct Run {
    id: FlowId,
    flow: Flow<Receipt>,
    intake: Intake,
    failures: u32,
    transforming: usize,
    transformed_at: Instant,
    requests: usize,
    dead_letters: BTreeSet<Ticket>,
    ending: Option<(Ending, Instant)>,
    halted: bool,
    /// When it is woken next.
    wakeup: Option<Instant>,
}

#[derive(Debug)]
enum Intake {
    Closed,
    Opening { attempt: u64, asked: bool },
    Open(Epoch),
}

#[derive(Debug)]
struct Epoch {
    inbox: Inbox,
    generation: u64,
    credit: Credit,
    contiguity: Contiguity,
    heard: Instant,
    since: Instant,
    buffer: VecDeque<Reply>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Drain,
    Renew,
    Halt,
}

#[derive(Debug)]
pub(super) enum RelayEvent {
    Connected,
    Disconnected(u64),
    /// What came over which connection for which subscription.
    Message(u64, Inbox, Reply),
    /// The pause before an epoch is over.
    Open(u64),
    /// The stream there is, if there is one, and the last consumer sequence delivered.
    Began {
        attempt: u64,
        stream: Option<u64>,
        delivered: u64,
        again: Again,
    },
    TimedOut(u64),
    Transformed(FlowId, Vec<(Ticket, u64)>),
    Answered(FlowId, FlightId),
    DeadLettered(FlowId, Ticket, u64),
    /// A dead letter is to be stored.
    Store(FlowId, Ticket, u64),
    Renewed {
        id: PinId,
        sent: Instant,
        held: bool,
    },
    Tick,
    Wake,
    /// A fresh start after trouble.
    Renew,
    Swap,
    Stop,
}

impl Relay {
    pub(super) fn new(id: RelayId, settings: Settings, publish: Limits, world: &mut World) -> Self {
        Self {
            id,
            process: 0,
            settings,
            publish,
            grace: Duration::from_secs(world.rng.u64(2..30)),
            pinned: world.setup.relays > 1,
            life: Life::Down,
            connected: false,
            attempts: 0,
            pin: None,
            paused: None,
        }
    }

    pub(super) fn start(&mut self, world: &mut World) {
        if !matches!(self.life, Life::Down) {
            return;
        }
        world.tell(|| format!("relay {} starts", self.id));
        self.process += 1;
        self.connected = false;
        self.pin = None;
        world.cut(self.id, Duration::ZERO);
        world.after(Duration::ZERO, Event::Reconnect(self.id));
        self.later(world, TICK, RelayEvent::Tick);
        self.begin(world);
    }

    /// The process is no more, at once.
    pub(super) fn kill(&mut self, world: &mut World, notices: Duration) -> Result<(), String> {
        world.tell(|| format!("relay {} is killed", self.id));
        world.cut(self.id, notices);
        self.process += 1;
        self.paused = None;
        self.abandon(world)?;
        self.life = Life::Down;
        Ok(())
    }

    fn abandon(&mut self, world: &mut World) -> Result<(), String> {
        if let Life::Running(run) = std::mem::replace(&mut self.life, Life::Renewing) {
            world.checker.ended(world.now, run.id, false)?;
        }
        Ok(())
    }

    fn begin(&mut self, world: &mut World) {
        if self.pinned && self.pin.is_none() {
            self.life = Life::Standby {
                inbox: None,
                since: world.now,
            };
            self.ask_for_the_pin(world);
        } else {
            self.run(world);
        }
    }

    fn run(&mut self, world: &mut World) {
        let id = world.identifier();
        let seed = world.rng.u64(..);
        let mut flow = Flow::new(
            "orders".into(),
            self.settings,
            self.publish,
            world.odds.endpoints.len(),
            seed,
        );
        mutants::put_in(world.setup.bug, &mut flow);
        world.tell(|| format!("relay {} begins flow {id}", self.id));
        let mut run = Run {
            id,
            flow,
            intake: Intake::Closed,
            failures: 0,
            transforming: 0,
            transformed_at: world.now,
            requests: 0,
            dead_letters: BTreeSet::new(),
            ending: None,
            halted: false,
            wakeup: None,
        };
        self.reopen(&mut run, world);
        self.life = Life::Running(Box::new(run));
    }

    fn later(&self, world: &mut World, delay: Duration, event: RelayEvent) {
        world.after(delay, Event::Relay(self.id, self.process, event));
    }

    pub(super) fn handle(&mut self, world: &mut World, event: RelayEvent) -> Result<(), String> {
        if matches!(self.life, Life::Down) {
            return Ok(());
        }
        if let Some(paused) = &mut self.paused {
            paused.push(event);
            return Ok(());
        }
        self.check_lease(world)?;
        match event {
            RelayEvent::Connected => {
                self.connected = true;
                if matches!(self.life, Life::Standby { .. }) {
                    self.ask_for_the_pin(world);
                }
                self.with_run(world, |relay, run, world| {
                    relay.ask_for_an_epoch(run, world);
                    Ok(())
                })?;
            }
            RelayEvent::Disconnected(generation) => {
                if world.links[self.id].generation == generation {
                    self.connected = false;
                    let delay = world.millis(10..2_000);
                    world.after(delay, Event::Reconnect(self.id));
                }
            }
            RelayEvent::Message(generation, inbox, reply) => self.message(world, generation, inbox, reply)?,
            RelayEvent::Renewed { id, sent, held } => self.renewed(world, id, sent, held)?,
            RelayEvent::Tick => {
                self.later(world, TICK, RelayEvent::Tick);
                self.tick(world)?;
            }
            RelayEvent::Renew => {
                if matches!(self.life, Life::Renewing) {
                    self.begin(world);
                }
            }
            RelayEvent::Swap => self.swap(world),
            RelayEvent::Stop => match &mut self.life {
                Life::Running(run) => run.end_with(Ending::Drain, world.now + self.grace),
                _ => self.stopped(world),
            },
            event => self.with_run(world, |relay, run, world| relay.in_run(run, world, event))?,
        }
        self.proceed(world)
    }

    /// What happens to a run.
    fn in_run(&mut self, run: &mut Run, world: &mut World, event: RelayEvent) -> Result<(), String> {
        match event {
            RelayEvent::Open(attempt) => {
                if let Intake::Opening {
                    attempt: current,
                    asked,
                } = &mut run.intake
                    && *current == attempt
                {
                    *asked = false;
                    self.ask_for_an_epoch(run, world);
                }
            }
            RelayEvent::Began {
                attempt,
                stream,
                delivered,
                again,
            } => {
                if matches!(run.intake, Intake::Opening { attempt: current, .. } if current == attempt) {
                    self.began(run, world, stream, delivered, again);
                }
            }
            RelayEvent::TimedOut(attempt) => {
                if matches!(run.intake, Intake::Opening { attempt: current, .. } if current == attempt) {
                    run.failures += 1;
                    self.reopen(run, world);
                }
            }
            RelayEvent::Transformed(flow, chunk) if flow == run.id => {
                run.transforming -= chunk.len();
                for (ticket, number) in chunk {
                    let outcome = world.checker.letter(number).outcome(number);
                    run.flow.transformed(
                        world.clock(),
                        Transformed {
                            ticket,
                            outcome,
                            by: Load {
                                id: LoadId(1),
                                sha256: "simulated".into(),
                            },
                        },
                    );
                }
            }
            RelayEvent::Answered(flow, flight) if flow == run.id => {
                run.requests -= 1;
                let (request, answer) = world.answer_to(flow, flight);
                let answer = match world.setup.bug {
                    Some(Bug::NakInsteadOfWaiting) => mutants::permanent(answer, world.targets(flight)),
                    _ => answer,
                };
                run.flow.answered(world.clock(), request, answer);
            }
            RelayEvent::Store(flow, ticket, number) if flow == run.id && run.dead_letters.contains(&ticket) => {
                self.store(run, world, ticket, number);
            }
            RelayEvent::DeadLettered(flow, ticket, number) if flow == run.id && run.dead_letters.remove(&ticket) => {
                world.checker.dead_lettered(flow, number)?;
                run.flow.dead_lettered(world.clock(), ticket);
            }
            // Of a run that is over.
            _ => {}
        }
        Ok(())
    }

    /// Does what was decided, reads on, and comes to an end.
    fn proceed(&mut self, world: &mut World) -> Result<(), String> {
        self.with_run(world, |relay, run, world| {
            relay.carry_out(run, world)?;
            while relay.read(run, world)? {
                relay.carry_out(run, world)?;
            }
            Ok(())
        })?;
        let Life::Running(run) = &mut self.life else {
            return Ok(());
        };
        if run.is_done(world.now) {
            return self.end(world);
        }
        let wakeup = run.flow.next_wakeup();
        if wakeup != run.wakeup
            && let Some(wakeup) = wakeup
        {
            world.at(wakeup, Event::Relay(self.id, self.process, RelayEvent::Wake));
        }
        run.wakeup = wakeup;
        Ok(())
    }

    fn carry_out(&mut self, run: &mut Run, world: &mut World) -> Result<(), String> {
        while let Some(request) = run.flow.next_request(world.clock()) {
            run.requests += 1;
            world.request(self.id, self.process, run.id, &request)?;
        }
        for effect in run.flow.take_effects() {
            match effect {
                Effect::Ack(Receipt { number, sequence }) => {
                    world.tell(|| format!("flow {} acks message {number}", run.id));
                    world.checker.acks(world.now, run.id, number)?;
                    self.send(world, ToServer::Ack(sequence));
                }
                Effect::InProgress(receipt) => {
                    world.count("in progress");
                    self.send(world, ToServer::InProgress(receipt.sequence));
                }
                Effect::DeadLetter(ticket, message, ..) => {
                    world.count("dead letter");
                    run.dead_letters.insert(ticket);
                    self.store(run, world, ticket, number(&message));
                }
                Effect::Refused(..) | Effect::Say(_) => {}
                Effect::Renew(reason) => {
                    world.tell(|| format!("flow {} is renewed: {reason}", run.id));
                    world.count("renewed");
                    run.end_with(Ending::Renew, world.now + self.grace);
                }
                Effect::Halt(reason, _) => {
                    world.tell(|| format!("flow {} is halted: {reason}", run.id));
                    world.count("halted");
                    run.halted = true;
                    run.end_with(Ending::Halt, world.now + self.grace);
                }
            }
        }
        for receipt in run.flow.take_naks() {
            self.send(world, ToServer::Nak(receipt.sequence));
        }
        Ok(())
    }

    /// Over the connection, or into what is sent with the next one.
    fn send(&self, world: &mut World, what: ToServer) {
        world.send_to_server(self.id, what);
    }

    fn store(&self, run: &Run, world: &mut World, ticket: Ticket, number: u64) {
        self.later(world, Duration::from_secs(1), RelayEvent::Store(run.id, ticket, number));
        let letter = ToServer::DeadLetter {
            process: self.process,
            flow: run.id,
            ticket,
            number,
        };
        self.send(world, letter);
    }

    /// As `Intake::next` and `Epoch::next`. Answers whether there was something.
    fn read(&mut self, run: &mut Run, world: &mut World) -> Result<bool, String> {
        let window = run.flow.window();
        let room = run.flow.room(world.now);
        let takes_in =
            (room.bytes > 0 || room.empty) && !window.is_overdue(world.now) && run.transforming < MAX_TRANSFORMING;
        let Intake::Open(epoch) = &mut run.intake else {
            return Ok(false);
        };
        if !takes_in {
            return Ok(false);
        }
        let link = &world.links[self.id];
        if !self.connected || link.generation != epoch.generation {
            self.over(run, world, "the connection was lost");
            return Ok(false);
        }
        let pin = self.pin.as_ref().map(|pin| pin.id);
        epoch.pull(self.id, world, room, pin);
        if epoch.credit.is_open() && world.now >= epoch.heard + SILENCE {
            self.over(run, world, "the server went silent");
            return Ok(false);
        }
        let mut deliveries = Vec::new();
        let mut end = None;
        let mut bytes = 0;
        while deliveries.len() < MAX_CHUNK
            && (bytes < room.bytes || deliveries.is_empty())
            && end.is_none()
            && let Some(reply) = epoch.buffer.pop_front()
        {
            match reply {
                Reply::Delivery(delivered) => {
                    let held = delivery(&delivered).message.size();
                    epoch.credit.delivered(delivered.stored.size + WIRE_OVERHEAD, held);
                    bytes += held;
                    let checked = epoch.contiguity.check(delivered.consumer_sequence);
                    if checked.is_err() && world.setup.bug != Some(Bug::NoContiguity) {
                        world.count("gap");
                        end = Some("a gap");
                    }
                    deliveries.push(delivered);
                }
                Reply::Heartbeat => {}
                Reply::Returned {
                    messages,
                    bytes,
                    larger,
                } => {
                    epoch.credit.returned(messages, bytes);
                    if larger {
                        epoch.credit.next_is_larger(bytes);
                    }
                }
                Reply::Ended(reason) => end = Some(reason),
                Reply::WrongPin => {}
            }
        }
        if let Some(end) = end {
            self.over(run, world, end);
            return Ok(false);
        }
        if deliveries.is_empty() {
            return Ok(false);
        }
        self.deliver(run, world, deliveries)?;
        Ok(true)
    }

    fn deliver(&mut self, run: &mut Run, world: &mut World, delivered: Vec<Delivered>) -> Result<(), String> {
        let deliveries = delivered.into_iter().map(|delivered| delivery(&delivered)).collect();
        let messages = run.flow.deliver(world.clock(), deliveries);
        let (length, limit) = (run.flow.window().len(), self.settings.window.messages);
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
            world.tell(|| format!("flow {} takes in message {number}", run.id));
            world.checker.taken_in(run.id, number);
        }
        run.transforming += chunk.len();
        let took = world.millis(0..20);
        run.transformed_at = run.transformed_at.max(world.now + took);
        let event = RelayEvent::Transformed(run.id, chunk);
        world.at(run.transformed_at, Event::Relay(self.id, self.process, event));
        Ok(())
    }

    fn over(&mut self, run: &mut Run, world: &mut World, why: &str) {
        let Intake::Open(epoch) = &run.intake else { return };
        world.tell(|| format!("flow {}: the epoch is over: {why}", run.id));
        run.failures = if world.now - epoch.since >= LASTING {
            0
        } else {
            run.failures + 1
        };
        if self.connected && epoch.generation == world.links[self.id].generation {
            self.send(world, ToServer::Unsubscribe(epoch.inbox));
        }
        run.flow.over();
        if world.setup.bug == Some(Bug::FreshKeysAfterReset) {
            run.flow.forget_what_is_settled();
        }
        self.reopen(run, world);
    }

    fn reopen(&mut self, run: &mut Run, world: &mut World) {
        let delay = match run.failures {
            0 => Duration::ZERO,
            failures => (Duration::from_millis(100) * (1 << failures.min(10))).min(MAX_DELAY),
        };
        self.attempts += 1;
        let attempt = self.attempts;
        run.intake = Intake::Opening { attempt, asked: true };
        self.later(world, delay, RelayEvent::Open(attempt));
    }

    fn ask_for_an_epoch(&mut self, run: &mut Run, world: &mut World) {
        let Intake::Opening { attempt, asked } = &mut run.intake else {
            return;
        };
        if *asked || !self.connected {
            return;
        }
        *asked = true;
        let position = run
            .flow
            .position()
            .map(|Position { stream, next }| (stream.created as u64, next));
        let begin = ToServer::Begin {
            process: self.process,
            attempt: *attempt,
            reset: world.setup.bug != Some(Bug::NoReset),
            position,
        };
        let attempt = *attempt;
        self.send(world, begin);
        self.later(world, REQUEST_TIMEOUT, RelayEvent::TimedOut(attempt));
    }

    fn began(&mut self, run: &mut Run, world: &mut World, stream: Option<u64>, delivered: u64, again: Again) {
        let (Some(stream), true) = (stream, self.connected) else {
            run.failures += 1;
            self.reopen(run, world);
            return;
        };
        let inbox = world.identifier();
        world.open_inbox(self.id, inbox);
        self.send(world, ToServer::Subscribe(inbox));
        run.intake = Intake::Open(Epoch {
            inbox,
            generation: world.links[self.id].generation,
            credit: Credit::of_pulls(1024),
            contiguity: Contiguity::after(delivered),
            heard: world.now,
            since: world.now,
            buffer: VecDeque::new(),
        });
        let stream = StreamIdentity {
            created: i128::from(stream),
        };
        run.flow.begin(stream, again);
    }

    fn message(&mut self, world: &mut World, generation: u64, inbox: Inbox, reply: Reply) -> Result<(), String> {
        if !self.connected || generation != world.links[self.id].generation {
            return Ok(());
        }
        match &mut self.life {
            Life::Standby {
                inbox: Some(own),
                since,
            } if *own == inbox => match reply {
                Reply::Delivery(Delivered { pin: Some(id), .. }) => {
                    world.count("pinned");
                    self.pin = Some(Pin {
                        id,
                        lease: None,
                        given: world.now,
                        asked: world.now,
                    });
                    self.life = Life::Renewing;
                    self.send(world, ToServer::Unsubscribe(inbox));
                    self.renew_the_pin(world);
                }
                Reply::Heartbeat => *since = world.now,
                // Asked again with the next tick but one.
                _ => {
                    self.life = Life::Standby {
                        inbox: None,
                        since: world.now + TICK - SILENCE,
                    }
                }
            },
            Life::Running(run) => {
                let Intake::Open(epoch) = &mut run.intake else {
                    return Ok(());
                };
                if epoch.inbox != inbox {
                    return Ok(());
                }
                epoch.heard = world.now;
                if matches!(reply, Reply::WrongPin) {
                    return self.lose_the_pin(world, "somebody else has it");
                }
                epoch.buffer.push_back(reply);
            }
            _ => {}
        }
        Ok(())
    }

    fn ask_for_the_pin(&mut self, world: &mut World) {
        let asked = self.connected.then(|| world.identifier());
        self.life = Life::Standby {
            inbox: asked,
            since: world.now,
        };
        let Some(inbox) = asked else { return };
        world.open_inbox(self.id, inbox);
        let begin = ToServer::Begin {
            process: self.process,
            attempt: 0,
            reset: false,
            position: None,
        };
        self.send(world, begin);
        self.send(world, ToServer::Subscribe(inbox));
        let pull = Pull {
            inbox,
            batch: 1,
            max_bytes: None,
            expires: world.now + EXPIRES,
            heartbeat: world.now + HEARTBEAT,
            pin: None,
        };
        self.send(world, ToServer::Pull(pull));
    }

    fn renew_the_pin(&mut self, world: &mut World) {
        let Some(pin) = &mut self.pin else { return };
        pin.asked = world.now;
        let renew = ToServer::Renew {
            process: self.process,
            id: pin.id,
            sent: world.now,
        };
        self.send(world, renew);
    }

    fn renewed(&mut self, world: &mut World, id: PinId, sent: Instant, held: bool) -> Result<(), String> {
        let Some(pin) = self.pin.as_mut().filter(|pin| pin.id == id) else {
            return Ok(());
        };
        if !held {
            return self.lose_the_pin(world, "it was given to somebody else");
        }
        let lease = sent + PIN_TTL - LEASE_MARGIN;
        let first = pin.lease.is_none();
        pin.lease = pin.lease.max(Some(lease));
        if first && world.now < lease {
            self.run(world);
        }
        Ok(())
    }

    fn check_lease(&mut self, world: &mut World) -> Result<(), String> {
        let Some(pin) = &self.pin else { return Ok(()) };
        let until = pin.lease.unwrap_or(pin.given + PIN_TTL);
        // The mutant that published on is through with it.
        let spent = matches!(&self.life, Life::Running(run)
            if matches!(run.intake, Intake::Closed) && run.ending.is_none() && run.flow.window().unsettled().is_none());
        if world.now < until && !spent {
            return Ok(());
        }
        world.count("lease ended");
        self.lose_the_pin(world, "the lease has ended")
    }

    fn lose_the_pin(&mut self, world: &mut World, why: &str) -> Result<(), String> {
        world.tell(|| format!("relay {} has lost the pin: {why}", self.id));
        world.count("pin lost");
        if world.setup.bug == Some(Bug::PublishesWithoutLease)
            && let Life::Running(run) = &mut self.life
            && run.flow.window().unsettled().is_some()
        {
            run.intake = Intake::Closed;
            return Ok(());
        }
        self.pin = None;
        // What had been said about stopping is kept.
        let stopping = matches!(&self.life, Life::Running(run) if matches!(run.ending, Some((Ending::Drain, _))));
        self.abandon(world)?;
        if stopping {
            self.stopped(world);
        } else {
            self.begin(world);
        }
        Ok(())
    }

    fn tick(&mut self, world: &mut World) -> Result<(), String> {
        match &mut self.life {
            Life::Running(run) => {
                run.flow.tick(world.clock());
                self.with_run(world, |relay, run, world| {
                    relay.ask_for_an_epoch(run, world);
                    Ok(())
                })?;
            }
            Life::Standby { since, .. } if world.now >= *since + SILENCE => self.ask_for_the_pin(world),
            _ => {}
        }
        if let Some(pin) = &self.pin
            && world.now >= pin.asked + RENEW_EVERY
            && self.connected
        {
            self.renew_the_pin(world);
        }
        Ok(())
    }

    fn swap(&mut self, world: &mut World) {
        world.count("swap");
        self.settings = Settings {
            on_reject: OnReject::DeadLetter,
            max_consecutive_rejects: 1_000_000,
            ..self.settings
        };
        match &mut self.life {
            Life::Running(run) if run.ending.is_none() => run.flow.configure(self.settings),
            Life::Halted => self.begin(world),
            _ => {}
        }
    }

    /// The run is done.
    fn end(&mut self, world: &mut World) -> Result<(), String> {
        let Life::Running(run) = std::mem::replace(&mut self.life, Life::Renewing) else {
            return Ok(());
        };
        let Some((ending, deadline)) = run.ending else {
            return Ok(());
        };
        world.tell(|| format!("flow {} is done: {ending:?}", run.id));
        let late = world.now >= deadline;
        if late {
            world.count("drained too slowly");
        }
        let clean = !late && !run.halted;
        world.checker.ended(world.now, run.id, clean)?;
        match ending {
            Ending::Drain => self.stopped(world),
            Ending::Renew => self.later(world, RENEW_DELAY, RelayEvent::Renew),
            Ending::Halt => {
                self.life = Life::Halted;
                let delay = world.millis(500..20_000);
                self.later(world, delay, RelayEvent::Swap);
            }
        }
        Ok(())
    }

    /// The process ends; what it sent last is still on its way.
    fn stopped(&mut self, world: &mut World) {
        world.tell(|| format!("relay {} has stopped", self.id));
        self.life = Life::Down;
        self.process += 1;
        let delay = world.millis(100..5_000);
        world.after(delay, Event::Start(self.id));
    }

    fn with_run(
        &mut self,
        world: &mut World,
        then: impl FnOnce(&mut Self, &mut Run, &mut World) -> Result<(), String>,
    ) -> Result<(), String> {
        match std::mem::replace(&mut self.life, Life::Renewing) {
            Life::Running(mut run) => {
                let done = then(self, &mut run, world);
                self.life = Life::Running(run);
                done
            }
            other => {
                self.life = other;
                Ok(())
            }
        }
    }

    /// In short.
    pub(super) fn state(&self) -> String {
        let life = match &self.life {
            Life::Down => "down".to_owned(),
            Life::Standby { inbox, .. } => format!("standing by, inbox {inbox:?}"),
            Life::Running(run) => format!(
                "running flow {}, {:?}, unsettled {:?}, {} requests, ending {:?}",
                run.id,
                run.intake,
                run.flow.window().unsettled(),
                run.requests,
                run.ending
            ),
            Life::Renewing => "renewing".to_owned(),
            Life::Halted => "halted".to_owned(),
        };
        format!(
            "{life}, connected {}, pin {:?}, paused {}",
            self.connected,
            self.pin,
            self.paused.is_some()
        )
    }

    /// Nothing is left to do that it knows of.
    pub(super) fn is_idle(&self) -> bool {
        matches!(&self.life, Life::Running(run) if run.flow.window().is_empty())
            || matches!(self.life, Life::Standby { .. })
    }
}

impl Run {
    /// As `Run::end_with` does: the first ending counts, except that a halt goes before a drain.
    fn end_with(&mut self, ending: Ending, deadline: Instant) {
        if self.ending.is_some() && ending != Ending::Halt {
            return;
        }
        self.intake = Intake::Closed;
        self.ending = match self.ending {
            Some((Ending::Drain, deadline)) => Some((Ending::Drain, deadline)),
            Some((_, deadline)) => Some((ending, deadline)),
            None => Some((ending, deadline)),
        };
    }

    fn is_done(&self, now: Instant) -> bool {
        let Some((ending, deadline)) = self.ending else {
            return false;
        };
        let quiet = self.requests == 0 && self.dead_letters.is_empty();
        let drained = self.flow.is_drained() && (ending == Ending::Halt || self.transforming == 0);
        (quiet && drained) || now >= deadline
    }
}

impl Epoch {
    fn pull(&mut self, relay: RelayId, world: &mut World, room: Room, pin: Option<PinId>) {
        while let Some(ask) = self.credit.ask(room) {
            if !self.credit.is_open() {
                self.heard = world.now;
            }
            self.credit.asked(ask);
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
        sequence: delivered.sequence,
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

fn number(message: &Message) -> u64 {
    let bytes = message.payload.first_chunk().expect("it begins with its number");
    u64::from_le_bytes(*bytes)
}
