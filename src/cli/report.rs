//! Formats the outcome for a message as a line of JSON.

use std::io::{self, Write};

use serde::{Serialize, Serializer};
use slipring_core::place::Place;

use super::printable::printable_json;
use crate::json::Report;
use crate::message::{Message, Outcome};

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

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use serde_json::value::RawValue;

    use super::*;
    use crate::message::{Body, Publication, Rejection, Stage};

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
