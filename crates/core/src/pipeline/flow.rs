//! The decisions of a pipeline, from a delivery to its ack. A flow does no I/O: work to do comes out as [`Effect`]s and
//! requests, and the results come back in. A test can therefore simulate a whole pipeline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::later::Later;
use super::conflate::catch_up::CatchUp;
use super::conflate::gather::{Gather, Situation};
use super::counters::{Counters, Gauges, Lag};
use super::effect::{Effect, Notice};
use super::expired::Expired;
use super::rejects::Rejects;
use super::settings::{OnReject, Settings};
use super::weight;
use crate::load::{Load, LoadId};
use crate::message::{Message, Outcome, Rejection, Stage};
use crate::now::Now;
use crate::place::Place;
use crate::publish::{Answer, Concluded, Request, RequestId, RequestLimits, Scheduler};
use crate::read::{ACK_WAIT, Again, Delivery, Incarnation, Position, Room};
use crate::stamp::{Stamp, VersionSource};
use crate::window::{Arrival, Conclusion, Ticket, Window};

/// A message that takes longer than this is reported as in progress, well before JetStream would redeliver it.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(20);
const _: () = assert!(PROGRESS_INTERVAL.as_secs() * 2 < ACK_WAIT.as_secs());

/// How long a new load of the module waits at most for the messages of the load before it. A publication that never gets
/// a reply must not hold up the other channels for longer.
pub const MAX_HANDOVER: Duration = Duration::from_secs(5);

mod later;
#[cfg(test)]
mod tests;

#[derive(Debug)]
pub struct Flow<R> {
    /// Part of each idempotency key.
    module: Arc<str>,
    settings: Settings,
    /// The stream of the messages in the window.
    stream: Option<Incarnation>,
    window: Window<R>,
    scheduler: Scheduler,
    rejects: Rejects,
    expired: Expired,
    effects: Vec<Effect<R>>,
    counters: Counters,
    /// Messages in the stream after the last one delivered.
    pending: u64,
    /// The scheduler's count of retries when it was last read.
    retried: u64,
    /// Set after a halt. Messages that are not transformed yet stay in the source.
    halting: bool,
    /// The message that halted the pipeline before, while the cause may persist. See [`Flow::try_through`].
    trying: Option<Place>,
    /// Outcomes that wait while a message is being tried, or for the messages of another load.
    later: Later,
    /// The message that halts the pipeline now, if the cause may disappear by itself.
    again: Option<Place>,
    /// Set once another relay may be reading.
    yielded: bool,
    /// Set while a flow that conflates publishes nothing yet.
    catch_up: Option<CatchUp>,
    /// Decides whether requests of a flow that conflates wait for newer messages.
    gather: Gather,
    /// Until when nothing new is taken in, because messages of an earlier load of the module are not settled.
    handover: Option<Instant>,
    /// The time of a handover is up, and no outcome of the load that waited has come yet.
    waited: bool,
    /// The load that made the last outcome.
    load: Option<LoadId>,
    /// Messages that the module has not returned yet.
    transforming: usize,
    memory: Budget,
}

/// The memory available for what the pipeline takes in.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Bytes held for the pipeline outside the flow: outcomes that it has not taken over, and outcomes still to be
    /// expected.
    pub elsewhere: usize,
    /// The most bytes that the pipeline may hold in total.
    pub limit: usize,
    /// Set if the module cannot continue because there is no room for its outcomes.
    pub stuck: bool,
}

/// The module's outcome for a message.
#[derive(Debug)]
pub struct Transformed {
    pub ticket: Ticket,
    pub outcome: Outcome,
    /// The load that made the outcome.
    pub by: Load,
}

impl<R: Clone> Flow<R> {
    /// `endpoints` is the number of Centrifugo endpoints. `seed` is for the jitter of pauses.
    pub fn new(module: Arc<str>, settings: Settings, publish: RequestLimits, endpoints: usize, seed: u64) -> Self {
        Self {
            module,
            window: Window::new(settings.window),
            settings,
            stream: None,
            scheduler: Scheduler::new(publish, seed).with_endpoints(endpoints),
            rejects: Rejects::default(),
            expired: Expired::default(),
            effects: Vec::new(),
            counters: Counters::default(),
            pending: 0,
            retried: 0,
            halting: false,
            trying: None,
            later: Later::default(),
            again: None,
            yielded: false,
            catch_up: None,
            gather: Gather::new(),
            handover: None,
            waited: false,
            load: None,
            transforming: 0,
            memory: Budget {
                elsewhere: 0,
                limit: usize::MAX,
                stuck: false,
            },
        }
    }

