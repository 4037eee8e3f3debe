//! Which publications go into which request, and what each answer means for them: the order promise lives here.
//!
//! A channel has at most one request in flight, and its queue goes on only when that is answered; so whatever fails, is late or
//! gets lost, publications first appear in the order in which they were pushed. Time is an argument and there is no I/O, so that
//! thousands of schedules of failures can be tested in a second.
//!
//! With [`Order::Batched`] there is one exception. When one of several publications of a channel in a request fails with error
//! 100, Centrifugo has gone on with the next ones all the same: 1 3. The channel is published again from the failed one on, with
//! other keys for what was confirmed already, since Centrifugo would suppress them: 1 3 2 3. If that answer was lost, the retry
//! shows it, because a suppressed publication answers with its old position in the history: 3 before 2. With versions, Centrifugo
//! suppresses the late ones by itself: 1 3, and a subscriber misses 2, but never goes back to it.

mod backoff;
mod outage;
mod queues;
mod rejection;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use self::backoff::Backoff;
use self::outage::{Kind, Outage};
use self::queues::{ChannelId, ItemId, Queues, Targets};
use self::verdict::{Verdict, judge};
use super::answer::Answer;
use super::request::{Command, Request, RequestId};
use crate::config::{self, Order};
use crate::message::{Publication, Rejection, Share};

/// Centrifugo itself has no limit over HTTP, and 4 MiB over GRPC; common proxies and our memory have one.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// Of a channel after error 100.
const CHANNEL_BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(30),
};

/// How long a few publications wait for more, while others are in flight: less than the requests take that make it worth while.
const LINGER: Duration = Duration::from_millis(2);

/// Requests that carry fewer publications than this are no reason to wait: there is time for them.
const BUSY_BATCH: usize = 32;

/// How long a channel has one publication a request after a batch of it failed in the middle.
const STRICT_AFTER_FAILURE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    queues: Queues,
    in_flight: HashMap<RequestId, InFlight>,
    next_id: u64,
    /// Publications a request, now: halved by what speaks for smaller ones, doubled by each success.
    max_batch: usize,
    outage: Outage,
    /// When the last request was given.
    sent: Option<Instant>,
    rng: Rng,
    frozen: bool,
    carried: usize,
    retried: u64,
    /// Tickets of publications that were left out, until they are asked for.
    left_out: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub order: Order,
    /// Publications a request.
    pub max_batch: usize,
    /// A larger publication goes alone.
    pub max_request_bytes: usize,
    /// Requests.
    pub max_in_flight: usize,
    /// While requests carry this many on average, one that is much smaller than all of them waits for a moment, so that what each costs
    /// is shared by more: under load the channels whose request is answered would otherwise go out again by ones and twos.
    pub busy_batch: usize,
}

impl From<&config::Publish> for Limits {
    fn from(config: &config::Publish) -> Self {
        Self {
            order: config.order,
            max_batch: config.max_batch,
            max_request_bytes: MAX_REQUEST_BYTES,
            max_in_flight: config.max_in_flight,
            busy_batch: BUSY_BATCH,
        }
    }
}

/// A publication is done in all its channels: confirmed, or refused for good in at least one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concluded {
    pub ticket: u64,
    /// The first of its refusals, if there is one.
    pub result: Result<(), Rejection>,
    pub share: Share,
}

#[derive(Debug)]
struct InFlight {
    items: Vec<ItemId>,
    /// Channels, over all items.
    replies: usize,
}

