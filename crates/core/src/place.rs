//! Where a message is in its source.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use crate::message::MAX_VERSION;

/// Where a message is in its source. A later message has a higher place. All messages of one source have the same kind
/// of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A number, such as the sequence in a JetStream stream.
    Sequence(u64),
    /// Milliseconds since 1970 and a number: the ID in a Redis stream.
    Id(u64, u64),
}

/// How many numbers of one millisecond [`Place::number`] tells apart.
const NUMBERS: u64 = 1 << 12;

impl Place {
    /// Returns the place as one number, which rises with the place. `None` if an ID does not fit: its number is 4,096 or
    /// more, or its time is beyond the year 142,000. Redis itself gives IDs with such numbers only when it stores more
    /// than 4 million messages per second, or while its clock is behind the newest ID.
    pub fn number(self) -> Option<u64> {
        match self {
            Self::Sequence(sequence) => Some(sequence),
            Self::Id(milliseconds, number) if number < NUMBERS => {
                milliseconds.checked_mul(NUMBERS)?.checked_add(number)
            }
            Self::Id(..) => None,
        }
    }

    /// Returns true if the place can be the version of a publication.
    pub fn is_a_version(self) -> bool {
        self.number().is_some_and(|number| number < MAX_VERSION)
    }

    /// Returns the lowest place after this one.
    pub fn next(self) -> Self {
        match self {
            Self::Sequence(sequence) => Self::Sequence(sequence.saturating_add(1)),
            Self::Id(milliseconds, u64::MAX) => Self::Id(milliseconds.saturating_add(1), 0),
            Self::Id(milliseconds, number) => Self::Id(milliseconds, number + 1),
        }
    }

    /// Returns the highest place before this one.
    pub fn previous(self) -> Self {
        match self {
            Self::Sequence(sequence) => Self::Sequence(sequence.saturating_sub(1)),
            Self::Id(milliseconds, 0) => Self::Id(milliseconds.saturating_sub(1), u64::MAX),
            Self::Id(milliseconds, number) => Self::Id(milliseconds, number - 1),
        }
    }

    /// Returns the two numbers that the idempotency key is made of, if the message was stored at `timestamp` and has
    /// this payload. A sequence belongs to one message for as long as the stream exists, but Redis may lose messages in
    /// a failover and give their IDs to others, so there the payload counts.
    pub fn identity(self, timestamp: u64, payload: &[u8]) -> (u64, u64) {
        match self {
            Self::Sequence(sequence) => (sequence, timestamp),
            Self::Id(milliseconds, number) => (milliseconds, number ^ xxhash_rust::xxh3::xxh3_64(payload)),
        }
    }
}

/// Before everything.
impl Default for Place {
    fn default() -> Self {
        Self::Sequence(0)
    }
}

impl From<u64> for Place {
    fn from(sequence: u64) -> Self {
        Self::Sequence(sequence)
    }
}

/// As its source writes it: `42` or `1795888251712-0`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sequence(sequence) => write!(f, "{sequence}"),
            Self::Id(milliseconds, number) => write!(f, "{milliseconds}-{number}"),
        }
    }
}

impl FromStr for Place {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        match text.split_once('-') {
            None => text.parse().map(Self::Sequence),
            Some((milliseconds, number)) => Ok(Self::Id(milliseconds.parse()?, number.parse()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_the_order_of_their_messages() {
        let ids = [
            Place::Id(0, 1),
            Place::Id(5, 0),
            Place::Id(5, 4_095),
            Place::Id(5, u64::MAX),
            Place::Id(6, 0),
        ];
        assert!(ids.is_sorted() && Place::default() < ids[0]);
        assert!(ids.iter().all(|place| *place < place.next()));
        assert_eq!(Place::Id(5, u64::MAX).next(), Place::Id(6, 0));
        assert_eq!(Place::from(41).next(), Place::from(42));
        assert!(ids.iter().all(|place| place.next().previous() == *place));
        assert_eq!(Place::from(42).previous(), Place::from(41));
    }

    #[test]
    fn the_number_of_a_place_rises_with_it_or_there_is_none() {
        let numbers = [Place::Id(5, 0), Place::Id(5, 1), Place::Id(5, 4_095), Place::Id(6, 0)].map(Place::number);
        assert_eq!(numbers, [Some(20_480), Some(20_481), Some(24_575), Some(24_576)]);
        assert_eq!(Place::Id(5, 4_096).number(), None);
        assert_eq!(Place::Id(1 << 52, 0).number(), None);
        assert_eq!(Place::from(u64::MAX).number(), Some(u64::MAX));
        assert!(Place::from(MAX_VERSION - 1).is_a_version() && !Place::from(MAX_VERSION).is_a_version());
        assert!(Place::Id(1_795_888_251_712, 4_095).is_a_version() && !Place::Id(5, 4_096).is_a_version());
    }

    #[test]
    fn it_is_read_as_it_is_written() {
        for place in [Place::from(42), Place::Id(1_795_888_251_712, 0)] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        for wrong in ["", "-", "5-", "-5", "5-0-1", "x", "5-x"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn another_payload_under_the_same_id_is_another_message() {
        let id = Place::Id(5, 0);
        assert_ne!(id.identity(5, b"a"), id.identity(5, b"b"));
        assert_eq!(id.identity(5, b"a"), id.identity(6, b"a"));
        assert_eq!(Place::from(42).identity(7, b"a"), (42, 7));
    }
}
