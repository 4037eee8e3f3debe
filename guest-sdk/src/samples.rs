//! Reads the messages that `slipring try` reads, so a native test can use the same file.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use toml::value::{Datetime, Offset};

use crate::{Context as _, Error, Message, Result, Value, time};

/// Returns the messages of a text in JSON Lines, in the format of `slipring try`. The function is for tests, and
/// exists only in native builds.
///
/// A line has a `subject`, and at most one of `data` (JSON), `payload` (text) and `payload_base64`. It may also have
/// `headers` (an object of strings or lists of strings), `stream`, `sequence`, `timestamp` (RFC 3339, or nanoseconds
/// since 1970) and `deliveries`. Missing keys have the values of [`Message::new`], except for the sequence, which is
/// the number of the line. Blank lines are skipped.
///
/// ```
/// let messages = slipring_sdk::samples(
///     r#"
///     {"subject": "orders.paid", "data": {"id": 17}, "headers": {"Trace": "4bf9"}}
///     {"subject": "orders.note", "payload": "hello", "timestamp": "2026-11-01T08:00:00Z"}
///     "#,
/// )?;
/// assert_eq!(messages[0].text()?, r#"{"id": 17}"#);
/// assert_eq!(messages[1].timestamp, 1_793_520_000_000_000_000);
/// # Ok::<(), slipring_sdk::Error>(())
/// ```
///
/// # Errors
/// If a line cannot be read. The error names the line and the reason.
pub fn samples(text: &str) -> Result<Vec<Message>> {
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    lines
        .map(|(line, number)| read(line, number).map_err(|error| error.context(format!("line {number}"))))
        .collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample<'a> {
    subject: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    payload: Option<String>,
    payload_base64: Option<String>,
    #[serde(default)]
    headers: serde_json::Map<String, Value>,
    stream: Option<String>,
    sequence: Option<u64>,
    timestamp: Option<Value>,
    deliveries: Option<u32>,
}

fn read(line: &str, number: u64) -> Result<Message> {
    let sample: Sample = serde_json::from_str(line)?;
    let payload = match (sample.data, sample.payload, sample.payload_base64) {
        (None, None, None) => Vec::new(),
        (Some(data), None, None) => data.get().into(),
        (None, Some(text), None) => text.into_bytes(),
        (None, None, Some(text)) => STANDARD.decode(text).context("payload_base64")?,
        _ => {
            return Err(Error::msg(
                "data, payload and payload_base64 are three ways to set the payload: give only one",
            ));
        }
    };
    let mut message = Message::new(sample.subject, payload).with_sequence(sample.sequence.unwrap_or(number));
    message.stream = sample.stream.unwrap_or(message.stream);
    message.deliveries = sample.deliveries.unwrap_or(message.deliveries);
    if let Some(timestamp) = sample.timestamp {
        message.timestamp = read_timestamp(&timestamp)?;
    }
    for (name, value) in sample.headers {
        for value in header_values(&name, value)? {
            message = message.with_header(&name, value);
        }
    }
    Ok(message)
}

fn read_timestamp(value: &Value) -> Result<u64> {
    let nanoseconds = match value {
        Value::String(text) => nanoseconds(text.parse().context("timestamp")?),
        other => other.as_u64(),
    };
    nanoseconds.ok_or_else(|| {
        Error::msg(format_args!(
            "timestamp: {value} is not a time from 1970 to 2554, in RFC 3339 or in nanoseconds since 1970"
        ))
    })
}

/// A date and time of TOML is one of RFC 3339 if it has all parts.
fn nanoseconds(text: Datetime) -> Option<u64> {
    let (date, clock) = (text.date?, text.time?);
    let offset = match text.offset? {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = time::days(date.year.into(), date.month.into(), date.day.into());
    let minutes = (days * 24 + i64::from(clock.hour)) * 60 + i64::from(clock.minute) - offset;
    let seconds = minutes * 60 + i64::from(clock.second?);
    let nanoseconds = u64::try_from(seconds).ok()?.checked_mul(1_000_000_000)?;
    nanoseconds.checked_add(clock.nanosecond.unwrap_or_default().into())
}

fn header_values(name: &str, value: Value) -> Result<Vec<String>> {
    let values = match value {
        Value::Array(values) => values,
        one => vec![one],
    };
    let texts = values.into_iter().map(|value| match value {
        Value::String(text) => Ok(text),
        other => Err(Error::msg(format_args!(
            "headers.{name}: {other} is neither a string nor a list of strings"
        ))),
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_reaches_the_message() {
        let line = r#"{"subject":"a.b","payload_base64":"AAH/","headers":{"One":"1","Two":["2","3"]},
                       "stream":"S","sequence":7,"timestamp":1500,"deliveries":2}"#
            .replace('\n', " ");
        let expected = Message::new("a.b", [0, 1, 255])
            .with_header("One", "1")
            .with_header("Two", "2")
            .with_header("Two", "3")
            .with_stream("S")
            .with_sequence(7)
            .with_timestamp(1500)
            .with_deliveries(2);
        assert_eq!(samples(&line).unwrap(), [expected]);
    }

    #[test]
    fn what_is_left_out_is_as_in_a_new_message_with_the_lines_number() {
        let messages = samples("\n{\"subject\":\"a\"}\n").unwrap();
        assert_eq!(messages, [Message::new("a", "").with_sequence(2)]);
    }

    #[test]
    fn a_time_may_have_an_offset_and_a_part_of_a_second() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2026-11-01T08:00:00.25Z",
            "2028-02-29T23:59:59.999999999+05:30",
            "2026-03-01T00:30:00-00:45",
            "2554-07-21T23:34:33Z",
        ] {
            let line = format!(r#"{{"subject":"a","timestamp":"{text}"}}"#);
            let expected: jiff::Timestamp = text.parse().unwrap();
            let found = samples(&line).unwrap()[0].timestamp;
            assert_eq!(i128::from(found), expected.as_nanosecond(), "{text}");
        }
        // Every day, against the function that writes them.
        (0..213_503).for_each(|day| {
            let text = time::rfc3339(day * 86_400_000_000_000);
            assert_eq!(
                nanoseconds(text.parse().unwrap()),
                Some(day * 86_400_000_000_000),
                "{text}"
            );
        });
    }

    fn check(line: &str, expected: &str) {
        let error = samples(line).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} does not contain {expected:?}");
    }

    #[test]
    fn a_wrong_line_is_named_with_the_reason() {
        check("{\"subject\":\"a\"}\n{}", "line 2: missing field `subject`");
        check(r#"{"subject":"a","topic":"b"}"#, "line 1: unknown field `topic`");
        check(
            r#"{"subject":"a","data":1,"payload":"1"}"#,
            "line 1: data, payload and payload_base64",
        );
        check(r#"{"subject":"a","payload_base64":"?"}"#, "line 1: payload_base64: ");
        check(r#"{"subject":"a","timestamp":"today"}"#, "line 1: timestamp: ");
        check(
            r#"{"subject":"a","timestamp":"2026-11-01T00:00:00"}"#,
            "is not a time from 1970",
        );
        check(
            r#"{"subject":"a","timestamp":"1969-12-31T00:00:00Z"}"#,
            "is not a time from 1970",
        );
        check(
            r#"{"subject":"a","timestamp":-1}"#,
            "line 1: timestamp: -1 is not a time",
        );
        check(
            r#"{"subject":"a","headers":{"One":1}}"#,
            "line 1: headers.One: 1 is neither",
        );
    }
}
