//! What follows the end of a run: another one, at once, after a pause, or when the cause of a halt may be over.

use std::time::{Duration, Instant};

use super::patience::Patience;
use super::run::{Ended, Halted};
use crate::load::LoadId;
use crate::read::{Missed, Newest, StreamIdentity};

/// What made a fresh start necessary may be there again at once.
const RENEW_DELAY: Duration = Duration::from_secs(1);

/// The life of a pipeline beyond one run.
#[derive(Debug, Default)]
pub struct Supervision {
    patience: Patience,
    trying: Option<u64>,
    waiting: Option<Waiting>,
    /// What all runs have read.
    read: Newest,
    /// Up to where which stream is known to have lost messages.
    missed_through: Option<(StreamIdentity, u64)>,
}

#[derive(Debug)]
enum Waiting {
    ToRenew(Instant),
    Halted {
        by: LoadId,
        again: Option<u64>,
        until: Option<Instant>,
    },
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The pipeline is over.
    Stop,
    /// A run begins after a pause.
    Renew(String),
    /// A run begins once another load of the module is there, when somebody asks for it, or after this pause. `still`: this was met while
    /// it was tried whether the last halt is over.
    Halted {
        reason: String,
        pause: Option<Duration>,
        still: bool,
    },
}

impl Supervision {
    /// Where the pipeline was halted, if the next run is to find out whether the cause is over.
    pub fn trying(&self) -> Option<u64> {
        self.trying
    }

    /// A run is over. `trying`: what it has not found out.
    pub fn ended(&mut self, now: Instant, ended: Ended, trying: Option<u64>) -> Next {
        self.trying = trying;
        match ended {
            Ended::Stopped => {
                self.waiting = None;
                Next::Stop
            }
            Ended::Renew(reason) => {
                self.waiting = Some(Waiting::ToRenew(now + RENEW_DELAY));
                Next::Renew(reason)
            }
            Ended::Halted(Halted { reason, by, again }) => {
                let still = trying.is_some();
                let pause = again.map(|_| self.patience.next(still));
                self.waiting = Some(Waiting::Halted {
                    by,
                    again,
                    until: pause.map(|pause| now + pause),
                });
                Next::Halted { reason, pause, still }
            }
        }
    }

    /// A run has read this message of this stream.
    pub fn has_read(&mut self, stream: StreamIdentity, sequence: u64) {
        self.read.handed_on(stream, sequence);
    }

    /// What the runs so far have read.
    pub fn read(&self) -> Newest {
        self.read
    }

    /// What of a loss was not known before, if anything was: until what is before it is acknowledged, each epoch comes upon it again, and so
    /// does another run.
    pub fn missed(&mut self, stream: StreamIdentity, missed: Missed) -> Option<Missed> {
        let through = self.missed_through.filter(|(known, _)| *known == stream);
        let through = through.map_or(0, |(_, through)| through);
        if missed.last <= through {
            return None;
        }
        self.missed_through = Some((stream, missed.last));
        let known = (through + 1).saturating_sub(missed.first);
        Some(Missed {
            first: missed.first + known,
            messages: missed.messages.saturating_sub(known),
            ..missed
        })
    }

    /// When to look again, if nothing else happens.
    pub fn next_wakeup(&self) -> Option<Instant> {
        match self.waiting {
            Some(Waiting::ToRenew(until)) => Some(until),
            Some(Waiting::Halted { until, .. }) => until,
            None => None,
        }
    }

    /// The load of the module at work is this one. Returns true if a run begins: it is another than the one that was halted, whenever it
    /// came.
    pub fn assigned(&mut self, load: LoadId) -> bool {
        match self.waiting {
            Some(Waiting::Halted { by, .. }) if by != load => {
                self.waiting = None;
                self.trying = None;
                true
            }
            _ => false,
        }
    }

    /// Somebody asks for another try. Returns true if a run begins.
    pub fn retry(&mut self) -> bool {
        self.resume(|_| true)
    }

