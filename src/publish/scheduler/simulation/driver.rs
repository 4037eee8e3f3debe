//! Plays one schedule: pushes at random times, gives each request a fate, moves the clock from event to event, and tells the
//! checker everything. All of it follows from the seed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use super::super::{Bug, Limits, Scheduler};
use super::centrifugo::{self, Centrifugo, Command, POISON};
use super::checker::Checker;
use super::traffic;
use crate::config::Order;
use crate::publish::{Answer, Request, RequestId, replies};

const TIMEOUT: Duration = Duration::from_secs(8);

/// Simulated time in which a schedule has to come to its end; pauses are at most 30 s and faults end after 60 s.
const PATIENCE: Duration = Duration::from_secs(1_000);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) order: Order,
    pub(super) keys: bool,
    pub(super) bug: Option<Bug>,
}

/// What happened, so that it can be compared and so that a fault that never occurs is noticed.
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
    /// Out of 100 requests; the first is for each channel of each command.
    odds: Odds,
    /// A proxy refuses larger bodies.
    max_body: usize,
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
struct Odds {
    error_100: u64,
    status_500: u64,
    silence: u64,
    garbage: u64,
    denied: u64,
}

#[derive(Debug)]
enum Event {
    Push,
    Execute(RequestId, usize),
    Answer(RequestId),
    Wake,
}

#[derive(Debug)]
struct Flight {
    commands: Vec<Command>,
    channels: Vec<usize>,
    replies: Vec<Value>,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Replies { cut: bool },
    Fixed(Answer),
}

