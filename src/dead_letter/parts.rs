//! Joins the parts of dead letters.

use std::collections::HashMap;

use slipring_core::place::Place;

use super::letter::{Letter, Origin};

/// Parts that wait for others of their letter.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    waiting: HashMap<Key, Letter>,
}

/// What the parts of one dead letter have in common.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    module: String,
    stage: String,
    stream: String,
    place: Place,
    timestamp: u64,
    of: usize,
}

impl Assembly {
    /// Takes in the next message of the stream. Returns the dead letter that it completes.
    pub(super) fn add(&mut self, part: Letter) -> Option<Letter> {
        if part.parts.of == 1 {
            return Some(part);
        }
        let key = Key::of(&part);
        let letter = match self.waiting.remove(&key) {
            Some(letter) => letter.with(part),
            None => part,
        };
        if letter.parts.found.len() == letter.parts.of {
            return Some(letter);
        }
        self.waiting.insert(key, letter);
        None
    }

    /// Returns the letters whose other parts are not in the stream.
    pub(super) fn rest(&mut self) -> Vec<Letter> {
        let mut rest: Vec<Letter> = self.waiting.drain().map(|(_, letter)| letter).collect();
        rest.sort_by_key(Letter::number);
        rest
    }
}

impl Letter {
    /// If a part was stored twice, the last copy counts. Both belong to the letter.
    fn with(mut self, part: Self) -> Self {
        self.bytes += part.bytes;
        self.numbers.extend(part.numbers);
        self.parts.found.extend(part.parts.found);
        self
    }
}

impl Key {
    fn of(letter: &Letter) -> Self {
        let none = || Origin {
            subject: String::new(),
            stream: String::new(),
            place: Place::default(),
            timestamp: 0,
        };
        let origin = letter.origin.clone().unwrap_or_else(none);
        Self {
            module: letter.module.clone(),
            stage: letter.stage.clone(),
            stream: origin.stream,
            place: origin.place,
            timestamp: origin.timestamp,
            of: letter.parts.of,
        }
    }
}

#[cfg(test)]
mod tests {
    use async_nats::header::HeaderMap;
    use jiff::Timestamp;

    use super::*;
    use crate::dead_letter::header;

    fn stored(number: u64, sequence: u64, part: &str) -> Letter {
        let mut headers = HeaderMap::new();
        headers.insert(header::SUBJECT, "orders.1");
        headers.insert(header::STREAM, "ORDERS");
        headers.insert(header::SEQUENCE, sequence.to_string());
        headers.insert(header::TIMESTAMP, "5");
        if !part.is_empty() {
            headers.insert(header::PART, part);
        }
        Letter::read(number, Timestamp::UNIX_EPOCH, "slipring.dead.orders", &headers, 10)
    }

    /// Returns the complete letters, each as its sequences, and the incomplete ones at the end.
    fn assemble(messages: &[(u64, u64, &str)]) -> (Vec<Vec<u64>>, Vec<Vec<u64>>) {
        let mut assembly = Assembly::default();
        let whole = messages
            .iter()
            .filter_map(|(number, sequence, part)| assembly.add(stored(*number, *sequence, part)))
            .map(|letter| letter.numbers)
            .collect();
        let rest = assembly.rest().into_iter().map(|letter| letter.numbers).collect();
        (whole, rest)
    }

    #[test]
    fn parts_of_one_message_are_one_letter_even_with_others_between() {
        let messages = [
            (1, 40, ""),
            (2, 41, "1/2"),
            (3, 42, "1/3"),
            (4, 43, ""),
            (5, 42, "2/3"),
            (6, 41, "2/2"),
            (7, 42, "3/3"),
        ];
        let (whole, rest) = assemble(&messages);
        assert_eq!(whole, [vec![1], vec![4], vec![2, 6], vec![3, 5, 7]]);
        assert!(rest.is_empty());
    }

    #[test]
    fn a_part_that_was_stored_twice_belongs_to_the_letter_once() {
        let (whole, _) = assemble(&[(1, 41, "1/2"), (2, 41, "1/2"), (3, 41, "2/2")]);
        assert_eq!(whole, [[1, 2, 3]]);
        let mut assembly = Assembly::default();
        assembly.add(stored(1, 41, "1/2"));
        assembly.add(stored(2, 41, "1/2"));
        let letter = assembly.add(stored(3, 41, "2/2")).unwrap();
        let payload: Vec<u64> = letter.parts.found.values().copied().collect();
        assert_eq!(payload, [2, 3]);
    }

    #[test]
    fn what_is_not_whole_comes_at_the_end_and_says_what_is_missing() {
        let (whole, rest) = assemble(&[(8, 50, "2/2"), (9, 41, "1/2")]);
        assert!(whole.is_empty());
        assert_eq!(rest, [[8], [9]]);
        assert!(stored(8, 50, "2/3").missing().eq([1, 3]));
    }
}