    /// Returns true if a run begins, since its time has come.
    pub fn wake(&mut self, now: Instant) -> bool {
        if let Some(Waiting::ToRenew(until)) = self.waiting {
            let over = now >= until;
            if over {
                self.waiting = None;
            }
            return over;
        }
        self.resume(|until| until.is_some_and(|until| now >= until))
    }

    fn resume(&mut self, when: impl Fn(Option<Instant>) -> bool) -> bool {
        match self.waiting {
            Some(Waiting::Halted { again, until, .. }) if when(until) => {
                self.trying = again;
                self.waiting = None;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: LoadId = LoadId(1);
    const NEW: LoadId = LoadId(2);

    fn halted(again: Option<u64>) -> Ended {
        Ended::Halted(Halted {
            reason: "no".to_owned(),
            by: OLD,
            again,
        })
    }

    #[test]
    fn a_fresh_start_waits_for_a_moment() {
        let now = Instant::now();
        let mut supervision = Supervision::default();
        let next = supervision.ended(now, Ended::Renew("lost".to_owned()), Some(7));
        assert_eq!(next, Next::Renew("lost".to_owned()));
        assert!(!supervision.wake(now) && !supervision.retry() && !supervision.assigned(NEW));
        assert_eq!(supervision.next_wakeup(), Some(now + RENEW_DELAY));
        assert!(supervision.wake(now + RENEW_DELAY));
        assert_eq!(supervision.trying(), Some(7), "what was being tried still is");
        assert!(!supervision.wake(now + RENEW_DELAY), "it begins once");
    }

    #[test]
    fn what_may_end_by_itself_is_tried_again_later_each_time() {
        let now = Instant::now();
        let mut supervision = Supervision::default();
        let next = supervision.ended(now, halted(Some(5)), None);
        let first = Duration::from_secs(5);
        assert!(matches!(next, Next::Halted { pause: Some(pause), still: false, .. } if pause == first));
        assert!(!supervision.wake(now + first / 2) && supervision.wake(now + first));
        assert_eq!(supervision.trying(), Some(5));
        let next = supervision.ended(now, halted(Some(6)), Some(5));
        assert!(matches!(next, Next::Halted { pause: Some(pause), still: true, .. } if pause == 2 * first));
        assert!(supervision.retry(), "somebody asks");
        assert_eq!(supervision.trying(), Some(6));
    }

    #[test]
    fn a_loss_is_told_once_whichever_run_comes_upon_it() {
        let now = Instant::now();
        let stream = StreamIdentity { created: 1 };
        let missed = |first, last| Missed {
            first,
            last,
            messages: last + 1 - first,
            exact: true,
        };
        let mut supervision = Supervision::default();
        assert_eq!(supervision.missed(stream, missed(5, 9)), Some(missed(5, 9)));
        supervision.ended(now, Ended::Renew("lost".to_owned()), None);
        assert_eq!(supervision.missed(stream, missed(5, 9)), None);
        assert_eq!(supervision.missed(stream, missed(5, 12)), Some(missed(10, 12)));
        let other = StreamIdentity { created: 2 };
        assert_eq!(
            supervision.missed(other, missed(5, 9)),
            Some(missed(5, 9)),
            "other messages"
        );
    }

    #[test]
    fn what_lasts_waits_for_another_load_or_somebody_who_asks() {
        let now = Instant::now();
        let mut supervision = Supervision::default();
        supervision.ended(now, halted(None), Some(5));
        assert_eq!(supervision.next_wakeup(), None);
        assert!(!supervision.wake(now + Duration::from_secs(1_000)));
        assert!(!supervision.assigned(OLD), "that it is watched makes it no other");
        assert!(supervision.assigned(NEW));
        assert_eq!(
            supervision.trying(),
            None,
            "the new one may publish what the old one could not"
        );
    }
}
