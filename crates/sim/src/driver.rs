//! Plays one schedule. The driver stores messages at random times, inflicts faults, moves the clock from event to
//! event, and reports everything to the checker. All of it follows from the seed.

use std::time::Duration;

use fastrand::Rng;
use slipring_core::pipeline::{OnReject, Settings};
use slipring_core::publish::RequestLimits;
use slipring_core::read::{Keeps, LARGEST_MESSAGE};
use slipring_core::stamp::VersionSource;
use slipring_core::window;

use super::jetstream::{Bound, JetStream, PIN_TTL, Stored};
use super::process::{Process, RelayEvent};
use super::traffic::Letter;
use super::world::{Event, RelayId, ToServer, World};
use super::{Setup, Summary};

/// The simulated time after the last fault within which everything has to come to rest: the longest absence of a relay,
/// ack_wait, the longest pauses, and a margin.
const PATIENCE: Duration = Duration::from_secs(600);

const FAULTS: [Fault; 17] = [
    Fault::Cut,
    Fault::HalfOpen,
    Fault::ServerRestart,
    Fault::LeaderChange,
    Fault::LostDelivery,
    Fault::Recreate,
    Fault::RollBack,
    Fault::Purge,
    Fault::Expire,
    Fault::DeleteConsumer,
    Fault::Crash,
    Fault::PowerCut,
    Fault::LongCrash,
    Fault::Stop,
    Fault::Pause,
    Fault::Swap,
    Fault::CentrifugoRestart,
];

#[derive(Debug, Clone, Copy)]
enum Fault {
    Cut,
    /// Nobody notices for a while.
    HalfOpen,
    ServerRestart,
    LeaderChange,
    LostDelivery,
    Recreate,
    /// The server loses the messages that were not yet on disk.
    RollBack,
    Purge,
    Expire,
    DeleteConsumer,
    Crash,
    /// The server notices later.
    PowerCut,
    /// The outage lasts longer than Centrifugo remembers keys.
    LongCrash,
    Stop,
    Pause,
    Swap,
    CentrifugoRestart,
}

struct Driver {
    world: World,
    relays: Vec<Process>,
    faults: Vec<Fault>,
    window: usize,
    unpublished: usize,
    troubled: bool,
}

pub(super) fn run(setup: Setup, seed: u64) -> Result<Summary, String> {
    play(setup, seed, false)
}

/// With `verbose`, prints what happens.
pub(super) fn play(setup: Setup, seed: u64, verbose: bool) -> Result<Summary, String> {
    let mut driver = Driver::new(setup, seed);
    driver.world.verbose = verbose;
    driver.play()?;
    driver.world.checker.at_rest(driver.world.now)?;
    let mut summary = driver.world.summary;
    summary.messages = driver.world.checker.count();
    summary.repeats = driver.world.checker.repeats;
    summary
        .counts
        .insert("expired", driver.world.checker.expired.len() as u64);
    Ok(summary)
}

/// Bytes of a window that its messages never fill.
const ROOMY: usize = 1 << 20;

impl Driver {
    fn new(setup: Setup, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let publish = RequestLimits::new(setup.order, rng.usize(1..12), rng.usize(1..5));
        let settings = Settings {
            window: window::Limits {
                messages: rng.usize(2..40),
                bytes: if rng.bool() { ROOMY } else { rng.usize(2_000..50_000) },
                age: Duration::from_secs(rng.u64(2..60)),
            },
            idempotency: setup.keys,
            on_reject: if rng.u64(0..8) == 0 {
                OnReject::Halt
            } else {
                OnReject::DeadLetter
            },
            max_consecutive_rejects: if rng.u64(0..4) == 0 { 1 } else { 100 },
            version: if setup.versions {
                VersionSource::Sequence
            } else {
                VersionSource::Module
            },
            conflate: setup.conflate,
            max_age: setup.max_age.then(|| Duration::from_millis(rng.u64(500..20_000))),
        };
        let (window, max_age) = (settings.window.messages, settings.max_age);
        let faults = Duration::from_millis(rng.u64(2_000..90_000));
        let max_messages = setup.lossy.then(|| rng.usize(3..30));
        let work_queue = rng.bool() && !setup.lossy;
        let jetstream = JetStream::new(work_queue, window, setup.relays > 1, max_messages);
        let keeps = max_messages.map(|max| Keeps {
            max_messages: Some(max as u64),
            max_bytes: None,
            max_age: None,
            largest: LARGEST_MESSAGE,
            all: true,
        });
        let mut world = World::new(setup, rng, jetstream, setup.relays, faults);
        world.checker.max_age = max_age;
        // Where bytes limit it, it may hold fewer messages than that.
        world.checker.window = match settings.window.bytes < ROOMY {
            true => 1,
            false => window as u64,
        };
        let relays = (0..setup.relays)
            .map(|id| Process::new(id, settings, publish, keeps, &mut world))
            .collect();
        let mut driver = Self {
            world,
            relays,
            faults: Vec::new(),
            window,
            unpublished: 0,
            troubled: false,
        };
        driver.plan();
        driver
    }

