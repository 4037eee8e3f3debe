//! A dead letter as it is read again.

use std::collections::BTreeMap;

use async_nats::header::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use slipring_core::place::Place;

use super::header::{self, SUBJECT_PREFIX};
use super::tail::Tail;
use crate::message::{Message, Results};
use crate::nats::headers::{self, Contents};

/// A dead letter without its payload: which message could not be published, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub stored: Timestamp,
    pub module: String,
    pub stage: String,
    pub code: String,
    pub channel: Option<String>,
    pub reason: String,
    /// `None` if its headers do not say. Then the relay did not store it.
    pub origin: Option<Origin>,
    /// The SHA-256 of the module's file, in hex.
    pub sha256: String,
    /// All headers of the first part as stored, sorted by name.
    pub headers: Vec<(String, String)>,
    /// The result of the message on each channel, if Centrifugo refused a part of it. With very many channels, this is
    /// known only once the letter is opened.
    pub results: Option<Results>,
    /// The numbers of the letter that this one replaces.
    pub replaces: Vec<u64>,
    /// The number of all stored bytes that are still there.
    pub(super) bytes: usize,
    /// How many bytes at the end do not belong to the payload.
    pub(super) tail: usize,
    /// The message's headers, if they are not among the others.
    pub(super) kept: Option<Vec<(String, String)>>,
    pub(super) damaged: bool,
    /// Its sequences in the stream, in order: one, unless it was stored in parts.
    pub(super) numbers: Vec<u64>,
    pub(super) parts: Parts,
}

/// The message that the letter was made from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    pub subject: String,
    pub stream: String,
    pub place: Place,
    /// When the source stored the message, in nanoseconds since 1970.
    pub timestamp: u64,
}

/// Which sequence holds which part of the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) of: usize,
    pub(super) found: BTreeMap<usize, u64>,
}

/// A dead letter with as much of its payload as is there.
#[derive(Debug, Clone)]
pub struct Opened {
    pub letter: Letter,
    pub payload: Bytes,
    pub raw: Raw,
}

/// Bytes of the message that the letter could not store as its own subject or headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Raw {
    /// `None` if the letter has the subject as text.
    pub subject: Option<Bytes>,
    /// The header block. `None` if the headers are among the letter's own.
    pub headers: Option<Bytes>,
}

/// Why a dead letter cannot be turned back into a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("it lacks headers that every dead letter of a relay has, so no relay stored it")]
    Foreign,
    #[error("it was stored in {of} parts, and part {missing} is missing")]
    Incomplete { missing: usize, of: usize },
    /// Parts are missing from the first one on: somebody was removing the letter, or its time in the stream is running
    /// out.
    #[error("its first parts have already been removed")]
    Remains,
    #[error("the data after its payload, which its header `Slipring-Tail` announces, cannot be read")]
    Damaged,
}

