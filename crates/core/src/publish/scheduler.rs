//! Decides which publications go into which request, and what each answer means for them. The order promise is kept
//! here.
//!
//! A channel has at most one request in flight, and its queue continues only after the answer. So whatever fails, is
//! late or gets lost, publications first appear in the order in which they were pushed. Time is an argument and there
//! is no I/O, so a test can play thousands of failure schedules in a second.
//!
//! [`Order::Batched`] has one exception. When one of several publications of a channel in a request fails with error
//! 100, Centrifugo still publishes the next ones: 1 3. The scheduler publishes the channel again from the failed
//! publication on. It uses new keys for the confirmed ones, because Centrifugo would otherwise suppress them: 1 3 2 3.
//! If the answer was lost, the retry reveals the failure, because the reply to a suppressed publication has its old
//! position in the history: 3 before 2. With versions, Centrifugo suppresses the late publications by itself: 1 3. A
//! subscriber then misses 2 but never goes back to it.

mod backoff;
mod endpoints;
mod outage;
mod queues;
mod rejection;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use self::backoff::Backoff;
use self::endpoints::Endpoints;
use self::outage::{Failed, Failure, Outage, Step};
use self::queues::{ChannelId, Item, ItemId, Kind, Queues, Targets};
use self::verdict::{Verdict, judge};
use super::answer::Answer;
use super::request::{Command, Request, RequestId, longest_broadcast};
use crate::message::{Publication, Rejection, Share};

/// Centrifugo has no limit over HTTP and 4 MiB over GRPC, but common proxies and the relay's memory have one.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// The memory for one channel's reply, in bytes: its JSON, twice while it is collected, and the parsed result.
const REPLY_BYTES: usize = 256;

/// For a channel after error 100, or while one of its publications is never answered and others are.
const CHANNEL_BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(30),
};

/// How long a small batch waits for more publications while other requests are in flight. It is less than the duration
/// of the requests that make waiting worthwhile.
const LINGER: Duration = Duration::from_millis(2);

/// If requests carry fewer publications than this on average, there is capacity to spare, and waiting gains nothing.
const BUSY_BATCH: usize = 32;

/// How long a channel gets one publication per request after a batch of it failed in the middle.
const STRICT_AFTER_FAILURE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Scheduler {
    limits: RequestLimits,
    queues: Queues,
    in_flight: HashMap<RequestId, InFlight>,
    next_id: u64,
    /// The current limit of publications per request. It is halved when something suggests smaller requests, and
    /// doubled by each success.
    max_batch: usize,
    outage: Outage,
    endpoints: Endpoints,
    /// Requests that were refused as a whole. An empty request has to show whether the refusal says anything about
    /// their publications.
    questions: VecDeque<InFlight>,
    /// Set if publications went through since the last failed request.
    goes_through: bool,
    /// Requests in flight whose publications were in failed requests before.
    suspects: usize,
    /// The kind of publications in the last request.
    last: Kind,
    stuck: Option<Stuck>,
    /// When the last request was returned.
    sent: Option<Instant>,
    rng: Rng,
    frozen: bool,
    carried: usize,
    retried: u64,
    /// Tickets of publications that were left out, kept until the caller takes them.
    left_out: Vec<u64>,
}

/// Returns the memory that a publication takes in the queues beside itself, in bytes, if nothing else waits for its
/// channels.
pub fn queued_size(publication: &Publication) -> usize {
    waiting_size(publication) + publication.channels.len() * queues::CHANNEL
}

/// Returns the memory that a publication takes in the queues, in bytes, beside itself and what [`Scheduler::held`]
/// counts.
pub fn waiting_size(publication: &Publication) -> usize {
    queues::size(publication)
}

/// How many publications of one channel may be in one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// One publication per channel and request.
    Strict,
    /// Many publications of one channel per request, in order.
    Batched,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    pub order: Order,
    /// The most publications per request.
    pub max_batch: usize,
    /// A larger publication goes alone.
    pub max_request_bytes: usize,
    /// The most requests in flight.
    pub max_in_flight: usize,
    /// While requests carry at least this many publications on average, a much smaller one waits for a moment, so more
    /// publications share its cost. Otherwise, under load, the channels of each answered request would go out again by
    /// ones and twos.
    pub busy_batch: usize,
}

