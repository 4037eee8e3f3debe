//! What becomes of a request: how much of it is executed, and what its sender gets to know.

use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use super::centrifugo::{Command, is_readable, read};
use crate::publish::{Answer, Request, body, replies};

/// After this a request counts as lost; it may be executed all the same.
const TIMEOUT: Duration = Duration::from_secs(8);

/// Out of 100 requests; the first is for each channel of each command.
#[derive(Debug)]
pub(crate) struct Odds {
    pub(crate) error_100: u64,
    pub(crate) status_500: u64,
    pub(crate) silence: u64,
    pub(crate) garbage: u64,
    pub(crate) denied: u64,
    /// A proxy refuses larger bodies.
    pub(crate) max_body: usize,
}

/// A request that was sent, and what is to happen when, from then on.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) flight: Flight,
    /// The first commands are executed at these times, which may be long after the answer.
    pub(crate) executions: Vec<Duration>,
    pub(crate) answer: Duration,
    pub(crate) faults: Vec<&'static str>,
}

#[derive(Debug)]
struct Fate {
    /// How many of the commands are executed.
    executed: usize,
    outcome: Outcome,
    silent: bool,
    fault: Option<&'static str>,
}

#[derive(Debug)]
enum Outcome {
    Replies { cut: bool },
    Fixed(Answer),
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) commands: Vec<Command>,
    channels: Vec<usize>,
    replies: Vec<Value>,
    outcome: Outcome,
}

impl Odds {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        Self {
            error_100: rng.u64(0..25),
            status_500: rng.u64(0..15),
            silence: rng.u64(0..15),
            garbage: rng.u64(0..5),
            denied: rng.u64(0..4),
            max_body: if rng.bool() { usize::MAX } else { rng.usize(150..600) },
        }
    }

    pub(crate) fn none() -> Self {
        Self {
            error_100: 0,
            status_500: 0,
            silence: 0,
            garbage: 0,
            denied: 0,
            max_body: usize::MAX,
        }
    }

    /// `faulty`: only then are there faults that are not the request's own.
    pub(crate) fn send(&self, rng: &mut Rng, request: &Request, faulty: bool) -> Sent {
        let body = body::write(request);
        let Fate {
            executed,
            mut outcome,
            silent,
            fault,
        } = self.fate(rng, &body, request.len(), faulty);
        let millis = |rng: &mut Rng, range| Duration::from_millis(rng.u64(range));
        // Once in a while it is so slow that the client has given up before it begins.
        let late = silent && rng.u64(0..3) == 0;
        let mut time = if late {
            TIMEOUT + millis(rng, 0..50_000)
        } else {
            millis(rng, 0..20)
        };
        let mut executions = Vec::with_capacity(executed);
        for _ in 0..executed {
            executions.push(time);
            time += if rng.u64(0..20) == 0 {
                millis(rng, 0..4_000)
            } else {
                millis(rng, 0..3)
            };
        }
        if silent || time > TIMEOUT {
            outcome = lost("time-out");
            time = TIMEOUT;
        }
        Sent {
            flight: Flight::new(request, &body, outcome),
            executions,
            answer: time,
            faults: fault.into_iter().chain(late.then_some("late")).collect(),
        }
    }

    fn fate(&self, rng: &mut Rng, body: &[u8], commands: usize, faulty: bool) -> Fate {
        if body.len() > self.max_body && commands > 1 {
            return Fate::refused(413, "413");
        }
        let readable = is_readable(body);
        let dice = rng.u64(0..100);
        let some = if readable { rng.usize(0..=commands) } else { 0 };
        let mut bound = 0;
        let mut happens = |odds: u64| {
            bound += odds;
            faulty && dice < bound
        };
        if happens(self.status_500) {
            let reason = "HTTP 500".to_owned();
            let elsewhere = rng.bool();
            return Fate::new(some, Outcome::Fixed(Answer::Lost { reason, elsewhere }), Some("500"));
        }
        if happens(self.silence) {
            return Fate {
                silent: true,
                ..Fate::new(some, lost("time-out"), Some("silence"))
            };
        }
        if happens(self.denied) {
            let reason = "HTTP 401".to_owned();
            return Fate::new(0, Outcome::Fixed(Answer::Denied { reason }), Some("401"));
        }
        let cut = happens(self.garbage);
        if !readable {
            return Fate::refused(400, "400");
        }
        Fate::new(commands, Outcome::Replies { cut }, cut.then_some("cut"))
    }
}

impl Fate {
    fn new(executed: usize, outcome: Outcome, fault: Option<&'static str>) -> Self {
        Self {
            executed,
            outcome,
            silent: false,
            fault,
        }
    }

    fn refused(status: u16, fault: &'static str) -> Self {
        let reason = format!("HTTP {status}");
        Self::new(0, Outcome::Fixed(Answer::Refused { status, reason }), Some(fault))
    }
}

impl Flight {
    fn new(request: &Request, body: &[u8], outcome: Outcome) -> Self {
        Self {
            commands: read(body),
            channels: request.channels().collect(),
            replies: vec![Value::Null; request.len()],
            outcome,
        }
    }

    /// A command was executed, with these responses for its channels.
    pub(crate) fn executed(&mut self, index: usize, responses: Vec<Value>) {
        self.replies[index] = self.commands[index].reply(responses);
    }

    /// The connection broke: Centrifugo is being restarted.
    pub(crate) fn broken(&mut self) {
        self.outcome = lost("the connection was closed");
    }

    /// What the sender makes of what came back.
    pub(crate) fn answer(&self) -> Result<Answer, String> {
        let cut = match &self.outcome {
            Outcome::Fixed(answer) => return Ok(answer.clone()),
            Outcome::Replies { cut } => *cut,
        };
        let mut body = json!({ "replies": self.replies }).to_string();
        if cut {
            body.truncate(body.len() / 2);
        }
        match replies::read(body.as_bytes(), self.channels.iter().copied()) {
            Ok(replies) => Ok(Answer::Replies(replies)),
            Err(error) if cut => Ok(Answer::Lost {
                reason: error.to_string(),
                elsewhere: false,
            }),
            Err(error) => Err(format!("{body} cannot be read: {error}")),
        }
    }
}

fn lost(reason: &str) -> Outcome {
    Outcome::Fixed(Answer::Lost {
        reason: reason.to_owned(),
        elsewhere: false,
    })
}
