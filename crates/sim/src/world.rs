//! The environment of the relays: the clock, the random numbers, the servers, and the network between them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use slipring_core::now::Now;
use slipring_core::publish::{Answer, Request, RequestId};
use slipring_core::read::Position;

use super::checker::{Checker, FlightId, FlowId};
use super::jetstream::{Inbox, JetStream, PinId, Pull, Replies, Reply};
use super::process::RelayEvent;
use super::{Setup, Summary};
use crate::centrifugo::{self, Centrifugo};
use crate::flight::{Flight, Odds, Sent};

/// The start of a schedule, in nanoseconds since 1970.
const EPOCH: u64 = 1_790_000_000_000_000_000;

pub(super) type RelayId = usize;

pub(super) struct World {
    pub(super) setup: Setup,
    pub(super) rng: Rng,
    start: Instant,
    pub(super) now: Instant,
    pub(super) faults_end: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    scheduled: u64,
    pub(super) jetstream: JetStream,
    /// The connections between relays and NATS.
    pub(super) links: Vec<Link>,
    inboxes: BTreeMap<Inbox, (RelayId, u64)>,
    /// The NATS server accepts nothing until then.
    pub(super) nats_down_until: Instant,
    /// The next delivery is lost although the connection stays open.
    pub(super) lose_delivery: bool,
    centrifugo: Centrifugo,
    centrifugo_starts: u64,
    centrifugo_down_until: Instant,
    pub(super) odds: Odds,
    flights: Vec<Underway>,
    /// When Centrifugo executes the last of the requests that it was sent.
    pub(super) busy_until: Instant,
    pub(super) checker: Checker,
    pub(super) summary: Summary,
    /// Prints what happens.
    pub(super) verbose: bool,
    identifiers: u64,
}

/// A connection between a relay and NATS.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) generation: u64,
    pub(super) passes: bool,
    /// By how much acks arrive late that were on their way when the connection broke, if they arrive.
    straggling: Option<Duration>,
    to_server: Instant,
    to_client: Instant,
}

#[derive(Debug)]
struct Underway {
    relay: RelayId,
    process: u64,
    flow: FlowId,
    request: RequestId,
    flight: Flight,
    centrifugo: u64,
    answered: bool,
}

#[derive(Debug)]
pub(super) enum Event {
    Relay(RelayId, u64, RelayEvent),
    /// Arrives only if the connection with this number still exists.
    ToServer(RelayId, u64, ToServer),
    /// An ack that was on its way when its connection broke. It may arrive when there is a new connection.
    StrayAck(u64),
    /// The server notices that a connection is gone.
    Closed(RelayId, u64),
    Reconnect(RelayId),
    Execute(FlightId, usize),
    Answer(FlightId),
    Publish,
    Fault(usize),
    Create,
    Start(RelayId),
    Continue(RelayId),
    ServerTick,
}

#[derive(Debug)]
pub(super) enum ToServer {
    Ack(u64),
    InProgress(u64),
    /// Binds to the consumer and resets it.
    Begin {
        process: u64,
        attempt: u64,
        reset: bool,
        position: Option<Position>,
    },
    /// Binds to the consumer, or creates it.
    Bind,
    /// Asks whether a relay is pinned, and how many messages are unacknowledged.
    Look {
        process: u64,
        attempt: u64,
    },
    Reset,
    Unpin(PinId),
    /// Asks what the stream holds.
    Holds {
        process: u64,
        flow: FlowId,
    },
    Subscribe(Inbox),
    Unsubscribe(Inbox),
    Pull(Pull),
    Renew {
        process: u64,
        id: PinId,
        sent: Instant,
    },
    DeadLetter {
        process: u64,
        flow: FlowId,
        ticket: u64,
        number: u64,
    },
}

impl World {
    pub(super) fn new(setup: Setup, mut rng: Rng, jetstream: JetStream, relays: usize, faults: Duration) -> Self {
        // The value of the clock decides nothing.
        let start = Instant::now();
        let link = || Link {
            generation: 0,
            passes: false,
            straggling: None,
            to_server: start,
            to_client: start,
        };
        Self {
            setup,
            start,
            now: start,
            faults_end: start + faults,
            events: BTreeMap::new(),
            scheduled: 0,
            jetstream,
            links: (0..relays).map(|_| link()).collect(),
            inboxes: BTreeMap::new(),
            nats_down_until: start,
            lose_delivery: false,
            centrifugo: Centrifugo::default(),
            centrifugo_starts: 0,
            centrifugo_down_until: start,
            odds: if rng.u64(0..4) == 0 {
                Odds::none()
            } else {
                Odds::random(&mut rng)
            },
            flights: Vec::new(),
            busy_until: start,
            checker: Checker::new(setup),
            summary: Summary::default(),
            verbose: false,
            identifiers: 0,
            rng,
        }
    }

    pub(super) fn at(&mut self, time: Instant, event: Event) {
        self.scheduled += 1;
        self.events.insert((time, self.scheduled), event);
    }

