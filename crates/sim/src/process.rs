//! The process of a relay. It carries data between the servers and the product's own code, which makes all decisions:
//! the run of a pipeline and its supervision, the flow, the window, the scheduler, the epoch with its credit and its
//! contiguity, the lease.

mod pin;
mod source;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use slipring_core::load::{Load, LoadId};
use slipring_core::message::Message;
use slipring_core::pipeline::run::{self, Action, DeadLetter, Run};
use slipring_core::pipeline::{Flow, Next, OnReject, Settings, Supervision, Transformed};
use slipring_core::publish::{Answer, Request, RequestId, RequestLimits};
use slipring_core::read::{Held, Keeps, Newest, Seen};
use slipring_core::window::Ticket;

use self::pin::Pin;
use self::source::Source;
use super::checker::{FlightId, FlowId};
use super::jetstream::{Bound, Inbox, PinId, Reply};
use super::world::{Event, RelayId, ToServer, World};

const TICK: Duration = Duration::from_secs(1);
const MAX_TRANSFORMING: usize = 512;

/// Acknowledges a message. An ack names only a sequence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receipt {
    number: u64,
    sequence: u64,
}

#[derive(Debug)]
pub(super) struct Process {
    id: RelayId,
    /// Counts the starts of the process.
    pub(super) starts: u64,
    settings: Settings,
    publish: RequestLimits,
    grace: Duration,
    standby: bool,
    keeps: Option<Keeps>,
    life: Life,
    connected: bool,
    attempts: u64,
    load: LoadId,
    supervision: Supervision,
    /// Events that wait while the process is stopped by a signal.
    pub(super) paused: Option<Vec<RelayEvent>>,
}

#[derive(Debug)]
enum Life {
    /// There is no process.
    Down,
    Running(Box<Running>),
    /// Between two runs.
    Between,
}

#[derive(Debug)]
struct Running {
    id: FlowId,
    run: Run<Receipt>,
    source: Source,
    pin: Option<Pin>,
    newest: Newest,
    /// The newest message that earlier runs have read.
    before: Newest,
    seen: Seen,
    transformed_at: Instant,
    storing: BTreeSet<Ticket>,
    /// The time of the next wakeup.
    wakeup: Option<Instant>,
    yielded: bool,
}

#[derive(Debug)]
pub(super) enum RelayEvent {
    Connected,
    Disconnected(u64),
    /// A message with the connection and the subscription that it came over.
    Message(u64, Inbox, Reply),
    /// Whether a relay is pinned, and how many messages are unacknowledged.
    Looked {
        attempt: u64,
        pinned: bool,
        pending: usize,
    },
    /// `None` means that there is no stream.
    Began {
        attempt: u64,
        bound: Option<Bound>,
    },
    TimedOut(u64),
    /// The pull for the pin should have been answered by now.
    Unanswered(u64, u64),
    Transformed(FlowId, Vec<(Ticket, u64)>),
    /// A request goes out, a moment after it was decided.
    Send(FlowId, Request, Instant),
    /// The request did not go out.
    Unsent(FlowId, RequestId),
    Answered(FlowId, FlightId),
    /// A dead letter has to be stored.
    Store(FlowId, Ticket, u64),
    DeadLettered(FlowId, Ticket, u64),
    Renew(PinId),
    Renewed {
        id: PinId,
        sent: Instant,
        held: bool,
    },
    /// What the stream of this incarnation holds.
    Holds(FlowId, u64, Held),
    Tick,
    Wake,
    Swap,
    Retry,
    Stop,
}

