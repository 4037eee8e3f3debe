//! What a pipeline decides, from a delivery to its ack. It does no I/O: what is to be done comes out as [`Effect`]s and requests,
//! and what was done comes back in, so that whole pipelines can be simulated.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::conflate::catch_up::CatchUp;
use super::conflate::gather::{Gather, Situation};
use super::counters::{Counters, Gauges, Lag};
use super::effect::{Effect, Notice};
use super::expired::Expired;
use super::rejects::Rejects;
use super::settings::{OnReject, Settings};
use super::weight;
use crate::load::Load;
use crate::message::{Message, Outcome, Rejection, Stage};
use crate::now::Now;
use crate::publish::{Answer, Concluded, Limits, Request, RequestId, Scheduler};
use crate::read::{ACK_WAIT, Again, Delivery, Position, Room, StreamIdentity};
use crate::stamp::Stamp;
use crate::window::{Arrival, Conclusion, Ticket, Window};

/// A message that takes longer than this is reported as in progress, in good time before JetStream would deliver it again.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(20);
const _: () = assert!(PROGRESS_INTERVAL.as_secs() * 2 < ACK_WAIT.as_secs());

#[cfg(test)]
mod tests;

#[derive(Debug)]
pub struct Flow<R> {
    /// The module's name, which is part of each key.
    module: Arc<str>,
    settings: Settings,
    /// The stream that the messages in the window came from.
    stream: Option<StreamIdentity>,
    window: Window<R>,
    scheduler: Scheduler,
    rejects: Rejects,
    expired: Expired,
    effects: Vec<Effect<R>>,
    counters: Counters,
    /// Messages that the stream holds after the last one delivered.
    pending: u64,
    /// What the scheduler had retried when that was last counted.
    retried: u64,
    /// Messages that are not transformed yet stay with JetStream.
    halting: bool,
    /// What halted the pipeline before may not be over: see [`Flow::try_through`].
    trying: Option<u64>,
    /// What is transformed and waits for its turn while that is tried.
    later: VecDeque<Transformed>,
    /// The message that halts the pipeline now, if the cause may end by itself.
    again: Option<u64>,
    /// Another relay may read by now.
    yielded: bool,
    /// Nothing is published yet, where only the newest state of a channel matters.
    catch_up: Option<CatchUp>,
    /// Whether requests wait for what is newer, where only the newest state of a channel matters.
    gather: Gather,
    /// Messages that the module has not answered for.
    transforming: usize,
    memory: Budget,
}

/// What there is for what the pipeline takes in.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Held for the pipeline by others than the flow: outcomes that are not taken over, and those that are to be expected. In bytes.
    pub elsewhere: usize,
    /// What the pipeline may hold in all, in bytes.
    pub limit: usize,
    /// The module can't go on, since there is no room for what it would make.
    pub stuck: bool,
}

/// What the module made of a message.
#[derive(Debug)]
pub struct Transformed {
    pub ticket: Ticket,
    pub outcome: Outcome,
    /// Whose outcome it is.
    pub by: Load,
}