    /// Plans when messages are stored and when faults occur.
    fn plan(&mut self) {
        let world = &mut self.world;
        // Nobody knows whether Centrifugo would have refused a publication that was replaced or left out.
        self.troubled = world.rng.bool() && !world.setup.conflate && !world.setup.max_age;
        self.unpublished = world.rng.usize(5..80);
        let period = u64::try_from(world.faults_end.duration_since(world.now).as_millis()).unwrap_or(u64::MAX);
        let period_of_traffic = world.rng.u64(1..=period);
        for _ in 0..self.unpublished {
            let delay = world.millis(0..period_of_traffic);
            world.after(delay, Event::Publish);
        }
        // Only a few kinds of faults occur at a time, because one could hide the effects of another.
        let mut kinds = FAULTS.to_vec();
        // With `version = "sequence"`, Centrifugo takes the sequences of a rolled-back stream for old versions.
        kinds.retain(|kind| !(world.setup.versions && matches!(kind, Fault::RollBack)));
        world.rng.shuffle(&mut kinds);
        kinds.truncate(world.rng.usize(0..5));
        // The position of a relay in a stream is also a sequence. A consumer that was deleted meanwhile would be
        // created too far ahead.
        if kinds.iter().any(|kind| matches!(kind, Fault::RollBack)) {
            kinds.retain(|kind| !matches!(kind, Fault::DeleteConsumer));
        }
        // Where every loss is counted, nothing else may remove messages or forget what was read.
        if world.setup.lossy {
            kinds.retain(|kind| {
                !matches!(
                    kind,
                    Fault::RollBack | Fault::Purge | Fault::Expire | Fault::DeleteConsumer | Fault::LeaderChange
                )
            });
        }
        if !kinds.is_empty() {
            for index in 0..world.rng.usize(1..10) {
                let kind = kinds[world.rng.usize(0..kinds.len())];
                self.faults.push(kind);
                let delay = world.millis(0..period);
                world.after(delay, Event::Fault(index));
            }
        }
        for relay in 0..self.relays.len() {
            let delay = world.millis(0..50);
            world.after(delay, Event::Start(relay));
        }
        world.after(Duration::from_secs(1), Event::ServerTick);
    }

    fn play(&mut self) -> Result<(), String> {
        while let Some(event) = self.world.next_event() {
            if matches!(event, Event::ServerTick) && self.is_at_rest() {
                return Ok(());
            }
            if self.world.now > self.world.faults_end + PATIENCE {
                let relays: Vec<_> = self.relays.iter().map(Process::state).collect();
                return Err(format!(
                    "still running long after the faults ended: {relays:?}, {} messages to come, {:?}",
                    self.unpublished, self.world.jetstream
                ));
            }
            self.handle(event)?;
            self.world.flush();
        }
        Err("nothing happens any more".to_owned())
    }

