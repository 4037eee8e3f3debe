//! Handles times when nothing goes through. Everything pauses, and one request at a time finds out whether the outage
//! is over. So an outage of Centrifugo causes no storm of requests, neither during it nor at its end.
//!
//! First an empty request asks whether the endpoint takes requests. Until it does, no publication is sent, because a
//! publication that was sent can no longer be left out. Then publications are tried, starting with those that were in
//! no failed request. If they go through, the fault is in the publications that failed before.

use std::time::{Duration, Instant};

use fastrand::Rng;

use super::backoff::Backoff;
use super::queues::Kind;
use crate::publish::RequestId;

/// Someone has to change a configuration first.
const DENIED: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(30),
};

const LOST: Backoff = Backoff {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(5),
};

/// After this many failed requests with publications that never failed before, the fault is probably not in the
/// publications. From then on, fewer of them are tried.
const ENOUGH: u32 = 3;

#[derive(Debug, Default)]
pub(super) struct Outage(Option<Pause>);

#[derive(Debug)]
struct Pause {
    reason: String,
    failures: u32,
    until: Instant,
    probe: Option<Probe>,
    /// Set if the endpoint has taken an empty request since the last failure.
    open: bool,
    /// Counts requests with publications. The second counter has the failed ones whose publications had never failed
    /// before.
    tries: u32,
    clean_failures: u32,
    /// The last failure, or the request in flight, is a single publication that had failed before. It says nothing
    /// about others.
    lone: bool,
}

#[derive(Debug)]
struct Probe {
    id: RequestId,
    asks: bool,
}

/// What may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Anything: there is no outage.
    Send,
    Wait,
    /// An empty request.
    Ask,
    /// Publications of this kind, or of the other if there are none.
    Try(Kind),
}

/// A request that failed as a whole.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) failure: Failure,
    /// The next request goes to an endpoint that has not failed yet, and needs no pause.
    pub(super) elsewhere: bool,
    /// The request had publications, and none of them had failed before.
    pub(super) clean: bool,
    /// The request had a single publication, which had failed before.
    pub(super) lone: bool,
    pub(super) reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Denied,
    Lost,
}

impl Outage {
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// `clean` is true if some waiting publications were in no failed request.
    pub(super) fn step(&self, now: Instant, clean: bool) -> Step {
        let Some(pause) = &self.0 else { return Step::Send };
        let due = pause.probe.is_none() && pause.until <= now;
        let asks = pause.probe.as_ref().is_some_and(|probe| probe.asks);
        let newcomers = clean && pause.lone && pause.clean_failures < ENOUGH && !asks;
        if !due && !newcomers {
            Step::Wait
        } else if !pause.open {
            Step::Ask
        } else if pause.clean_failures < ENOUGH || pause.tries % 2 == 1 {
            Step::Try(Kind::Clean)
        } else {
            Step::Try(Kind::Suspect)
        }
    }