pub(super) fn run(setup: Setup, seed: u64) -> Result<Summary, String> {
    let mut driver = Driver::new(setup, seed);
    driver.play()?;
    driver.checker.at_rest()?;
    // Idle channels are forgotten, at the latest when what they had to remember is over.
    driver.scheduler.next_request(driver.now + Duration::from_secs(60));
    if !driver.scheduler.is_idle() || driver.scheduler.waiting() > 0 || !driver.scheduler.queues.is_empty() {
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
        // The clock's value decides nothing.
        let start = Instant::now();
        let max_in_flight = rng.usize(1..5);
        let limits = Limits {
            order: setup.order,
            max_batch: rng.usize(1..12),
            max_request_bytes: 2_000,
            max_in_flight,
        };
        let mut scheduler = Scheduler::new(limits, seed);
        scheduler.queues.bug = setup.bug;
        let odds = Odds {
            error_100: rng.u64(0..25),
            status_500: rng.u64(0..15),
            silence: rng.u64(0..15),
            garbage: rng.u64(0..5),
            denied: rng.u64(0..4),
        };
        let mut driver = Self {
            setup,
            start,
            now: start,
            faults_end: start + Duration::from_millis(rng.u64(0..60_000)),
            odds,
            max_body: if rng.bool() { usize::MAX } else { rng.usize(150..600) },
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
            // What is woken too often changes nothing, but what is not woken stands still.
            let Some(((time, _), event)) = self.events.pop_first() else {
                break;
            };
            self.now = time;
            if self.now > self.start + PATIENCE {
                return Err(format!(
                    "still at work long after the faults ended: {:?}",
                    self.scheduler
                ));
            }
            match event {
                Event::Push => (0..self.rng.u64(1..5)).for_each(|_| self.push()),
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

    fn push(&mut self) {
        let (publication, body) = traffic::publication(&mut self.rng, self.pushed);
        let channels = publication.channels.iter().map(ToString::to_string).collect();
        self.checker.pushed(channels, &body);
        let key = self.setup.keys.then(|| format!("key-{}", self.pushed));
        self.scheduler.push(self.pushed, publication, key);
        self.pushed += 1;
    }

    fn send(&mut self, request: &Request) -> Result<(), String> {
        let commands = centrifugo::read(request.body());
        self.checker.sent(request.id(), &commands)?;
        let count = commands.len();
        let (executed, outcome, answered_after) = self.fate(request, count);
        // Once in a while it is so slow that the client has given up before it begins.
        let late = answered_after.is_some() && self.rng.u64(0..3) == 0;
        let mut time = self.now
            + if late {
                TIMEOUT + self.millis(0..50_000)
            } else {
                self.millis(0..20)
            };
        self.count("late", u64::from(late));
        for command in 0..executed {
            self.at(time, Event::Execute(request.id(), command));
            time += if self.rng.u64(0..20) == 0 {
                self.millis(0..4_000)
            } else {
                self.millis(0..3)
            };
        }
        let answer_at = answered_after.map_or(time, |after| self.now + after);
        let outcome = if answer_at > self.now + TIMEOUT {
            lost("time-out", false)
        } else {
            outcome
        };
        self.at(answer_at.min(self.now + TIMEOUT), Event::Answer(request.id()));
        let replies = vec![Value::Null; count];
        self.flights.insert(
            request.id(),
            Flight {
                commands,
                channels: request.channels().to_vec(),
                replies,
                outcome,
            },
        );
        if self.scheduler.in_flight() > self.max_in_flight {
            return Err(format!("{} requests in flight", self.scheduler.in_flight()));
        }
        Ok(())
    }

    /// How many of the commands are executed, what is answered, and when, if not after the last of them.
    fn fate(&mut self, request: &Request, commands: usize) -> (usize, Outcome, Option<Duration>) {
        if request.body().len() > self.max_body && commands > 1 {
            self.count("413", 1);
            return (
                0,
                Outcome::Fixed(Answer::Refused {
                    status: 413,
                    reason: "HTTP 413".to_owned(),
                }),
                None,
            );
        }
        let readable = !String::from_utf8_lossy(request.body()).contains(POISON);
        let dice = self.rng.u64(0..100);
        let some = if readable { self.rng.usize(0..=commands) } else { 0 };
        let elsewhere = self.rng.bool();
        let mut bound = 0;
        let mut happens = |odds: u64, faulty: bool| {
            bound += odds;
            faulty && dice < bound
        };
        let faulty = self.now < self.faults_end;
        if happens(self.odds.status_500, faulty) {
            self.count("500", 1);
            return (some, lost("HTTP 500", elsewhere), None);
        }
        if happens(self.odds.silence, faulty) {
            self.count("silence", 1);
            return (some, lost("time-out", elsewhere), Some(TIMEOUT));
        }
        if happens(self.odds.denied, faulty) {
            self.count("401", 1);
            return (
                0,
                Outcome::Fixed(Answer::Denied {
                    reason: "HTTP 401".to_owned(),
                }),
                None,
            );
        }
        let cut = happens(self.odds.garbage, faulty);
        if !readable {
            self.count("400", 1);
            return (
                0,
                Outcome::Fixed(Answer::Refused {
                    status: 400,
                    reason: "HTTP 400".to_owned(),
                }),
                None,
            );
        }
        self.count("cut", u64::from(cut));
        (commands, Outcome::Replies { cut }, None)
    }

    fn execute(&mut self, id: RequestId, index: usize) -> Result<(), String> {
        let faulty = self.now < self.faults_end;
        // Requests may be executed after they were given up.
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
                let (reply, shown) = self.centrifugo.execute(self.now, channel, command.key.as_deref());
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
            flight.replies[index] = command.reply(responses);
        }
        Ok(())
    }

    fn answer(&mut self, id: RequestId) -> Result<(), String> {
        let flight = &self.flights[&id];
        self.checker.answered(&flight.commands);
        let answer = match &flight.outcome {
            Outcome::Fixed(answer) => answer.clone(),
            Outcome::Replies { cut } => {
                let mut body = json!({ "replies": flight.replies }).to_string();
                if *cut {
                    body.truncate(body.len() / 2);
                }
                match replies::read(body.as_bytes(), &flight.channels) {
                    Ok(replies) => Answer::Replies(replies),
                    Err(error) if *cut => Answer::Lost {
                        reason: error.to_string(),
                        elsewhere: false,
                    },
                    Err(error) => return Err(format!("{body} cannot be read: {error}")),
                }
            }
        };
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

fn lost(reason: &str, elsewhere: bool) -> Outcome {
    Outcome::Fixed(Answer::Lost {
        reason: reason.to_owned(),
        elsewhere,
    })
}
