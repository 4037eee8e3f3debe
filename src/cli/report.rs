//! Formats the outcome for a message as a line of JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use slipring_core::place::Place;

use super::printable::printable_json;
use crate::message::{Body, Message, Outcome, Publication};

/// Where the message came from.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The line number in a file.
    Line(u64),
    /// The sequence in the stream.
    Sequence(u64),
    /// The ID in Redis.
    #[serde(serialize_with = "as_text")]
    Id(Place),
    /// The number of the dead letter.
    DeadLetter(u64),
}

impl From<Place> for Source {
    fn from(place: Place) -> Self {
        match place {
            Place::Sequence(sequence) => Self::Sequence(sequence),
            Place::Id(..) => Self::Id(place),
        }
    }
}

fn as_text<S: Serializer>(place: &Place, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(place)
}

#[derive(Serialize)]
struct Line<'a, D> {
    #[serde(flatten)]
    source: Source,
    subject: &'a str,
    #[serde(flatten)]
    report: Report<'a>,
    #[serde(flatten)]
    details: D,
}

/// The outcome for a message, as commands print it and as people may write it. Unset fields are left out.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report<'a> {
    pub outcome: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publications: Option<Vec<Published<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Publish,
    Drop,
    Reject,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published<'a> {
    pub channels: Vec<Cow<'a, str>>,
    #[serde(default, deserialize_with = "null_is_data", skip_serializing_if = "Option::is_none")]
    pub data: Option<Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_epoch: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "is_false")]
    delta: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    skip_history: bool,
}

pub fn write(output: &mut dyn Write, source: Source, message: &Message, outcome: &Outcome) -> io::Result<()> {
    write_with(output, source, message, outcome, &())
}

/// Writes additional fields after those that are always there.
pub fn write_with(
    output: &mut dyn Write,
    source: Source,
    message: &Message,
    outcome: &Outcome,
    details: &impl Serialize,
) -> io::Result<()> {
    let line = Line {
        source,
        subject: &message.subject,
        report: Report::of(outcome),
        details,
    };
    writeln!(output, "{}", printable_json(&serde_json::to_string(&line)?))
}

impl<'a> Report<'a> {
    pub fn of(outcome: &'a Outcome) -> Self {
        let mut report = Self {
            outcome: Kind::Publish,
            publications: None,
            code: None,
            channel: None,
            reason: None,
        };
        match outcome {
            Outcome::Publish(publications) => report.publications = Some(publications.iter().map(published).collect()),
            Outcome::Drop => report.outcome = Kind::Drop,
            Outcome::Reject(rejection) => {
                report.outcome = Kind::Reject;
                report.code = Some(rejection.code.as_ref().into());
                report.channel = rejection.channel.as_deref().map(Cow::from);
                report.reason = Some(rejection.reason.as_str().into());
            }
        }
        report
    }
}

fn published(publication: &Publication) -> Published<'_> {
    let (data, binary_base64) = match &publication.body {
        Body::Json(json) => (Some(on_one_line(json)), None),
        Body::Binary(bytes) => (None, Some(STANDARD.encode(bytes))),
    };
    Published {
        channels: publication
            .channels
            .iter()
            .map(|channel| channel.as_ref().into())
            .collect(),
        data,
        binary_base64,
        version: publication.version,
        version_epoch: publication.version_epoch.as_deref().map(Cow::from),
        tags: publication
            .tags
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        idempotency_key: publication.idempotency_key.as_deref().map(Cow::from),
        delta: publication.delta,
        skip_history: publication.skip_history,
    }
}

/// Puts JSON on one line, because a module may format it over several lines and a line of the output has to be one
/// line. Line breaks can only be between the tokens of JSON, because strings escape them.
pub fn on_one_line(json: &RawValue) -> Cow<'_, RawValue> {
    if !json.get().contains(['\n', '\r']) {
        return Cow::Borrowed(json);
    }
    RawValue::from_string(json.get().replace(['\n', '\r'], " ")).map_or(Cow::Borrowed(json), Cow::Owned)
}

/// Accepts `null` as JSON. serde would take it for a missing field.
fn null_is_data<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'static, RawValue>>, D::Error> {
    Box::deserialize(deserializer).map(|json| Some(Cow::Owned(json)))
}

/// The signature is the one that serde requires.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::message::{Rejection, Stage};

    fn line(outcome: &Outcome) -> String {
        let message = Message::new("TRY", 1, "orders.1", "");
        let mut output = Vec::new();
        write(&mut output, Source::Line(1), &message, outcome).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn what_is_set_is_shown() {
        let json = RawValue::from_string("{\n  \"id\": 1.50\n}".to_owned()).unwrap();
        let full = Publication {
            channels: vec!["a".into(), "b".into()],
            body: Body::Json(json),
            version: Some(7),
            version_epoch: Some("e".to_owned()),
            tags: vec![("kind".to_owned(), "order".to_owned())],
            idempotency_key: Some("k".to_owned()),
            delta: true,
            skip_history: true,
        };
        let plain = Publication::new(vec!["a".into()], Body::Binary(vec![0, 255]));
        assert_snapshot!(line(&Outcome::Publish(vec![full, plain])), @r#"
        {"line":1,"subject":"orders.1","outcome":"publish","publications":[{"channels":["a","b"],"data":{   "id": 1.50 },"version":7,"version_epoch":"e","tags":{"kind":"order"},"idempotency_key":"k","delta":true,"skip_history":true},{"channels":["a"],"binary_base64":"AP8="}]}
        "#);
        assert_snapshot!(line(&Outcome::Drop), @r#"
        {"line":1,"subject":"orders.1","outcome":"drop"}
        "#);
        let rejection = Rejection {
            stage: Stage::Transform,
            code: "rejected".into(),
            channel: None,
            reason: "no".to_owned(),
        };
        assert_snapshot!(line(&Outcome::Reject(rejection)), @r#"
        {"line":1,"subject":"orders.1","outcome":"reject","code":"rejected","reason":"no"}
        "#);
    }
}