    pub fn budget(&mut self, memory: Budget) {
        self.memory = memory;
    }

    /// Returns the bytes that the window, the queues, the requests and the outcomes that wait take.
    pub fn held(&self) -> usize {
        self.window.bytes() + self.beside_the_window()
    }

    fn beside_the_window(&self) -> usize {
        self.scheduler.held() + self.later.bytes()
    }

    /// Returns how many bytes of outcomes the workers may hold: the rest of `window_bytes`. While a flow catches up and
    /// publishes nothing, messages and their outcomes have separate limits. Messages never use up the whole budget.
    /// Half of the space beside them is kept for outcomes, because one stuck channel would otherwise hold up all others
    /// once the window is full of messages.
    pub fn room_to_make(&self) -> usize {
        let all = self.settings.window.bytes;
        let made = self.window.made() + self.beside_the_window();
        let counted = match self.catch_up {
            None => self.held(),
            Some(_) => made,
        };
        all.saturating_sub(counted).max((all / 2).saturating_sub(made))
    }

    /// Returns true if no outcome is left.
    pub fn is_idle(&self) -> bool {
        self.scheduler.is_idle() && self.later.is_empty()
    }

    pub fn window(&self) -> &Window<R> {
        &self.window
    }

    /// Resumes after a halt at the message at this place, when the cause may have disappeared. Until that message
    /// or a later one is published, messages are read one at a time, and the first refusal halts the pipeline
    /// again. So a known problem creates no dead letters, and no message overtakes the one that halted the pipeline.
    ///
    /// A flow that conflates reads all messages nevertheless, because it must not show what an earlier flow left out.
    pub fn try_through(&mut self, place: Place) {
        self.trying = Some(place);
    }

    /// Returns the place that is still to be tried, if any.
    pub fn trying(&self) -> Option<Place> {
        self.trying
    }

    /// Returns where to try again, if the cause of the halt may disappear by itself.
    pub fn again(&self) -> Option<Place> {
        self.again
    }

    /// Returns the room for new messages. Everything that an earlier flow had in its window also fits here while none
    /// of it is published.
    pub fn room(&self, now: Instant) -> Room {
        let window = &self.window;
        let messages = window.room_messages(now);
        let one_by_one = self.trying.is_some() && !self.settings.conflate;
        let elsewhere = self.beside_the_window() + self.memory.elsewhere;
        // Everything that an earlier flow had taken in has to come again, however much others hold.
        let bytes = match self.catch_up {
            None => {
                // A quarter is kept for outcomes.
                let limit = self.memory.limit - self.memory.limit / 4;
                let left = limit.saturating_sub(window.bytes() + elsewhere);
                window.room_bytes().saturating_sub(elsewhere).min(left)
            }
            Some(_) => window.room_message_bytes(),
        };
        Room {
            messages: match one_by_one {
                _ if self.hands_over(now) => 0,
                true => messages.min(1_usize.saturating_sub(window.len())),
                false => messages,
            },
            bytes,
            empty: window.is_empty(),
        }
    }

    /// Returns true while nothing new is taken in, not even what was requested before, because messages of an earlier
    /// load are not settled.
    pub fn hands_over(&self, now: Instant) -> bool {
        self.handover.is_some_and(|until| now < until)
    }

    pub fn next_wakeup(&self) -> Option<Instant> {
        let catch_up = self.catch_up.as_ref().filter(|_| self.transforming == 0);
        let waits_until = catch_up.and_then(CatchUp::until);
        let gathers = self.settings.conflate && self.catch_up.is_none() && self.scheduler.waiting() > 0;
        let gathers_until = self.gather.until().filter(|_| gathers);
        [self.scheduler.next_wakeup(), waits_until, gathers_until, self.handover]
            .into_iter()
            .flatten()
            .min()
    }

