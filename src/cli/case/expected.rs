//! What a case expects: an outcome, a part of one, or what must not be in it.

use super::expectation::{Expectation, Fields};
use super::partial;
use super::unexpected::Unexpected;

/// What a case expects of a module.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// `None` if there is only an `expect_not`.
    pub expect: Option<Expectation>,
    pub expect_not: Option<Unexpected>,
}

/// How an outcome differs from the expected one, as two texts to compare line by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub expected: String,
    pub actual: String,
    /// The outcome meets `expect`, but has something that `expect_not` rules out.
    pub is_ruled_out: bool,
}

impl Expected {
    /// Returns `None` if a module that made `made` meets the expectation.
    pub fn difference(&self, made: &Expectation) -> Option<Difference> {
        if let Some(expect) = &self.expect {
            let shown = beside(made, expect);
            if shown != *expect {
                return Some(Difference {
                    expected: expect.pretty(),
                    actual: shown.pretty(),
                    is_ruled_out: false,
                });
            }
        }
        let expected = self.expect_not.as_ref()?.without(made)?;
        Some(Difference {
            expected,
            actual: made.pretty(),
            is_ruled_out: true,
        })
    }

    /// Returns true if `expect_not` rules the outcome out. No update of the expectation changes that.
    pub fn rules_out(&self, made: &Expectation) -> bool {
        self.expect_not.as_ref().is_some_and(|not| not.without(made).is_some())
    }

    /// Returns the `expect` that `made` meets. A partial one stays partial, with the same fields.
    pub fn updated(&self, made: &Expectation) -> Expectation {
        let partial = self.expect.as_ref().filter(|expect| expect.partial);
        let Some(expect) = partial.filter(|expect| expect.outcome == made.outcome) else {
            return made.clone();
        };
        let pairs = pairs(expect.publications(), made.publications());
        let shown = |(part, publication): (&Fields, Option<&Fields>)| Some(partial::shown(part, publication?));
        let kept: Vec<Fields> = pairs.into_iter().filter_map(shown).collect();
        if kept.is_empty() {
            return made.clone();
        }
        Expectation {
            publications: Some(kept),
            ..expect.clone()
        }
    }
}

/// Returns what to show of `made` next to what was `expected`, without the parts that the expectation leaves open. It
/// equals `expected` if that is met.
fn beside(made: &Expectation, expected: &Expectation) -> Expectation {
    let mut shown = made.rejection_beside(expected);
    if !expected.partial || shown.outcome != expected.outcome {
        return shown;
    }
    shown.partial = true;
    let (parts, publications) = (expected.publications(), made.publications());
    shown.publications = expected
        .publications
        .as_ref()
        .map(|_| match all_met(parts, publications) {
            true => parts.to_vec(),
            false => side_by_side(parts, publications),
        });
    shown
}

/// Returns true if each part is met by a publication of its own, in this order.
fn all_met(parts: &[Fields], publications: &[Fields]) -> bool {
    let mut publications = publications.iter();
    parts
        .iter()
        .all(|part| publications.any(|publication| partial::is_met(part, publication)))
}

/// Shows the publications that belong to the parts, with the parts' fields. If a part has none, the rest is shown in
/// full, since one of them may be what was meant. If they are only in another order, all are.
fn side_by_side(parts: &[Fields], publications: &[Fields]) -> Vec<Fields> {
    let pairs = pairs(parts, publications);
    let found: Vec<&Fields> = pairs.iter().filter_map(|(_, publication)| *publication).collect();
    let shown = |(part, publication): &(&Fields, Option<&Fields>)| Some(partial::shown(part, (*publication)?));
    let mut shown: Vec<Fields> = pairs.iter().filter_map(shown).collect();
    if shown == parts {
        return publications.to_vec();
    }
    if found.len() < parts.len() {
        let is_left = |publication: &&Fields| !found.iter().any(|used| std::ptr::eq(*used, *publication));
        shown.extend(publications.iter().filter(is_left).cloned());
    }
    shown
}

/// Finds for each part the publication that it means: one that meets it, or one on the same channel.
fn pairs<'a>(parts: &'a [Fields], publications: &'a [Fields]) -> Vec<(&'a Fields, Option<&'a Fields>)> {
    let mut left: Vec<&Fields> = publications.iter().collect();
    let mut pairs: Vec<(&Fields, Option<&Fields>)> = parts.iter().map(|part| (part, None)).collect();
    for fits in [partial::is_met, partial::is_on_the_same_channel] {
        for (part, found) in pairs.iter_mut().filter(|(_, found)| found.is_none()) {
            if let Some(index) = left.iter().position(|publication| fits(part, publication)) {
                *found = Some(left.remove(index));
            }
        }
    }
    pairs
}
