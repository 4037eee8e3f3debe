//! Plays one schedule. The driver pushes at random times, decides the fate of each request, moves the clock from event
//! to event, and reports everything to the checker. All of it follows from the seed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use slipring_core::publish::{Order, Request, RequestId, RequestLimits, Scheduler};

use super::checker::Checker;
use super::traffic;
use crate::centrifugo::{self, Centrifugo};
use crate::flight::{Curse, Flight, Odds, Sent};

/// The simulated time in which a schedule has to end. Pauses are at most 30 s, and faults end after 60 s or when the
/// curse ends.
const PATIENCE: Duration = Duration::from_secs(3_000);

/// Far longer than anything may wait that is not behind a cursed publication.
const CURSE_LASTS: Duration = Duration::from_secs(2_000);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) order: Order,
    pub(super) keys: bool,
    /// Sends only the newest of the publications that wait for a channel.
    pub(super) conflate: bool,
    /// Nothing goes wrong, except that some publications never arrive.
    pub(super) cursed: bool,
}

/// What happened in a schedule. Runs are compared by it, and it reveals a fault that never occurs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) shown: Vec<(String, u64)>,
    pub(super) counts: BTreeMap<&'static str, u64>,
}

struct Driver {
    setup: Setup,
    rng: Rng,
    start: Instant,
    now: Instant,
    faults_end: Instant,
    odds: Odds,
    max_in_flight: usize,
    scheduler: Scheduler,
    centrifugo: Centrifugo,
    checker: Checker,
    events: BTreeMap<(Instant, u64), Event>,
    scheduled: u64,
    flights: BTreeMap<RequestId, Flight>,
    pushed: u64,
    summary: Summary,
}

#[derive(Debug)]
enum Event {
    Push,
    Execute(RequestId, usize),
    Answer(RequestId),
    Wake,
}

pub(super) fn run(setup: Setup, seed: u64) -> Result<Summary, String> {
    let mut driver = Driver::new(setup, seed);
    driver.play()?;
    driver.checker.at_rest()?;
    // Idle channels are forgotten once what they had to remember no longer matters.
    driver.scheduler.next_request(driver.now + Duration::from_secs(60));
    if !driver.scheduler.is_idle() || driver.scheduler.waiting() > 0 || !driver.scheduler.has_forgotten_all() {
        return Err(format!(
            "everything is concluded, and yet this is left: {:?}",
            driver.scheduler
        ));
    }
    Ok(driver.summary)
}

impl Driver {
    fn new(setup: Setup, seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        // The value of the clock decides nothing.
        let start = Instant::now();
        let max_in_flight = rng.usize(1..5);
        let limits = RequestLimits {
            order: setup.order,
            max_batch: rng.usize(1..12),
            max_request_bytes: 2_000,
            max_in_flight,
            busy_batch: if seed.is_multiple_of(2) { 1 } else { usize::MAX },
        };
        let odds = match setup.cursed {
            true => Odds {
                curse: Curse::random(&mut rng),
                ..Odds::none()
            },
            false => Odds::random(&mut rng),
        };
        let scheduler = Scheduler::new(limits, seed).with_endpoints(odds.endpoints.len());
        let mut driver = Self {
            setup,
            start,
            now: start,
            faults_end: start
                + match setup.cursed {
                    true => CURSE_LASTS,
                    false => Duration::from_millis(rng.u64(0..60_000)),
                },
            odds,
            max_in_flight,
            scheduler,
            centrifugo: Centrifugo::default(),
            checker: Checker::new(setup),
            events: BTreeMap::new(),
            scheduled: 0,
            flights: BTreeMap::new(),
            pushed: 0,
            summary: Summary::default(),
            rng,
        };
        let period = driver.rng.u64(1..30_000);
        for _ in 0..driver.rng.u64(3..40) {
            let delay = driver.millis(0..period);
            driver.at(start + delay, Event::Push);
        }
        driver
    }