impl RequestLimits {
    /// Takes the limits that a user can set. The rest are constants.
    pub fn new(order: Order, max_batch: usize, max_in_flight: usize) -> Self {
        Self {
            order,
            max_batch,
            max_request_bytes: MAX_REQUEST_BYTES,
            max_in_flight,
            busy_batch: BUSY_BATCH,
        }
    }
}

/// A publication that is done in all of its channels: confirmed in each, or permanently refused in at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concluded {
    pub ticket: u64,
    /// The first refusal, if there is one.
    pub result: Result<(), Rejection>,
    pub share: Share,
}

/// A publication that is never answered, while others are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    pub ticket: u64,
    /// Consecutive failures.
    pub failures: u32,
    /// Why the last request failed.
    pub reason: String,
}

#[derive(Debug)]
struct InFlight {
    items: Vec<ItemId>,
    /// The number of channels of all items, which is the number of replies.
    replies: usize,
    endpoint: usize,
    kind: Kind,
    question: Option<Question>,
    /// The memory of its body and its replies.
    bytes: usize,
}

/// A request that was in flight until its answer came.
#[derive(Debug, Clone, Copy)]
struct Answered {
    id: RequestId,
    endpoint: usize,
    kind: Kind,
    /// True for an empty request, whether it asked on its own or in place of a refused one.
    asked: bool,
}

/// Why an empty request was sent. It finds out whether the endpoint takes requests at all.
#[derive(Debug)]
enum Question {
    /// Nothing goes through.
    Open,
    /// The endpoint refused a request, which still holds its publications.
    Refused { id: RequestId, status: u16, reason: String },
}

impl Scheduler {
    /// `seed` is for the jitter of the pauses; nothing else here is random.
    pub fn new(limits: RequestLimits, seed: u64) -> Self {
        Self {
            limits,
            queues: Queues::default(),
            in_flight: HashMap::new(),
            next_id: 0,
            max_batch: limits.max_batch.max(1),
            outage: Outage::default(),
            endpoints: Endpoints::new(1),
            questions: VecDeque::new(),
            goes_through: false,
            suspects: 0,
            last: Kind::Clean,
            stuck: None,
            sent: None,
            rng: Rng::with_seed(seed),
            frozen: false,
            carried: 0,
            retried: 0,
            left_out: Vec::new(),
        }
    }

    /// Sets the number of endpoints. The default is one.
    #[must_use]
    pub fn with_endpoints(self, endpoints: usize) -> Self {
        Self {
            endpoints: Endpoints::new(endpoints),
            ..self
        }
    }

    /// Adds a publication behind all that were pushed before. `key` is the relay's idempotency key; the publication's
    /// own key has precedence. The ticket comes back once, in a [`Concluded`].
    pub fn push(&mut self, ticket: u64, publication: Publication, key: Option<String>) {
        self.queues.push(ticket, publication, key, false);
    }

    /// Like [`push`](Self::push), for channels where only the newest state matters. The publication replaces an earlier
    /// one that was added in this way, waits on the same channels and was never sent. That one is concluded as
    /// confirmed.
    pub fn push_newest(&mut self, ticket: u64, publication: Publication, key: Option<String>) -> Option<Concluded> {
        self.queues.push(ticket, publication, key, true)
    }

    /// Returns the next request. `None` means that nothing is ready, that no further request is allowed, or that
    /// everything pauses. Ask again after an answer, after a push, or at [`Self::next_wakeup`].
    pub fn next_request(&mut self, now: Instant) -> Option<Request> {
        self.next_request_of(now, |_| true)
    }

