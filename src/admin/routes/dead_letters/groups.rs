//! Counts letters by what they have in common.

use std::cmp::Reverse;
use std::collections::HashMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::dead_letter::Letter;

/// How many groups are shown.
const SHOWN: usize = 100;

/// How many groups are counted, and how long their texts may be together, in bytes. There may be as many reasons as
/// letters.
const MOST: usize = 10_000;
const MOST_BYTES: usize = 4 << 20;

#[derive(Debug, Default)]
pub(super) struct Groups {
    counted: HashMap<Key, Count>,
    bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    module: String,
    stage: String,
    code: String,
    reason: String,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    letters: u64,
    first: Timestamp,
    last: Timestamp,
}

/// Letters with the same module, stage, code and reason.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Group {
    module: String,
    stage: String,
    code: String,
    reason: String,
    /// How many letters. With more than 10,000 groups there may be some more.
    pub count: u64,
    /// When the first one was stored, in RFC 3339.
    first: String,
    /// When the last one was stored.
    last: String,
}

impl Groups {
    pub fn add(&mut self, letter: &Letter) {
        let key = Key {
            module: letter.module.clone(),
            stage: letter.stage.clone(),
            code: letter.code.clone(),
            reason: letter.reason.clone(),
        };
        if let Some(count) = self.counted.get_mut(&key) {
            count.letters += 1;
            count.first = count.first.min(letter.stored);
            count.last = count.last.max(letter.stored);
            return;
        }
        self.bytes += key.bytes();
        let count = Count {
            letters: 1,
            first: letter.stored,
            last: letter.stored,
        };
        self.counted.insert(key, count);
        while self.counted.len() > MOST || self.bytes > MOST_BYTES {
            self.forget_half();
        }
    }

    /// Forgets the smaller half of the groups, and of equally small ones those whose last letter is the oldest. A large
    /// group stays, whenever its letters come.
    fn forget_half(&mut self) {
        let mut groups: Vec<(Key, Count)> = self.counted.drain().collect();
        groups.sort_unstable_by_key(|(_, count)| Reverse((count.letters, count.last)));
        groups.truncate(groups.len() / 2);
        self.bytes = groups.iter().map(|(key, _)| key.bytes()).sum();
        self.counted.extend(groups);
    }

    /// Returns the largest groups, the largest first.
    pub fn largest(self) -> Vec<Group> {
        let mut groups: Vec<(Key, Count)> = self.counted.into_iter().collect();
        groups.sort_unstable_by(|(key, count), (other_key, other)| {
            let size = |count: &Count| Reverse((count.letters, count.last));
            size(count)
                .cmp(&size(other))
                .then_with(|| (&key.module, &key.reason).cmp(&(&other_key.module, &other_key.reason)))
        });
        groups.truncate(SHOWN);
        groups.into_iter().map(|(key, count)| Group::of(key, count)).collect()
    }
}

impl Key {
    fn bytes(&self) -> usize {
        self.module.len() + self.stage.len() + self.code.len() + self.reason.len()
    }
}

impl Group {
    fn of(key: Key, count: Count) -> Self {
        let Key {
            module,
            stage,
            code,
            reason,
        } = key;
        Self {
            module,
            stage,
            code,
            reason,
            count: count.letters,
            first: count.first.to_string(),
            last: count.last.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn letter(second: i64, module: &str, reason: &str) -> Letter {
        let mut letter = Letter::sample(17, module);
        letter.stored = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
        letter.reason = reason.to_owned();
        letter
    }

    fn shown(groups: Groups) -> Vec<(String, String, u64)> {
        let groups = groups.largest().into_iter();
        groups.map(|group| (group.module, group.reason, group.count)).collect()
    }

    #[test]
    fn letters_with_the_same_reason_of_one_module_are_a_group() {
        let mut groups = Groups::default();
        for (second, module, reason) in [
            (5, "orders", "no"),
            (3, "orders", "no"),
            (4, "bills", "no"),
            (9, "orders", "not"),
        ] {
            groups.add(&letter(second, module, reason));
        }
        let largest = groups.largest();
        assert_eq!(largest.len(), 3);
        let Group {
            module,
            count,
            first,
            last,
            ..
        } = &largest[0];
        assert_eq!((module.as_str(), *count), ("orders", 2));
        assert_eq!(
            (first.as_str(), last.as_str()),
            ("1970-01-01T00:00:03Z", "1970-01-01T00:00:05Z")
        );
        assert_eq!(
            (largest[1].reason.as_str(), largest[2].module.as_str()),
            ("not", "bills"),
            "the newer one first"
        );
    }

    #[test]
    fn a_group_that_begins_after_very_many_reasons_is_found() {
        let mut groups = Groups::default();
        for number in 0..50_000 {
            groups.add(&letter(number, "orders", &format!("no order {number}")));
            if number % 100 == 0 {
                groups.add(&letter(number, "orders", "now and then"));
            }
            assert!(groups.counted.len() <= MOST);
        }
        for number in 50_000..50_010 {
            groups.add(&letter(number, "orders", "no namespace"));
        }
        let shown = shown(groups);
        assert_eq!(shown.len(), SHOWN);
        assert_eq!(shown[0], ("orders".to_owned(), "now and then".to_owned(), 500));
        assert_eq!(shown[1], ("orders".to_owned(), "no namespace".to_owned(), 10));
    }

    #[test]
    fn long_reasons_do_not_fill_the_memory() {
        let mut groups = Groups::default();
        for number in 0..1_000 {
            groups.add(&letter(0, "orders", &format!("{number} {}", "x".repeat(60_000))));
            assert!(groups.bytes <= MOST_BYTES);
            assert_eq!(groups.bytes, groups.counted.keys().map(Key::bytes).sum::<usize>());
        }
        groups.add(&letter(0, "orders", &"x".repeat(MOST_BYTES)));
        assert!(groups.bytes <= MOST_BYTES);
    }
}
