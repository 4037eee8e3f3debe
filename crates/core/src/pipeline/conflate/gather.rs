//! Far behind the stream, newer messages will most likely replace what waits for a channel. Where only the newest state
//! counts, requests therefore wait until the window is nearly full and then go out in one burst. The next burst starts
//! once that one is answered.
//!
//! BENCHMARKS.md has a measurement with a backlog of 1,000,000 messages on 1,000 channels (`make bench BENCH=behind`).

use std::time::{Duration, Instant};

/// The longest wait. NATS may fall silent in the middle of a backlog, or a request may hang.
pub(in crate::pipeline) const PATIENCE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy)]
pub(in crate::pipeline) enum Gather {
    /// Nothing goes out until this time.
    Until(Instant),
    /// Everything that is ready goes out.
    Burst,
}

/// Decides whether waiting is worthwhile.
#[derive(Debug, Clone, Copy)]
pub(in crate::pipeline) struct Situation {
    /// The stream has more messages left than fit in the window.
    pub far_behind: bool,
    /// Few more messages can come before something is settled.
    pub full: bool,
    /// Number of unanswered requests.
    pub in_flight: usize,
}

impl Gather {
    pub(in crate::pipeline) fn new() -> Self {
        Self::Burst
    }

    /// Returns true if waiting publications may go out now.
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

    /// Ends a burst: everything that was ready is out.
    pub(in crate::pipeline) fn over(&mut self, now: Instant) {
        *self = Self::Until(now + PATIENCE);
    }

    /// Returns when waiting publications may go out at the latest.
    pub(in crate::pipeline) fn until(self) -> Option<Instant> {
        match self {
            Self::Until(until) => Some(until),
            Self::Burst => None,
        }
    }
}
