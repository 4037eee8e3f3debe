//! Formats dead letters: facts as JSON, and text that may contain anything.

use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;
use slipring_core::place::Place;

use super::super::printable::one_line;
use crate::dead_letter::Letter;
use crate::message::Results;

/// A dead letter without headers and payload, for programs.
#[derive(Debug, Serialize)]
pub struct Facts<'a> {
    pub number: u64,
    pub stored: String,
    pub module: &'a str,
    pub stage: &'a str,
    pub code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<&'a str>,
    /// For each channel, `+` for each confirmed publication and `-` for each refused one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<&'a Results>,
    pub reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The place of a message from Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    pub module_sha256: &'a str,
    pub size: usize,
    #[serde(skip_serializing_if = "is_one")]
    pub parts: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_parts: Vec<usize>,
}

impl<'a> Facts<'a> {
    pub fn of(letter: &'a Letter) -> Self {
        let origin = letter.origin.as_ref();
        let time = |nanoseconds: u64| Timestamp::from_nanosecond(nanoseconds.into()).ok();
        Self {
            number: letter.number(),
            stored: letter.stored.to_string(),
            module: &letter.module,
            stage: &letter.stage,
            code: &letter.code,
            channel: letter.channel.as_deref(),
            channels: letter.results.as_ref(),
            reason: &letter.reason,
            subject: origin.map(|origin| origin.subject.as_str()),
            stream: origin.map(|origin| origin.stream.as_str()),
            sequence: origin.and_then(|origin| match origin.place {
                Place::Sequence(sequence) => Some(sequence),
                Place::Id(..) => None,
            }),
            id: origin.and_then(|origin| match origin.place {
                Place::Sequence(_) => None,
                id @ Place::Id(..) => Some(id.to_string()),
            }),
            timestamp: origin
                .and_then(|origin| time(origin.timestamp))
                .map(|time| time.to_string()),
            module_sha256: &letter.sha256,
            size: letter.size(),
            parts: letter.parts(),
            missing_parts: letter.missing().take(MAX_LISTED).collect(),
        }
    }
}

/// The signature is the one that serde requires.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_one(number: &usize) -> bool {
    *number == 1
}

/// The most missing parts to name, for people and in JSON.
const MAX_NAMED: usize = 10;
const MAX_LISTED: usize = 1_000;

/// Names the missing parts, such as `parts 2, 3 of 4 are missing`. Returns `None` if the letter is whole.
pub fn missing(letter: &Letter) -> Option<String> {
    let named: Vec<String> = letter.missing().take(MAX_NAMED).map(|part| part.to_string()).collect();
    let others = match letter.missing().skip(MAX_NAMED).count() {
        0 => String::new(),
        others => format!(" and {others} others"),
    };
    let (part, is) = match named.len() {
        0 => return None,
        1 => ("part", "is"),
        _ => ("parts", "are"),
    };
    Some(format!(
        "{part} {}{others} of {} {is} missing",
        named.join(", "),
        letter.parts()
    ))
}

/// Returns one line of at most this many characters.
pub fn shortened(text: &str, longest: usize) -> String {
    let line = one_line(text);
    match line.char_indices().nth(longest) {
        None => line,
        Some(_) => line.chars().take(longest - 1).chain(['…']).collect(),
    }
}

/// Formats sixteen bytes per line: the offset, hexadecimal digits, and characters.
pub fn hex_dump(bytes: &[u8]) -> String {
    let mut dump = String::new();
    for (line, bytes) in bytes.chunks(16).enumerate() {
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let characters: String = bytes
            .iter()
            .map(|byte| {
                if byte.is_ascii_graphic() || *byte == b' ' {
                    *byte as char
                } else {
                    '.'
                }
            })
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(dump, "{:08x}  {:47}  |{characters}|", line * 16, digits.join(" "));
    }
    dump
}

#[cfg(test)]
pub mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::dead_letter::Origin;

    /// A dead letter that the module `orders` rejected.
    pub fn letter() -> Letter {
        let mut letter = Letter::sample(17, "orders");
        letter.stored = "2026-11-01T08:00:00Z".parse().unwrap();
        letter.stage = "transform".to_owned();
        letter.code = "rejected".to_owned();
        letter.reason = "missing field `id` at line 1 column 2".to_owned();
        letter.origin = Some(Origin {
            subject: "orders.7".to_owned(),
            stream: "ORDERS".to_owned(),
            place: 42.into(),
            timestamp: 1_793_520_000_000_000_000,
        });
        letter.sha256 = "ab12".to_owned();
        letter.headers = vec![
            ("Slipring-Code".to_owned(), "rejected".to_owned()),
            ("Trace".to_owned(), "1".to_owned()),
        ];
        letter
    }

    #[test]
    fn facts_are_one_line_of_json() {
        assert_snapshot!(serde_json::to_string(&Facts::of(&letter())).unwrap(), @r#"
        {"number":17,"stored":"2026-11-01T08:00:00Z","module":"orders","stage":"transform","code":"rejected","reason":"missing field `id` at line 1 column 2","subject":"orders.7","stream":"ORDERS","sequence":42,"timestamp":"2026-11-01T08:00:00Z","module_sha256":"ab12","size":11}
        "#);
    }

    #[test]
    fn missing_parts_are_named_but_not_thousands_of_them() {
        let missing = |part| missing(&Letter::sample_part(17, "orders", part));
        assert_eq!(missing("1/1"), None);
        assert_eq!(missing("1/2").as_deref(), Some("part 2 of 2 is missing"));
        assert_eq!(missing("2/4").as_deref(), Some("parts 1, 3, 4 of 4 are missing"));
        let many = missing("1/65536");
        assert_eq!(
            many.as_deref(),
            Some("parts 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 65525 others of 65536 are missing")
        );
    }

    #[test]
    fn a_long_text_is_one_short_line() {
        assert_eq!(shortened("one\ntwo", 20), "one two");
        assert_eq!(shortened("ééééé", 5), "ééééé");
        assert_eq!(shortened("éééééé", 5), "éééé…");
    }

    #[test]
    fn bytes_are_shown_in_lines_of_sixteen() {
        assert_snapshot!(hex_dump(b"\x00\x01 0123456789abcdef\xff"), @r#"
        00000000  00 01 20 30 31 32 33 34 35 36 37 38 39 61 62 63  |.. 0123456789abc|
        00000010  64 65 66 ff                                      |def.|
        "#);
        assert_eq!(hex_dump(b""), "");
    }
}