impl Letter {
    /// Reads one message of the stream.
    pub(super) fn read(number: u64, stored: Timestamp, subject: &str, headers: &HeaderMap, size: usize) -> Self {
        let value = |name: &str| headers.get(name).map(ToString::to_string);
        let text = |name: &str| value(name).unwrap_or_default();
        let origin = || {
            Some(Origin {
                subject: value(header::SUBJECT)?,
                stream: value(header::STREAM)?,
                place: value(header::SEQUENCE)?.parse().ok()?,
                timestamp: value(header::TIMESTAMP)?.parse().ok()?,
            })
        };
        let (part, of) = value(header::PART).as_deref().and_then(part).unwrap_or((1, 1));
        let module = subject
            .strip_prefix(SUBJECT_PREFIX)
            .and_then(|rest| rest.strip_prefix('.'));
        let mut all: Vec<(String, String)> = headers
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name.to_string(), value.to_string())))
            .collect();
        all.sort_by(|(left, _), (right, _)| left.cmp(right));
        Self {
            stored,
            module: module.unwrap_or(subject).to_owned(),
            stage: text(header::STAGE),
            code: text(header::CODE),
            channel: value(header::CHANNEL),
            reason: text(header::REASON),
            origin: origin(),
            sha256: text(header::MODULE_SHA256),
            headers: all,
            results: value(header::CHANNELS).and_then(|channels| serde_json::from_str(&channels).ok()),
            replaces: text(header::REPLACES)
                .split(',')
                .filter_map(|number| number.parse().ok())
                .collect(),
            bytes: size,
            tail: value(header::TAIL).and_then(|tail| tail.parse().ok()).unwrap_or(0),
            kept: None,
            damaged: false,
            numbers: vec![number],
            parts: Parts {
                of,
                found: BTreeMap::from([(part, number)]),
            },
        }
    }

    /// For tests of code that shows letters.
    #[cfg(test)]
    pub fn sample(number: u64, module: &str) -> Self {
        Self::sample_part(number, module, "1/1")
    }

    /// The same for a part, such as `1/2`, without the others.
    #[cfg(test)]
    pub fn sample_part(number: u64, module: &str, part: &str) -> Self {
        let subject = format!("{SUBJECT_PREFIX}.{module}");
        let mut headers = HeaderMap::new();
        if part != "1/1" {
            headers.insert(header::PART, part);
        }
        Self::read(number, Timestamp::UNIX_EPOCH, &subject, &headers, 11)
    }

    /// Returns the number by which people refer to the letter: the stream sequence of its first part.
    pub fn number(&self) -> u64 {
        self.numbers[0]
    }

    /// Returns its sequences in the stream, in order.
    pub fn numbers(&self) -> &[u64] {
        &self.numbers
    }

    /// Returns how many parts it was stored in.
    pub fn parts(&self) -> usize {
        self.parts.of
    }

    /// Returns the missing parts.
    pub fn missing(&self) -> impl Iterator<Item = usize> {
        (1..=self.parts.of).filter(|part| !self.parts.found.contains_key(part))
    }

    /// Returns the size of the payload that is there, in bytes.
    pub fn size(&self) -> usize {
        self.bytes.saturating_sub(self.tail)
    }

    /// Returns the message's own headers, by name.
    pub fn message_headers(&self) -> Vec<(&str, &str)> {
        let mut headers: Vec<(&str, &str)> = match &self.kept {
            Some(kept) => kept.iter().map(|(name, value)| (&**name, &**value)).collect(),
            None => {
                let headers = self.headers.iter();
                headers
                    .filter_map(|(name, value)| Some((header::original(name)?, &**value)))
                    .collect()
            }
        };
        headers.sort_by_key(|(name, _)| *name);
        headers
    }

    /// Returns the headers that say what became of the message, by name.
    pub fn own_headers(&self) -> impl Iterator<Item = &(String, String)> {
        let is_own =
            |name: &str| header::original(name).is_none() && name != header::ID && !name.starts_with("Nats-Expected-");
        self.headers.iter().filter(move |(name, _)| is_own(name))
    }
}

