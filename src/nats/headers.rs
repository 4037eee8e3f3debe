//! The header block of a message in NATS's wire format: `NATS/1.0`, then one line per header (NATS ADR-4).
//!
//! nats-server stores whatever bytes a client sends as the block, so a stored block may be invalid. [`read`] copes with
//! that: it always returns a message's subject and headers, and says what was wrong with them.

use std::fmt;

use async_nats::header::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

use crate::message::Unreadable;

/// Subject and headers as a module gets them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// Bytes that are not UTF-8 are replaced.
    pub subject: String,
    /// Sorted by name; the values of one name keep their order. If the block is invalid, only the readable headers.
    pub headers: Vec<(String, String)>,
    /// Set if the module cannot get subject and headers unchanged.
    pub unreadable: Option<Box<Unreadable>>,
}

/// Reads a subject and a header block with any content. An empty block has no headers.
pub fn read(subject: &[u8], block: &[u8]) -> Contents {
    let (name, subject_fault) = match std::str::from_utf8(subject) {
        Ok(subject) => (subject.to_owned(), None),
        Err(error) => (
            String::from_utf8_lossy(subject).into_owned(),
            Some(Fault::subject(subject, error.valid_up_to())),
        ),
    };
    let (mut headers, block_fault) = match parse(block) {
        Ok(headers) => (headers, None),
        Err(fault) => (readable(block), Some(fault)),
    };
    // A module sees the same message the same way, however it was read. Other ways of reading do not keep the order of
    // names.
    headers.sort_by(|(left, _), (right, _)| left.cmp(right));
    let unreadable = subject_fault.or(block_fault).map(|fault| {
        Box::new(Unreadable {
            reason: fault.to_string(),
            subject: Bytes::copy_from_slice(subject),
            headers: Bytes::copy_from_slice(block),
        })
    });
    Contents {
        subject: name,
        headers,
        unreadable,
    }
}

/// Returns a block with these headers, or an empty one if there are none.
pub fn block(headers: &[(String, String)]) -> Vec<u8> {
    if headers.is_empty() {
        return Vec::new();
    }
    let mut block = b"NATS/1.0\r\n".to_vec();
    for (name, value) in headers {
        block.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    block.extend_from_slice(b"\r\n");
    block
}

/// Returns the readable headers of a block in the client's type.
pub fn map(block: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in read(&[], block).headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            map.append(name, value);
        }
    }
    map
}

/// Why bytes are not a subject or a header block. It names the place but no value, because it is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Counted from 1.
    SubjectNotUtf8 {
        at: usize,
        byte: u8,
    },
    NoVersion,
    Status,
    LineNotUtf8 {
        line: usize,
        at: usize,
        byte: u8,
        name: Option<String>,
    },
    NoColon {
        line: usize,
    },
    Name {
        line: usize,
        at: usize,
        character: char,
    },
    Value {
        line: usize,
        name: String,
    },
}

impl Fault {
    fn subject(subject: &[u8], index: usize) -> Self {
        Self::SubjectNotUtf8 {
            at: index + 1,
            byte: subject[index],
        }
    }

    /// For a block that is UTF-8 up to this index.
    fn not_utf8(block: &[u8], index: usize) -> Self {
        let before = &block[..index];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let name = before[begin..].iter().position(|byte| *byte == b':');
        let name = name.map(|end| String::from_utf8_lossy(&before[begin..begin + end]).into_owned());
        Self::LineNotUtf8 {
            line,
            at: index - begin + 1,
            byte: block[index],
            name: name.filter(|name| is_name(name)),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SubjectNotUtf8 { at, byte } => write!(f, "its subject is not UTF-8: byte {at} of it is 0x{byte:02x}"),
            Self::NoVersion => f.write_str("its header block does not begin with NATS/1.0"),
            Self::Status => {
                f.write_str("line 1 of its header block has text after NATS/1.0 that is not a status of three digits")
            }
            Self::LineNotUtf8 { line, at, byte, name } => {
                write!(f, "line {line} of its header block")?;
                if let Some(name) = name {
                    write!(f, ", `{name}`,")?;
                }
                write!(f, " is not UTF-8: byte {at} of the line is 0x{byte:02x}")
            }
            Self::NoColon { line } => write!(f, "line {line} of its header block has no `:`"),
            Self::Name { line, at, character } => write!(
                f,
                "the header name in line {line} of its header block has {character:?} at byte {at}; a name has only visible ASCII \
                 characters"
            ),
            Self::Value { line, name } => {
                write!(
                    f,
                    "the value of `{name}`, line {line} of its header block, has a carriage return in it"
                )
            }
        }
    }
}