    fn play(&mut self) -> Result<(), String> {
        loop {
            while let Some(request) = self.scheduler.next_request(self.now) {
                self.send(&request)?;
            }
            if let Some(wakeup) = self.scheduler.next_wakeup() {
                if wakeup <= self.now {
                    return Err("it wants to be woken at once although nothing can be sent".to_owned());
                }
                self.at(wakeup, Event::Wake);
            }
            // A wakeup too many changes nothing, but a missing one stops the schedule.
            let Some(((time, _), event)) = self.events.pop_first() else {
                break;
            };
            self.now = time;
            if self.now > self.start + PATIENCE {
                return Err(format!(
                    "still running long after the faults ended: {:?}",
                    self.scheduler
                ));
            }
            match event {
                Event::Push => (0..self.rng.u64(1..5)).try_for_each(|_| self.push())?,
                Event::Execute(id, command) => self.execute(id, command)?,
                Event::Answer(id) => self.answer(id)?,
                Event::Wake => {}
            }
        }
        if !self.checker.is_complete() {
            return Err(format!(
                "nothing happens any more, and this is not concluded: {:?}",
                self.scheduler
            ));
        }
        Ok(())
    }

    fn push(&mut self) -> Result<(), String> {
        let (publication, ill) = traffic::publication(&mut self.rng, self.pushed, self.setup.cursed);
        let channels = publication.channels.iter().map(ToString::to_string).collect();
        self.checker.pushed(self.now, channels, ill);
        let key = self.setup.keys.then(|| format!("key-{}", self.pushed));
        if !self.setup.conflate {
            self.scheduler.push(self.pushed, publication, key);
        } else if let Some(obsolete) = self.scheduler.push_newest(self.pushed, publication, key) {
            self.count("conflated", 1);
            self.checker.gave_up_its_place(obsolete.ticket)?;
        }
        self.pushed += 1;
        Ok(())
    }

    fn send(&mut self, request: &Request) -> Result<(), String> {
        let faulty = self.now < self.faults_end;
        let Sent {
            flight,
            executions,
            answer,
            faults,
        } = self.odds.send(&mut self.rng, request, faulty);
        for fault in faults {
            self.count(fault, 1);
        }
        for (command, after) in executions.into_iter().enumerate() {
            self.at(self.now + after, Event::Execute(request.id(), command));
        }
        self.at(self.now + answer, Event::Answer(request.id()));
        self.checker.sent(request.id(), &flight.commands)?;
        self.flights.insert(request.id(), flight);
        if self.scheduler.in_flight() > self.max_in_flight {
            return Err(format!("{} requests in flight", self.scheduler.in_flight()));
        }
        Ok(())
    }

    fn execute(&mut self, id: RequestId, index: usize) -> Result<(), String> {
        let faulty = self.now < self.faults_end;
        // A request may be executed after its sender has given it up.
        let command = self.flights[&id].commands[index].clone();
        let mut responses = Vec::new();
        for channel in &command.channels {
            let fails =
                faulty && !channel.starts_with(centrifugo::UNKNOWN) && self.rng.u64(0..100) < self.odds.error_100;
            let executes = !fails || self.rng.bool();
            if fails {
                self.count("100", 1);
                self.checker.failed(id, channel, command.number);
            }
            let mut response = centrifugo::error(100, "internal server error");
            if executes {
                let (reply, shown) = self.centrifugo.execute(self.now, channel, &command);
                if shown {
                    self.checker.shown(self.now, id, channel, command.number)?;
                    self.summary.shown.push((channel.clone(), command.number));
                }
                if !fails {
                    response = reply;
                }
            }
            responses.push(response);
        }
        let repeat = command.key.as_ref().is_some_and(|key| key.contains('~'));
        self.count("repeat", u64::from(repeat));
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.executed(index, responses);
        }
        Ok(())
    }

    fn answer(&mut self, id: RequestId) -> Result<(), String> {
        let flight = &self.flights[&id];
        self.checker.answered(&flight.commands);
        let answer = flight.answer();
        for concluded in self.scheduler.complete(self.now, id, answer) {
            self.count("rejected", u64::from(concluded.result.is_err()));
            self.checker.concluded(&concluded)?;
        }
        Ok(())
    }

    fn at(&mut self, time: Instant, event: Event) {
        self.scheduled += 1;
        self.events.insert((time, self.scheduled), event);
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(range))
    }

    fn count(&mut self, what: &'static str, times: u64) {
        *self.summary.counts.entry(what).or_default() += times;
    }
}
