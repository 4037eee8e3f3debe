//! Where only the newest state of a channel matters, a new flow publishes nothing until every message that an earlier
//! flow may have received has come again. The earlier flow may have skipped 2 because it had 3, and died before it
//! could ack either. Publishing 2 as soon as it comes would show 3 2 3.

use std::time::{Duration, Instant};

use crate::place::Place;
use crate::read::Again;

/// A message that takes longer than this is not coming: the stream may have lost it.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(in crate::pipeline) struct CatchUp {
    again: Again,
    last: Place,
    /// `None` until the first message comes. There is nothing to publish before that.
    until: Option<Instant>,
}

impl CatchUp {
    /// Returns `None` if no message comes again.
    pub(in crate::pipeline) fn new(again: Again) -> Option<Self> {
        (again.messages > 0).then_some(Self {
            again,
            last: Place::default(),
            until: None,
        })
    }

    /// Records that a message came.
    pub(in crate::pipeline) fn came(&mut self, place: Place, now: Instant) {
        self.again.messages = self.again.messages.saturating_sub(1);
        self.last = place;
        self.until = Some(now + PATIENCE);
    }

    /// Returns true once everything has come that an earlier flow may have received.
    pub(in crate::pipeline) fn is_over(&self, now: Instant) -> bool {
        self.again.messages == 0 && self.last >= self.again.through || self.until.is_some_and(|until| now >= until)
    }

    /// Returns when catching up ends if no more messages come.
    pub(in crate::pipeline) fn until(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_when_as_many_have_come_and_the_last_one_is_among_them() {
        let now = Instant::now();
        let mut catch_up = CatchUp::new(Again {
            messages: 2,
            through: 9.into(),
        })
        .expect("two come again");
        for (sequence, over) in [(5, false), (7, false), (9, true), (10, true)] {
            catch_up.came(Place::Sequence(sequence), now);
            assert_eq!(catch_up.is_over(now), over, "{sequence}");
        }
    }

    #[test]
    fn what_does_not_come_is_not_waited_for_for_ever() {
        let now = Instant::now();
        let mut catch_up = CatchUp::new(Again {
            messages: 2,
            through: 9.into(),
        })
        .expect("two come again");
        assert!(
            !catch_up.is_over(now + 10 * PATIENCE),
            "nothing has come that could be published"
        );
        catch_up.came(5.into(), now);
        assert!(!catch_up.is_over(now + PATIENCE / 2) && catch_up.is_over(now + PATIENCE));
        assert_eq!(catch_up.until(), Some(now + PATIENCE));
        assert!(
            CatchUp::new(Again {
                messages: 0,
                through: 9.into()
            })
            .is_none()
        );
    }
}