    pub fn take_effects(&mut self) -> Vec<Effect<R>> {
        let mut effects = std::mem::take(&mut self.effects);
        if self.yielded {
            effects.retain(|effect| !matches!(effect, Effect::Ack(_) | Effect::InProgress(_)));
        }
        effects
    }

    /// Applies the settings of a new load of the module, which gets all messages from now on.
    ///
    /// The new load may send a message to another channel than the earlier one did. So it gets none until those of the
    /// earlier load are settled. Otherwise a halt or a crash would redeliver them to the new load, which would publish
    /// them after newer ones. So the earlier load may still halt the pipeline without harm.
    ///
    /// In a rollback, the load before it already has messages: once a trial has failed, the workers give it those that they
    /// still have. Its outcomes wait instead, in `has_to_wait`. A flow that conflates does not wait. Its channels
    /// show the newest message, whatever came before.
    pub fn configure(&mut self, now: Instant, settings: Settings) {
        self.settings = settings;
        self.trying = None;
        let waits = !settings.conflate && self.window.oldest_unsettled().is_some();
        // Versions that follow each other quickly share the time.
        self.handover = waits.then(|| self.handover.unwrap_or(now + MAX_HANDOVER));
    }

    /// Starts an epoch. Returns false if the epoch cannot be used.
    pub fn begin(&mut self, stream: Incarnation, again: Again) -> bool {
        if self.stream.is_some_and(|known| known != stream) {
            self.renew("the stream was recreated, so its sequences now belong to other messages");
            return false;
        }
        // In later epochs the window knows what came before.
        if (self.stream.is_none() || self.catch_up.is_some()) && self.settings.conflate {
            self.catch_up = CatchUp::new(again);
        }
        self.stream = Some(stream);
        true
    }

    fn renew(&mut self, reason: &str) {
        self.effects.push(Effect::Renew(reason.to_owned()));
    }

    /// Returns the position of the pipeline in its stream, once it has read something.
    pub fn position(&self) -> Option<Position> {
        Some(Position {
            stream: self.stream?,
            next: self.window.resume_at()?,
        })
    }

    /// Ends the epoch. Receipts of the epoch are no longer valid.
    pub fn over(&mut self) {
        self.window.begin_epoch();
    }

    /// Takes in deliveries and returns the messages to transform.
    pub fn deliver(&mut self, now: Now, deliveries: Vec<Delivery<R>>) -> Vec<(Ticket, Arc<Message>)> {
        let mut chunk = Vec::with_capacity(deliveries.len());
        for Delivery {
            message,
            receipt,
            pending,
        } in deliveries
        {
            self.pending = pending;
            match self.window.arrive(&message, receipt, now.instant) {
                Arrival::New(ticket) => {
                    if let Some(catch_up) = &mut self.catch_up {
                        catch_up.came(message.place, now.instant);
                    }
                    self.counters.received += 1;
                    if is_too_old(&self.settings, now, &message) {
                        self.leave_out(now, ticket);
                        self.settle(now, ticket);
                    } else {
                        chunk.push((ticket, message));
                    }
                }
                Arrival::Pending => {}
                Arrival::Settled(receipt) => self.ack(receipt),
                Arrival::Misplaced => {
                    self.renew("a message was delivered late, after messages that follow it in the stream");
                    // The messages before this one have a place in the window and must leave it.
                    break;
                }
                Arrival::Reused => {
                    self.renew("the stream was restored, so its sequences now belong to other messages");
                    break;
                }
            }
        }
        self.transforming += chunk.len();
        chunk
    }

    /// Takes in the module's outcome for a message. Outcomes have to come in the order in which the messages were
    /// handed out.
    pub fn transformed(&mut self, now: Now, transformed: Transformed) {
        self.transforming -= 1;
        if self.later.is_empty() && !self.has_to_wait(now, transformed.ticket, transformed.by.id) {
            self.take(now, transformed);
        } else {
            self.later.push(transformed);
        }
        self.take_later(now);
    }