    /// Like [`next_request`](Self::next_request), for publications that may become useless while they wait. A
    /// publication whose ticket is not `wanted` is left out if it was never sent, and its ticket comes back in
    /// [`take_left_out`](Self::take_left_out). A publication that was sent may still be executed, so it has to be
    /// confirmed before anything newer is shown.
    pub fn next_request_of(&mut self, now: Instant, wanted: impl Fn(u64) -> bool) -> Option<Request> {
        self.queues.wake(now);
        if self.frozen || !self.has_slot() {
            return None;
        }
        if let Some(question) = self.questions.pop_front() {
            return Some(self.ask(question));
        }
        if self.outage.is_on() {
            self.leave_out_first(&wanted);
        }
        match self.outage.step(now, self.queues.may_have(Kind::Clean)) {
            Step::Wait => None,
            Step::Ask => self.queues.may_be_ready().then(|| {
                self.ask(InFlight {
                    items: Vec::new(),
                    replies: 0,
                    endpoint: self.endpoints.current(),
                    kind: Kind::Clean,
                    question: Some(Question::Open),
                    bytes: 0,
                })
            }),
            Step::Try(Kind::Clean) => self
                .carry(now, Kind::Clean, &wanted)
                .or_else(|| self.carry(now, Kind::Suspect, &wanted)),
            Step::Try(Kind::Suspect) => self
                .carry(now, Kind::Suspect, &wanted)
                .or_else(|| self.carry(now, Kind::Clean, &wanted)),
            Step::Send => self.send(now, &wanted),
        }
    }

    /// Reserves a slot for suspects, or every other request if there is only one slot. Suspects never use more than
    /// half of the slots, so the others continue even if no suspect is ever answered.
    fn send(&mut self, now: Instant, wanted: &impl Fn(u64) -> bool) -> Option<Request> {
        let suspects = self.queues.may_have(Kind::Suspect);
        if suspects
            && self.suspects == 0
            && self.last == Kind::Clean
            && let Some(request) = self.carry(now, Kind::Suspect, wanted)
        {
            return Some(request);
        }
        if self.lingers_until().is_some_and(|until| now < until) {
            return None;
        }
        let request = self.carry(now, Kind::Clean, wanted);
        if request.is_none() && suspects && 2 * self.suspects < self.limits.max_in_flight {
            return self.carry(now, Kind::Suspect, wanted);
        }
        request
    }

    /// Returns a request with publications of this kind.
    fn carry(&mut self, now: Instant, kind: Kind, wanted: &impl Fn(u64) -> bool) -> Option<Request> {
        let id = RequestId(self.next_id);
        let (items, bytes) = self.take_ready(id, kind, wanted);
        let first = *items.first()?;
        self.next_id += 1;
        let lone = kind == Kind::Suspect && items.len() == 1;
        // Another endpoint may accept what this one, or a proxy in front of it, does not.
        let endpoint = match lone && !self.outage.is_on() {
            true => self
                .endpoints
                .other(self.queues.items[first].failures.saturating_sub(3)),
            false => self.endpoints.current(),
        };
        self.last = kind;
        self.outage.tried(id, lone);
        self.sent = Some(now);
        self.carried += items.len();
        self.suspects += usize::from(kind == Kind::Suspect);
        let commands = items.iter().flat_map(|&item| self.commands(item)).collect();
        let request = Request::new(id, commands, bytes)
            .to(endpoint)
            .apart(kind == Kind::Suspect);
        let replies = request.channels().sum();
        let in_flight = InFlight {
            replies,
            items,
            bytes: bytes + replies * REPLY_BYTES,
            endpoint,
            kind,
            question: None,
        };
        self.in_flight.insert(id, in_flight);
        Some(request)
    }

    /// Returns an empty request.
    fn ask(&mut self, question: InFlight) -> Request {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        match question.question {
            Some(Question::Refused { id: refused, .. }) => self.outage.hands_over(refused, id),
            _ => self.outage.asked(id),
        }
        let request = Request::empty(id).to(question.endpoint);
        self.in_flight.insert(id, question);
        request
    }

    /// Returns the tickets of the publications that were left out since the last call. They come back in no
    /// [`Concluded`].
    pub fn take_left_out(&mut self) -> Vec<u64> {
        mem::take(&mut self.left_out)
    }

