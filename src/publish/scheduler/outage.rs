//! When no request can succeed: everything pauses, and one request at a time probes whether that is over. So an outage of
//! Centrifugo makes no storm, neither during it nor at its end.

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::backoff::Backoff;
use crate::publish::RequestId;

/// Somebody has to change a configuration first.
const DENIED: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(30),
};

const LOST: Backoff = Backoff {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(5),
};

#[derive(Debug, Default)]
pub(super) struct Outage(Option<Pause>);

#[derive(Debug)]
struct Pause {
    reason: String,
    failures: u32,
    until: Instant,
    probe: Option<RequestId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Denied,
    /// With an endpoint that has not failed yet, the next attempt needs no pause.
    Lost {
        elsewhere: bool,
    },
}

impl Outage {
    pub(super) fn allows_request(&self, now: Instant) -> bool {
        self.0
            .as_ref()
            .is_none_or(|pause| pause.probe.is_none() && pause.until <= now)
    }

    /// When a probe may go out, if that is what everything waits for.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        self.0
            .as_ref()
            .filter(|pause| pause.probe.is_none())
            .map(|pause| pause.until)
    }

    pub(super) fn reason(&self) -> Option<&str> {
        self.0.as_ref().map(|pause| pause.reason.as_str())
    }

    pub(super) fn sent(&mut self, id: RequestId) {
        if let Some(pause) = &mut self.0 {
            pause.probe = Some(id);
        }
    }

    pub(super) fn answered(&mut self) {
        self.0 = None;
    }

    /// Returns whether that was news: a request that was sent before the pause began and fails during it adds nothing.
    pub(super) fn failed(&mut self, now: Instant, id: RequestId, kind: Kind, reason: String, rng: &mut Rng) -> bool {
        let before = match &self.0 {
            Some(pause) if pause.probe != Some(id) => return false,
            Some(pause) => pause.failures,
            None => 0,
        };
        let (failures, delay) = match kind {
            Kind::Lost { elsewhere: true } => (before, Duration::ZERO),
            Kind::Lost { elsewhere: false } => (before + 1, LOST.delay(before + 1, rng)),
            Kind::Denied => (before + 1, DENIED.delay(before + 1, rng)),
        };
        self.0 = Some(Pause {
            reason,
            failures,
            until: now + delay,
            probe: None,
        });
        true
    }
}