impl Process {
    pub(super) fn new(
        id: RelayId,
        settings: Settings,
        publish: RequestLimits,
        keeps: Option<Keeps>,
        world: &mut World,
    ) -> Self {
        Self {
            id,
            starts: 0,
            settings,
            publish,
            grace: Duration::from_secs(world.rng.u64(2..30)),
            standby: world.setup.relays > 1,
            keeps,
            life: Life::Down,
            connected: false,
            attempts: 0,
            load: LoadId(1),
            supervision: Supervision::default(),
            paused: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        !matches!(self.life, Life::Down)
    }

    pub(super) fn start(&mut self, world: &mut World) {
        if self.is_up() {
            return;
        }
        world.tell(|| format!("relay {} starts", self.id));
        self.starts += 1;
        self.connected = false;
        self.supervision = Supervision::default();
        world.cut(self.id, Duration::ZERO);
        world.after(Duration::ZERO, Event::Reconnect(self.id));
        self.later(world, TICK, RelayEvent::Tick);
        self.begin(world);
    }

    /// Kills the process at once.
    pub(super) fn kill(&mut self, world: &mut World, notices: Duration) -> Result<(), String> {
        world.tell(|| format!("relay {} is killed", self.id));
        world.cut(self.id, notices);
        self.starts += 1;
        self.paused = None;
        if let Life::Running(running) = std::mem::replace(&mut self.life, Life::Down) {
            world.checker.ended(world.now, running.id, false)?;
        }
        Ok(())
    }

    /// Starts a run.
    fn begin(&mut self, world: &mut World) {
        let id = world.identifier();
        let seed = world.rng.u64(..);
        let endpoints = world.odds.endpoints.len();
        let flow = Flow::new("orders".into(), self.settings, self.publish, endpoints, seed);
        let trying = self.supervision.trying();
        world.tell(|| format!("relay {} begins flow {id}, trying {trying:?}", self.id));
        if trying.is_some() {
            world.count("tried again");
        }
        let limits = run::Limits {
            transforming: MAX_TRANSFORMING,
            grace: self.grace,
        };
        self.life = Life::Running(Box::new(Running {
            id,
            run: Run::begin(world.now, flow, limits, trying, self.standby),
            source: Source::Closed,
            pin: None,
            newest: Newest::default(),
            before: self.supervision.read(),
            seen: Seen::default(),
            transformed_at: world.now,
            storing: BTreeSet::new(),
            wakeup: None,
            yielded: false,
        }));
    }

    fn later(&self, world: &mut World, delay: Duration, event: RelayEvent) {
        world.after(delay, Event::Relay(self.id, self.starts, event));
    }

    pub(super) fn handle(&mut self, world: &mut World, event: RelayEvent) -> Result<(), String> {
        if !self.is_up() {
            return Ok(());
        }
        if let Some(paused) = &mut self.paused {
            paused.push(event);
            return Ok(());
        }
        match event {
            RelayEvent::Connected => self.connected = true,
            RelayEvent::Disconnected(generation) => {
                if world.links[self.id].generation == generation {
                    self.connected = false;
                    let delay = world.millis(10..2_000);
                    world.after(delay, Event::Reconnect(self.id));
                    self.with_running(world, |process, running, world| {
                        process.disconnected(running, world);
                        Ok(())
                    })?;
                }
            }
            RelayEvent::Tick => {
                self.later(world, TICK, RelayEvent::Tick);
                self.with_running(world, |process, running, world| {
                    running.run.tick(world.clock());
                    process.look_out(running, world);
                    Ok(())
                })?;
            }
            RelayEvent::Swap => self.swap(world),
            RelayEvent::Retry => {
                if self.supervision.retry() {
                    self.begin(world);
                }
            }
            RelayEvent::Stop => match &mut self.life {
                Life::Running(running) => running.run.stop(world.now),
                _ => self.stopped(world),
            },
            RelayEvent::Wake => {
                if self.supervision.wake(world.now) {
                    self.begin(world);
                }
            }
            event => self.with_running(world, |process, running, world| process.in_run(running, world, event))?,
        }
        self.proceed(world)
    }

    /// Handles an event during a run.
    fn in_run(&mut self, running: &mut Running, world: &mut World, event: RelayEvent) -> Result<(), String> {
        let now = world.clock();
        match event {
            RelayEvent::Message(generation, inbox, reply) => self.message(running, world, generation, inbox, reply),
            RelayEvent::Looked {
                attempt,
                pinned,
                pending,
            } => {
                if matches!(running.source, Source::Pinning { attempt: current, .. } if current == attempt) {
                    // A pin comes only with a message, and messages that another relay left unacked would come only
                    // after ack_wait.
                    if !pinned && pending > 0 {
                        self.send(world, ToServer::Reset);
                    }
                    self.pull_for_the_pin(running, world);
                }
            }
            RelayEvent::Unanswered(attempt, pull) => {
                if matches!(running.source, Source::Pinning { attempt: current, pulls, .. }
                    if current == attempt && pulls == pull)
                {
                    running.source = Source::Closed;
                    running.run.failed(world.now);
                }
            }
            RelayEvent::Began { attempt, bound } => {
                if matches!(running.source, Source::Opening { attempt: current, .. } if current == attempt) {
                    self.began(running, world, bound);
                }
            }
            RelayEvent::TimedOut(attempt) => {
                if matches!(running.source, Source::Opening { attempt: current, .. } if current == attempt) {
                    running.source = Source::Closed;
                    running.run.failed(world.now);
                }
            }
            RelayEvent::Transformed(flow, chunk) if flow == running.id => {
                for (ticket, number) in chunk {
                    let outcome = world.checker.letter(number).outcome(number);
                    let by = Load {
                        id: self.load,
                        sha256: "simulated".into(),
                    };
                    running.run.transformed(now, Transformed { ticket, outcome, by });
                }
            }
            RelayEvent::Send(flow, request, decided) if flow == running.id => {
                // The process may have been stopped since this was decided.
                if !running.may_publish(world.now) {
                    world.count("not sent without the lease");
                    let unsent = RelayEvent::Unsent(flow, request.id());
                    self.later(world, Duration::ZERO, unsent);
                } else {
                    let pin = running.pin.map(|pin| pin.id);
                    world.request((self.id, self.starts), running.id, pin, decided, &request)?;
                }
            }
            RelayEvent::Unsent(flow, request) if flow == running.id => {
                let reason = "another relay may have taken over".to_owned();
                running.run.answered(now, request, Answer::Lost { reason });
            }
            RelayEvent::Answered(flow, flight) if flow == running.id => {
                let (request, answer) = world.answer_to(flow, flight);
                running.run.answered(now, request, answer);
            }
            RelayEvent::Store(flow, ticket, number) if flow == running.id && running.storing.contains(&ticket) => {
                self.store(running, world, ticket, number);
            }
            RelayEvent::DeadLettered(flow, ticket, number) if flow == running.id && running.storing.remove(&ticket) => {
                world.checker.dead_lettered(flow, number)?;
                running.run.stored(now, ticket);
            }
            RelayEvent::Renew(id) => self.renew(running, world, id),
            RelayEvent::Renewed { id, sent, held } => {
                if let Some(pin) = running.pin.as_mut().filter(|pin| pin.id == id) {
                    if held {
                        pin.lease.renewed(world.now, sent);
                    } else {
                        world.count("pin lost");
                        pin.lease.lost(world.now);
                    }
                }
            }
            RelayEvent::Holds(flow, incarnation, held) if flow == running.id => {
                self.judge(running, world, incarnation, held)?;
            }
            // The event belongs to an earlier run.
            _ => {}
        }
        Ok(())
    }

    /// Carries out what was decided, reads on, and ends the run if it is done.
    fn proceed(&mut self, world: &mut World) -> Result<(), String> {
        self.with_running(world, |process, running, world| {
            process.carry_out(running, world)?;
            while process.read(running, world)? {
                process.carry_out(running, world)?;
            }
            process.open(running, world);
            Ok(())
        })?;
        let Life::Running(running) = &mut self.life else {
            if let Some(wakeup) = self.supervision.next_wakeup() {
                world.at(
                    wakeup.max(world.now),
                    Event::Relay(self.id, self.starts, RelayEvent::Wake),
                );
            }
            return Ok(());
        };
        if running.run.is_done(world.now) {
            return self.end(world);
        }
        let wakeup = [running.run.next_wakeup(), running.run.deadline()]
            .into_iter()
            .flatten()
            .min();
        if wakeup != running.wakeup
            && let Some(wakeup) = wakeup
        {
            world.at(
                wakeup.max(world.now),
                Event::Relay(self.id, self.starts, RelayEvent::Wake),
            );
        }
        running.wakeup = wakeup;
        Ok(())
    }

    fn carry_out(&mut self, running: &mut Running, world: &mut World) -> Result<(), String> {
        let in_flight = running.run.requests();
        running.run.lease(world.now, running.pin.map(|pin| pin.lease));
        if !running.yielded && !running.run.releases() {
            running.yielded = true;
            world.checker.yielded(running.id);
            world.tell(|| format!("flow {} yields, {in_flight} requests in flight", running.id));
            world.count("yielded");
            if in_flight > 0 {
                world.count("yielded with requests in flight");
            }
        }
        while let Some(request) = running.run.next_request(world.clock()) {
            let delay = Duration::from_micros(world.rng.u64(0..2_000));
            self.later(world, delay, RelayEvent::Send(running.id, request, world.now));
        }
        for action in running.run.take_actions(world.now) {
            match action {
                Action::Ack(Receipt { number, sequence }) => {
                    world.tell(|| format!("flow {} acks message {number}", running.id));
                    if running.yielded {
                        return Err(format!("message {number} is acked by one who has yielded"));
                    }
                    world.checker.acks(world.now, running.id, number)?;
                    self.send(world, ToServer::Ack(sequence));
                }
                Action::InProgress(receipt) => {
                    world.count("in progress");
                    self.send(world, ToServer::InProgress(receipt.sequence));
                }
                Action::Store(DeadLetter { ticket, message, .. }) => {
                    world.count("dead letter");
                    running.storing.insert(ticket);
                    self.store(running, world, ticket, number(&message));
                }
                Action::Refused(..) => world.count("refused"),
                Action::Close => self.close(running, world),
                Action::Recovered => world.count("recovered"),
                Action::Say(_) => {}
            }
        }
        Ok(())
    }

    /// Sends over the connection, or keeps the request for the next connection.
    fn send(&self, world: &mut World, what: ToServer) {
        world.send_to_server(self.id, what);
    }

    fn store(&self, running: &Running, world: &mut World, ticket: Ticket, number: u64) {
        self.later(
            world,
            Duration::from_secs(1),
            RelayEvent::Store(running.id, ticket, number),
        );
        let letter = ToServer::DeadLetter {
            process: self.starts,
            flow: running.id,
            ticket,
            number,
        };
        self.send(world, letter);
    }

    fn swap(&mut self, world: &mut World) {
        world.count("swap");
        self.load = LoadId(self.load.0 + 1);
        self.settings = Settings {
            on_reject: OnReject::DeadLetter,
            max_consecutive_rejects: 1_000_000,
            ..self.settings
        };
        match &mut self.life {
            Life::Running(running) if !running.run.is_ending() => running.run.configure(world.now, self.settings),
            Life::Between if self.supervision.assigned(self.load) => self.begin(world),
            _ => {}
        }
    }

    /// Handles the end of a run.
    fn end(&mut self, world: &mut World) -> Result<(), String> {
        let Life::Running(running) = std::mem::replace(&mut self.life, Life::Between) else {
            return Ok(());
        };
        let Running { id, run, pin, .. } = *running;
        let late = run.deadline().is_some_and(|deadline| world.now >= deadline);
        let (trying, releases, finishes) = (run.trying(), run.releases(), run.finishes());
        let ended = run.end();
        world.tell(|| format!("flow {id} is done: {ended:?}"));
        if late {
            world.count("drained too slowly");
        }
        world.checker.ended(world.now, id, !late && finishes)?;
        if releases
            && let Some(pin) = pin
            && pin.lease.is_valid(world.now)
        {
            self.send(world, ToServer::Unpin(pin.id));
        }
        match self.supervision.ended(world.now, ended, trying) {
            Next::Stop => self.stopped(world),
            Next::Renew(_) => world.count("renewed"),
            Next::Halted { pause, .. } => {
                world.count("halted");
                let delay = world.millis(500..30_000);
                self.later(world, delay, RelayEvent::Swap);
                if pause.is_none() {
                    let delay = world.millis(100..5_000);
                    self.later(world, delay, RelayEvent::Retry);
                }
                // A swap may have come while the run was ending.
                if self.supervision.assigned(self.load) {
                    self.begin(world);
                }
            }
        }
        if let Some(wakeup) = self.supervision.next_wakeup() {
            world.at(wakeup, Event::Relay(self.id, self.starts, RelayEvent::Wake));
        }
        Ok(())
    }

    /// The process ends. Its last requests are still on their way.
    fn stopped(&mut self, world: &mut World) {
        world.tell(|| format!("relay {} has stopped", self.id));
        self.life = Life::Down;
        self.starts += 1;
        let delay = world.millis(100..5_000);
        world.after(delay, Event::Start(self.id));
    }

    fn with_running(
        &mut self,
        world: &mut World,
        then: impl FnOnce(&mut Self, &mut Running, &mut World) -> Result<(), String>,
    ) -> Result<(), String> {
        match std::mem::replace(&mut self.life, Life::Between) {
            Life::Running(mut running) => {
                let done = then(self, &mut running, world);
                self.life = Life::Running(running);
                done
            }
            other => {
                self.life = other;
                Ok(())
            }
        }
    }

    /// Returns a short description of the state.
    pub(super) fn state(&self) -> String {
        let life = match &self.life {
            Life::Down => "down".to_owned(),
            Life::Running(running) => format!(
                "running flow {}, {:?}, pin {:?}, unsettled {:?}, {} requests, ending {}",
                running.id,
                running.source,
                running.pin,
                running.run.window().unsettled(),
                running.run.requests(),
                running.run.is_ending()
            ),
            Life::Between => format!("between runs, {:?}", self.supervision),
        };
        format!("{life}, connected {}, paused {}", self.connected, self.paused.is_some())
    }

    /// Returns true if the process knows of nothing left to do.
    pub(super) fn is_idle(&self) -> bool {
        match &self.life {
            Life::Running(running) => running.run.window().is_empty() && !running.run.is_ending(),
            Life::Down | Life::Between => false,
        }
    }
}

impl Running {
    fn may_publish(&self, now: Instant) -> bool {
        self.pin.is_none_or(|pin| pin.lease.is_valid(now))
    }
}

fn number(message: &Message) -> u64 {
    let bytes = message.payload.first_chunk().expect("it begins with its number");
    u64::from_le_bytes(*bytes)
}