/// Returns the headers of a block in order. Accepts what async-nats accepts, folded lines included, and refuses what it
/// refuses.
pub fn parse(block: &[u8]) -> Result<Vec<(String, String)>, Fault> {
    if block.is_empty() {
        return Ok(Vec::new());
    }
    let text = std::str::from_utf8(block).map_err(|error| Fault::not_utf8(block, error.valid_up_to()))?;
    let mut lines = text.lines().zip(1..).peekable();
    let version = lines.next().and_then(|(line, _)| line.strip_prefix(VERSION));
    let status = version.ok_or(Fault::NoVersion)?.trim();
    if !status.is_empty() && status_in(status).is_none() {
        return Err(Fault::Status);
    }
    let mut headers = Vec::new();
    while let Some((first, line)) = lines.next() {
        if first.is_empty() {
            continue;
        }
        let (name, value) = first.split_once(':').ok_or(Fault::NoColon { line })?;
        if let Some((at, character)) = name.char_indices().find(|(_, character)| !character.is_ascii_graphic()) {
            let at = at + 1;
            return Err(Fault::Name { line, at, character });
        }
        let mut value = value.trim_start().to_owned();
        while let Some((more, _)) = lines.next_if(|(line, _)| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        value.truncate(value.trim_end().len());
        if value.contains('\r') {
            let name = name.to_owned();
            return Err(Fault::Value { line, name });
        }
        headers.push((name.to_owned(), value));
    }
    Ok(headers)
}

/// Returns the valid header lines of a block, to help people find out what the others are.
fn readable(block: &[u8]) -> Vec<(String, String)> {
    let lines = block.split(|byte| *byte == b'\n');
    lines
        .filter_map(|line| {
            let line = std::str::from_utf8(line).ok()?.trim_end();
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            let fits = !name.is_empty() && is_name(name) && !value.contains('\r');
            fits.then(|| (name.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Returns the status of a server's reply to a pull, with its description: `NATS/1.0 408 Request Timeout`.
pub fn status(block: &[u8]) -> Option<(u16, &str)> {
    let line = block.split(|byte| *byte == b'\n').next()?;
    let rest = std::str::from_utf8(line).ok()?.strip_prefix(VERSION)?.trim();
    let code = status_in(rest)?;
    let description = rest.split_once(' ').map_or("", |(_, description)| description.trim());
    Some((code, description))
}

const VERSION: &str = "NATS/1.0";

fn status_in(text: &str) -> Option<u16> {
    let code = text.split_once(' ').map_or(text, |(code, _)| code.trim());
    let digits = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit()) && !code.starts_with('0');
    digits.then(|| code.parse().ok())?
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn parsed(block: &str) -> Result<Vec<(String, String)>, String> {
        parse(block.as_bytes()).map_err(|fault| fault.to_string())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn a_block_is_its_headers_in_their_order() {
        for (block, expected) in [
            ("", &[][..]),
            ("NATS/1.0\r\n\r\n", &[]),
            ("NATS/1.0", &[]),
            ("NATS/1.0 503\r\n\r\n", &[]),
            ("NATS/1.0 408 Request Timeout\r\nA: 1\r\n\r\n", &[("A", "1")]),
            (
                "NATS/1.0\r\nB: 1\r\nA:2\r\nB:  3 \r\n\r\n",
                &[("B", "1"), ("A", "2"), ("B", "3")],
            ),
            ("NATS/1.0\nA: a\n", &[("A", "a")]),
            ("NATS/1.0\r\nA: a\r\n  b\r\nC:\r\n\r\n", &[("A", "a  b"), ("C", "")]),
            ("NATS/1.0\r\nUrl: nats://a:4222\r\n\r\n", &[("Url", "nats://a:4222")]),
            ("NATS/1.0\r\nName: Müller\r\n\r\n", &[("Name", "Müller")]),
            ("NATS/1.0\r\n: nameless\r\n\r\n", &[("", "nameless")]),
            ("NATS/1.0\r\nA: a\r\r\n\r\n", &[("A", "a")]),
        ] {
            assert_eq!(parsed(block), Ok(pairs(expected)), "{block:?}");
        }
    }

    #[test]
    fn a_fault_names_the_place_and_no_value() {
        for (block, fault) in [
            (
                &b"NATS/1.0\r\nTrace: 1\r\nCity: M\xfcnchen\r\n\r\n"[..],
                "line 3 of its header block, `City`, is not UTF-8: byte 8 of the line is 0xfc",
            ),
            (
                b"NATS/1.0\r\nCit\xfc: a\r\n\r\n",
                "line 2 of its header block is not UTF-8: byte 4 of the line is 0xfc",
            ),
            (
                b"NATS/1.0\r\nUser Name: a\r\n\r\n",
                "the header name in line 2 of its header block has ' ' at byte 5; a name has only visible ASCII characters",
            ),
            (
                "NATS/1.0\r\nStraße: a\r\n\r\n".as_bytes(),
                "the header name in line 2 of its header block has 'ß' at byte 5; a name has only visible ASCII characters",
            ),
            (b"NATS/1.0\r\nnonsense\r\n\r\n", "line 2 of its header block has no `:`"),
            (b"City: a\r\n\r\n", "its header block does not begin with NATS/1.0"),
            (b"\r\n", "its header block does not begin with NATS/1.0"),
            (
                b"NATS/1.0 what?\r\n\r\n",
                "line 1 of its header block has text after NATS/1.0 that is not a status of three digits",
            ),
            (
                b"NATS/1.0\r\nA: a\rb\r\n\r\n",
                "the value of `A`, line 2 of its header block, has a carriage return in it",
            ),
        ] {
            let found = parse(block).expect_err("a fault").to_string();
            assert_eq!(found, fault, "{block:?}");
        }
        let subject = read(b"a.\xfcb", b"").unreadable.expect("a fault").reason.clone();
        assert_eq!(subject, "its subject is not UTF-8: byte 3 of it is 0xfc");
    }

    #[test]
    fn what_cannot_be_read_is_kept_as_it_was() {
        let block = b"NATS/1.0\r\nTrace: 1\r\nCity: M\xfcnchen\r\nAge: 7\r\n\r\n";
        let contents = read(b"a.\xfc", block);
        assert_eq!(contents.subject, "a.\u{fffd}");
        assert_eq!(contents.headers, pairs(&[("Age", "7"), ("Trace", "1")]));
        let unreadable = contents.unreadable.expect("it can't be read");
        assert_eq!(
            (&unreadable.subject[..], &unreadable.headers[..]),
            (&b"a.\xfc"[..], &block[..])
        );
    }

    /// Parses a block as async-nats 0.51 does (`Connection::try_read_op`), but returns `None` where async-nats would
    /// end its connection or its task, which panics on a carriage return in a value.
    fn as_async_nats(block: &[u8]) -> Option<Vec<(String, String)>> {
        let mut lines = std::str::from_utf8(block).ok()?.lines().peekable();
        let suffix = lines.next()?.strip_prefix("NATS/1.0").map(str::trim)?;
        let (status, _) = suffix
            .split_once(' ')
            .map_or((suffix, ""), |(status, rest)| (status.trim(), rest));
        if !status.is_empty() {
            status.parse::<async_nats::StatusCode>().ok()?;
        }
        let mut headers = Vec::new();
        while let Some(line) = lines.next() {
            if line.is_empty() {
                continue;
            }
            let (name, value) = line.split_once(':')?;
            let name: HeaderName = name.parse().ok()?;
            let mut value = value.trim_start().to_owned();
            while let Some(v) = lines.next_if(|s| s.starts_with(char::is_whitespace)) {
                value.push_str(v);
            }
            value.truncate(value.trim_end().len());
            let value: HeaderValue = value.parse().ok()?;
            headers.push((name.to_string(), value.to_string()));
        }
        Some(headers)
    }

    proptest! {
        #[test]
        fn what_async_nats_can_read_is_read_as_it_does(
            version in prop_oneof![4 => Just("NATS/1.0\r\n".to_owned()), 1 => "(NATS/1.0|NATS/1)[ 0-9a]{0,6}\r?\n"],
            lines in vec(prop_oneof![
                4 => "[A-Za-z-]{0,4}:[ -~]{0,6}\r\n",
                2 => "[A-Za-z: \u{a0}é\r\n\t]{0,12}",
                1 => "[ \t\u{2003}][a-z]{0,3}\r?\n",
            ], 0..6),
            end in "(\r\n)?",
        ) {
            let block = format!("{version}{}{end}", lines.concat());
            prop_assert_eq!(parse(block.as_bytes()).ok(), as_async_nats(block.as_bytes()), "{:?}", block);
        }

        #[test]
        fn any_bytes_are_read_somehow(subject in vec(any::<u8>(), 0..20), version in any::<bool>(), rest in vec(any::<u8>(), 0..60)) {
            let block = if version { [b"NATS/1.0\r\n", &rest[..]].concat() } else { rest };
            let contents = read(&subject, &block);
            let readable = std::str::from_utf8(&subject).is_ok() && parse(&block).is_ok();
            prop_assert_eq!(contents.unreadable.is_none(), readable);
            if let Some(unreadable) = contents.unreadable {
                prop_assert_eq!(&unreadable.subject[..], &subject[..]);
                prop_assert_eq!(&unreadable.headers[..], &block[..]);
            }
        }

        #[test]
        fn a_block_of_headers_is_read_as_these(headers in vec(("[!-9;-~]{1,8}", "([!-~é]([ -~é]{0,6}[!-~é])?)?"), 0..5)) {
            prop_assert_eq!(parse(&block(&headers)), Ok(headers));
        }
    }

    #[test]
    fn a_status_is_three_digits_and_words() {
        assert_eq!(
            status(b"NATS/1.0 408 Request Timeout\r\nA: 1\r\n\r\n"),
            Some((408, "Request Timeout"))
        );
        assert_eq!(status(b"NATS/1.0 503\r\n\r\n"), Some((503, "")));
        for none in [
            &b"NATS/1.0\r\n\r\n"[..],
            b"",
            b"NATS/1.0 5033\r\n",
            b"NATS/1.0 051\r\n",
            b"\xff",
        ] {
            assert_eq!(status(none), None, "{none:?}");
        }
    }
}
