//! Far behind, what waits for a channel is most likely outdated by what still has to come. So where only the newest counts, requests
//! wait until as much has come as the window takes, and then go out in one burst; the next one follows when that is answered.
//!
//! Measured with a backlog of 1,000,000 messages on 1,000 channels (`make bench BENCH=behind`): BENCHMARKS.md.

use std::time::{Duration, Instant};

/// The longest that anything waits: NATS may fall silent in the middle of a backlog, or a request hang.
pub(in crate::pipeline) const PATIENCE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy)]
pub(in crate::pipeline) enum Gather {
    /// Nothing goes out.
    Until(Instant),
    /// Whatever can go out goes out.
    Burst,
}

/// Whether it is worth waiting, and for what.
#[derive(Debug, Clone, Copy)]
pub(in crate::pipeline) struct Situation {
    /// The stream holds more than the window takes.
    pub far_behind: bool,
    /// Little more comes before something is settled.
    pub full: bool,
    /// Requests that are not answered.
    pub in_flight: usize,
}

impl Gather {
    pub(in crate::pipeline) fn new() -> Self {
        Self::Burst
    }

    /// Whether what waits may go out now.
    pub(in crate::pipeline) fn lets_go(&mut self, now: Instant, situation: Situation) -> bool {
        let Situation {
            far_behind,
            full,
            in_flight,
        } = situation;
        if let Self::Until(until) = *self
            && far_behind
            && now < until
            && !(full && in_flight == 0)
        {
            return false;
        }
        *self = Self::Burst;
        true
    }

    /// All is out that could go out.
    pub(in crate::pipeline) fn over(&mut self, now: Instant) {
        *self = Self::Until(now + PATIENCE);
    }

    /// When something may go out at the latest.
    pub(in crate::pipeline) fn until(self) -> Option<Instant> {
        match self {
            Self::Until(until) => Some(until),
            Self::Burst => None,
        }
    }
}
