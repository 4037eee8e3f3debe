//! Judges a pipeline by what the server says about its consumer. A connection that is up proves nothing: messages may
//! wait although nothing fails. No I/O and no clock, so a test can play any hour.

use std::time::{Duration, Instant};

use slipring_core::place::Place;
use slipring_core::read::ACK_WAIT;

/// What the server says about a consumer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Consumer {
    /// Messages that were not delivered yet.
    pub pending: u64,
    /// Messages that were delivered and not acknowledged.
    pub ack_pending: u64,
    /// The place of the newest delivery.
    pub delivered: Place,
    /// The place up to which everything is acknowledged.
    pub ack_floor: Place,
    /// How long the consumer stays paused, if it is.
    pub paused_for: Option<Duration>,
}

/// How far a pipeline is behind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lag {
    /// Messages that are not settled, delivered or not.
    pub messages: u64,
    /// Age of the oldest delivered message that is not settled, in seconds. If none is delivered while some wait, how
    /// long they are known to wait.
    pub seconds: f64,
}

/// How often the server is asked.
pub const INTERVAL: Duration = Duration::from_secs(5);

/// How long an answer counts.
const CURRENT: Duration = Duration::from_secs(20);

/// How long messages may wait, while neither a delivery nor the ack floor moves.
pub const STALL: Duration = Duration::from_secs(30);

/// How long the ack floor may stay behind what was acked. After a lost ack JetStream delivers again, and it is acked again.
const ACKS_LATE: Duration = Duration::from_secs(ACK_WAIT.as_secs() + 2 * INTERVAL.as_secs());

/// How long the server may be silent.
const SILENCE: Duration = Duration::from_secs(8);

/// What is known about the progress of one pipeline.
#[derive(Debug, Default)]
pub struct Progress {
    answer: Option<(Instant, Consumer)>,
    /// When messages were first seen waiting, or when something moved last. `None` while nothing waits.
    still_since: Option<Instant>,
    /// The newest message that was delivered while the ack floor did not go back. A redelivery is no progress.
    newest: Place,
    /// Since when the server has not answered, and why.
    silent: Option<(Instant, String)>,
    /// A place up to which everything is settled and acked, and since when the ack floor is below it.
    behind: Option<(Instant, Place)>,
    /// What the pipeline itself knew when it was given messages last.
    own: Option<(Instant, u64)>,
    /// When the oldest unsettled message was stored.
    oldest: Option<Instant>,
    /// The place up to which the pipeline has settled everything.
    settled_through: Option<Place>,
}

impl Progress {
    /// The server has answered.
    pub fn answered(&mut self, now: Instant, consumer: Consumer) {
        self.silent = None;
        let waiting = consumer.pending + consumer.ack_pending > 0 && consumer.paused_for.is_none();
        let floor = self.answer.map(|(_, before)| before.ack_floor);
        let is_another = floor.is_none_or(|floor| consumer.ack_floor < floor);
        let moved = is_another || floor < Some(consumer.ack_floor) || consumer.delivered > self.newest;
        self.newest = match is_another {
            true => consumer.delivered,
            false => self.newest.max(consumer.delivered),
        };
        if !waiting {
            self.still_since = None;
        } else if moved || self.still_since.is_none() {
            self.still_since = Some(now);
        }
        if consumer.pending + consumer.ack_pending == 0 {
            self.oldest = None;
        }
        self.follow_acks(now, consumer.ack_floor);
        self.answer = Some((now, consumer));
    }

    fn follow_acks(&mut self, now: Instant, floor: Place) {
        let settled = self.settled_through.unwrap_or_default();
        // If fewer are settled than before, it is another stream.
        self.behind = self.behind.filter(|(_, place)| floor < *place && *place <= settled);
        if self.behind.is_none() && floor < settled {
            self.behind = Some((now, settled));
        }
    }

    /// From now on the pipeline can move again. What waited until then is no stall.
    pub fn may_move(&mut self, now: Instant) {
        self.still_since = self.still_since.map(|_| now);
        self.behind = self.behind.map(|(_, place)| (now, place));
    }

    /// The server was not asked.
    pub fn not_asked(&mut self) {
        self.silent = None;
    }

    /// The server has not answered, or its answer was an error.
    pub fn unanswered(&mut self, now: Instant, why: String) {
        let since = self.silent.as_ref().map_or(now, |(since, _)| *since);
        self.silent = Some((since, why));
    }

    /// There is no such consumer, so nothing is known about it.
    pub fn absent(&mut self) {
        *self = Self::default();
    }

    /// The pipeline has settled and acked everything up to this place. Its oldest unsettled message has this
    /// age. `given` is how many messages were unsettled or pending, if it was given messages since the last call.
    pub fn worked(
        &mut self,
        now: Instant,
        settled_through: Option<Place>,
        oldest: Option<Duration>,
        given: Option<u64>,
    ) {
        self.settled_through = settled_through;
        self.oldest = oldest.and_then(|age| now.checked_sub(age));
        if let Some(messages) = given {
            self.own = Some((now, messages));
        }
    }

    /// Returns the newest answer, unless it is too old.
    pub fn consumer(&self, now: Instant) -> Option<Consumer> {
        let (at, consumer) = self.answer?;
        (now.saturating_duration_since(at) < CURRENT).then_some(consumer)
    }

    /// Returns how long the consumer stays paused, if it is.
    pub fn paused(&self, now: Instant) -> Option<Duration> {
        let (at, _) = self.answer?;
        let paused_for = self.consumer(now)?.paused_for?;
        Some(paused_for.saturating_sub(now.saturating_duration_since(at)))
    }

    /// Returns `None` if nobody knows.
    pub fn lag(&self, now: Instant) -> Option<Lag> {
        let answer = self
            .answer
            .map(|(at, consumer)| (at, consumer.pending + consumer.ack_pending));
        let newest = answer.into_iter().chain(self.own).max_by_key(|(at, _)| *at);
        let (_, messages) = newest.filter(|(at, _)| now.saturating_duration_since(*at) < CURRENT)?;
        let since = |then: Option<Instant>| then.map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        let oldest = match self.oldest {
            Some(oldest) => since(Some(oldest)),
            None if messages > 0 => since(self.still_since),
            None => Duration::ZERO,
        };
        Some(Lag {
            messages,
            seconds: oldest.as_secs_f64(),
        })
    }

    /// Returns how long messages have been waiting while nothing has moved. Zero if nothing waits or the consumer is
    /// paused; `None` if nobody knows.
    pub fn still(&self, now: Instant) -> Option<Duration> {
        self.consumer(now)?;
        Some(
            self.still_since
                .map_or(Duration::ZERO, |since| now.saturating_duration_since(since)),
        )
    }

    /// Returns how long acks have had no effect, if that is too long.
    pub fn acks_ignored(&self, now: Instant) -> Option<Duration> {
        let (since, _) = self.behind?;
        Some(now.saturating_duration_since(since)).filter(|since| *since >= ACKS_LATE)
    }

    /// Returns how long the server has not answered, if that is too long, and why.
    pub fn silent(&self, now: Instant) -> Option<(Duration, &str)> {
        let (since, why) = self.silent.as_ref()?;
        let since = now.saturating_duration_since(*since);
        (since >= SILENCE).then_some((since, why))
    }
}

#[cfg(test)]
mod tests;
