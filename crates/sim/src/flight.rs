//! Decides the fate of a request: how much of it is executed, and what its sender learns.

use std::time::Duration;

use fastrand::Rng;
use slipring_core::publish::{Answer, Reply, Request};

use crate::centrifugo::{Command, Ill, read};

/// After this time a request counts as lost, but it may still be executed.
const TIMEOUT: Duration = Duration::from_secs(8);

/// Probabilities in percent of all requests, except that `error_100` is per channel of each command.
#[derive(Debug)]
pub(crate) struct Odds {
    /// At least one endpoint, and at least one of them recovers in the end.
    pub(crate) endpoints: Vec<Endpoint>,
    /// The fate of a request with a cursed publication.
    pub(crate) curse: Curse,
    pub(crate) error_100: u64,
    pub(crate) status_500: u64,
    pub(crate) silence: u64,
    pub(crate) garbage: u64,
    pub(crate) denied: u64,
    /// A proxy refuses larger requests.
    pub(crate) max_size: usize,
    /// A proxy will refuse one request, whatever is in it, and recover before it can be asked. With an endpoint that
    /// refuses everything, this could happen twice to the same publication, which would then look like the cause.
    pub(crate) refuses_once: bool,
}

/// The fault of an endpoint, or of a proxy in front of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoint {
    ailment: Option<Ailment>,
    /// The endpoint never recovers.
    for_good: bool,
}

#[derive(Debug, Clone, Copy)]
enum Ailment {
    /// Refuses every request, even an empty one.
    Refuses,
    Denies,
    Dead,
    Silent,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Curse {
    Status500,
    Status403,
    Silence,
    Cut,
}

/// A sent request with the times of everything that will happen to it.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) flight: Flight,
    /// When the first commands are executed, which may be long after the answer.
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
    /// The replies of each executed command.
    replies: Vec<Vec<Reply>>,
    outcome: Outcome,
}

impl Odds {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let endpoints = Endpoint::some(rng);
        Self {
            refuses_once: rng.bool() && !endpoints.iter().any(Endpoint::refuses),
            endpoints,
            curse: Curse::random(rng),
            error_100: rng.u64(0..25),
            status_500: rng.u64(0..15),
            silence: rng.u64(0..15),
            garbage: rng.u64(0..5),
            denied: rng.u64(0..4),
            max_size: if rng.bool() { usize::MAX } else { rng.usize(250..1_000) },
        }
    }

    pub(crate) fn none() -> Self {
        Self {
            endpoints: vec![Endpoint::WELL],
            curse: Curse::Status500,
            error_100: 0,
            status_500: 0,
            silence: 0,
            garbage: 0,
            denied: 0,
            max_size: usize::MAX,
            refuses_once: false,
        }
    }

    /// Unless `faulty` is set, only the request itself can cause faults.
    pub(crate) fn send(&mut self, rng: &mut Rng, request: &Request, faulty: bool) -> Sent {
        let commands = read(request);
        let Fate {
            executed,
            mut outcome,
            silent,
            fault,
        } = self.fate(rng, &commands, request, faulty);
        let millis = |rng: &mut Rng, range| Duration::from_millis(rng.u64(range));
        // Occasionally Centrifugo is so slow that the client has given up before the execution starts.
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
            outcome = lost("timeout");
            time = TIMEOUT;
        }
        Sent {
            flight: Flight::new(commands, outcome),
            executions,
            answer: time,
            faults: fault.into_iter().chain(late.then_some("late")).collect(),
        }
    }

    fn fate(&mut self, rng: &mut Rng, commands: &[Command], request: &Request, faulty: bool) -> Fate {
        let holds = |ill| commands.iter().any(|command| command.ill == Some(ill));
        let commands = request.len();
        let endpoint = self.endpoints[request.endpoint()];
        if let Some(ailment) = endpoint.ailment.filter(|_| faulty || endpoint.for_good) {
            return ailment.fate();
        }
        if faulty && holds(Ill::Cursed) {
            return self.curse.fate();
        }
        if faulty && self.refuses_once && commands > 0 && rng.u64(0..10) == 0 {
            self.refuses_once = false;
            return Fate::refused(400, "refused once");
        }
        if request.size() > self.max_size && commands > 1 {
            return Fate::refused(413, "413");
        }
        let readable = !holds(Ill::Poisoned);
        let dice = rng.u64(0..100);
        let some = if readable { rng.usize(0..=commands) } else { 0 };
        let mut bound = 0;
        let mut happens = |odds: u64| {
            bound += odds;
            faulty && dice < bound
        };
        if happens(self.status_500) {
            return Fate::new(some, lost("HTTP 500"), Some("500"));
        }
        if happens(self.silence) {
            return Fate::silent(some, "silence");
        }
        if happens(self.denied) {
            return Fate::denied("HTTP 401", "401");
        }
        let cut = happens(self.garbage);
        if !readable {
            return Fate::refused(400, "400");
        }
        Fate::new(commands, Outcome::Replies { cut }, cut.then_some("cut"))
    }
}

