//! Finds how two outcomes of one message differ.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;

use crate::json;
use crate::message::{Body, Outcome, Publication, Rejection};

/// In the order of display: changes that lose or add messages come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    NewlyTrapped,
    NewlyTimedOut,
    NewlyRejected,
    NewlyDropped,
    NewlyPublished,
    NoLongerRejected,
    RejectedOtherwise,
    /// The number of publications changed.
    Publications,
    Channels,
    Data,
    Version,
    Tags,
    Options,
    /// The order on a channel changed.
    Order,
}

impl Change {
    pub const ALL: [Self; 14] = [
        Self::NewlyTrapped,
        Self::NewlyTimedOut,
        Self::NewlyRejected,
        Self::NewlyDropped,
        Self::NewlyPublished,
        Self::NoLongerRejected,
        Self::RejectedOtherwise,
        Self::Publications,
        Self::Channels,
        Self::Data,
        Self::Version,
        Self::Tags,
        Self::Options,
        Self::Order,
    ];

    pub fn words(self) -> &'static str {
        match self {
            Self::NewlyTrapped => "newly trapped",
            Self::NewlyTimedOut => "newly timed out",
            Self::NewlyRejected => "newly rejected",
            Self::NewlyDropped => "newly dropped",
            Self::NewlyPublished => "newly published",
            Self::NoLongerRejected => "no longer rejected",
            Self::RejectedOtherwise => "rejected for another reason",
            Self::Publications => "more or fewer publications",
            Self::Channels => "changed channel",
            Self::Data => "changed data",
            Self::Version => "changed version",
            Self::Tags => "changed tags",
            Self::Options => "changed options",
            Self::Order => "changed order on a channel",
        }
    }
}

/// Returns an empty set if the outcomes are the same.
pub fn changes(old: &Outcome, new: &Outcome) -> BTreeSet<Change> {
    let change = match (old, new) {
        (Outcome::Publish(old), Outcome::Publish(new)) => return between(old, new),
        (Outcome::Drop, Outcome::Drop) => None,
        (Outcome::Publish(_), Outcome::Drop) => Some(Change::NewlyDropped),
        (Outcome::Drop, Outcome::Publish(_)) => Some(Change::NewlyPublished),
        (Outcome::Reject(_), Outcome::Publish(_) | Outcome::Drop) => Some(Change::NoLongerRejected),
        (Outcome::Publish(_) | Outcome::Drop, Outcome::Reject(new)) => Some(newly(class(new))),
        (Outcome::Reject(old), Outcome::Reject(new)) => match (class(old), class(new)) {
            (Class::Rejected, Class::Rejected) => (old != new).then_some(Change::RejectedOtherwise),
            // The text of a panic changes with every line above it.
            (before, after) if before == after => None,
            (_, Class::Rejected) => Some(Change::RejectedOtherwise),
            (_, after) => Some(newly(after)),
        },
    };
    BTreeSet::from_iter(change)
}

/// The kinds of rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Rejected,
    Trapped,
    TimedOut,
}

fn class(rejection: &Rejection) -> Class {
    match &*rejection.code {
        "timeout" => Class::TimedOut,
        "trap" | "memory" | "exit" | "init" => Class::Trapped,
        _ => Class::Rejected,
    }
}

fn newly(class: Class) -> Change {
    match class {
        Class::Rejected => Change::NewlyRejected,
        Class::Trapped => Change::NewlyTrapped,
        Class::TimedOut => Change::NewlyTimedOut,
    }
}

/// Publications are compared with those on the same channels, because no one sees the order across different channels.
fn between(old: &[Publication], new: &[Publication]) -> BTreeSet<Change> {
    let mut changes = BTreeSet::new();
    if old.len() != new.len() {
        changes.insert(Change::Publications);
    }
    let pairs = pairs(old, new);
    for &(before, after) in &pairs {
        compare(&old[before], &new[after], &mut changes);
    }
    let in_order = pairs.iter().all(|(before, after)| before == after);
    if !in_order && !changes.contains(&Change::Channels) && is_reordered(&pairs, old, new) {
        changes.insert(Change::Order);
    }
    changes
}

