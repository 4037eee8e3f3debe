//! One run of a pipeline, from the opening of its first epoch to its end, as a machine: what happens goes in, what is to be done comes
//! out. The relay drives it with tokio, the simulator with its queue of events.
//!
//! A run opens an epoch, and another one when that is over, with pauses in between where it fails. It ends when it is told to stop, when
//! a message halts it, when it has to begin afresh, or when somebody else may read: the first of these counts, except that a halt goes
//! before any other, since it publishes less.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counters::{Counters, Gauges};
use super::effect::{self, Notice};
use super::flow::{Budget, Flow, Transformed};
use crate::load::{Load, LoadId};
use crate::message::{Message, Rejection, Results};
use crate::now::Now;
use crate::publish::{Answer, Request, RequestId};
use crate::read::{Again, Delivery, Lease, Position, Room, StreamIdentity};
use crate::window::{Ticket, Window};

#[cfg(test)]
mod tests;

/// Between attempts to open an epoch.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// An epoch that lasted this long did not fail at once, so the next one may begin without a pause.
const LASTING: Duration = Duration::from_secs(10);

/// Dead letters that are being stored at once. Each holds a copy of its message's headers.
const MAX_STORING: usize = 64;

#[derive(Debug)]
pub struct Run<R> {
    flow: Flow<R>,
    limits: Limits,
    reading: Reading,
    /// Epochs that were over at once, or never began, in a row.
    failures: u32,
    /// Whether publishing takes a lease.
    standby: bool,
    lease: Option<Lease>,
    /// Messages that the module has and that are not back yet.
    transforming: usize,
    /// Requests that were given and not answered.
    requests: usize,
    storing: usize,
    /// Dead letters that wait until others are stored.
    unstored: VecDeque<DeadLetter>,
    /// The pipeline was halted, and nothing has shown yet that the cause is over.
    halted: bool,
    ending: Option<Ending>,
    actions: Vec<Action<R>>,
}

/// What a run keeps to beside its module's settings.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Messages that the module may have at once.
    pub transforming: usize,
    /// How long what is in flight may take once the run ends.
    pub grace: Duration,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Action<R> {
    Ack(R),
    InProgress(R),
    /// Comes back as [`Run::stored`].
    Store(DeadLetter),
    /// Centrifugo refused for good what this load of the module made of the message.
    Refused(Arc<Message>, Rejection, Load),
    Say(Notice),
    /// Nothing more is read: what has come and was not taken in comes again.
    Close,
    /// The cause of the halt before is over.
    Recovered,
}

/// A message that is to be stored, why it was rejected, and what this load of the module made of it.
#[derive(Debug)]
pub struct DeadLetter {
    pub ticket: Ticket,
    pub message: Arc<Message>,
    pub rejection: Rejection,
    pub by: Load,
    /// What became of its publications.
    pub results: Option<Results>,
}

/// How a run came to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop, and drained.
    Stopped,
    /// It needs a fresh start.
    Renew(String),
    /// What follows in the stream must not overtake the message that halted it.
    Halted(Halted),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Halted {
    pub reason: String,
    /// Another load than this one resumes it.
    pub by: LoadId,
    /// The sequence of the message, if the cause may end by itself.
    pub again: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// An epoch is opened at this time, or is being opened.
    Opening {
        at: Instant,
        begun: bool,
    },
    Open {
        since: Instant,
    },
    Closed,
}

#[derive(Debug)]
struct Ending {
    kind: Kind,
    deadline: Instant,
}

#[derive(Debug)]
enum Kind {
    /// What was delivered is finished, then the pipeline stops.
    Drain,
    /// What was delivered is finished, then the pipeline starts afresh.
    Renew(String),
    /// What is before the message that halted it is finished as far as the order allows. With the load that it waits to be rid of.
    Halt(String, LoadId),
    /// Nothing more is published: another relay may be at it.
    Yield,
}

impl<R: Clone> Run<R> {
    /// `trying`: where the pipeline was halted, if it is to be seen whether the cause is over. With `standby` nothing is published without
    /// a lease.
    pub fn begin(now: Instant, mut flow: Flow<R>, limits: Limits, trying: Option<u64>, standby: bool) -> Self {
        if let Some(sequence) = trying {
            flow.try_through(sequence);
        }
        Self {
            flow,
            limits,
            reading: Reading::Opening { at: now, begun: false },
            failures: 0,
            standby,
            lease: None,
            transforming: 0,
            requests: 0,
            storing: 0,
            unstored: VecDeque::new(),
            halted: trying.is_some(),
            ending: None,
            actions: Vec::new(),
        }
    }

    /// Whether to open an epoch now. What becomes of it comes back as [`Run::began`] or [`Run::failed`].
    pub fn opens(&mut self, now: Instant) -> bool {
        match &mut self.reading {
            Reading::Opening {
                at,
                begun: begun @ false,
            } if now >= *at => {
                *begun = true;
                true
            }
            _ => false,
        }
    }