impl Opened {
    /// Joins everything that is stored of a letter.
    pub(super) fn new(mut letter: Letter, mut stored: Bytes) -> Self {
        let mut raw_headers = None;
        if letter.tail > 0 && letter.missing().next().is_none() {
            let tail = stored.split_off(letter.size().min(stored.len()));
            let read = Tail::read(&tail).filter(|_| tail.len() == letter.tail);
            letter.damaged = read.is_none();
            let tail = read.unwrap_or_default();
            letter.kept = tail.headers;
            letter.results = tail.channels.or(letter.results);
            raw_headers = tail.raw_headers;
        }
        let value = |name: &str| {
            let found = letter.headers.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone())
        };
        let bytes = |base64: String| STANDARD.decode(base64).ok().map(Bytes::from);
        let raw_headers = raw_headers.or_else(|| value(header::RAW_HEADERS));
        let raw = Raw {
            subject: value(header::RAW_SUBJECT).and_then(bytes),
            headers: raw_headers.and_then(bytes),
        };
        Self {
            letter,
            payload: stored,
            raw,
        }
    }

    /// Returns subject and headers of the message.
    pub fn contents(&self) -> Contents {
        let subject = self.letter.origin.as_ref().map_or("", |origin| origin.subject.as_str());
        let subject = self.raw.subject.as_deref().unwrap_or(subject.as_bytes());
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        match &self.raw.headers {
            Some(block) => headers::read(subject, block),
            None => Contents {
                headers: self.letter.message_headers().into_iter().map(owned).collect(),
                ..headers::read(subject, &[])
            },
        }
    }

    /// Returns the message as the module first got it.
    pub fn message(&self) -> Result<Message, Unfit> {
        let letter = &self.letter;
        match letter.missing().next() {
            None => {}
            Some(1) => return Err(Unfit::Remains),
            Some(missing) => {
                let of = letter.parts.of;
                return Err(Unfit::Incomplete { missing, of });
            }
        }
        let origin = letter.origin.as_ref().ok_or(Unfit::Foreign)?;
        if letter.damaged {
            return Err(Unfit::Damaged);
        }
        let Contents {
            subject,
            headers,
            unreadable,
        } = self.contents();
        Ok(Message {
            subject,
            payload: self.payload.clone(),
            headers,
            stream: origin.stream.as_str().into(),
            place: origin.place,
            timestamp: origin.timestamp,
            deliveries: 1,
            unreadable,
        })
    }
}

/// The most parts of a letter. A relay stores few, since each holds as much as the server accepts. Anybody may send a
/// message that announces more.
const MAX_PARTS: usize = 1 << 16;

/// Parses `1/2`.
fn part(text: &str) -> Option<(usize, usize)> {
    let (part, of) = text.split_once('/')?;
    let (part, of) = (part.parse().ok()?, of.parse().ok()?);
    (of <= MAX_PARTS && (1..=of).contains(&part)).then_some((part, of))
}

/// A header block, an empty line, and what is stored behind it.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(input: &[u8]) -> Vec<Opened> {
    use super::parts::Assembly;
    use crate::nats::headers::map;

    let end = input.windows(4).position(|window| window == b"\r\n\r\n");
    let (block, stored) = input.split_at(end.map_or(input.len(), |end| end + 4));
    // Whoever stores a letter chooses its subject.
    let module: String = String::from_utf8_lossy(stored).chars().take(20).collect();
    let subject = format!("{SUBJECT_PREFIX}.{module}");
    let read = |number| Letter::read(number, Timestamp::UNIX_EPOCH, &subject, &map(block), stored.len());
    let mut assembly = Assembly::default();
    // The same part twice does not make a whole.
    let whole: Vec<Letter> = [1, 2]
        .into_iter()
        .filter_map(|number| assembly.add(read(number)))
        .collect();
    assert_eq!(whole.len(), if read(1).parts() == 1 { 2 } else { 0 });
    let letters = whole.into_iter().chain(assembly.rest());
    let opened = letters.map(|letter| Opened::new(letter, Bytes::copy_from_slice(stored)));
    let check = |opened: &Opened| {
        if let Ok(message) = opened.message() {
            assert!(message.payload.len() <= stored.len());
        }
    };
    opened.inspect(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_names_a_part_is_one() {
        assert_eq!(part("2/3"), Some((2, 3)));
        assert_eq!(part("2/65536"), Some((2, 65_536)));
        for no in [
            "",
            "1",
            "0/2",
            "3/2",
            "a/b",
            "-1/2",
            "1/65537",
            "1/18446744073709551615",
        ] {
            assert_eq!(part(no), None, "{no}");
        }
    }

    #[test]
    fn what_the_relay_did_not_store_is_a_letter_all_the_same() {
        let letter = Letter::read(7, Timestamp::UNIX_EPOCH, "slipring.dead.orders", &HeaderMap::new(), 2);
        assert_eq!((letter.module.as_str(), letter.number()), ("orders", 7));
        let payload = Bytes::from_static(b"{}");
        assert_eq!(Opened::new(letter, payload).message(), Err(Unfit::Foreign));
    }
}