    /// Takes in the answer to a request. An id that is not in flight changes nothing.
    pub fn complete(&mut self, now: Instant, id: RequestId, answer: Answer) -> Vec<Concluded> {
        let Some(InFlight {
            items,
            replies: expected,
            endpoint,
            kind,
            question,
            ..
        }) = self.in_flight.remove(&id)
        else {
            return Vec::new();
        };
        let unasked = question.is_none() && !self.frozen;
        let answer = match answer {
            Answer::Refused { status, reason } if unasked => {
                // The publications stay where they are until it is known who is at fault.
                self.questions.push_back(InFlight {
                    items,
                    replies: expected,
                    endpoint,
                    kind,
                    question: Some(Question::Refused { id, status, reason }),
                    bytes: 0,
                });
                return Vec::new();
            }
            answer => answer,
        };
        self.carried -= items.len();
        self.suspects -= usize::from(kind == Kind::Suspect);
        let answered = Answered {
            id,
            endpoint,
            kind,
            asked: question.is_some(),
        };
        match (answer, question) {
            (Answer::Replies(replies), Some(Question::Refused { status, reason, .. })) if replies.is_empty() => {
                self.outage.answered(id);
                self.refuse(now, &items, status, &reason)
            }
            (Answer::Replies(replies), Some(Question::Open)) if replies.is_empty() => {
                self.outage.opened(now, id);
                Vec::new()
            }
            (Answer::Replies(replies), None) if replies.len() == expected => {
                self.endpoints.succeeded(endpoint, self.outage.is_on());
                self.outage.over();
                self.goes_through = true;
                self.max_batch = self.max_batch.saturating_mul(2).min(self.limits.max_batch.max(1));
                if kind == Kind::Suspect {
                    for &item in &items {
                        self.queues.items[item].failures = 0;
                    }
                }
                let mut replies = replies.into_iter();
                // The counts are equal, so each channel has a reply.
                self.settle(now, &items, |queues, item, channel| {
                    replies
                        .next()
                        .map_or(Verdict::Keep, |reply| judge(queues, item, channel, reply))
                })
            }
            (Answer::Replies(replies), _) => {
                let reason = format!("{} replies for {expected} channels", replies.len());
                self.lose(now, answered, &items, Failure::Lost, reason)
            }
            (Answer::Refused { reason, .. } | Answer::Denied { reason }, _) => {
                self.lose(now, answered, &items, Failure::Denied, reason)
            }
            (Answer::Lost { reason }, _) => self.lose(now, answered, &items, Failure::Lost, reason),
        }
    }

    /// Returns a publication that is never answered while others are, if one was found since the last call.
    pub fn take_stuck(&mut self) -> Option<Stuck> {
        self.stuck.take()
    }

    /// Returns when to ask for a request again although nothing happened.
    pub fn next_wakeup(&self) -> Option<Instant> {
        if self.frozen {
            return None;
        }
        let probe = self
            .outage
            .probe_at()
            .filter(|_| self.has_slot() && self.queues.may_be_ready());
        let linger = self.lingers_until().filter(|_| self.has_slot());
        [self.queues.next_timer(), probe, linger].into_iter().flatten().min()
    }

    /// Stops all further requests, because the pipeline is being halted. Requests in flight may still be completed.
    pub fn freeze(&mut self) {
        self.frozen = true;
    }

    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Returns the number of requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Returns the number of publications that no request carries at the moment.
    pub fn waiting(&self) -> usize {
        let in_question: usize = self.questions.iter().map(|question| question.items.len()).sum();
        self.queues.items.len() - self.carried + in_question
    }

    /// Returns true if everything that was pushed is concluded.
    pub fn is_idle(&self) -> bool {
        self.queues.items.is_empty()
    }

    /// Returns how often a publication was sent again.
    pub fn retried(&self) -> u64 {
        self.retried
    }

    /// Returns the reason for a pause of everything, if there is one.
    pub fn trouble(&self) -> Option<&str> {
        self.outage.reason()
    }

    /// Returns true if nothing is left, not even a channel's past.
    pub fn has_forgotten_all(&self) -> bool {
        self.queues.is_empty()
    }

    /// Returns the memory held beside the publications, in bytes: the known channels and the requests in flight.
    pub fn held(&self) -> usize {
        self.queues.channels.len() * queues::CHANNEL + self.in_flight_bytes()
    }

    /// Returns true if another request may be in flight. The limits are the number of requests and the memory that so
    /// many requests of the usual size take. The largest request does not count, so one large request holds up no
    /// others.
    fn has_slot(&self) -> bool {
        let RequestLimits {
            max_in_flight,
            max_request_bytes,
            ..
        } = self.limits;
        let largest = self.in_flight.values().map(|request| request.bytes).max();
        self.in_flight.len() < max_in_flight
            && self.in_flight_bytes() - largest.unwrap_or_default() < max_in_flight.saturating_mul(max_request_bytes)
    }

