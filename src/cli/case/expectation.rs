//! The outcome of a module for a message, in the form of a case's `expect`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{JSON_AGAIN, pretty};
use crate::json::{Json, Kind, Published, Report};
use crate::message::Outcome;

/// A publication's fields, as in [`Report`]. Fields with their default are left out.
pub type Fields = BTreeMap<String, Json>;

/// The expected or actual outcome of a module for a message.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Expectation {
    pub(super) outcome: Kind,
    /// Only what is written here is expected; there may be more.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) partial: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) publications: Option<Vec<Fields>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

impl Expectation {
    pub fn of(outcome: &Outcome) -> Self {
        let report = Report::of(outcome);
        let publications = report.publications.as_deref();
        let publications = publications.map(|publications| publications.iter().map(fields).collect());
        let text = |text: &Option<Cow<'_, str>>| text.as_deref().map(str::to_owned);
        Self {
            outcome: report.outcome,
            partial: false,
            publications,
            code: text(&report.code),
            channel: text(&report.channel),
            reason: text(&report.reason),
        }
    }

    /// Returns the publications, in order.
    pub(super) fn publications(&self) -> &[Fields] {
        self.publications.as_deref().unwrap_or_default()
    }

    /// Returns the form that a case has.
    pub fn pretty(&self) -> String {
        pretty(self)
    }

    /// Returns a rejection without the parts that the `expected` one leaves open. Only the written part counts, and the
    /// line of a failure changes with every line above it.
    pub(super) fn rejection_beside(&self, expected: &Self) -> Self {
        let mut shown = self.clone();
        if (self.outcome, expected.outcome) != (Kind::Reject, Kind::Reject) {
            return shown;
        }
        shown.code = shown.code.filter(|_| expected.code.is_some());
        shown.channel = shown.channel.filter(|_| expected.channel.is_some());
        shown.reason = shown.reason.filter(|_| expected.reason.is_some());
        let reasons = shown.reason.as_ref().zip(expected.reason.as_ref());
        if reasons.is_some_and(|(one, other)| without_line(one) == without_line(other)) {
            shown.reason.clone_from(&expected.reason);
        }
        shown
    }
}

/// A reason may end with the place of a failure, `(app.py:24)`. Its line changes with every line above it.
fn without_line(reason: &str) -> &str {
    let line = reason.strip_suffix(')').and_then(|reason| reason.rsplit_once(':'));
    let is_place = |(rest, line): &(&str, &str)| {
        let file = rest.rsplit_once(" (").map(|(_, file)| file);
        file.is_some_and(|file| !file.contains(char::is_whitespace)) && line.chars().all(|c| c.is_ascii_digit())
    };
    line.filter(is_place).map_or(reason, |(rest, _)| rest)
}

/// This avoids [`Value`](serde_json::Value), which cannot hold everything that a module may publish.
fn fields(publication: &Published<'_>) -> Fields {
    fields_of(publication)
}

/// Returns the fields of what is written as a publication.
pub(super) fn fields_of(publication: &impl Serialize) -> Fields {
    let text = serde_json::to_string(publication).expect(JSON_AGAIN);
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&text).expect(JSON_AGAIN);
    fields.into_iter().map(|(name, value)| (name, value.into())).collect()
}

/// The signature is the one that serde requires.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}
