//! Decides what follows the end of a run: another run, at once, after a pause, or when the cause of a halt may be over.

use std::time::{Duration, Instant};

use super::patience::Patience;
use super::run::{Ended, Halted};
use crate::load::LoadId;
use crate::place::Place;
use crate::read::{Incarnation, Missed, Newest, Position};

/// The cause of a fresh start may recur at once, so the next run waits.
const RENEW_DELAY: Duration = Duration::from_secs(1);

/// The life of a pipeline across its runs.
#[derive(Debug, Default)]
pub struct Supervision {
    patience: Patience,
    trying: Option<Place>,
    waiting: Option<Waiting>,
    /// The newest message that any run has read.
    read: Newest,
    /// Where the last run that has read something ended.
    position: Option<Position>,
    /// The stream, and the place up to which its lost messages are already reported.
    missed_through: Option<(Incarnation, Place)>,
}

#[derive(Debug)]
enum Waiting {
    ToRenew(Instant),
    Halted {
        by: LoadId,
        again: Option<Place>,
        until: Option<Instant>,
    },
}

/// What follows a run.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The pipeline ends.
    Stop,
    /// A run starts after a pause.
    Renew(String),
    /// A run starts when another load of the module is there, when someone asks for it, or after this pause. `still` is
    /// true if the run was trying out whether the last halt is over.
    Halted {
        reason: String,
        pause: Option<Duration>,
        still: bool,
    },
}

impl Supervision {
    /// Returns where the pipeline was halted, if the next run has to find out whether the cause is over.
    pub fn trying(&self) -> Option<Place> {
        self.trying
    }

    /// Handles the end of a run. `trying` is what the run has not found out.
    pub fn ended(&mut self, now: Instant, ended: Ended, trying: Option<Place>) -> Next {
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
    pub fn has_read(&mut self, stream: Incarnation, place: Place) {
        self.read.handed_on(stream, place);
    }

    /// Returns the newest message that the runs have read.
    pub fn read(&self) -> Newest {
        self.read
    }

    /// A run ends at this position.
    pub fn ends_at(&mut self, position: Option<Position>) {
        self.position = position.or(self.position);
    }

    /// Returns where the runs have ended, if any has read something.
    pub fn position(&self) -> Option<Position> {
        self.position
    }

    /// Returns the part of a loss that was not reported before, if any. Until everything before the loss is acked, each
    /// epoch and each later run finds the same loss again.
    pub fn missed(&mut self, stream: Incarnation, missed: Missed) -> Option<Missed> {
        let through = self.missed_through.filter(|(known, _)| *known == stream);
        let through = through.map_or_else(Place::default, |(_, through)| through);
        if missed.last <= through {
            return None;
        }
        self.missed_through = Some((stream, missed.last));
        Some(missed.after(through))
    }

    /// Returns when to look again if nothing else happens.
    pub fn next_wakeup(&self) -> Option<Instant> {
        match self.waiting {
            Some(Waiting::ToRenew(until)) => Some(until),
            Some(Waiting::Halted { until, .. }) => until,
            None => None,
        }
    }

    /// Records the load that runs now. Returns true if a run starts, because this is not the load that was halted,
    /// whenever it came.
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

    /// Handles a request for another try. Returns true if a run starts.
    pub fn retry(&mut self) -> bool {
        self.resume(|_| true)
    }

    /// Returns true if a run starts because its time has come.
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

    fn halted(again: Option<Place>) -> Ended {
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
        let next = supervision.ended(now, Ended::Renew("lost".to_owned()), Some(7.into()));
        assert_eq!(next, Next::Renew("lost".to_owned()));
        assert!(!supervision.wake(now) && !supervision.retry() && !supervision.assigned(NEW));
        assert_eq!(supervision.next_wakeup(), Some(now + RENEW_DELAY));
        assert!(supervision.wake(now + RENEW_DELAY));
        assert_eq!(supervision.trying(), Some(7.into()), "what was being tried still is");
        assert!(!supervision.wake(now + RENEW_DELAY), "it begins once");
    }

    #[test]
    fn what_may_end_by_itself_is_tried_again_later_each_time() {
        let now = Instant::now();
        let mut supervision = Supervision::default();
        let next = supervision.ended(now, halted(Some(5.into())), None);
        let first = Duration::from_secs(5);
        assert!(matches!(next, Next::Halted { pause: Some(pause), still: false, .. } if pause == first));
        assert!(!supervision.wake(now + first / 2) && supervision.wake(now + first));
        assert_eq!(supervision.trying(), Some(5.into()));
        let next = supervision.ended(now, halted(Some(6.into())), Some(5.into()));
        assert!(matches!(next, Next::Halted { pause: Some(pause), still: true, .. } if pause == 2 * first));
        assert!(supervision.retry(), "somebody asks");
        assert_eq!(supervision.trying(), Some(6.into()));
    }

    #[test]
    fn a_loss_is_told_once_whichever_run_comes_upon_it() {
        let now = Instant::now();
        let stream = Incarnation(1);
        let missed = |first: u64, last: u64| Missed {
            first: first.into(),
            last: last.into(),
            messages: last + 1 - first,
            exact: true,
        };
        let mut supervision = Supervision::default();
        assert_eq!(supervision.missed(stream, missed(5, 9)), Some(missed(5, 9)));
        supervision.ended(now, Ended::Renew("lost".to_owned()), None);
        assert_eq!(supervision.missed(stream, missed(5, 9)), None);
        assert_eq!(supervision.missed(stream, missed(5, 12)), Some(missed(10, 12)));
        let other = Incarnation(2);
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
        supervision.ended(now, halted(None), Some(5.into()));
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

    #[test]
    fn it_remembers_what_any_run_has_read() {
        let stream = Incarnation(1);
        let mut supervision = Supervision::default();
        supervision.has_read(stream, 7.into());
        let mut expected = Newest::default();
        expected.handed_on(stream, 7.into());
        assert_eq!(format!("{:?}", supervision.read()), format!("{expected:?}"));
        assert_ne!(format!("{expected:?}"), format!("{:?}", Newest::default()));
    }

    #[test]
    fn only_the_part_of_a_loss_that_was_told_is_left_out() {
        let stream = Incarnation(1);
        let missed = |first: u64, last: u64| Missed {
            first: first.into(),
            last: last.into(),
            messages: last + 1 - first,
            exact: true,
        };
        let mut supervision = Supervision::default();
        assert_eq!(supervision.missed(stream, missed(5, 9)), Some(missed(5, 9)));
        assert_eq!(
            supervision.missed(stream, missed(20, 25)),
            Some(missed(20, 25)),
            "later ones"
        );
    }
}