/// Returns pairs of indices of publications that belong together: first those on the same channels in order, then the
/// rest in order.
fn pairs(old: &[Publication], new: &[Publication]) -> Vec<(usize, usize)> {
    let mut waiting: HashMap<BTreeSet<&str>, VecDeque<usize>> = HashMap::new();
    for (index, publication) in new.iter().enumerate() {
        waiting.entry(channels(publication)).or_default().push_back(index);
    }
    let mut pairs = Vec::with_capacity(old.len());
    let mut without = Vec::new();
    for (index, publication) in old.iter().enumerate() {
        match waiting.get_mut(&channels(publication)).and_then(VecDeque::pop_front) {
            Some(other) => pairs.push((index, other)),
            None => without.push(index),
        }
    }
    let mut left: Vec<usize> = waiting.into_values().flatten().collect();
    left.sort_unstable();
    pairs.extend(without.into_iter().zip(left));
    pairs
}

fn channels(publication: &Publication) -> BTreeSet<&str> {
    publication.channels.iter().map(AsRef::as_ref).collect()
}

fn compare(old: &Publication, new: &Publication, changes: &mut BTreeSet<Change>) {
    let tags = |publication: &Publication| -> BTreeMap<String, String> { publication.tags.iter().cloned().collect() };
    let options = |publication: &Publication| {
        let key = publication.idempotency_key.clone();
        (key, publication.delta, publication.skip_history)
    };
    let differs = [
        (Change::Channels, channels(old) != channels(new)),
        (Change::Data, !is_same_data(&old.body, &new.body)),
        (
            Change::Version,
            (old.version, &old.version_epoch) != (new.version, &new.version_epoch),
        ),
        (Change::Tags, old.tags != new.tags && tags(old) != tags(new)),
        (Change::Options, options(old) != options(new)),
    ];
    changes.extend(
        differs
            .into_iter()
            .filter(|(_, differs)| *differs)
            .map(|(change, _)| change),
    );
}

fn is_same_data(old: &Body, new: &Body) -> bool {
    match (old, new) {
        (Body::Binary(old), Body::Binary(new)) => old == new,
        (Body::Json(old), Body::Json(new)) => json::is_same(old.get(), new.get()),
        _ => false,
    }
}

/// Returns true if a channel gets the same publications in another order.
fn is_reordered(pairs: &[(usize, usize)], old: &[Publication], new: &[Publication]) -> bool {
    let mut order: HashMap<&Arc<str>, usize> = HashMap::new();
    let mut pairs = pairs.to_vec();
    pairs.sort_unstable();
    pairs.iter().any(|&(before, after)| {
        let shared = old[before]
            .channels
            .iter()
            .filter(|channel| new[after].channels.contains(channel));
        shared.into_iter().any(|channel| {
            let last = order.insert(channel, after);
            last.is_some_and(|last| last > after)
        })
    })
}

#[cfg(test)]
mod tests {
    use std::slice;

    use serde_json::value::RawValue;

    use super::*;
    use crate::message::Stage;

    fn publication(channels: &[&str], json: &str) -> Publication {
        Publication::new(
            channels.iter().map(|channel| (*channel).into()).collect(),
            Body::Json(RawValue::from_string(json.to_owned()).unwrap()),
        )
    }

    fn rejected(code: &'static str, reason: &str) -> Outcome {
        Outcome::Reject(Rejection {
            stage: Stage::Transform,
            code: code.into(),
            channel: None,
            reason: reason.to_owned(),
        })
    }

    #[track_caller]
    fn check(old: &[Publication], new: &[Publication], expected: &[Change]) {
        let changes = changes(&Outcome::Publish(old.to_vec()), &Outcome::Publish(new.to_vec()));
        assert_eq!(Vec::from_iter(changes), expected);
    }