    /// Returns when something may be sent, if everything waits for that.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        self.0
            .as_ref()
            .filter(|pause| pause.probe.is_none())
            .map(|pause| pause.until)
    }

    pub(super) fn reason(&self) -> Option<&str> {
        self.0.as_ref().map(|pause| pause.reason.as_str())
    }

    /// An empty request was sent.
    pub(super) fn asked(&mut self, id: RequestId) {
        if let Some(pause) = &mut self.0 {
            pause.probe = Some(Probe { id, asks: true });
        }
    }

    /// Publications were sent. `lone` is true for a single publication that had failed before.
    pub(super) fn tried(&mut self, id: RequestId, lone: bool) {
        if let Some(pause) = &mut self.0 {
            pause.probe = Some(Probe { id, asks: false });
            pause.tries += 1;
            pause.lone = lone;
        }
    }

    /// The second request replaces the first, whose answer left a question open.
    pub(super) fn hands_over(&mut self, first: RequestId, second: RequestId) {
        if let Some(Pause { probe: Some(probe), .. }) = &mut self.0
            && probe.id == first
        {
            probe.id = second;
        }
    }

    /// The endpoint takes requests.
    pub(super) fn opened(&mut self, now: Instant, id: RequestId) {
        if let Some(pause) = self.0.as_mut().filter(|pause| pause.is_probed_by(id)) {
            pause.probe = None;
            pause.open = true;
            pause.until = now;
        }
    }

    /// Publications went through.
    pub(super) fn over(&mut self) {
        self.0 = None;
    }

    /// This request was answered, but not with a success.
    pub(super) fn answered(&mut self, id: RequestId) {
        self.0.take_if(|pause| pause.is_probed_by(id));
    }

    /// Returns true if the failure is news. A request that was sent before the pause started and fails during it adds
    /// nothing.
    pub(super) fn failed(&mut self, now: Instant, id: RequestId, failed: Failed, rng: &mut Rng) -> bool {
        let Failed {
            failure,
            elsewhere,
            clean,
            lone,
            reason,
        } = failed;
        let before = match self.0.take() {
            Some(pause) if !pause.is_probed_by(id) => {
                self.0 = Some(pause);
                return false;
            }
            before => before,
        };
        let (failures, tries, clean_failures) =
            before.map_or((0, 0, 0), |pause| (pause.failures, pause.tries, pause.clean_failures));
        let backoff = match failure {
            Failure::Denied => DENIED,
            Failure::Lost => LOST,
        };
        let (failures, delay) = match elsewhere {
            true => (failures, Duration::ZERO),
            false => (failures + 1, backoff.delay(failures + 1, rng)),
        };
        self.0 = Some(Pause {
            reason,
            failures,
            until: now + delay,
            probe: None,
            open: false,
            tries,
            clean_failures: clean_failures + u32::from(clean),
            lone,
        });
        true
    }
}

impl Pause {
    fn is_probed_by(&self, id: RequestId) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(clean: bool, lone: bool) -> Failed {
        Failed {
            failure: Failure::Lost,
            elsewhere: false,
            clean,
            lone,
            reason: "timeout".to_owned(),
        }
    }

    /// An outage in which requests can be tried until they fail.
    struct Trial {
        outage: Outage,
        now: Instant,
        next: u64,
        rng: Rng,
    }

    impl Trial {
        fn begin() -> Self {
            let mut trial = Self {
                outage: Outage::default(),
                now: Instant::now(),
                next: 0,
                rng: Rng::with_seed(7),
            };
            trial.fails(failed(true, false));
            trial
        }

        fn id(&mut self) -> RequestId {
            self.next += 1;
            RequestId(self.next)
        }

        fn fails(&mut self, failed: Failed) {
            let id = RequestId(self.next);
            assert!(self.outage.failed(self.now, id, failed, &mut self.rng));
            self.now = self.outage.probe_at().unwrap();
        }

        /// Finds the endpoint open, and returns what may be tried then.
        fn opens(&mut self) -> Step {
            assert_eq!(self.outage.step(self.now, true), Step::Ask);
            let id = self.id();
            self.outage.asked(id);
            self.outage.opened(self.now, id);
            self.outage.step(self.now, true)
        }
    }

    #[test]
    fn after_three_clean_failures_suspects_are_tried_every_other_time() {
        let mut trial = Trial::begin();
        let mut tried = Vec::new();
        for _ in 0..6 {
            let step = trial.opens();
            tried.push(step);
            let id = trial.id();
            trial.outage.tried(id, false);
            trial.fails(failed(step == Step::Try(Kind::Clean), false));
        }
        let (clean, suspect) = (Step::Try(Kind::Clean), Step::Try(Kind::Suspect));
        assert_eq!(tried, [clean, clean, suspect, clean, suspect, clean]);
    }

    #[test]
    fn beside_a_single_suspect_others_are_tried_until_three_have_failed() {
        let mut trial = Trial::begin();
        for failures in 1..=3 {
            trial.opens();
            let id = trial.id();
            trial.outage.tried(id, true);
            let beside = trial.outage.step(trial.now, true);
            let expected = if failures < 3 {
                Step::Try(Kind::Clean)
            } else {
                Step::Wait
            };
            assert_eq!(beside, expected, "after {failures} clean failures");
            assert_eq!(trial.outage.step(trial.now, false), Step::Wait, "there are no others");
            trial.fails(failed(true, false));
        }
    }
}