    fn in_flight_bytes(&self) -> usize {
        self.in_flight.values().map(|request| request.bytes).sum()
    }

    /// Returns until when a small batch waits for more publications. It waits only if it is less than half of what all
    /// requests in flight carry, and an answer ends the wait.
    fn lingers_until(&self) -> Option<Instant> {
        let (requests, ready) = (self.in_flight.len(), self.queues.ready());
        let busy = requests > 0
            && self.outage.reason().is_none()
            && self.carried >= self.limits.busy_batch.saturating_mul(requests);
        let few = ready > 0 && ready < self.max_batch && 2 * ready < self.carried;
        (busy && few).then_some(self.sent? + LINGER)
    }

    /// Returns the oldest ready items of this kind, as many as fit, and their size in bytes. Suspects in one request
    /// all have the same number of failures. This separates a publication that always fails from those that never
    /// failed before.
    fn take_ready(&mut self, id: RequestId, kind: Kind, wanted: &impl Fn(u64) -> bool) -> (Vec<ItemId>, usize) {
        let mut items: Vec<ItemId> = Vec::new();
        let (mut bytes, mut max_batch) = (0, self.max_batch);
        while let Some(next) = self.queues.peek(kind, id) {
            if !self.is_kept(next) && !wanted(self.queues.items[next].ticket) {
                self.left_out.extend(self.queues.leave_out(next));
                continue;
            }
            let alike = items
                .first()
                .is_none_or(|&first| self.queues.items[first].failures == self.queues.items[next].failures);
            let item = &mut self.queues.items[next];
            let tighter = max_batch.min(item.max_batch);
            let fits = alike && items.len() < tighter && bytes + item.size <= self.limits.max_request_bytes;
            if !items.is_empty() && !fits {
                break;
            }
            max_batch = tighter;
            bytes += item.size;
            self.retried += u64::from(item.sent);
            item.sent = true;
            self.queues.take(next, id, self.limits.order == Order::Batched);
            items.push(next);
        }
        (items, bytes)
    }

    /// Leaves out unwanted items at the front of the queue. During an outage nothing may be sent for a long time.
    fn leave_out_first(&mut self, wanted: &impl Fn(u64) -> bool) {
        while let Some(next) = self.queues.peek(Kind::Clean, RequestId::NONE)
            && !self.is_kept(next)
            && !wanted(self.queues.items[next].ticket)
        {
            self.left_out.extend(self.queues.leave_out(next));
        }
    }

    /// An item that was sent may still be executed.
    fn is_kept(&self, item: ItemId) -> bool {
        self.queues.items[item].sent
    }

    /// Returns one command, or several for a publication on very many channels.
    fn commands(&self, item: ItemId) -> impl Iterator<Item = Command> {
        let item = &self.queues.items[item];
        let channels = item.channels.as_slice();
        let all = channels.len() == item.publication.channels.len();
        let longest = longest_broadcast(&item.publication);
        channels.chunks(longest).map(move |part| {
            let name = |&channel: &ChannelId| Arc::clone(&self.queues.channels[channel].name);
            let whole = all && part.len() == channels.len();
            Command {
                publication: Arc::clone(&item.publication),
                remaining: (!whole).then(|| part.iter().map(name).collect()),
                repeats: item.repeats,
            }
        })
    }