impl Scheduler {
    /// `seed` is for the jitter of the pauses; nothing else here is random.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            queues: Queues::default(),
            in_flight: HashMap::new(),
            next_id: 0,
            max_batch: limits.max_batch.max(1),
            outage: Outage::default(),
            sent: None,
            rng: Rng::with_seed(seed),
            frozen: false,
            carried: 0,
            retried: 0,
            left_out: Vec::new(),
        }
    }

    /// Adds a publication behind all that were pushed before. `key` is the relay's idempotency key for it; the publication's own
    /// goes before it. The ticket comes back once, in a [`Concluded`].
    pub fn push(&mut self, ticket: u64, publication: Publication, key: Option<String>) {
        self.queues.push(ticket, publication, key, false);
    }

    /// As [`push`](Self::push), where only the newest state of a channel matters: a publication that was added in this way, waits on
    /// the same channels and was never sent gives up its place. It is concluded as if it was confirmed.
    pub fn push_newest(&mut self, ticket: u64, publication: Publication, key: Option<String>) -> Option<Concluded> {
        self.queues.push(ticket, publication, key, true)
    }

    /// What to send now. `None`: nothing is ready, no request may be added, or everything pauses; ask again after an answer, a
    /// push, or at [`Self::next_wakeup`].
    pub fn next_request(&mut self, now: Instant) -> Option<Request> {
        self.next_request_of(now, |_| true)
    }

    /// As [`next_request`](Self::next_request), where publications may have become useless while they waited: those with a ticket
    /// that is not `wanted` are left out if they were never sent, and come back in [`take_left_out`](Self::take_left_out). What was
    /// sent may still be executed, and has to be confirmed before anything newer is shown.
    pub fn next_request_of(&mut self, now: Instant, wanted: impl Fn(u64) -> bool) -> Option<Request> {
        self.queues.wake(now);
        if self.frozen || !self.has_slot() || !self.outage.allows_request(now) {
            return None;
        }
        if self.lingers_until().is_some_and(|until| now < until) {
            return None;
        }
        let id = RequestId(self.next_id);
        let (items, bytes) = self.take_ready(id, wanted);
        if items.is_empty() {
            return None;
        }
        self.next_id += 1;
        self.outage.sent(id);
        self.sent = Some(now);
        self.carried += items.len();
        let commands = items.iter().map(|&item| self.command(item)).collect();
        let request = Request::new(id, commands, bytes);
        let replies = request.channels().sum();
        self.in_flight.insert(id, InFlight { items, replies });
        Some(request)
    }

    /// Tickets of publications that were left out since this was last asked. They come back in no [`Concluded`].
    pub fn take_left_out(&mut self) -> Vec<u64> {
        mem::take(&mut self.left_out)
    }

    /// Takes in what became of a request. An id that is not in flight changes nothing.
    pub fn complete(&mut self, now: Instant, id: RequestId, answer: Answer) -> Vec<Concluded> {
        let Some(InFlight {
            items,
            replies: expected,
        }) = self.in_flight.remove(&id)
        else {
            return Vec::new();
        };
        self.carried -= items.len();
        match answer {
            Answer::Replies(replies) if replies.len() == expected => {
                self.outage.answered();
                self.max_batch = self.max_batch.saturating_mul(2).min(self.limits.max_batch.max(1));
                let mut replies = replies.into_iter();
                // The count was compared, so there is a reply for each.
                self.settle(now, &items, |queues, item, channel| {
                    replies
                        .next()
                        .map_or(Verdict::Keep, |reply| judge(queues, item, channel, reply))
                })
            }
            Answer::Replies(replies) => {
                let reason = format!("{} replies for {expected} channels", replies.len());
                self.lose(now, id, &items, Kind::Lost { elsewhere: false }, reason)
            }
            Answer::Refused { status, reason } => {
                self.outage.answered();
                self.refuse(now, &items, status, &reason)
            }
            Answer::Denied { reason } => self.lose(now, id, &items, Kind::Denied, reason),
            Answer::Lost { reason, elsewhere } => self.lose(now, id, &items, Kind::Lost { elsewhere }, reason),
        }
    }

    /// When to ask for a request again although nothing happened.
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

    /// No request from now on: the pipeline is being halted. What is in flight may still be completed.
    pub fn freeze(&mut self) {
        self.frozen = true;
    }

    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Requests that were given and not completed.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Publications that no request carries at the moment.
    pub fn waiting(&self) -> usize {
        self.queues.items.len() - self.carried
    }

    /// Whether everything that was pushed is concluded.
    pub fn is_idle(&self) -> bool {
        self.queues.items.is_empty()
    }

    /// How often a publication went into a request that had been in one before.
    pub fn retried(&self) -> u64 {
        self.retried
    }

    /// Why everything pauses, if it does.
    pub fn trouble(&self) -> Option<&str> {
        self.outage.reason()
    }

    #[cfg(test)]
    pub(crate) fn put_in(&mut self, bug: Option<Bug>) {
        self.queues.bug = bug;
    }

    fn has_slot(&self) -> bool {
        self.in_flight.len() < self.limits.max_in_flight
    }

    /// Until when what is ready waits for more, unless a request is answered before: it is less than half of what all requests in flight
    /// carry.
    fn lingers_until(&self) -> Option<Instant> {
        let (requests, ready) = (self.in_flight.len(), self.queues.ready());
        let busy = requests > 0
            && self.outage.reason().is_none()
            && self.carried >= self.limits.busy_batch.saturating_mul(requests);
        let few = ready > 0 && ready < self.max_batch && 2 * ready < self.carried;
        (busy && few).then_some(self.sent? + LINGER)
    }

    /// The oldest that are ready, as many as fit, and what they take in bytes.
    fn take_ready(&mut self, id: RequestId, wanted: impl Fn(u64) -> bool) -> (Vec<ItemId>, usize) {
        let mut items = Vec::new();
        let (mut bytes, mut max_batch) = (0, self.max_batch);
        while let Some(next) = self.queues.peek(id) {
            let item = &self.queues.items[next];
            #[cfg(test)]
            let was_sent = item.sent && self.queues.bug != Some(Bug::LeavesOutSent);
            #[cfg(not(test))]
            let was_sent = item.sent;
            if !was_sent && !wanted(item.ticket) {
                self.left_out.extend(self.queues.leave_out(next));
                continue;
            }
            let item = &mut self.queues.items[next];
            let tighter = max_batch.min(item.max_batch);
            let fits = items.len() < tighter && bytes + item.size <= self.limits.max_request_bytes;
            if !items.is_empty() && !fits {
                break;
            }
            max_batch = tighter;
            bytes += item.size;
            self.retried += u64::from(item.sent);
            #[cfg(test)]
            if self.queues.bug == Some(Bug::FreshKeyOnRetry) && item.sent {
                item.repeats += 1;
            }
            item.sent = true;
            self.queues.take(next, id, self.limits.order == Order::Batched);
            items.push(next);
        }
        (items, bytes)
    }

    fn command(&self, item: ItemId) -> Command {
        let item = &self.queues.items[item];
        let channels = item.channels.as_slice();
        let name = |&channel: &ChannelId| Arc::clone(&self.queues.channels[channel].name);
        let all = channels.len() == item.publication.channels.len();
        Command {
            publication: Arc::clone(&item.publication),
            remaining: (!all).then(|| channels.iter().map(name).collect()),
            repeats: item.repeats,
        }
    }

    /// Nothing is known, or nothing was executed: all of it goes again, later.
    fn lose(&mut self, now: Instant, id: RequestId, items: &[ItemId], kind: Kind, reason: String) -> Vec<Concluded> {
        let news = self.outage.failed(now, id, kind, reason, &mut self.rng);
        if news && kind != Kind::Denied {
            // A batch that takes longer than the time-out would never be answered, however often it is sent.
            self.max_batch = (items.len() / 2).clamp(1, self.max_batch);
        }
        self.settle(now, items, |_, _, _| Verdict::Keep)
    }

    /// One of them, or their number, makes the request unacceptable: they go again in batches of half the size, until it is
    /// clear which one it is.
    fn refuse(&mut self, now: Instant, items: &[ItemId], status: u16, reason: &str) -> Vec<Concluded> {
        if items.len() == 1 {
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

    /// Asks for the verdict on each item in each of its channels, in the order of the request, and carries it out.
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

/// Rules that a test can switch off, to see that the checker notices.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bug {
    TwoInFlight,
    FreshKeyOnRetry,
    ConfirmOnError100,
    RetryAtTheTail,
    NoRepeats,
    PositionsIgnored,
    ConflatesSent,
    /// What is not wanted any more is left out even if it was sent.
    LeavesOutSent,
}