impl<R: Clone> Flow<R> {
    /// Centrifugo has so many `endpoints`; `seed` is for the jitter of pauses.
    pub fn new(module: Arc<str>, settings: Settings, publish: Limits, endpoints: usize, seed: u64) -> Self {
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
            later: VecDeque::new(),
            again: None,
            yielded: false,
            catch_up: None,
            gather: Gather::new(),
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

    /// What the window, the queues and the requests take, in bytes.
    pub fn held(&self) -> usize {
        self.window.bytes() + self.scheduler.held()
    }

    /// What the workers may hold of what they make, in bytes: what is left of `window_bytes`. While nothing is published yet, messages
    /// and what they became count apart. And messages alone never take all that there is: half of it beside them is for what they
    /// become, or a channel that is stuck would hold up all others once the window is full of messages.
    pub fn room_to_make(&self) -> usize {
        let all = self.settings.window.bytes;
        let made = self.window.made() + self.scheduler.held();
        let counted = match self.catch_up {
            None => self.held(),
            Some(_) => made,
        };
        all.saturating_sub(counted).max((all / 2).saturating_sub(made))
    }

    /// Whether nothing that was made is left.
    pub fn is_idle(&self) -> bool {
        self.scheduler.is_idle()
    }

    pub fn window(&self) -> &Window<R> {
        &self.window
    }

    /// The pipeline was halted, at the message with this sequence, by what may be over. Until that message or a later one is published,
    /// messages are read one at a time, and the first one that is refused halts the pipeline again: none becomes a dead letter for what
    /// is known to be wrong, and none that follows is published before it.
    ///
    /// Where only the newest state of a channel matters, all messages are read nevertheless: what an earlier flow left out must not be
    /// shown.
    pub fn try_through(&mut self, sequence: u64) {
        self.trying = Some(sequence);
    }

    /// What is still to be tried, if anything is.
    pub fn trying(&self) -> Option<u64> {
        self.trying
    }

    /// Where to try again, if the pipeline was halted by what may end by itself.
    pub fn again(&self) -> Option<u64> {
        self.again
    }

    /// What may still come in. What an earlier flow had in its window fits into this one while nothing of it is published yet.
    pub fn room(&self, now: Instant) -> Room {
        let window = &self.window;
        let messages = window.room_messages(now);
        let one_by_one = self.trying.is_some() && !self.settings.conflate;
        let elsewhere = self.scheduler.held() + self.memory.elsewhere;
        // What an earlier flow could take in has to come again, whatever others hold.
        let bytes = match self.catch_up {
            None => {
                // A quarter is for what becomes of them.
                let limit = self.memory.limit - self.memory.limit / 4;
                let left = limit.saturating_sub(window.bytes() + elsewhere);
                window.room_bytes().saturating_sub(elsewhere).min(left)
            }
            Some(_) => window.room_message_bytes(),
        };
        Room {
            messages: match one_by_one {
                true => messages.min(1_usize.saturating_sub(window.len())),
                false => messages,
            },
            bytes,
            empty: window.is_empty(),
        }
    }

    pub fn next_wakeup(&self) -> Option<Instant> {
        let catch_up = self.catch_up.as_ref().filter(|_| self.transforming == 0);
        let waits_until = catch_up.and_then(CatchUp::until);
        let gathers = self.settings.conflate && self.catch_up.is_none() && self.scheduler.waiting() > 0;
        let gathers_until = self.gather.until().filter(|_| gathers);
        [self.scheduler.next_wakeup(), waits_until, gathers_until]
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

    /// Another load of the module has taken over, with these settings.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = settings;
        self.trying = None;
    }

    /// An epoch has begun. Answers whether it can be used.
    pub fn begin(&mut self, stream: StreamIdentity, again: Again) -> bool {
        if self.stream.is_some_and(|known| known != stream) {
            self.renew("the stream was made anew, and its sequences name other messages now");
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

    /// Where in which stream the pipeline stands, once it has read something.
    pub fn position(&self) -> Option<Position> {
        Some(Position {
            stream: self.stream?,
            next: self.window.resume_at()?,
        })
    }

    /// The epoch is over, and with it all that was said about where to ack.
    pub fn over(&mut self) {
        self.window.begin_epoch();
    }

    /// Takes in what was delivered. Answers what is to be transformed.
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
                        catch_up.came(message.sequence, now.instant);
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
                    self.renew("JetStream delivered a message between two that it had delivered one after the other");
                    // Those before it have a place in the window, and must leave it.
                    break;
                }
                Arrival::Reused => {
                    self.renew("the stream was rolled back, and its sequences name other messages now");
                    break;
                }
            }
        }
        self.transforming += chunk.len();
        chunk
    }

    /// What the module made of a message, in the order in which they were handed out.
    pub fn transformed(&mut self, now: Now, transformed: Transformed) {
        self.transforming -= 1;
        if self.has_to_wait(transformed.ticket) {
            self.later.push_back(transformed);
        } else {
            self.take(now, transformed);
            self.take_later(now);
        }
    }

    /// Whether a message before this one is not settled, and messages are published one at a time.
    fn has_to_wait(&self, ticket: Ticket) -> bool {
        let sequence = |message: &Arc<Message>| message.sequence;
        self.trying.is_some()
            && !self.settings.conflate
            && self.window.message(ticket).map(sequence) != self.window.oldest_unsettled().map(sequence)
    }

    /// Goes on with what had to wait.
    fn take_later(&mut self, now: Now) {
        while let Some(next) = self.later.front()
            && !self.has_to_wait(next.ticket)
            && let Some(next) = self.later.pop_front()
        {
            self.take(now, next);
        }
    }

    fn take(&mut self, now: Now, transformed: Transformed) {
        if self.halting {
            // It comes again once the pipeline resumes, behind the message that halted it.
            return;
        }
        let Transformed { ticket, outcome, by } = transformed;
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

    /// A publication of this message was never sent, since a newer one took its place.
    fn conflated(&mut self, now: Now, Concluded { ticket, share, .. }: Concluded) {
        self.counters.conflated += 1;
        self.window.keep(ticket, share);
        self.conclude_unsent(now, ticket);
    }

    /// A message is too old, or one of its publications, which is never sent.
    fn leave_out(&mut self, now: Now, ticket: Ticket) {
        if self.window.expire(ticket)
            && let Some(message) = self.window.message(ticket)
        {
            self.counters.expired += 1;
            self.expired.left_out(now.age_of(message));
        }
    }

    /// Nothing passed Centrifugo, so that this says nothing about the module.
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
            created: Some(self.stream.map_or(0, |stream| stream.created)),
            idempotency: self.settings.idempotency,
            version: self.settings.version,
        }
    }

    /// What to send now; its answer comes back as [`Flow::answered`].
    pub fn next_request(&mut self, now: Now) -> Option<Request> {
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

    /// Whether what could be sent waits for what is newer.
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
        // Nothing more comes into a full window, and nothing more has to come where there is nothing left.
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
                    let sequence = self.window.message(ticket).map(|message| message.sequence);
                    self.trying = self
                        .trying
                        .filter(|through| sequence.is_none_or(|sequence| sequence < *through));
                    self.settle(now, ticket);
                }
                Some(Conclusion::Rejected(message, rejection, by)) => self.reject(now, ticket, message, rejection, by),
            }
        }
        self.take_later(now);
    }

    /// `by` this load of the module, or by Centrifugo what that made.
    fn reject(&mut self, now: Now, ticket: Ticket, message: Arc<Message>, rejection: Rejection, by: Load) {
        if self.halting {
            // It comes again, and so must what is behind it on its channel.
            self.scheduler.freeze();
            return;
        }
        let stage = rejection.stage;
        let lasts = !rejection.may_pass();
        if let Some(through) = self.trying.filter(|_| !lasts) {
            self.again = Some(through.max(message.sequence));
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
        self.again = (!lasts).then_some(message.sequence);
        if in_a_row > max {
            self.halt(
                stage,
                format!(
                    "more than {max} messages in a row were rejected, the last one (sequence {}) because: {}",
                    message.sequence, rejection.reason
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
                    message.sequence, rejection.reason
                ),
                by,
            ),
            OnReject::DeadLetter => {
                self.window.hold(ticket, rejection.size());
                self.effects.push(Effect::DeadLetter(ticket, message, rejection, by));
            }
        }
    }

    /// Nothing that follows the message in the stream may be published. What the module refused has nothing behind it in the
    /// queues, and what is before it may go out; behind what Centrifugo refused, everything has to stay.
    fn halt(&mut self, stage: Stage, reason: String, by: Load) {
        self.halting = true;
        if stage == Stage::Publish {
            self.scheduler.freeze();
        }
        self.effects.push(Effect::Halt(reason, by));
    }

    /// Another relay may read by now. Nothing more goes out, and no ack either: the sequence that it names may be another message's
    /// by now, of a stream that was made anew.
    pub fn yield_to_others(&mut self) {
        self.halting = true;
        self.yielded = true;
        self.scheduler.freeze();
    }

    /// Whether a message has halted it, or another relay may read.
    pub fn is_halting(&self) -> bool {
        self.halting
    }

    pub fn has_yielded(&self) -> bool {
        self.yielded
    }

    pub fn dead_lettered(&mut self, now: Now, ticket: Ticket) {
        self.counters.dead_lettered += 1;
        self.settle(now, ticket);
    }

    fn settle(&mut self, now: Now, ticket: Ticket) {
        if let Some(message) = self.window.message(ticket) {
            self.counters.settled.push(now.age_of(message));
        }
        for receipt in self.window.settle(ticket) {
            self.ack(receipt);
        }
    }

    fn ack(&mut self, receipt: R) {
        self.counters.acked += 1;
        self.effects.push(Effect::Ack(receipt));
    }

    /// Keeps what takes long from being delivered again, and says what has come together.
    pub fn tick(&mut self, now: Now) {
        self.take_later(now);
        self.effects.extend(self.expired.tell(now.instant).map(Effect::Say));
        let late = self.window.in_progress(now.instant, PROGRESS_INTERVAL);
        self.effects.extend(late.into_iter().map(Effect::InProgress));
    }

    /// How things stand.
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

    /// What was counted since this was last asked.
    pub fn take_counters(&mut self) -> Counters {
        let retried = self.scheduler.retried();
        self.counters.retried = retried - self.retried;
        self.retried = retried;
        std::mem::take(&mut self.counters)
    }

    /// Whether everything that was delivered is done with; after a halt, whether everything is that may still be published.
    pub fn is_drained(&self) -> bool {
        if self.halting {
            self.scheduler.is_frozen() || self.scheduler.is_idle()
        } else {
            self.window.unsettled().is_none()
        }
    }
}

/// Whether nobody wants to see the message any more.
fn is_too_old(settings: &Settings, now: Now, message: &Message) -> bool {
    settings.max_age.is_some_and(|max_age| now.age_of(message) > max_age)
}