    /// Handles a request that was not executed, or may not have been: all of it is sent again. If other requests go
    /// through, and these publications were in a failed request before, then they are at fault, and only their channels
    /// wait.
    fn lose(
        &mut self,
        now: Instant,
        answered: Answered,
        items: &[ItemId],
        failure: Failure,
        reason: String,
    ) -> Vec<Concluded> {
        let Answered {
            id,
            endpoint,
            kind,
            asked,
        } = answered;
        let goes_through = mem::take(&mut self.goes_through);
        // The other endpoints get nothing but single suspects, and requests that were sent before the last change of
        // endpoint.
        let aside = endpoint != self.endpoints.current();
        let theirs = kind == Kind::Suspect && (goes_through && !asked || aside);
        let half = (items.len() / 2).max(1);
        // An endpoint that refuses even an empty request is at fault itself. A request that went to another endpoint
        // goes elsewhere the next time.
        for &item in items.iter().filter(|_| !asked || aside) {
            let item = &mut self.queues.items[item];
            item.failures += 1;
            item.accused = false;
            item.max_batch = item.max_batch.min(half);
        }
        if aside && kind == Kind::Clean && !self.outage.is_on() {
            return self.settle(now, items, |_, _, _| Verdict::Keep);
        }
        if theirs && !self.outage.is_on() {
            if let [one] = *items {
                let Item { ticket, failures, .. } = self.queues.items[one];
                self.stuck = Some(Stuck {
                    ticket,
                    failures,
                    reason,
                });
            }
            return self.settle(now, items, |queues, _, channel| {
                queues.channels[channel].run.backs_off = true;
                Verdict::Keep
            });
        }
        let elsewhere = self.endpoints.failed(endpoint);
        let failed = Failed {
            failure,
            elsewhere,
            clean: kind == Kind::Clean && !asked,
            lone: kind == Kind::Suspect && !asked && items.len() == 1,
            reason,
        };
        let news = self.outage.failed(now, id, failed, &mut self.rng);
        if news && failure == Failure::Lost && !asked {
            // A batch that takes longer than the timeout would never be answered, however often it is sent.
            self.max_batch = half.min(self.max_batch);
        }
        self.settle(now, items, |_, _, _| Verdict::Keep)
    }

    /// Handles a request that the endpoint cannot accept because of one publication or because of their number. They
    /// are sent again in batches of half the size until the one at fault is alone. It is refused the second time this
    /// happens: the first time, the endpoint may have been at fault and have recovered before it was asked.
    fn refuse(&mut self, now: Instant, items: &[ItemId], status: u16, reason: &str) -> Vec<Concluded> {
        if let [one] = *items {
            if !mem::replace(&mut self.queues.items[one].accused, true) {
                return self.settle(now, items, |_, _, _| Verdict::Keep);
            }
            return self.settle(now, items, |queues, _, channel| {
                Verdict::Refused(rejection::by_status(status, reason, &queues.channels[channel].name))
            });
        }
        let half = items.len() / 2;
        if status == 413 {
            self.max_batch = half.min(self.max_batch);
        }
        for &item in items {
            self.queues.items[item].max_batch = half;
        }
        self.settle(now, items, |_, _, _| Verdict::Keep)
    }

    /// Gets a verdict on each item in each of its channels, in the order of the request, and carries it out.
    fn settle(
        &mut self,
        now: Instant,
        items: &[ItemId],
        mut verdict: impl FnMut(&mut Queues, ItemId, ChannelId) -> Verdict,
    ) -> Vec<Concluded> {
        let mut concluded = Vec::new();
        for &item in items {
            let channels = mem::replace(&mut self.queues.items[item].channels, Targets::Many(Vec::new()));
            let mut remaining = Vec::new();
            for &channel in channels.as_slice() {
                match verdict(&mut self.queues, item, channel) {
                    Verdict::Done => self.queues.done(item, channel),
                    Verdict::Refused(rejection) => {
                        let name = Arc::clone(&self.queues.channels[channel].name);
                        let refused = &mut self.queues.items[item];
                        refused.rejection.get_or_insert(rejection);
                        refused.refused.push(name);
                        self.queues.done(item, channel);
                    }
                    Verdict::Keep => {
                        self.queues.keep(item, channel);
                        remaining.push(channel);
                    }
                }
                if !self.queues.is_carried(channel) {
                    self.release(now, channel);
                }
            }
            if remaining.is_empty() {
                concluded.push(self.queues.items.remove(item).concluded());
            } else {
                self.queues.items[item].channels = Targets::from(remaining);
            }
        }
        concluded
    }

    fn release(&mut self, now: Instant, id: ChannelId) {
        let channel = &mut self.queues.channels[id];
        let run = mem::take(&mut channel.run);
        let backoff_until = run.backs_off.then(|| {
            channel.failures += 1;
            now + CHANNEL_BACKOFF.delay(channel.failures, &mut self.rng)
        });
        let strict_until = run.inverted.then(|| now + STRICT_AFTER_FAILURE);
        self.queues.release(id, backoff_until, strict_until);
    }
}