    /// Returns true if an earlier message is not settled, and either publications go out one at a time, or another load
    /// than this one made the outcome before. That load may have published to other channels. If its messages were
    /// delivered again, after a halt or a crash, they would follow newer ones on the channels of this load.
    fn has_to_wait(&mut self, now: Now, ticket: Ticket, by: LoadId) -> bool {
        let is_another = self.load.is_some_and(|load| load != by);
        if !is_another && self.trying.is_none() || self.settings.conflate {
            return false;
        }
        let place = |message: &Arc<Message>| message.place;
        let oldest = self.window.oldest_unsettled().map(place);
        let follows = self
            .window
            .message(ticket)
            .is_some_and(|message| Some(message.place) != oldest);
        if !follows || self.trying.is_some() {
            return follows;
        }
        if self.handover.is_none() && !self.waited {
            self.handover = Some(now.instant + MAX_HANDOVER);
        }
        self.hands_over(now.instant)
    }

    /// Continues with the outcomes that had to wait.
    fn take_later(&mut self, now: Now) {
        while let Some((ticket, by)) = self.later.front()
            && !self.has_to_wait(now, ticket, by)
            && let Some(next) = self.later.pop()
        {
            self.take(now, next);
        }
    }

    fn take(&mut self, now: Now, transformed: Transformed) {
        if self.halting {
            // The message comes again once the pipeline resumes, after the message that halted it.
            return;
        }
        let Transformed { ticket, outcome, by } = transformed;
        if self.load.replace(by.id) != Some(by.id) {
            self.waited = false;
        }
        let Some(message) = self.window.message(ticket).cloned() else {
            return;
        };
        match outcome {
            Outcome::Drop => {
                self.counters.dropped += 1;
                self.rejects.success(Stage::Transform);
                self.settle(now, ticket);
            }
            Outcome::Reject(rejection) => self.reject(now, ticket, message, rejection, by),
            Outcome::Publish(_)
                if self.settings.version == VersionSource::Sequence && !message.place.is_a_version() =>
            {
                self.reject(now, ticket, message.clone(), no_version(&message), by);
            }
            Outcome::Publish(publications) => {
                self.rejects.success(Stage::Transform);
                let stamped = self.stamp().all(&message, publications);
                let bytes = stamped
                    .iter()
                    .map(|(publication, _)| weight::of_waiting(publication))
                    .sum();
                self.window.expect(ticket, stamped.len(), bytes, by);
                for (publication, key) in stamped {
                    if !self.settings.conflate {
                        self.scheduler.push(ticket, publication, key);
                    } else if let Some(obsolete) = self.scheduler.push_newest(ticket, publication, key) {
                        self.conflated(now, obsolete);
                    }
                }
            }
        }
    }

    /// A newer publication replaced one of this message before it was sent.
    fn conflated(&mut self, now: Now, Concluded { ticket, share, .. }: Concluded) {
        self.counters.conflated += 1;
        self.window.keep(ticket, share);
        self.conclude_unsent(now, ticket);
    }

    /// A message, or one of its publications, is too old and is never sent.
    fn leave_out(&mut self, now: Now, ticket: Ticket) {
        if self.window.expire(ticket)
            && let Some(message) = self.window.message(ticket)
        {
            self.counters.expired += 1;
            self.expired.left_out(now.age_of(message));
        }
    }

    /// Nothing reached Centrifugo, so the result says nothing about the module.
    fn conclude_unsent(&mut self, now: Now, ticket: Ticket) {
        match self.window.conclude(ticket, Ok(())) {
            None => {}
            Some(Conclusion::Confirmed) => self.settle(now, ticket),
            Some(Conclusion::Rejected(message, rejection, by)) => self.reject(now, ticket, message, rejection, by),
        }
    }

