//! Collects the result over all messages: how many changed in which way, with some examples.

use std::collections::BTreeMap;

use serde::Serialize;

use super::compare::{Change, changes};
use super::speed::Speed;
use crate::cli::report::Source;
use crate::json::{Report, held};
use crate::message::{Message, Outcome};

#[derive(Debug, Default)]
pub struct Tally {
    pub messages: u64,
    pub same: u64,
    /// A message may have changed in several ways.
    pub changed: BTreeMap<Change, u64>,
    pub examples: Vec<Example>,
    /// The most examples of one change.
    max_examples: usize,
    pub speed: Speed,
    /// The maximum memory of any instance, in bytes.
    pub old_memory: usize,
    pub new_memory: usize,
}

/// A changed message, listed under one of its changes.
#[derive(Debug, Serialize)]
pub struct Example {
    pub change: Change,
    #[serde(flatten)]
    pub source: Source,
    pub subject: String,
    /// As JSON.
    pub old: serde_json::Value,
    pub new: serde_json::Value,
}

impl Tally {
    pub fn new(max_examples: usize) -> Self {
        Self {
            max_examples,
            ..Self::default()
        }
    }

    pub fn add(&mut self, source: Source, message: &Message, old: &Outcome, new: &Outcome) {
        self.messages += 1;
        let changes = changes(old, new);
        if changes.is_empty() {
            self.same += 1;
        }
        for &change in &changes {
            *self.changed.entry(change).or_default() += 1;
        }
        let is_wanted = |change: &&Change| self.examples_of(**change).count() < self.max_examples;
        if let Some(&change) = changes.iter().find(is_wanted) {
            self.examples.push(Example {
                change,
                source,
                subject: message.subject.clone(),
                old: json(old),
                new: json(new),
            });
        }
    }

    pub fn changed(&self) -> u64 {
        self.messages - self.same
    }

    pub fn examples_of(&self, change: Change) -> impl Iterator<Item = &Example> {
        self.examples.iter().filter(move |example| example.change == change)
    }
}

fn json(outcome: &Outcome) -> serde_json::Value {
    let text = serde_json::to_string(&Report::of(outcome)).expect("texts and what was JSON before are JSON");
    // The difference may be something that a value does not keep.
    held(&text).unwrap_or_else(|| text.into())
}

#[cfg(test)]
pub mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::message::{Body, Publication};

    pub fn message(sequence: u64) -> Message {
        Message::new("ORDERS", sequence, format!("orders.{sequence}"), "")
    }

    pub fn published(channel: &str, json: &str) -> Outcome {
        Outcome::Publish(vec![Publication::new(
            vec![channel.into()],
            Body::Json(RawValue::from_string(json.to_owned()).unwrap()),
        )])
    }

    #[test]
    fn a_message_counts_under_each_of_its_changes_and_is_an_example_of_one() {
        let mut tally = Tally::new(1);
        let old = published("a", "1");
        for (sequence, new) in (1..).zip([
            published("a", "1"),
            published("b", "2"),
            published("b", "3"),
            published("b", "4"),
            Outcome::Drop,
        ]) {
            tally.add(Source::Sequence(sequence), &message(sequence), &old, &new);
        }
        assert_eq!((tally.messages, tally.same, tally.changed()), (5, 1, 4));
        let counts = [(Change::NewlyDropped, 1), (Change::Channels, 3), (Change::Data, 3)];
        assert_eq!(tally.changed, BTreeMap::from(counts));
        let examples: Vec<_> = tally
            .examples
            .iter()
            .map(|one| (one.subject.as_str(), one.change))
            .collect();
        let expected = [
            ("orders.2", Change::Channels),
            ("orders.3", Change::Data),
            ("orders.5", Change::NewlyDropped),
        ];
        assert_eq!(examples, expected);
    }
}