    /// An epoch has begun. Returns false if it cannot be used.
    pub fn began(&mut self, now: Instant, stream: StreamIdentity, again: Again) -> bool {
        if !matches!(self.reading, Reading::Opening { .. }) {
            return false;
        }
        self.reading = Reading::Open { since: now };
        self.flow.begin(stream, again)
    }

    /// No epoch could be opened.
    pub fn failed(&mut self, now: Instant) {
        if matches!(self.reading, Reading::Opening { .. }) {
            self.failures += 1;
            self.reopen(now);
        }
    }

    /// The epoch is over. `unpinned`: since somebody else may read.
    pub fn over(&mut self, now: Instant, unpinned: bool) {
        let Reading::Open { since } = self.reading else { return };
        self.failures = if now.saturating_duration_since(since) >= LASTING {
            0
        } else {
            self.failures + 1
        };
        self.flow.over();
        self.reopen(now);
        if unpinned {
            self.yield_to_others(now);
        }
    }

    fn reopen(&mut self, now: Instant) {
        let delay = match self.failures {
            0 => Duration::ZERO,
            failures => (Duration::from_millis(100) * (1 << failures.min(10))).min(MAX_DELAY),
        };
        self.reading = Reading::Opening {
            at: now + delay,
            begun: false,
        };
    }

    /// Until when nobody else publishes. Whoever has lost it publishes nothing more.
    pub fn lease(&mut self, now: Instant, lease: Option<Lease>) {
        self.lease = lease.or(self.lease);
        if self.standby && self.lease.is_some_and(|lease| !lease.is_valid(now)) {
            self.yield_to_others(now);
        }
    }

    /// Whether nobody else may publish now.
    pub fn may_publish(&self, now: Instant) -> bool {
        !self.standby || self.lease.is_some_and(|lease| lease.is_valid(now))
    }

    /// What may be taken in, if anything may. What was asked for may have come to more than was thought, once it is transformed, or later:
    /// then it waits outside.
    pub fn room(&self, now: Instant) -> Option<Room> {
        let room = self.flow.room(now);
        let takes_in = (room.bytes > 0 || room.empty)
            && !self.flow.window().is_overdue(now)
            && self.transforming < self.limits.transforming;
        (takes_in && self.reading != Reading::Closed).then_some(room)
    }

    /// Takes in what was delivered. Returns what the module is to be given.
    pub fn deliver(&mut self, now: Now, deliveries: Vec<Delivery<R>>) -> Vec<(Ticket, Arc<Message>)> {
        let messages = self.flow.deliver(now, deliveries);
        self.transforming += messages.len();
        messages
    }

    /// What the module made of a message, in the order in which they were handed out.
    pub fn transformed(&mut self, now: Now, transformed: Transformed) {
        self.transforming -= 1;
        self.flow.transformed(now, transformed);
    }

    /// What to send now. Its answer comes back as [`Run::answered`].
    pub fn next_request(&mut self, now: Now) -> Option<Request> {
        let request = self.flow.next_request(now)?;
        self.requests += 1;
        Some(request)
    }

    pub fn answered(&mut self, now: Now, id: RequestId, answer: Answer) {
        self.requests -= 1;
        self.flow.answered(now, id, answer);
    }

    /// A dead letter is stored.
    pub fn stored(&mut self, now: Now, ticket: Ticket) {
        self.storing -= 1;
        self.flow.dead_lettered(now, ticket);
    }

    pub fn tick(&mut self, now: Now) {
        self.flow.tick(now);
    }

    /// Another load of the module has taken over, with these settings.
    pub fn configure(&mut self, settings: super::Settings) {
        self.flow.configure(settings);
    }

    /// Finishes what was delivered, and stops.
    pub fn stop(&mut self, now: Instant) {
        self.end_with(now, Kind::Drain);
    }

    /// Stops, and finishes nothing.
    pub fn leave(&mut self, now: Instant) {
        self.end_with(now, Kind::Drain);
        if let Some(ending) = &mut self.ending {
            ending.deadline = now;
        }
    }

    /// Finishes what was delivered, and begins afresh.
    pub fn renew(&mut self, now: Instant, reason: &str) {
        self.end_with(now, Kind::Renew(reason.to_owned()));
    }

    fn yield_to_others(&mut self, now: Instant) {
        self.flow.yield_to_others();
        self.end_with(now, Kind::Yield);
    }

    fn end_with(&mut self, now: Instant, kind: Kind) {
        if self.ending.is_some() && !matches!(kind, Kind::Halt(..)) {
            return;
        }
        if self.reading != Reading::Closed {
            self.reading = Reading::Closed;
            self.actions.push(Action::Close);
        }
        let stopped = matches!(self.ending, Some(Ending { kind: Kind::Drain, .. }));
        let deadline = self.ending.as_ref().map(|ending| ending.deadline);
        self.ending = Some(Ending {
            // Told to stop and halted meanwhile: it stops.
            kind: if stopped { Kind::Drain } else { kind },
            deadline: deadline.unwrap_or(now + self.limits.grace),
        });
    }