    fn stamp(&self) -> Stamp<'_> {
        Stamp {
            module: &self.module,
            incarnation: Some(self.stream.unwrap_or_default()),
            idempotency: self.settings.idempotency,
            version: self.settings.version,
        }
    }

    /// Returns the next request. Its answer comes back through [`Flow::answered`].
    pub fn next_request(&mut self, now: Now) -> Option<Request> {
        if self.handover.is_some_and(|until| now.instant >= until) {
            self.handover = None;
            self.waited = true;
            self.take_later(now);
        }
        if !self.has_caught_up(now.instant) || self.gathers(now.instant) {
            return None;
        }
        let (window, settings) = (&self.window, &self.settings);
        let wanted = |ticket| {
            settings.max_age.is_none()
                || !window
                    .message(ticket)
                    .is_some_and(|message| is_too_old(settings, now, message))
        };
        let request = self.scheduler.next_request_of(now.instant, wanted);
        for ticket in self.scheduler.take_left_out() {
            self.leave_out(now, ticket);
            self.conclude_unsent(now, ticket);
        }
        let Some(request) = request else {
            self.gather.over(now.instant);
            return None;
        };
        Some(request)
    }

    /// Returns true if ready publications should wait for newer ones.
    fn gathers(&mut self, now: Instant) -> bool {
        if !self.settings.conflate {
            return false;
        }
        let window = self.settings.window;
        let room = self.room(now);
        let situation = Situation {
            far_behind: self.pending > window.messages as u64,
            full: room.messages <= window.messages / 4 || room.bytes <= window.bytes / 4,
            in_flight: self.scheduler.in_flight(),
        };
        !self.gather.lets_go(now, situation)
    }

    fn has_caught_up(&mut self, now: Instant) -> bool {
        let Some(catch_up) = &self.catch_up else { return true };
        // A full window takes no more messages, and an exhausted stream has none left.
        let room = self.room(now);
        let full = room.messages == 0 || room.bytes == 0;
        let last = self.pending == 0 && !room.empty;
        let over = self.memory.stuck || self.transforming == 0 && (catch_up.is_over(now) || full || last);
        if over {
            self.catch_up = None;
        }
        over
    }

    pub fn answered(&mut self, now: Now, id: RequestId, answer: Answer) {
        let before = self.scheduler.trouble().map(str::to_owned);
        let concluded = self.scheduler.complete(now.instant, id, answer);
        let after = self.scheduler.trouble().map(str::to_owned);
        if before != after {
            self.effects.push(Effect::Say(Notice::Trouble(after)));
        }
        if let Some(stuck) = self.scheduler.take_stuck()
            && let Some(message) = self.window.message(stuck.ticket)
        {
            let notice = self.rejects.stuck(now.instant, message, stuck);
            self.effects.extend(notice.map(Effect::Say));
        }
        for Concluded { ticket, result, share } in concluded {
            if result.is_ok() {
                self.counters.published += 1;
            }
            self.window.keep(ticket, share);
            match self.window.conclude(ticket, result) {
                None => {}
                Some(Conclusion::Confirmed) => {
                    self.rejects.success(Stage::Publish);
                    let place = self.window.message(ticket).map(|message| message.place);
                    self.trying = self.trying.filter(|through| place.is_none_or(|place| place < *through));
                    self.settle(now, ticket);
                }
                Some(Conclusion::Rejected(message, rejection, by)) => self.reject(now, ticket, message, rejection, by),
            }
        }
        self.take_later(now);
    }

    /// `by` is the load that rejected the message or made the publication that Centrifugo refused.
    fn reject(&mut self, now: Now, ticket: Ticket, message: Arc<Message>, rejection: Rejection, by: Load) {
        if self.halting {
            // The message comes again, and so must everything behind it on its channel.
            self.scheduler.freeze();
            return;
        }
        let stage = rejection.stage;
        let lasts = !rejection.may_pass();
        if let Some(through) = self.trying.filter(|_| !lasts) {
            self.again = Some(through.max(message.place));
            self.halt(stage, rejection.reason, by);
            return;
        }
        match stage {
            Stage::Transform => self.counters.rejected_in_transform += 1,
            Stage::Publish => self.counters.rejected_in_publish += 1,
        }
        if stage == Stage::Publish {
            let refused = Effect::Refused(Arc::clone(&message), rejection.clone(), by.clone());
            self.effects.push(refused);
        }
        let (in_a_row, notice) = self.rejects.rejected(now.instant, &message, &rejection);
        self.effects.extend(notice.map(Effect::Say));
        let max = self.settings.max_consecutive_rejects;
        self.again = (!lasts).then_some(message.place);
        if in_a_row > max {
            self.halt(
                stage,
                format!(
                    "more than {max} messages in a row (`max_consecutive_rejects`) were rejected, the last one (sequence {}) because: {}",
                    message.place, rejection.reason
                ),
                by,
            );
            return;
        }
        match self.settings.on_reject {
            OnReject::Drop => self.settle(now, ticket),
            OnReject::Halt => self.halt(
                stage,
                format!(
                    "the message with sequence {} was rejected, and `on_reject` is `halt`: {}",
                    message.place, rejection.reason
                ),
                by,
            ),
            OnReject::DeadLetter => {
                self.window.hold(ticket, rejection.size());
                self.effects.push(Effect::DeadLetter(ticket, message, rejection, by));
            }
        }
    }

    /// Stops publishing whatever follows the message in the stream. After a rejection by the module, the queues hold
    /// only earlier publications, which may go out. After a refusal by Centrifugo, everything has to stay.
    fn halt(&mut self, stage: Stage, reason: String, by: Load) {
        self.halting = true;
        if stage == Stage::Publish {
            self.scheduler.freeze();
        }
        self.effects.push(Effect::Halt(reason, by));
    }

    /// Another relay may be reading by now. Nothing more goes out, not even an ack: the stream may have been recreated,
    /// and the sequence of the ack may now belong to another message.
    pub fn yield_to_others(&mut self) {
        self.halting = true;
        self.yielded = true;
        self.scheduler.freeze();
    }

    /// Returns true if a message has halted the flow, or if another relay may be reading.
    pub fn is_halting(&self) -> bool {
        self.halting
    }

    pub fn has_yielded(&self) -> bool {
        self.yielded
    }

    pub fn dead_lettered(&mut self, now: Now, ticket: Ticket) {
        self.counters.dead_lettered += 1;
        self.settle(now, ticket);
        self.take_later(now);
    }

    fn settle(&mut self, now: Now, ticket: Ticket) {
        if let Some(message) = self.window.message(ticket) {
            self.counters.settled.push(now.age_of(message));
        }
        for receipt in self.window.settle(ticket) {
            self.ack(receipt);
        }
        if self.handover.is_some() && self.window.oldest_unsettled().is_none() {
            self.handover = None;
        }
    }

    fn ack(&mut self, receipt: R) {
        self.counters.acked += 1;
        self.effects.push(Effect::Ack(receipt));
    }

    /// Reports slow messages as in progress and passes on collected notices.
    pub fn tick(&mut self, now: Now) {
        self.take_later(now);
        self.effects.extend(self.expired.tell(now.instant).map(Effect::Say));
        let late = self.window.in_progress(now.instant, PROGRESS_INTERVAL);
        self.effects.extend(late.into_iter().map(Effect::InProgress));
    }

    /// Returns the current gauges.
    pub fn gauges(&self, now: Now) -> Gauges {
        let unsettled = self.window.unsettled().map_or(0, |(count, ..)| count);
        Gauges {
            messages: self.window.len(),
            bytes: self.window.bytes(),
            lag: self.stream.map(|_| Lag {
                messages: self.pending + unsettled as u64,
                age: self.window.oldest_unsettled().map(|message| now.age_of(message)),
            }),
        }
    }

    /// Returns the counts since the last call and resets them.
    pub fn take_counters(&mut self) -> Counters {
        let retried = self.scheduler.retried();
        self.counters.retried = retried - self.retried;
        self.retried = retried;
        std::mem::take(&mut self.counters)
    }

    /// Returns true if everything delivered is done. After a halt, returns true once everything that may still be
    /// published is done.
    pub fn is_drained(&self) -> bool {
        if self.halting {
            self.scheduler.is_frozen() || self.scheduler.is_idle()
        } else {
            self.window.unsettled().is_none()
        }
    }
}

/// Returns true if the message is older than the configured limit.
fn is_too_old(settings: &Settings, now: Now, message: &Message) -> bool {
    settings.max_age.is_some_and(|max_age| now.age_of(message) > max_age)
}

/// Says why the message cannot have its place as its version.
fn no_version(message: &Message) -> Rejection {
    Rejection {
        stage: Stage::Transform,
        code: "version".into(),
        channel: None,
        reason: format!(
            "`version` is `sequence`, and the message's ID {} does not fit into a version, which is below 2^53; let the \
             module set the version",
            message.place
        ),
    }
}