    fn is_at_rest(&self) -> bool {
        let quiet = self.world.now > self.world.faults_end && self.world.now > self.world.busy_until;
        let up = |relay: &Process| relay.paused.is_none() && relay.is_idle();
        quiet && self.unpublished == 0 && self.world.jetstream.is_done() && self.relays.iter().all(up)
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Relay(relay, process, event) => {
                let relay = &mut self.relays[relay];
                if process == relay.starts || process == u64::MAX {
                    relay.handle(&mut self.world, event)?;
                }
            }
            Event::ToServer(relay, generation, what) => {
                if self.world.arrives(relay, generation) {
                    self.serve(relay, what)?;
                } else {
                    self.world.lost(relay, generation, &what);
                }
            }
            Event::StrayAck(sequence) => {
                if self.world.publish_allowed() {
                    self.ack(sequence)?;
                }
            }
            Event::Closed(relay, generation) => self.world.close_inboxes(relay, generation),
            Event::Reconnect(relay) => self.reconnect(relay),
            Event::Execute(flight, command) => self.world.execute(flight, command)?,
            Event::Answer(flight) => self.world.answer(flight),
            Event::Publish => self.publish(),
            Event::Fault(index) => {
                let fault = self.faults[index];
                self.inflict(fault)?;
            }
            Event::Create => self.world.jetstream.create(),
            Event::Start(relay) => self.relays[relay].start(&mut self.world),
            Event::Continue(relay) => {
                if let Some(waiting) = self.relays[relay].paused.take() {
                    self.world.tell(|| format!("relay {relay} goes on"));
                    for event in waiting {
                        self.relays[relay].handle(&mut self.world, event)?;
                    }
                }
            }
            Event::ServerTick => {
                self.world.after(Duration::from_secs(1), Event::ServerTick);
                if self.world.now >= self.world.nats_down_until {
                    let (replies, expired) = self.world.jetstream.tick(self.world.now);
                    (0..expired).for_each(|_| self.world.count("ack_wait over"));
                    self.world.send(replies);
                }
            }
        }
        Ok(())
    }

    fn publish(&mut self) {
        if !self.world.publish_allowed() {
            self.world.after(Duration::from_millis(200), Event::Publish);
            return;
        }
        let letter = Letter::random(&mut self.world.rng, self.troubled, self.world.setup.versions);
        let stored = Stored {
            number: self.world.checker.count(),
            timestamp: self.world.timestamp(),
            size: letter.size,
        };
        let skipped = if !self.world.setup.lossy && self.world.rng.u64(0..5) == 0 {
            self.world.rng.u64(1..4)
        } else {
            0
        };
        let stream = self.world.jetstream.publish(stored, skipped);
        let (incarnation, sequence, gone) = stream.expect("there is a stream");
        self.world.tell(|| {
            format!(
                "message {} is stored as {incarnation}/{sequence}: {letter:?}",
                stored.number
            )
        });
        self.world.checker.stored(self.world.now, incarnation, sequence, letter);
        if !gone.is_empty() {
            self.world.tell(|| format!("these make room: {gone:?}"));
            self.world.checker.lost(&gone);
        }
        self.unpublished -= 1;
    }

    fn reconnect(&mut self, id: RelayId) {
        let relay = &self.relays[id];
        if !relay.is_up() || self.world.links[id].passes {
            return;
        }
        if relay.paused.is_none() && self.world.connect(id) {
            self.world.send_to_relay(id, relay.starts, RelayEvent::Connected);
        } else {
            self.world.after(Duration::from_millis(200), Event::Reconnect(id));
        }
    }

    /// Handles a request that arrives at the NATS server.
    fn serve(&mut self, relay: RelayId, what: ToServer) -> Result<(), String> {
        let world = &mut self.world;
        match what {
            ToServer::Ack(sequence) => self.ack(sequence)?,
            ToServer::InProgress(sequence) => world.jetstream.in_progress(world.now, sequence),
            ToServer::Begin {
                process,
                attempt,
                reset,
                position,
            } => {
                let is_new = !world.jetstream.has_consumer();
                let stream = world.jetstream.bind(position);
                let delivered_through = world.jetstream.delivered_through();
                let waiting = world.jetstream.pending() > 0;
                if reset && stream.is_some() {
                    let again = world.jetstream.reset();
                    world.tell(|| format!("relay {relay} resets the consumer, {again} come again"));
                    world.count("reset");
                    if again > self.window {
                        return Err(format!(
                            "{again} messages come again, and the window takes {}",
                            self.window
                        ));
                    }
                }
                let bound = stream.map(|stream| Bound {
                    stream,
                    is_new,
                    floor: world.jetstream.floor(),
                    delivered_through,
                    waiting,
                    delivered: world.jetstream.delivered(),
                    to_come: world.jetstream.to_come() as u64,
                    held: world.jetstream.held(),
                });
                world.send_to_relay(relay, process, RelayEvent::Began { attempt, bound });
            }
            ToServer::Subscribe(inbox) => world.jetstream.subscribe(inbox),
            ToServer::Unsubscribe(inbox) => world.jetstream.unsubscribe(inbox),
            ToServer::Pull(pull) => {
                let refused = world.jetstream.pull(world.now, pull);
                world.send(refused.into_iter().collect());
            }
            ToServer::Renew { process, id, sent } => {
                if let Some(held) = world.jetstream.renew(world.now, id) {
                    world.send_to_relay(relay, process, RelayEvent::Renewed { id, sent, held });
                }
            }
            ToServer::Bind => {
                world.jetstream.bind(None);
            }
            ToServer::Look { process, attempt } => {
                let pinned = world.jetstream.holder(world.now).is_some();
                let pending = world.jetstream.pending();
                let looked = RelayEvent::Looked {
                    attempt,
                    pinned,
                    pending,
                };
                world.send_to_relay(relay, process, looked);
            }
            ToServer::Reset => {
                world.jetstream.reset();
                world.count("reset for a pin");
            }
            ToServer::Unpin(id) => {
                world.jetstream.unpin(id);
                world.count("pin released");
            }
            ToServer::Holds { process, flow } => {
                if let Some(incarnation) = world.jetstream.incarnation() {
                    let holds = RelayEvent::Holds(flow, incarnation, world.jetstream.held());
                    world.send_to_relay(relay, process, holds);
                }
            }
            ToServer::DeadLetter {
                process,
                flow,
                ticket,
                number,
            } => world.send_to_relay(relay, process, RelayEvent::DeadLettered(flow, ticket, number)),
        }
        Ok(())
    }

    fn ack(&mut self, sequence: u64) -> Result<(), String> {
        match self.world.jetstream.ack(sequence) {
            Some(number) => self.world.checker.acked(number),
            None => Ok(()),
        }
    }

    fn inflict(&mut self, fault: Fault) -> Result<(), String> {
        let id = self.world.rng.usize(0..self.relays.len());
        self.world.tell(|| format!("{fault:?} (relay {id})"));
        let running = self.relays[id].is_up();
        let name: &'static str = fault.name();
        match fault {
            Fault::Cut | Fault::HalfOpen => {
                if !self.world.links[id].passes {
                    return Ok(());
                }
                let most = if matches!(fault, Fault::Cut) { 100 } else { 20_000 };
                let (client, server) = (self.world.millis(0..most), self.world.millis(0..most));
                self.cut(id, client, server);
            }
            Fault::ServerRestart => {
                let away = self.world.millis(50..5_000);
                self.restart_nats(away);
            }
            Fault::RollBack => {
                if !self.world.jetstream.exists() {
                    return Ok(());
                }
                let count = self.world.rng.usize(1..6);
                let gone = self.world.jetstream.roll_back(count);
                self.world.tell(|| format!("lost: {gone:?}"));
                self.world.checker.removed(&gone);
                let away = self.until_acks_are_gone();
                self.restart_nats(away);
            }
            Fault::LeaderChange => {
                let (behind, told) = (self.world.rng.bool(), self.world.rng.bool());
                let replies = self.world.jetstream.change_leader(behind, told);
                self.world.checker.forget_pin(self.world.now);
                self.world.send(replies);
            }
            Fault::LostDelivery => self.world.lose_delivery = true,
            Fault::Recreate => {
                if !self.world.jetstream.exists() {
                    return Ok(());
                }
                let (replies, gone) = self.world.jetstream.delete();
                self.world.checker.removed(&gone);
                self.world.checker.forget_pin(self.world.now);
                self.world.send(replies);
                let away = self.until_acks_are_gone();
                self.world.after(away, Event::Create);
            }
            Fault::Purge | Fault::Expire => {
                let count = self.world.rng.usize(1..20);
                let gone = self.world.jetstream.remove(count, matches!(fault, Fault::Purge));
                self.world.checker.removed(&gone);
            }
            Fault::DeleteConsumer => {
                let replies = self.world.jetstream.delete_consumer();
                self.world.checker.consumer_deleted(self.world.now);
                self.world.send(replies);
            }
            Fault::Crash | Fault::PowerCut | Fault::LongCrash => {
                if !running {
                    return Ok(());
                }
                let most = if matches!(fault, Fault::PowerCut) { 20_000 } else { 50 };
                let notices = self.world.millis(0..most);
                self.relays[id].kill(&mut self.world, notices)?;
                let away = match fault {
                    Fault::LongCrash => self.world.millis(280_000..360_000),
                    _ => self.world.millis(50..10_000),
                };
                self.world.after(away, Event::Start(id));
            }
            Fault::Stop => {
                let process = self.relays[id].starts;
                self.world
                    .after(Duration::ZERO, Event::Relay(id, process, RelayEvent::Stop));
            }
            Fault::Pause => {
                if !running || self.relays[id].paused.is_some() {
                    return Ok(());
                }
                self.relays[id].paused = Some(Vec::new());
                let most = if self.world.rng.bool() { 5_000 } else { 90_000 };
                let pause = self.world.millis(100..most);
                self.world.after(pause, Event::Continue(id));
            }
            Fault::Swap => {
                let process = self.relays[id].starts;
                self.world
                    .after(Duration::ZERO, Event::Relay(id, process, RelayEvent::Swap));
            }
            Fault::CentrifugoRestart => {
                let most = if self.world.rng.u64(0..10) == 0 { 60_000 } else { 5_000 };
                let away = self.world.millis(10..most);
                self.world.restart_centrifugo(away);
            }
        }
        self.world.count(name);
        Ok(())
    }

    /// An ack names a sequence, and nothing tells JetStream which message was meant. So a sequence must not be reused
    /// while an ack may be on its way, or while a relay that has not noticed yet has its lease and another one reads.
    fn until_acks_are_gone(&mut self) -> Duration {
        let away = self.world.millis(2_500..10_000);
        if self.world.setup.relays > 1 {
            away + PIN_TTL
        } else {
            away
        }
    }

    fn restart_nats(&mut self, away: Duration) {
        self.world.nats_down_until = self.world.now + away;
        // Nobody is left to be told.
        self.world.jetstream.change_leader(false, false);
        self.world.checker.forget_pin(self.world.now);
        for id in 0..self.relays.len() {
            let notices = self.world.millis(0..50);
            self.cut(id, notices, Duration::ZERO);
        }
    }

    /// Cuts a connection. Each side notices after its own delay.
    fn cut(&mut self, id: RelayId, client: Duration, server: Duration) {
        let generation = self.world.links[id].generation;
        self.world.cut(id, server);
        let process = self.relays[id].starts;
        self.world
            .after(client, Event::Relay(id, process, RelayEvent::Disconnected(generation)));
    }
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Cut => "connection cut",
            Self::HalfOpen => "connection half-open",
            Self::ServerRestart => "NATS restarted",
            Self::LeaderChange => "leader changed",
            Self::LostDelivery => "delivery to lose",
            Self::Recreate => "stream recreated",
            Self::RollBack => "stream rolled back",
            Self::Purge => "stream purged",
            Self::Expire => "messages expired",
            Self::DeleteConsumer => "consumer deleted",
            Self::Crash => "relay killed",
            Self::PowerCut => "relay's power cut",
            Self::LongCrash => "relay away for long",
            Self::Stop => "relay stopped",
            Self::Pause => "relay paused (SIGSTOP)",
            Self::Swap => "module to swap",
            Self::CentrifugoRestart => "Centrifugo restarted",
        }
    }
}