    /// What is to be done, once there is nothing more to send.
    pub fn take_actions(&mut self, now: Instant) -> Vec<Action<R>> {
        self.take_effects(now);
        if self.halted && self.flow.trying().is_none() {
            self.halted = false;
            self.actions.push(Action::Recovered);
        }
        while self.storing < MAX_STORING
            && let Some(mut letter) = self.unstored.pop_front()
        {
            letter.results = self.flow.window().results(letter.ticket);
            self.storing += 1;
            self.actions.push(Action::Store(letter));
        }
        std::mem::take(&mut self.actions)
    }

    fn take_effects(&mut self, now: Instant) {
        for effect in self.flow.take_effects() {
            match effect {
                effect::Effect::Ack(receipt) => self.actions.push(Action::Ack(receipt)),
                effect::Effect::InProgress(receipt) => self.actions.push(Action::InProgress(receipt)),
                effect::Effect::DeadLetter(ticket, message, rejection, by) => self.unstored.push_back(DeadLetter {
                    ticket,
                    message,
                    rejection,
                    by,
                    results: None,
                }),
                effect::Effect::Refused(message, rejection, by) => {
                    self.actions.push(Action::Refused(message, rejection, by));
                }
                effect::Effect::Say(notice) => self.actions.push(Action::Say(notice)),
                effect::Effect::Renew(reason) => self.end_with(now, Kind::Renew(reason)),
                effect::Effect::Halt(reason, by) => self.end_with(now, Kind::Halt(reason, by.id)),
            }
        }
    }

    /// When something is to be done although nothing happened: a request, an epoch, or the end.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let opens = match self.reading {
            Reading::Opening { at, begun: false } => Some(at),
            _ => None,
        };
        [self.flow.next_wakeup(), opens].into_iter().flatten().min()
    }

    /// By when it ends, if it is ending.
    pub fn deadline(&self) -> Option<Instant> {
        self.ending.as_ref().map(|ending| ending.deadline)
    }

    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Whether nothing is left to do, or no time.
    pub fn is_done(&self, now: Instant) -> bool {
        let Some(ending) = &self.ending else { return false };
        let quiet = self.requests == 0 && self.storing == 0 && self.unstored.is_empty();
        let halting = matches!(ending.kind, Kind::Halt(..) | Kind::Yield);
        let drained = self.flow.is_drained() && (halting || self.transforming == 0);
        (quiet && drained) || now >= ending.deadline
    }

    /// Whether another relay may be let in at once: this one has not yielded.
    pub fn releases(&self) -> bool {
        !self.flow.has_yielded()
    }

    /// Whether it has finished all that was delivered, or will, if there is time.
    pub fn finishes(&self) -> bool {
        !self.flow.is_halting()
    }

    /// How it came to its end.
    pub fn end(self) -> Ended {
        match self.ending.map(|ending| ending.kind) {
            Some(Kind::Halt(reason, by)) => Ended::Halted(Halted {
                reason,
                by,
                again: self.flow.again(),
            }),
            Some(Kind::Renew(reason)) => Ended::Renew(reason),
            Some(Kind::Yield) => {
                Ended::Renew("this relay lost its pin, and another one may read from the consumer".to_owned())
            }
            Some(Kind::Drain) | None => Ended::Stopped,
        }
    }

    /// Where the pipeline was halted, if it is not over yet.
    pub fn trying(&self) -> Option<u64> {
        self.flow.trying()
    }

    /// Nothing has shown yet that the cause of the halt before is over.
    pub fn is_halted(&self) -> bool {
        self.halted
    }

    pub fn is_idle(&self) -> bool {
        self.flow.is_idle()
    }

    pub fn transforming(&self) -> usize {
        self.transforming
    }

    /// Requests that were given and not answered.
    pub fn requests(&self) -> usize {
        self.requests
    }

    pub fn window(&self) -> &Window<R> {
        self.flow.window()
    }

    /// Where in which stream the pipeline stands, once it has read something.
    pub fn position(&self) -> Option<Position> {
        self.flow.position()
    }

    pub fn budget(&mut self, memory: Budget) {
        self.flow.budget(memory);
    }

    /// What the window, the queues and the requests take, in bytes.
    pub fn held(&self) -> usize {
        self.flow.held()
    }

    /// What the workers may hold of what they make, in bytes.
    pub fn room_to_make(&self) -> usize {
        self.flow.room_to_make()
    }

    pub fn gauges(&self, now: Now) -> Gauges {
        self.flow.gauges(now)
    }

    pub fn take_counters(&mut self) -> Counters {
        self.flow.take_counters()
    }
}
