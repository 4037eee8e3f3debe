//! A message as people write it, in JSON: a line that `slipring try` reads, or the `message` of a case.

use std::collections::BTreeMap;

use anyhow::{Context, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::error::Category;
use slipring_core::place::Place;

use super::exact::Json;
use super::explain::explain_line;
use crate::message::Message;
use crate::nats::{self, headers::Contents};

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Message")]
pub struct Sample {
    subject: String,
    /// The bytes of a subject that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    #[serde(
        default,
        deserialize_with = "null_is_a_value",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<Value>")]
    data: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, Value>,
    /// The raw header block of an unreadable message, starting with `NATS/1.0` or whatever was in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    headers_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    /// The place of a message from Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries: Option<u32>,
}

/// Parses the message in `line`, which is line `number` of its file.
pub fn parse(line: &[u8], number: u64, stream: &str) -> anyhow::Result<Message> {
    let sample: Sample = serde_json::from_slice(line).map_err(|error| match error.classify() {
        Category::Data => anyhow!("this is not a message: {}", explain_line(&error)),
        _ => anyhow!(explain_line(&error)),
    })?;
    sample.message(number, stream)
}

impl Sample {
    /// Returns the message as a person would write it, with JSON as `data` unless that would change its meaning. A
    /// message of `stream` does not name it.
    pub fn of(message: &Message, stream: &str) -> Self {
        let text = std::str::from_utf8(&message.payload);
        let id = matches!(message.place, Place::Id(..)).then(|| message.place.to_string());
        let mut sample = Self {
            subject: message.subject.clone(),
            subject_base64: None,
            payload: None,
            data: text.ok().and_then(Json::held),
            payload_base64: None,
            headers: BTreeMap::new(),
            headers_base64: None,
            sequence: id.is_none().then(|| message.sequence()),
            id,
            timestamp: Some(time(message.timestamp)),
            stream: (*message.stream != *stream).then(|| message.stream.to_string()),
            deliveries: (message.deliveries != 1).then_some(message.deliveries),
        };
        if sample.data.is_none() {
            match text {
                Ok(text) => sample.payload = Some(text.to_owned()),
                Err(_) => sample.payload_base64 = Some(STANDARD.encode(&message.payload)),
            }
        }
        if let Some(unreadable) = &message.unreadable {
            let subject = &unreadable.subject;
            sample.subject_base64 = (subject[..] != *message.subject.as_bytes()).then(|| STANDARD.encode(subject));
            sample.headers_base64 = Some(STANDARD.encode(&unreadable.headers));
            return sample;
        }
        for (name, value) in &message.headers {
            let value = Value::from(value.as_str());
            match sample.headers.get_mut(name) {
                None => drop(sample.headers.insert(name.clone(), value)),
                Some(Value::Array(values)) => values.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
        sample
    }

    /// Returns the message. `number` and `stream` are used if it does not name its own.
    pub fn message(self, number: u64, stream: &str) -> anyhow::Result<Message> {
        let payload = match (self.payload, self.data, self.payload_base64) {
            (Some(text), None, None) => text.into_bytes(),
            (None, Some(data), None) => data.compact().into_bytes(),
            (None, None, Some(base64)) => STANDARD.decode(&base64).context("`payload_base64` is not base64")?,
            _ => bail!("a message must have exactly one of `data`, `payload` and `payload_base64`"),
        };
        let bytes = |base64: &str, field: &str| {
            let bytes = STANDARD.decode(base64);
            bytes.with_context(|| format!("`{field}` is not base64"))
        };
        let subject_bytes = self.subject_base64.map(|base64| bytes(&base64, "subject_base64"));
        let block = self.headers_base64.map(|base64| bytes(&base64, "headers_base64"));
        let contents = match (subject_bytes.transpose()?, block.transpose()?) {
            (None, None) => Contents {
                subject: self.subject,
                headers: headers(self.headers)?,
                unreadable: None,
            },
            (subject, block) => {
                if block.is_some() && !self.headers.is_empty() {
                    bail!("a message cannot have both `headers` and `headers_base64`: remove one of them");
                }
                let block = match block {
                    Some(block) => block,
                    None => nats::headers::block(&headers(self.headers)?),
                };
                nats::headers::read(&subject.unwrap_or_else(|| self.subject.into_bytes()), &block)
            }
        };
        let Contents {
            subject,
            headers,
            unreadable,
        } = contents;
        let place = match (self.sequence, self.id) {
            (Some(_), Some(_)) => {
                bail!("a message has either `sequence`, of JetStream, or `id`, of Redis: remove one of them")
            }
            (sequence, None) => sequence.unwrap_or(number).into(),
            (None, Some(id)) => id_of(&id)?,
        };
        Ok(Message {
            subject,
            payload: Bytes::from(payload),
            headers,
            stream: self.stream.as_deref().unwrap_or(stream).into(),
            place,
            timestamp: self.timestamp.map_or(Ok(0), |timestamp| nanoseconds(&timestamp))?,
            deliveries: self.deliveries.unwrap_or(1),
            unreadable,
        })
    }
}

fn id_of(text: &str) -> anyhow::Result<Place> {
    match text.parse() {
        Ok(id @ Place::Id(..)) => Ok(id),
        _ => bail!("`id` is {text:?}, which is no ID of Redis such as \"1795888251712-0\""),
    }
}

fn headers(headers: BTreeMap<String, Value>) -> anyhow::Result<Vec<(String, String)>> {
    let mut list = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            match value {
                Value::String(text) => list.push((name.clone(), text)),
                other => bail!("the header `{name}` is {other}; it must be a string or a list of strings"),
            }
        }
    }
    Ok(list)
}

fn nanoseconds(timestamp: &Value) -> anyhow::Result<u64> {
    let nanoseconds = match timestamp {
        Value::String(text) => text
            .parse::<jiff::Timestamp>()
            .ok()
            .and_then(|time| u64::try_from(time.as_nanosecond()).ok()),
        number => number.as_u64(),
    };
    nanoseconds.with_context(|| {
        format!(
            "`timestamp` is {timestamp}; it must be a time such as \"2026-11-01T00:00:00Z\" or nanoseconds since 1970, \
             and not earlier than 1970"
        )
    })
}

fn time(nanoseconds: u64) -> Value {
    let time = jiff::Timestamp::from_nanosecond(nanoseconds.into());
    time.map_or_else(|_| nanoseconds.into(), |time| time.to_string().into())
}

/// Accepts `null` as JSON. serde would take it for a missing field.
fn null_is_a_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn message(line: &str) -> Message {
        parse(line.as_bytes(), 7, "TRY").unwrap()
    }

    #[test]
    fn a_subject_and_a_payload_are_enough() {
        let expected = Message::new("TRY", 7, "orders.1", "{\"id\":1}");
        assert_eq!(message(r#"{"subject": "orders.1", "data": {"id": 1}}"#), expected);
        assert_eq!(message(r#"{"subject": "orders.1", "payload": "{\"id\":1}"}"#), expected);
        assert_eq!(
            message(r#"{"subject": "orders.1", "payload_base64": "eyJpZCI6MX0="}"#),
            expected
        );
        assert_eq!(message(r#"{"subject": "s", "data": null}"#).payload, "null");
        assert_eq!(message(r#"{"subject": "s", "payload": ""}"#).payload, "");
    }

    #[test]
    fn data_keeps_what_a_value_cannot_hold() {
        for (data, payload) in [
            ("[ 184467440737095516150, -1e400 ]", "[184467440737095516150,-1e400]"),
            (r#"{ "a b": 1, "a b": 2 }"#, r#"{"a b":1,"a b":2}"#),
            (r#"{ "b": 1.50, "a": 1 }"#, r#"{"a":1,"b":1.5}"#),
        ] {
            let line = format!(r#"{{"subject":"orders.1","data":{data}}}"#);
            let sample: Sample = serde_json::from_str(&line).unwrap();
            let written = serde_json::to_string(&sample).unwrap();
            for line in [line, written] {
                let message = parse(line.as_bytes(), 7, "TRY").unwrap();
                assert_eq!(std::str::from_utf8(&message.payload), Ok(payload));
            }
        }
    }

    #[test]
    fn every_other_fact_can_be_given() {
        let line = r#"{"subject":"s","payload":"","headers":{"A":"1","B":["2","3"]},"sequence":9,
            "timestamp":"1970-01-01T00:00:01Z","stream":"S","deliveries":2}"#;
        let headers = [("A", "1"), ("B", "2"), ("B", "3")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let expected = Message {
            headers: headers.to_vec(),
            timestamp: 1_000_000_000,
            deliveries: 2,
            ..Message::new("S", 9, "s", "")
        };
        assert_eq!(message(line), expected);
        assert_eq!(message(r#"{"subject":"s","payload":"","timestamp":5}"#).timestamp, 5);
    }

    #[test]
    fn what_is_written_is_read_again_as_the_same() {
        let headers =
            [("A", "1"), ("B", "2"), ("B", "3"), ("B", "4")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        for payload in [
            &b"{\"id\":[7,null]}"[..],
            b"{\"wei\":1000000000000000000000}",
            b"{\"id\":7,\"id\":8}",
            b"[1e999, 0.12345678901234567890]",
            b"null",
            b"",
            b"hello",
            b"\xff\0",
        ] {
            let message = Message {
                headers: headers.to_vec(),
                timestamp: 1_793_520_000_123_456_789,
                deliveries: 2,
                ..Message::new("ORDERS", 9, "s", payload)
            };
            for stream in ["ORDERS", "TRY"] {
                let text = serde_json::to_string(&Sample::of(&message, stream)).unwrap();
                assert_eq!(parse(text.as_bytes(), 7, stream).unwrap(), message, "{text}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_kept_byte_by_byte() {
        let block = b"NATS/1.0\r\nTrace: 1\r\nCity: M\xfcnchen\r\n\r\n";
        for (subject, block) in [
            (&b"orders.1"[..], &block[..]),
            (b"orders.\xfc", b""),
            (b"orders.\xfc", block),
        ] {
            let Contents {
                subject,
                headers,
                unreadable,
            } = nats::headers::read(subject, block);
            assert!(unreadable.is_some());
            let message = Message {
                headers,
                timestamp: 1_793_520_000_123_456_789,
                unreadable,
                ..Message::new("ORDERS", 9, subject, "{\"id\":1}")
            };
            let text = serde_json::to_string(&Sample::of(&message, "ORDERS")).unwrap();
            assert_eq!(parse(text.as_bytes(), 7, "ORDERS").unwrap(), message, "{text}");
        }
        let by_hand = message(r#"{"subject":"s","payload":"","headers_base64":"TkFUUy8xLjANCkE6IDENCg0K"}"#);
        assert_eq!(by_hand.headers, [("A".to_owned(), "1".to_owned())]);
        assert_eq!(by_hand.unreadable, None);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let lines = [
            "nonsense",
            r#"{"payload":""}"#,
            r#"{"subject":"s"}"#,
            r#"{"subject":"s","payload":"","data":1}"#,
            r#"{"subject":"s","payload":"","header":{}}"#,
            r#"{"subject":"s","payload":"","headers":{"A":1}}"#,
            r#"{"subject":"s","payload":"","timestamp":"1969-01-01T00:00:00Z"}"#,
            r#"{"subject":"s","payload_base64":"?"}"#,
            r#"{"subject":"s","payload":"","headers_base64":"?"}"#,
            r#"{"subject":"s","payload":"","headers":{"A":"1"},"headers_base64":""}"#,
        ];
        let errors = lines.map(|line| format!("{:#}", parse(line.as_bytes(), 1, "TRY").unwrap_err()));
        assert_snapshot!(errors.join("\n"), @r#"
        this is not JSON (column 2)
        this is not a message: missing field `subject`
        a message must have exactly one of `data`, `payload` and `payload_base64`
        a message must have exactly one of `data`, `payload` and `payload_base64`
        this is not a message: unknown field `header`, expected one of `subject`, `subject_base64`, `payload`, `data`, `payload_base64`, `headers`, `headers_base64`, `sequence`, `id`, `timestamp`, `stream`, `deliveries`
        the header `A` is 1; it must be a string or a list of strings
        `timestamp` is "1969-01-01T00:00:00Z"; it must be a time such as "2026-11-01T00:00:00Z" or nanoseconds since 1970, and not earlier than 1970
        `payload_base64` is not base64: Invalid symbol 63, offset 0.
        `headers_base64` is not base64: Invalid symbol 63, offset 0.
        a message cannot have both `headers` and `headers_base64`: remove one of them
        "#);
    }
}
