//! Decides where an epoch starts and what comes first in it.

use super::{Again, Incarnation};
use crate::place::Place;

/// The newest message that a pipeline has handed on, with its stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Newest(Option<(Incarnation, Place)>);

impl Newest {
    /// Records that a message of this stream was handed on.
    pub fn handed_on(&mut self, stream: Incarnation, place: Place) {
        self.0 = match self.0 {
            Some((known, newest)) if known == stream => Some((stream, newest.max(place))),
            _ => Some((stream, place)),
        };
    }

    /// Returns the newest message that was handed on, with its stream.
    pub fn known(&self) -> Option<(Incarnation, Place)> {
        self.0
    }

    /// Returns the newest message of this stream that was handed on.
    pub fn of(&self, stream: Incarnation) -> Option<Place> {
        self.0.filter(|(known, _)| *known == stream).map(|(_, newest)| newest)
    }
}

/// The state of a consumer when an epoch starts.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// The consumer was created for this epoch.
    pub is_new: bool,
    /// All messages up to this stream sequence are acked, after the reset or once the pending messages have come.
    pub floor: u64,
    /// The stream sequence of the last delivery to any client before that.
    pub delivered_through: u64,
    /// The most messages that it may have had unacknowledged.
    pub max_ack_pending: usize,
    /// How many messages are to come.
    pub to_come: u64,
}

/// The place where an epoch starts to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    pub again: Again,
    /// The sequence up to which messages were delivered and are not lost. `None` for a new consumer.
    pub read_through: Option<u64>,
    /// Messages after this sequence are not acked.
    pub floor: u64,
}

impl Resume {
    /// `newest` is the newest message of this stream in this run. The run still has what it received, whatever the
    /// stream lost since. The floor cannot be used, because the server moves it past messages that the stream's limits
    /// removed. `before` is the newest message of earlier runs, which may have published it. A reset makes the server
    /// forget that it delivered it.
    pub fn of(found: Found, newest: Option<Place>, before: Option<Place>) -> Self {
        let sequence = |place: Option<Place>| place.and_then(Place::number).unwrap_or(0);
        let (newest, before) = (sequence(newest), sequence(before));
        let Found {
            is_new,
            floor,
            delivered_through,
            max_ack_pending,
            to_come,
        } = found;
        Self {
            again: Again {
                messages: max_ack_pending.min(usize::try_from(to_come).unwrap_or(usize::MAX)),
                through: delivered_through.into(),
            },
            read_through: (!is_new).then_some(delivered_through.max(newest).max(before)),
            floor: floor.max(newest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: Incarnation = Incarnation(1);

    const FOUND: Found = Found {
        is_new: false,
        floor: 4,
        delivered_through: 9,
        max_ack_pending: 100,
        to_come: 50,
    };

    #[test]
    fn no_more_comes_again_than_could_be_unacknowledged_and_than_there_is() {
        assert_eq!(
            Resume::of(FOUND, None, None).again,
            Again {
                messages: 50,
                through: 9.into()
            }
        );
        let few = Found {
            max_ack_pending: 10,
            ..FOUND
        };
        assert_eq!(
            Resume::of(few, None, None).again,
            Again {
                messages: 10,
                through: 9.into()
            }
        );
    }

    #[test]
    fn what_the_pipeline_has_it_does_not_miss() {
        let resume = Resume::of(FOUND, None, None);
        assert_eq!((resume.read_through, resume.floor), (Some(9), 4));
        let resume = Resume::of(FOUND, Some(12.into()), None);
        assert_eq!(
            (resume.read_through, resume.floor),
            (Some(12), 12),
            "the server has forgotten"
        );
        let resume = Resume::of(FOUND, None, Some(12.into()));
        assert_eq!(
            (resume.read_through, resume.floor),
            (Some(12), 4),
            "an earlier run got it, and this one does not have it"
        );
        let is_new = Found { is_new: true, ..FOUND };
        assert_eq!(
            Resume::of(is_new, Some(12.into()), Some(12.into())).read_through,
            None,
            "a new consumer has missed nothing"
        );
    }

    #[test]
    fn the_newest_is_of_its_stream_and_never_goes_back() {
        let mut newest = Newest::default();
        assert_eq!(newest.of(STREAM), None);
        newest.handed_on(STREAM, 7.into());
        newest.handed_on(STREAM, 5.into());
        assert_eq!(newest.of(STREAM), Some(7.into()));
        let other = Incarnation(2);
        assert_eq!(newest.of(other), None);
        newest.handed_on(other, 1.into());
        assert_eq!((newest.of(other), newest.of(STREAM)), (Some(1.into()), None));
    }
}