    #[test]
    fn what_is_the_same_by_value_is_the_same() {
        let old = publication(&["a"], r#"{"id": 7, "name": "ü"}"#);
        check(
            slice::from_ref(&old),
            &[publication(&["a"], r#"{"name":"\u00fc","id":7}"#)],
            &[],
        );
        check(&[publication(&["a", "b"], "1")], &[publication(&["b", "a"], "1")], &[]);
        let tagged = |tags: &[(&str, &str)]| Publication {
            tags: tags
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            ..old.clone()
        };
        check(
            &[tagged(&[("a", "1"), ("b", "2")])],
            &[tagged(&[("b", "2"), ("a", "1")])],
            &[],
        );
        check(
            &[publication(&["a"], "1"), publication(&["b"], "2")],
            &[publication(&["b"], "2"), publication(&["a"], "1")],
            &[],
        );
    }

    #[test]
    fn each_part_of_a_publication_counts() {
        let old = publication(&["a"], "1");
        for (new, expected) in [
            (publication(&["b"], "1"), &[Change::Channels][..]),
            (publication(&["a", "b"], "1"), &[Change::Channels]),
            (publication(&["a"], "1.0"), &[Change::Data]),
            (publication(&["b"], "2"), &[Change::Channels, Change::Data]),
            (publication(&["a"], "1e999"), &[Change::Data]),
            (
                Publication {
                    body: Body::Binary(b"1".to_vec()),
                    ..old.clone()
                },
                &[Change::Data],
            ),
            (
                Publication {
                    version: Some(1),
                    ..old.clone()
                },
                &[Change::Version],
            ),
            (
                Publication {
                    tags: vec![("a".to_owned(), "1".to_owned())],
                    ..old.clone()
                },
                &[Change::Tags],
            ),
            (
                Publication {
                    delta: true,
                    ..old.clone()
                },
                &[Change::Options],
            ),
            (
                Publication {
                    idempotency_key: Some("k".to_owned()),
                    ..old.clone()
                },
                &[Change::Options],
            ),
        ] {
            check(slice::from_ref(&old), &[new], expected);
        }
    }

    #[test]
    fn numbers_that_no_float_tells_apart_are_told_apart() {
        let old = publication(&["a"], r#"{"wei":1000000000000000000000}"#);
        let new = publication(&["a"], r#"{"wei":1000000000000000000001}"#);
        check(slice::from_ref(&old), &[new], &[Change::Data]);
        check(
            &[old],
            &[publication(&["a"], r#"{"wei": 1000000000000000000000}"#)],
            &[],
        );
    }

    #[test]
    fn publications_are_compared_with_those_on_their_channel() {
        let (a, b, c) = (
            publication(&["a"], "1"),
            publication(&["b"], "2"),
            publication(&["c"], "1"),
        );
        check(&[a.clone(), b.clone()], slice::from_ref(&b), &[Change::Publications]);
        check(slice::from_ref(&a), &[a.clone(), b.clone()], &[Change::Publications]);
        check(&[a.clone(), b.clone()], &[b.clone(), c], &[Change::Channels]);
        let other = publication(&["a"], "3");
        check(&[a.clone(), b.clone(), other.clone()], &[b, other, a], &[Change::Data]);
    }

    #[test]
    fn the_order_on_a_channel_counts_and_no_other() {
        let (a, both) = (publication(&["a"], "1"), publication(&["a", "b"], "2"));
        check(&[a.clone(), both.clone()], &[both.clone(), a.clone()], &[Change::Order]);
        let c = publication(&["c"], "1");
        check(&[c.clone(), a.clone(), both.clone()], &[a, both, c], &[]);
    }

    #[test]
    fn other_outcomes_are_told_apart() {
        let published = Outcome::Publish(vec![publication(&["a"], "1")]);
        let panic = |line: u32| rejected("trap", &format!("panicked at src/lib.rs:{line}:5: no"));
        for (old, new, expected) in [
            (&Outcome::Drop, &Outcome::Drop, None),
            (&published, &Outcome::Drop, Some(Change::NewlyDropped)),
            (&Outcome::Drop, &published, Some(Change::NewlyPublished)),
            (&published, &rejected("rejected", "no"), Some(Change::NewlyRejected)),
            (&published, &rejected("json", "no"), Some(Change::NewlyRejected)),
            (&Outcome::Drop, &panic(1), Some(Change::NewlyTrapped)),
            (&published, &rejected("memory", "no"), Some(Change::NewlyTrapped)),
            (&published, &rejected("timeout", "no"), Some(Change::NewlyTimedOut)),
            (&rejected("rejected", "no"), &published, Some(Change::NoLongerRejected)),
            (&panic(1), &Outcome::Drop, Some(Change::NoLongerRejected)),
            (&rejected("rejected", "no"), &rejected("rejected", "no"), None),
            (
                &rejected("rejected", "no"),
                &rejected("rejected", "never"),
                Some(Change::RejectedOtherwise),
            ),
            (&panic(1), &panic(2), None),
            (&panic(1), &rejected("rejected", "no"), Some(Change::RejectedOtherwise)),
            (&rejected("rejected", "no"), &panic(1), Some(Change::NewlyTrapped)),
            (&panic(1), &rejected("timeout", "no"), Some(Change::NewlyTimedOut)),
        ] {
            assert_eq!(changes(old, new), BTreeSet::from_iter(expected), "{old:?} -> {new:?}");
        }
    }
}