    pub(super) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    pub(super) fn next_event(&mut self) -> Option<Event> {
        let ((time, _), event) = self.events.pop_first()?;
        self.now = time;
        Some(event)
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(super) fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(range))
    }

    pub(super) fn faulty(&self) -> bool {
        self.now < self.faults_end
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.summary.counts.entry(what).or_default() += 1;
    }

    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            eprintln!("{:>9.3} {}", self.elapsed().as_secs_f64(), what());
        }
    }

    /// Returns a unique number.
    pub(super) fn identifier(&mut self) -> u64 {
        self.identifiers += 1;
        self.identifiers
    }

    /// Returns the time that a relay sees. Its wall clock is that of the server.
    pub(super) fn clock(&self) -> Now {
        Now {
            instant: self.now,
            unix: Duration::from_nanos(self.timestamp()),
        }
    }

    pub(super) fn timestamp(&self) -> u64 {
        EPOCH + u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn publish_allowed(&self) -> bool {
        self.now >= self.nats_down_until && self.jetstream.exists()
    }

    /// Sends over the relay's connection, after everything sent before.
    pub(super) fn send_to_server(&mut self, relay: RelayId, what: ToServer) {
        let delay = self.latency();
        let link = &mut self.links[relay];
        link.to_server = link.to_server.max(self.now + delay);
        let (time, generation) = (link.to_server, link.generation);
        self.at(time, Event::ToServer(relay, generation, what));
    }

    /// Returns true if an arriving message still counts: it came over the current connection.
    pub(super) fn arrives(&self, relay: RelayId, generation: u64) -> bool {
        let link = &self.links[relay];
        link.passes && link.generation == generation && self.now >= self.nats_down_until
    }

    /// Answers a relay's request over its connection.
    pub(super) fn send_to_relay(&mut self, relay: RelayId, process: u64, event: RelayEvent) {
        let delay = self.latency();
        let link = &mut self.links[relay];
        link.to_client = link.to_client.max(self.now + delay);
        let time = link.to_client;
        self.at(time, Event::Relay(relay, process, event));
    }

    pub(super) fn open_inbox(&mut self, relay: RelayId, inbox: Inbox) {
        let generation = self.links[relay].generation;
        self.inboxes.insert(inbox, (relay, generation));
    }

    pub(super) fn close_inboxes(&mut self, relay: RelayId, generation: u64) {
        let closed: Vec<Inbox> = self
            .inboxes
            .iter()
            .filter(|(_, of)| **of == (relay, generation))
            .map(|(inbox, _)| *inbox)
            .collect();
        for inbox in closed {
            self.jetstream.unsubscribe(inbox);
        }
    }

    /// Delivers what can be delivered now, after a change in JetStream.
    pub(super) fn flush(&mut self) {
        if self.now >= self.nats_down_until {
            let replies = self.jetstream.deliver(self.now);
            self.send(replies);
        }
    }

    pub(super) fn send(&mut self, replies: Replies) {
        for (inbox, reply) in replies {
            let Some(&(relay, generation)) = self.inboxes.get(&inbox) else {
                continue;
            };
            if !self.arrives(relay, generation) {
                continue;
            }
            if matches!(reply, Reply::Delivery(_)) && std::mem::take(&mut self.lose_delivery) {
                self.count("delivery lost");
                continue;
            }
            // The relay knows its inboxes, whichever process it is.
            let delay = self.latency();
            let link = &mut self.links[relay];
            link.to_client = link.to_client.max(self.now + delay);
            let time = link.to_client;
            self.at(
                time,
                Event::Relay(relay, u64::MAX, RelayEvent::Message(generation, inbox, reply)),
            );
        }
    }

    fn latency(&mut self) -> Duration {
        Duration::from_micros(self.rng.u64(100..3_000))
    }

    /// Loses what was sent over a broken connection, except for late acks. These keep their order.
    pub(super) fn lost(&mut self, relay: RelayId, generation: u64, what: &ToServer) {
        let link = &self.links[relay];
        if let ToServer::Ack(sequence) = what
            && let Some(late) = link.straggling
            && link.generation == generation
        {
            self.count("stray ack");
            self.after(late, Event::StrayAck(*sequence));
        }
    }

    /// Breaks the connection. Everything on its way is lost in both directions.
    pub(super) fn cut(&mut self, relay: RelayId, notices: Duration) {
        let late = self.millis(0..2_000);
        let straggling = self.rng.bool().then_some(late);
        let link = &mut self.links[relay];
        if link.passes {
            link.passes = false;
            link.straggling = straggling;
            let generation = link.generation;
            self.after(notices, Event::Closed(relay, generation));
        }
    }

    /// Opens a new connection. Returns true if the server was there.
    pub(super) fn connect(&mut self, relay: RelayId) -> bool {
        if self.now < self.nats_down_until {
            return false;
        }
        let link = &mut self.links[relay];
        link.generation += 1;
        link.passes = true;
        (link.to_server, link.to_client) = (self.now, self.now);
        true
    }

    /// Sends a request of a flow to Centrifugo. It was decided a moment ago.
    pub(super) fn request(
        &mut self,
        (relay, process): (RelayId, u64),
        flow: FlowId,
        pin: Option<PinId>,
        decided: Instant,
        request: &Request,
    ) -> Result<(), String> {
        let holder = self.jetstream.holder(self.now);
        let displaced = |pin: PinId| holder.is_some_and(|holder| holder != pin) && !self.jetstream.has_forgotten(pin);
        if pin.is_some_and(displaced) && !request.is_empty() {
            return Err(format!("relay {relay} publishes although another one is pinned"));
        }
        let faulty = self.faulty();
        let Sent {
            mut flight,
            executions,
            mut answer,
            faults,
        } = self.odds.send(&mut self.rng, request, faulty);
        let id = self.flights.len() as FlightId;
        self.tell(|| format!("relay {relay} flow {flow} sends request {id}: {:?}", names(&flight)));
        self.checker.sent(decided, flow, id, &flight.commands)?;
        if self.now < self.centrifugo_down_until {
            flight.broken();
            answer = self.millis(1..5);
            self.count("Centrifugo away");
        } else {
            for fault in faults {
                self.count(fault);
            }
            for (command, delay) in executions.into_iter().enumerate() {
                self.busy_until = self.busy_until.max(self.now + delay);
                self.after(delay, Event::Execute(id, command));
            }
        }
        self.after(answer, Event::Answer(id));
        self.flights.push(Underway {
            relay,
            process,
            flow,
            request: request.id(),
            flight,
            centrifugo: self.centrifugo_starts,
            answered: false,
        });
        Ok(())
    }

    pub(super) fn execute(&mut self, id: FlightId, index: usize) -> Result<(), String> {
        let faulty = self.faulty();
        let underway = &self.flights[id as usize];
        if underway.centrifugo != self.centrifugo_starts {
            return Ok(());
        }
        let command = underway.flight.commands[index].clone();
        let mut responses = Vec::new();
        for channel in &command.channels {
            let fails =
                faulty && !channel.starts_with(centrifugo::UNKNOWN) && self.rng.u64(0..100) < self.odds.error_100;
            let executes = !fails || self.rng.bool();
            if fails {
                self.count("100");
                self.checker.failed(id, channel, command.number);
            }
            let mut response = centrifugo::error(100, "internal server error");
            if executes {
                if !channel.starts_with(centrifugo::UNKNOWN) {
                    self.checker.published(channel, command.number);
                }
                let (reply, shown) = self.centrifugo.execute(self.now, channel, &command);
                if shown {
                    self.tell(|| format!("request {id} shows {} on {channel}", name(command.number)));
                    self.summary.shown.push((channel.clone(), command.number));
                    self.checker.shown(self.now, id, channel, command.number)?;
                }
                if !fails {
                    response = reply;
                }
            }
            responses.push(response);
        }
        self.flights[id as usize].flight.executed(index, responses);
        Ok(())
    }

    /// The answer has arrived. It counts once.
    pub(super) fn answer(&mut self, id: FlightId) {
        let underway = &mut self.flights[id as usize];
        if !std::mem::replace(&mut underway.answered, true) {
            let (relay, process, flow) = (underway.relay, underway.process, underway.flow);
            self.after(
                Duration::ZERO,
                Event::Relay(relay, process, RelayEvent::Answered(flow, id)),
            );
        }
    }

    /// Returns the answer for the flow that sent the request.
    pub(super) fn answer_to(&mut self, flow: FlowId, id: FlightId) -> (RequestId, Answer) {
        let underway = &self.flights[id as usize];
        let answer = underway.flight.answer();
        self.tell(|| format!("flow {flow} is answered {id}: {answer:?}"));
        self.checker.answered(flow, &underway.flight.commands, &answer);
        (underway.request, answer)
    }

    pub(super) fn restart_centrifugo(&mut self, away: Duration) {
        self.tell(|| format!("Centrifugo restarts, away for {away:?}"));
        self.centrifugo.restart();
        self.centrifugo_starts += 1;
        self.centrifugo_down_until = self.now + away;
        self.checker.centrifugo_forgot(self.now);
        for id in 0..self.flights.len() {
            let underway = &mut self.flights[id];
            if !underway.answered && underway.centrifugo < self.centrifugo_starts {
                underway.flight.broken();
                self.answer(id as FlightId);
            }
        }
    }
}

fn names(flight: &Flight) -> Vec<String> {
    let commands = flight.commands.iter();
    commands
        .map(|command| format!("{}@{}", name(command.number), command.channels.join("+")))
        .collect()
}

/// Names a publication by its message's number and its index in the message.
pub(super) fn name(number: u64) -> String {
    format!(
        "{}.{}",
        number / super::traffic::MAX_PARTS,
        number % super::traffic::MAX_PARTS
    )
}
