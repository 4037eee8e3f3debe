//! A dead letter as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use slipring_core::place::Place;

use super::super::attempt::Attempt;
use crate::dead_letter::{Letter, Opened};

/// The longest payload that is sent, in bytes.
const LONGEST: usize = 1 << 20;

/// A dead letter without what it holds.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Entry {
    number: u64,
    /// When it was stored, in RFC 3339.
    stored: String,
    module: String,
    stage: String,
    code: String,
    reason: String,
    channel: Option<String>,
    /// The subject of the message. It is `null`, like the next two, if no relay stored the letter.
    subject: Option<String>,
    stream: Option<String>,
    sequence: Option<Sequence>,
    /// The size of the payload, in bytes.
    size: usize,
    /// The SHA-256 of the file of the module that processed the message.
    sha256: String,
}

/// The place of the message in its stream: a sequence, or an ID in Redis.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum Sequence {
    Number(u64),
    Id(String),
}

/// A dead letter with its message.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DeadLetter")]
pub(in crate::admin::routes) struct Whole {
    #[serde(flatten)]
    entry: Entry,
    /// The headers of the message, by name.
    headers: Vec<(String, String)>,
    /// The payload of the message, if it is text.
    payload: Option<String>,
    /// The payload otherwise.
    payload_base64: Option<String>,
    /// Only the first MiB of the payload is here.
    truncated: bool,
    /// When the message was stored in its stream, in RFC 3339. It is `null` if the whole message is not known.
    timestamp: Option<String>,
    /// What the running version of the module makes of the message, or `null`. A replay publishes only what was not
    /// confirmed before.
    pub(super) now: Option<Attempt>,
    /// Why it is unknown what the running version makes of the message.
    pub(super) problem: Option<String>,
}

impl Entry {
    pub fn of(letter: Letter) -> Self {
        let (number, size) = (letter.number(), letter.size());
        let (subject, stream, sequence) = match letter.origin {
            Some(origin) => (
                Some(origin.subject),
                Some(origin.stream),
                Some(Sequence::of(origin.place)),
            ),
            None => (None, None, None),
        };
        Self {
            number,
            stored: letter.stored.to_string(),
            module: letter.module,
            stage: letter.stage,
            code: letter.code,
            reason: letter.reason,
            channel: letter.channel,
            subject,
            stream,
            sequence,
            size,
            sha256: letter.sha256,
        }
    }
}

impl Sequence {
    fn of(place: Place) -> Self {
        match place {
            Place::Sequence(sequence) => Self::Number(sequence),
            id @ Place::Id(..) => Self::Id(id.to_string()),
        }
    }
}

impl Whole {
    pub fn of(opened: Opened, now: Result<Attempt, String>) -> Self {
        let headers = opened.contents().headers;
        let shown = &opened.payload[..opened.payload.len().min(LONGEST)];
        let (payload, payload_base64) = match text(&opened.payload, shown) {
            Some(text) => (Some(text.to_owned()), None),
            None => (None, Some(STANDARD.encode(shown))),
        };
        let (now, problem) = match now {
            Ok(now) => (Some(now), None),
            Err(problem) => (None, Some(problem)),
        };
        let message = opened.message().ok();
        let nanoseconds = message.map(|message| message.timestamp.into());
        let timestamp = nanoseconds.and_then(|nanoseconds| Timestamp::from_nanosecond(nanoseconds).ok());
        Self {
            truncated: shown.len() < opened.payload.len(),
            timestamp: timestamp.map(|timestamp| timestamp.to_string()),
            entry: Entry::of(opened.letter),
            headers,
            payload,
            payload_base64,
            now,
            problem,
        }
    }
}

/// Returns the beginning as text if all of it is text. The beginning may end within a character.
fn text<'a>(all: &[u8], beginning: &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(all).ok()?;
    let whole = match std::str::from_utf8(beginning) {
        Ok(text) => return Some(text),
        Err(error) => error.valid_up_to(),
    };
    std::str::from_utf8(&beginning[..whole]).ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use insta::assert_snapshot;

    use super::*;
    use crate::dead_letter::{Origin, Raw};

    fn whole(payload: impl Into<Bytes>, place: Place) -> Whole {
        let mut letter = Letter::sample(17, "orders");
        letter.reason = "<img src=x onerror=alert(1)>".to_owned();
        letter.origin = Some(Origin {
            subject: "orders.7".to_owned(),
            stream: "ORDERS".to_owned(),
            place,
            timestamp: 0,
        });
        letter.headers = vec![
            ("Slipring-Code".to_owned(), "rejected".to_owned()),
            ("Trace".to_owned(), "1".to_owned()),
        ];
        let opened = Opened {
            letter,
            payload: payload.into(),
            raw: Raw::default(),
        };
        Whole::of(opened, Err("the module is not running".to_owned()))
    }

    #[test]
    fn a_letter_is_an_object() {
        let json = serde_json::to_string(&whole("{\"id\": 7}", 42.into())).unwrap();
        assert_snapshot!(json, @r#"{"number":17,"stored":"1970-01-01T00:00:00Z","module":"orders","stage":"","code":"","reason":"<img src=x onerror=alert(1)>","channel":null,"subject":"orders.7","stream":"ORDERS","sequence":42,"size":11,"sha256":"","headers":[["Trace","1"]],"payload":"{\"id\": 7}","payload_base64":null,"truncated":false,"timestamp":"1970-01-01T00:00:00Z","now":null,"problem":"the module is not running"}"#);
        let json = serde_json::to_value(whole(&b"\xff"[..], "7-1".parse().unwrap())).unwrap();
        assert!(json["payload"].is_null() && json["payload_base64"] == "/w==");
        assert_eq!(json["sequence"], "7-1");
    }

    #[test]
    fn a_long_payload_is_cut_between_characters() {
        let long = format!("{}ä and more", "x".repeat(LONGEST - 1));
        let shown = whole(long, 1.into());
        assert!(shown.truncated && shown.payload.unwrap() == "x".repeat(LONGEST - 1));
        let bytes = whole(vec![0xff; LONGEST + 1], 1.into());
        assert!(bytes.truncated && bytes.payload.is_none());
        let exact = whole("x".repeat(LONGEST), 1.into());
        assert!(!exact.truncated && exact.payload.unwrap().len() == LONGEST);
    }
}
