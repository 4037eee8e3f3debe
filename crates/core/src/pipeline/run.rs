//! One run of a pipeline as a state machine, from the opening of its first epoch to its end. Events go in, and actions
//! come out. The relay drives it with tokio, the simulator with its event queue.
//!
//! A run opens an epoch, and a new one whenever an epoch ends, with pauses after failures. A run ends when it is told
//! to stop, when a message halts it, when it needs a fresh start, or when another relay may read. The first of these
//! wins, except that a halt always wins because it publishes less.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::counters::{Counters, Gauges};
use super::effect::{self, Notice};
use super::flow::{Budget, Flow, Transformed};
use crate::load::{Load, LoadId};
use crate::message::{Message, Rejection, Results};
use crate::now::Now;
use crate::place::Place;
use crate::publish::{Answer, Request, RequestId};
use crate::read::{Again, Delivery, Incarnation, Lease, Position, Room};
use crate::window::{Ticket, Window};

#[cfg(test)]
mod tests;

/// The longest pause between attempts to open an epoch.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// An epoch that lasted this long did not fail at once, so the next one may start without a pause.
const LASTING: Duration = Duration::from_secs(10);

/// The most dead letters stored at the same time. Each holds a copy of its message's headers.
const MAX_STORING: usize = 64;

#[derive(Debug)]
pub struct Run<R> {
    flow: Flow<R>,
    limits: Limits,
    reading: Reading,
    /// Consecutive epochs that ended at once or never started.
    failures: u32,
    /// Publishing requires a lease.
    standby: bool,
    lease: Option<Lease>,
    /// Messages that the module has not returned yet.
    transforming: usize,
    /// Requests that are not answered yet.
    requests: usize,
    storing: usize,
    /// Dead letters that wait until others are stored.
    unstored: VecDeque<DeadLetter>,
    /// The pipeline was halted, and nothing has shown yet that the cause is over.
    halted: bool,
    ending: Option<Ending>,
    actions: Vec<Action<R>>,
}

/// Limits of a run that are not settings of the module.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most messages that the module may have at once.
    pub transforming: usize,
    /// How long a run that is ending waits for what is in flight.
    pub grace: Duration,
}

/// An action for the caller. Actions have to be carried out in order.
#[derive(Debug)]
pub enum Action<R> {
    Ack(R),
    InProgress(R),
    /// The caller stores the dead letter and then calls [`Run::stored`].
    Store(DeadLetter),
    /// Centrifugo permanently refused a publication that this load made of the message.
    Refused(Arc<Message>, Rejection, Load),
    Say(Notice),
    /// The caller stops reading. Deliveries that were not taken in come again.
    Close,
    /// The cause of the previous halt is over.
    Recovered,
}