impl Endpoint {
    const WELL: Self = Self {
        ailment: None,
        for_good: false,
    };

    fn some(rng: &mut Rng) -> Vec<Self> {
        let count = rng.usize(1..4);
        let well = rng.usize(0..count);
        let endpoint = |index| Self {
            ailment: (rng.u64(0..3) == 0).then(|| match rng.u64(0..4) {
                0 => Ailment::Refuses,
                1 => Ailment::Denies,
                2 => Ailment::Dead,
                _ => Ailment::Silent,
            }),
            for_good: index != well && rng.bool(),
        };
        (0..count).map(endpoint).collect()
    }

    fn refuses(&self) -> bool {
        matches!(self.ailment, Some(Ailment::Refuses))
    }
}

impl Ailment {
    fn fate(self) -> Fate {
        match self {
            Self::Refuses => Fate::refused(400, "endpoint refuses"),
            Self::Denies => Fate::denied("HTTP 404", "endpoint denies"),
            Self::Dead => Fate::new(0, lost("connection refused"), Some("endpoint dead")),
            Self::Silent => Fate::silent(0, "endpoint silent"),
        }
    }
}

impl Curse {
    pub(crate) fn random(rng: &mut Rng) -> Self {
        match rng.u64(0..4) {
            0 => Self::Status500,
            1 => Self::Status403,
            2 => Self::Silence,
            _ => Self::Cut,
        }
    }

    fn fate(self) -> Fate {
        match self {
            Self::Status500 => Fate::new(0, lost("HTTP 500"), Some("cursed")),
            Self::Status403 => Fate::denied("HTTP 403", "cursed"),
            Self::Silence => Fate::silent(0, "cursed"),
            Self::Cut => Fate::new(0, lost("the connection was cut"), Some("cursed")),
        }
    }
}

impl Fate {
    fn silent(executed: usize, fault: &'static str) -> Self {
        Self {
            silent: true,
            ..Self::new(executed, lost("timeout"), Some(fault))
        }
    }

    fn denied(reason: &str, fault: &'static str) -> Self {
        let reason = reason.to_owned();
        Self::new(0, Outcome::Fixed(Answer::Denied { reason }), Some(fault))
    }

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
    fn new(commands: Vec<Command>, outcome: Outcome) -> Self {
        Self {
            replies: vec![Vec::new(); commands.len()],
            commands,
            outcome,
        }
    }

    /// Records the replies of an executed command for its channels.
    pub(crate) fn executed(&mut self, index: usize, replies: Vec<Reply>) {
        self.replies[index] = replies;
    }

    /// The connection broke because Centrifugo restarts.
    pub(crate) fn broken(&mut self) {
        self.outcome = lost("the connection was closed");
    }

    /// Returns what the sender learns.
    pub(crate) fn answer(&self) -> Answer {
        match &self.outcome {
            Outcome::Fixed(answer) => answer.clone(),
            Outcome::Replies { cut: false } => Answer::Replies(self.replies.concat()),
            Outcome::Replies { cut: true } => Answer::Lost {
                reason: "the replies were cut".to_owned(),
            },
        }
    }
}

fn lost(reason: &str) -> Outcome {
    Outcome::Fixed(Answer::Lost {
        reason: reason.to_owned(),
    })
}