/// A message to store, why it was rejected, and the load that rejected it or made the refused publication.
#[derive(Debug)]
pub struct DeadLetter {
    pub ticket: Ticket,
    pub message: Arc<Message>,
    pub rejection: Rejection,
    pub by: Load,
    /// The result of each of its publications.
    pub results: Option<Results>,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// The run was told to stop, and it drained.
    Stopped,
    /// The pipeline needs a fresh start.
    Renew(String),
    /// A message halted the run, and nothing that follows it in the stream may overtake it.
    Halted(Halted),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Halted {
    pub reason: String,
    /// Any other load resumes the pipeline.
    pub by: LoadId,
    /// The place of the message, if the cause may disappear by itself.
    pub again: Option<Place>,
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
    /// The run finishes what was delivered, then the pipeline stops.
    Drain,
    /// The run finishes what was delivered, then the pipeline starts afresh.
    Renew(String),
    /// The run finishes what precedes the message that halted it, as far as order allows. The load is the one that
    /// caused the halt.
    Halt(String, LoadId),
    /// Nothing more is published, because another relay may be publishing.
    Yield,
}

impl<R: Clone> Run<R> {
    /// `trying` is the place where the pipeline was halted, if this run has to find out whether the cause is over.
    /// With `standby` the run publishes nothing without a lease.
    pub fn begin(now: Instant, mut flow: Flow<R>, limits: Limits, trying: Option<Place>, standby: bool) -> Self {
        if let Some(place) = trying {
            flow.try_through(place);
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

    /// Returns true if the caller should open an epoch now. The caller reports the result with [`Run::began`] or
    /// [`Run::failed`].
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

    /// An epoch has started. Returns false if it cannot be used.
    pub fn began(&mut self, now: Instant, stream: Incarnation, again: Again) -> bool {
        if !matches!(self.reading, Reading::Opening { .. }) {
            return false;
        }
        self.reading = Reading::Open { since: now };
        self.flow.begin(stream, again)
    }

    /// The attempt to open an epoch failed.
    pub fn failed(&mut self, now: Instant) {
        if matches!(self.reading, Reading::Opening { .. }) {
            self.failures += 1;
            self.reopen(now);
        }
    }

    /// The epoch ended. `unpinned` is true if it ended because another relay may read.
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

    /// Sets the lease. A run that has lost its lease publishes nothing more.
    pub fn lease(&mut self, now: Instant, lease: Option<Lease>) {
        self.lease = lease.or(self.lease);
        if self.standby && self.lease.is_some_and(|lease| !lease.is_valid(now)) {
            self.yield_to_others(now);
        }
    }

    /// Returns true if no other relay may publish now.
    pub fn may_publish(&self, now: Instant) -> bool {
        !self.standby || self.lease.is_some_and(|lease| lease.is_valid(now))
    }

    /// Returns the room for new messages, or `None` if the run reads nothing. Messages that were already requested may
    /// take more memory than expected once they are transformed. They then wait outside the run.
    pub fn room(&self, now: Instant) -> Option<Room> {
        let room = self.flow.room(now);
        let takes_in = (room.bytes > 0 || room.empty)
            && !self.flow.window().is_overdue(now)
            && !self.flow.hands_over(now)
            && self.transforming < self.limits.transforming;
        (takes_in && self.reading != Reading::Closed).then_some(room)
    }

    /// Takes in deliveries and returns the messages for the module.
    pub fn deliver(&mut self, now: Now, deliveries: Vec<Delivery<R>>) -> Vec<(Ticket, Arc<Message>)> {
        let messages = self.flow.deliver(now, deliveries);
        self.transforming += messages.len();
        messages
    }

    /// Takes in the module's outcome for a message. Outcomes have to come in the order in which the messages were
    /// handed out.
    pub fn transformed(&mut self, now: Now, transformed: Transformed) {
        self.transforming -= 1;
        self.flow.transformed(now, transformed);
    }

    /// Returns the next request. Its answer comes back through [`Run::answered`].
    pub fn next_request(&mut self, now: Now) -> Option<Request> {
        let request = self.flow.next_request(now)?;
        self.requests += 1;
        Some(request)
    }

    pub fn answered(&mut self, now: Now, id: RequestId, answer: Answer) {
        self.requests -= 1;
        self.flow.answered(now, id, answer);
    }

    /// The dead letter is stored.
    pub fn stored(&mut self, now: Now, ticket: Ticket) {
        self.storing -= 1;
        self.flow.dead_lettered(now, ticket);
    }

    pub fn tick(&mut self, now: Now) {
        self.flow.tick(now);
    }

    /// Applies the settings of a new load of the module.
    pub fn configure(&mut self, now: Instant, settings: super::Settings) {
        self.flow.configure(now, settings);
    }

    /// Finishes what was delivered, then stops.
    pub fn stop(&mut self, now: Instant) {
        self.end_with(now, Kind::Drain);
    }

    /// Stops without finishing anything.
    pub fn leave(&mut self, now: Instant) {
        self.end_with(now, Kind::Drain);
        if let Some(ending) = &mut self.ending {
            ending.deadline = now;
        }
    }

    /// Finishes what was delivered, then starts afresh.
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
            // A run that was told to stop and is halted meanwhile still stops.
            kind: if stopped { Kind::Drain } else { kind },
            deadline: deadline.unwrap_or(now + self.limits.grace),
        });
    }

    /// Returns the actions to carry out, once no more requests are ready.
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

    /// Returns when to wake the run although nothing happened: for a request, an epoch, or its end.
    pub fn next_wakeup(&self) -> Option<Instant> {
        let opens = match self.reading {
            Reading::Opening { at, begun: false } => Some(at),
            _ => None,
        };
        [self.flow.next_wakeup(), opens].into_iter().flatten().min()
    }

    /// Returns the deadline of a run that is ending.
    pub fn deadline(&self) -> Option<Instant> {
        self.ending.as_ref().map(|ending| ending.deadline)
    }

    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Returns true if nothing is left to do, or no time is left.
    pub fn is_done(&self, now: Instant) -> bool {
        let Some(ending) = &self.ending else { return false };
        let quiet = self.requests == 0 && self.storing == 0 && self.unstored.is_empty();
        let halting = matches!(ending.kind, Kind::Halt(..) | Kind::Yield);
        let drained = self.flow.is_drained() && (halting || self.transforming == 0);
        (quiet && drained) || now >= ending.deadline
    }

    /// Returns true if another relay may take over at once: this run has not yielded.
    pub fn releases(&self) -> bool {
        !self.flow.has_yielded()
    }

    /// Returns true if the run has finished everything delivered, or will finish it given enough time.
    pub fn finishes(&self) -> bool {
        !self.flow.is_halting()
    }

    /// Returns how the run ended.
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

    /// Returns where the pipeline was halted, while the cause may persist.
    pub fn trying(&self) -> Option<Place> {
        self.flow.trying()
    }

    /// Returns true until something shows that the cause of the previous halt is over.
    pub fn is_halted(&self) -> bool {
        self.halted
    }

    pub fn is_idle(&self) -> bool {
        self.flow.is_idle()
    }

    pub fn transforming(&self) -> usize {
        self.transforming
    }

    /// Returns the number of unanswered requests.
    pub fn requests(&self) -> usize {
        self.requests
    }

    pub fn window(&self) -> &Window<R> {
        self.flow.window()
    }

    /// Returns the position of the pipeline in its stream, once it has read something.
    pub fn position(&self) -> Option<Position> {
        self.flow.position()
    }

    pub fn budget(&mut self, memory: Budget) {
        self.flow.budget(memory);
    }

    /// Returns the bytes that the window, the queues and the requests take.
    pub fn held(&self) -> usize {
        self.flow.held()
    }

    /// Returns how many bytes of outcomes the workers may hold.
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
