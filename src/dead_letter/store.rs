//! Stores what could not be published, with the reason.
//!
//! Storing never gives up: until a dead letter is stored its message is not acked, so it is in one stream or the other.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::header::{HeaderMap, HeaderName, HeaderValue};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tracing::{info, warn};

use super::tail::Tail;
use super::{SUBJECT_PREFIX, header};
use crate::message::{Message, Rejection, Results};
use crate::nats::Nats;

/// The longest reason that is stored, in bytes.
const MAX_REASON: usize = 4096;

/// The longest headers of a message that its letter has as headers, in bytes. JetStream takes no more than 65,535 bytes of them, ours
/// included (`processJetStreamMsg` in `server/stream.go`).
const MAX_HEADERS: usize = 32 << 10;

/// The longest header block of an unreadable message that its letter has in a header, in base64.
const MAX_RAW_HEADERS: usize = 16 << 10;

/// The longest header with what became of each channel, in bytes: what is longer is stored behind the payload.
const MAX_CHANNELS: usize = 8192;

/// What a header takes beside its name and value (`: ` and the line's end), and the head of them all, generously.
const HEADER_OVERHEAD: usize = 4;
const HEADERS_OVERHEAD: usize = 64;

/// The stream for dead letters. It is created when the first one comes.
#[derive(Debug)]
pub struct DeadLetters {
    nats: Nats,
    stream: String,
    /// The stream was there when it was last needed.
    ready: AtomicBool,
}

/// Whose message it was.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    pub module: &'a str,
    /// Of the module's file, in hex.
    pub sha256: &'a str,
}

/// All that a dead letter tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) sender: Sender<'a>,
    pub(super) message: &'a Message,
    pub(super) rejection: &'a Rejection,
    /// What became of each channel, if Centrifugo refused a part of it.
    pub(super) results: Option<&'a Results>,
    /// The letter in whose place it is.
    pub(super) replaces: &'a [u64],
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("creating the stream `{stream}` for dead letters failed")]
    Create { stream: String, source: async_nats::Error },
    #[error("storing a dead letter in the stream `{stream}` failed")]
    Store { stream: String, source: async_nats::Error },
}

impl DeadLetters {
    pub fn new(nats: Nats, stream: String) -> Self {
        Self {
            nats,
            stream,
            ready: AtomicBool::new(false),
        }
    }

    /// Returns once the message is stored, however long that takes.
    pub async fn store(&self, sender: Sender<'_>, message: &Message, rejection: &Rejection, results: Option<&Results>) {
        let facts = Facts {
            sender,
            message,
            rejection,
            results,
            replaces: &[],
        };
        let mut delay = Duration::from_millis(100);
        while let Err(error) = self.try_store(facts).await {
            // The stream may have been removed since.
            self.ready.store(false, Ordering::Relaxed);
            warn!(
                module = sender.module,
                sequence = message.sequence,
                error = &error as &dyn std::error::Error,
                "a dead letter could not be stored, will try again; its message stays unacknowledged"
            );
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(10));
        }
    }

    /// Stores what is left of a letter with these numbers, after a replay that published a part of it. The letter itself stays.
    pub async fn replace(
        &self,
        numbers: &[u64],
        sender: Sender<'_>,
        message: &Message,
        rejection: &Rejection,
        results: &Results,
    ) -> Result<(), StoreError> {
        let facts = Facts {
            sender,
            message,
            rejection,
            results: Some(results),
            replaces: numbers,
        };
        self.try_store(facts).await
    }

    async fn try_store(&self, facts: Facts<'_>) -> Result<(), StoreError> {
        if !self.ready.load(Ordering::Relaxed) {
            self.create().await?;
        }
        for (headers, payload) in letters(facts, self.nats.client.max_payload()) {
            let letter = PublishMessage::build()
                .headers(headers)
                .payload(payload)
                .expected_stream(&self.stream);
            let failed = |source: async_nats::Error| StoreError::Store {
                stream: self.stream.clone(),
                source,
            };
            let subject = format!("{SUBJECT_PREFIX}.{}", facts.sender.module);
            let ack = self
                .nats
                .jetstream
                .send_publish(subject, letter)
                .await
                .map_err(|error| failed(error.into()))?;
            ack.await.map_err(|error| failed(error.into()))?;
        }
        Ok(())
    }

    async fn create(&self) -> Result<(), StoreError> {
        let config = stream::Config {
            name: self.stream.clone(),
            description: Some("What Slipring could not publish".to_owned()),
            subjects: vec![format!("{SUBJECT_PREFIX}.>")],
            ..Default::default()
        };
        let stream = self.nats.jetstream.get_or_create_stream(config).await;
        stream.map_err(|error| StoreError::Create {
            stream: self.stream.clone(),
            source: error.into(),
        })?;
        if !self.ready.swap(true, Ordering::Relaxed) {
            info!(stream = self.stream, "dead letters go to this stream");
        }
        Ok(())
    }
}

/// The dead letter as it is stored: one, unless the server takes none that large with the headers added. Then it comes in parts, in
/// order, marked with `Slipring-Part: 1/2`.
pub(super) fn letters(facts: Facts<'_>, max_payload: usize) -> Vec<(HeaderMap, Bytes)> {
    let (headers, mut rest) = whole(facts, max_payload);
    // Room for `Slipring-Part` and `Nats-Expected-Stream` as well.
    let taken = size(&headers) + 256;
    let room = max_payload.saturating_sub(taken).max(1);
    if rest.len() <= room {
        return vec![(headers, rest)];
    }
    let parts = rest.len().div_ceil(room);
    let mut letters = Vec::with_capacity(parts);
    for part in 1..=parts {
        let mut headers = headers.clone();
        headers.insert(header::PART, format!("{part}/{parts}"));
        headers.insert(header::ID, format!("{}.{part}", id(facts)));
        letters.push((headers, rest.split_to(room.min(rest.len()))));
    }
    letters
}

/// What the headers cannot hold follows the payload.
fn whole(facts: Facts<'_>, max_payload: usize) -> (HeaderMap, Bytes) {
    let (mut headers, mut tail) = (own_headers(facts), Tail::default());
    // Each part has them again.
    match message_headers(facts.message).filter(|headers| size(headers) <= MAX_HEADERS.min(max_payload / 4)) {
        Some(messages) => {
            for (name, values) in messages.iter() {
                for value in values {
                    headers.append(name.clone(), value.clone());
                }
            }
        }
        None => tail.headers = Some(facts.message.headers.clone()),
    }
    let unreadable = facts.message.unreadable.as_deref();
    let subject = unreadable.map_or(facts.message.subject.as_bytes(), |unreadable| &unreadable.subject);
    if subject != line(&facts.message.subject).as_bytes() {
        headers.insert(header::RAW_SUBJECT, STANDARD.encode(subject));
    }
    if let Some(unreadable) = unreadable {
        let block = STANDARD.encode(&unreadable.headers);
        match block.len() <= MAX_RAW_HEADERS.min(max_payload / 4) {
            true => headers.insert(header::RAW_HEADERS, block),
            false => tail.raw_headers = Some(block),
        }
    }
    if let Some(results) = facts.results {
        let json = serde_json::to_string(results).expect("texts are JSON");
        match json.len() <= MAX_CHANNELS {
            true => headers.insert(header::CHANNELS, json),
            false => tail.channels = Some(results.clone()),
        }
    }
    let tail = tail.write();
    let payload = &facts.message.payload;
    if tail.is_empty() {
        return (headers, payload.clone());
    }
    headers.insert(header::TAIL, tail.len().to_string());
    (headers, [payload, tail.as_slice()].concat().into())
}

/// `None`: one of them cannot be sent.
fn message_headers(message: &Message) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &message.headers {
        // What is read again is without spaces around it.
        let value = Some(value).filter(|value| value.trim() == *value)?;
        headers.append(
            HeaderName::from_str(&header::kept(name)).ok()?,
            HeaderValue::from_str(value).ok()?,
        );
    }
    Some(headers)
}

fn own_headers(facts: Facts<'_>) -> HeaderMap {
    let Facts {
        sender,
        message,
        rejection,
        replaces,
        ..
    } = facts;
    let mut headers = HeaderMap::new();
    headers.insert(header::REASON, line(&rejection.reason));
    headers.insert(header::STAGE, rejection.stage.to_string());
    headers.insert(header::CODE, line(&rejection.code));
    if let Some(channel) = &rejection.channel {
        headers.insert(header::CHANNEL, line(channel));
    }
    headers.insert(header::SUBJECT, line(&message.subject));
    headers.insert(header::STREAM, line(&message.stream));
    headers.insert(header::SEQUENCE, message.sequence.to_string());
    headers.insert(header::TIMESTAMP, message.timestamp.to_string());
    headers.insert(header::MODULE_SHA256, line(sender.sha256));
    if !replaces.is_empty() {
        headers.insert(header::REPLACES, list(replaces));
    }
    headers.insert(header::ID, id(facts));
    headers
}

fn list(numbers: &[u64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    numbers.join(",")
}

/// The same for the same message, module and stage, so that what is stored twice within JetStream's duplicate window (two
/// minutes by default) is there once.
fn id(facts: Facts<'_>) -> String {
    let Facts {
        sender,
        message,
        rejection,
        replaces,
        ..
    } = facts;
    let replaces = match replaces {
        [] => Cow::Borrowed(""),
        _ => Cow::Owned(format!(".after.{}", list(replaces))),
    };
    format!(
        "slipring.{}.{}.{}.{}.{}{replaces}",
        sender.module,
        line(&message.stream),
        message.sequence,
        message.timestamp,
        rejection.stage
    )
}

/// One line of bounded length: a header holds no more.
fn line(text: &str) -> String {
    let mut end = text.len().min(MAX_REASON);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end]
        .split(char::is_control)
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn size(headers: &HeaderMap) -> usize {
    let lines = headers.iter().flat_map(|(name, values)| {
        values
            .iter()
            .map(move |value| name.to_string().len() + value.as_str().len() + HEADER_OVERHEAD)
    });
    HEADERS_OVERHEAD + lines.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::super::letter::{Letter, Opened};
    use super::super::parts::Assembly;
    use super::*;
    use crate::message::{Share, Stage};

    const SENDER: Sender<'static> = Sender {
        module: "orders",
        sha256: "ab12",
    };

    fn message(payload: &'static [u8], headers: &[(&str, &str)]) -> Message {
        Message {
            subject: "orders.7".into(),
            payload: Bytes::from_static(payload),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            stream: "ORDERS".into(),
            sequence: 42,
            timestamp: 1_700_000_000_000_000_000,
            deliveries: 1,
            unreadable: None,
        }
    }

    fn rejection(reason: &str) -> Rejection {
        Rejection {
            stage: Stage::Transform,
            code: "trap".into(),
            channel: Some("orders:7".into()),
            reason: reason.into(),
        }
    }

    fn facts<'a>(message: &'a Message, rejection: &'a Rejection) -> Facts<'a> {
        Facts {
            sender: SENDER,
            message,
            rejection,
            results: None,
            replaces: &[],
        }
    }

    /// As it is read again.
    fn opened(letters: &[(HeaderMap, Bytes)]) -> Opened {
        let mut assembly = Assembly::default();
        let mut whole = None;
        for (number, (headers, payload)) in (1..).zip(letters) {
            let part = Letter::read(
                number,
                Timestamp::UNIX_EPOCH,
                "slipring.dead.orders",
                headers,
                payload.len(),
            );
            whole = assembly.add(part).or(whole);
        }
        let payloads: Vec<&[u8]> = letters.iter().map(|(_, payload)| payload.as_ref()).collect();
        Opened::new(whole.expect("all parts are there"), payloads.concat().into())
    }

    fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        headers.get(name).map(HeaderValue::as_str)
    }

    #[test]
    fn a_letter_keeps_the_payload_and_its_headers_and_adds_the_facts() {
        let message = message(
            b"{}",
            &[
                ("Trace", "1"),
                ("Trace", "2"),
                ("Nats-Msg-Id", "theirs"),
                ("nats-ttl", "1s"),
            ],
        );
        let letters = letters(facts(&message, &rejection("panicked at\nsrc/lib.rs:3")), 1 << 20);
        let [(headers, payload)] = letters.as_slice() else {
            panic!("one letter")
        };
        assert_eq!(payload.as_ref(), b"{}");
        let traces: Vec<_> = headers.get_all("Trace").map(HeaderValue::as_str).collect();
        assert_eq!(traces, ["1", "2"]);
        assert_eq!(value(headers, "nats-ttl"), None);
        assert_eq!(value(headers, "Slipring-Kept-nats-ttl"), Some("1s"));
        assert_eq!(value(headers, "Slipring-Kept-Nats-Msg-Id"), Some("theirs"));
        assert_eq!(value(headers, "Slipring-Reason"), Some("panicked at src/lib.rs:3"));
        assert_eq!(value(headers, "Slipring-Stage"), Some("transform"));
        assert_eq!(value(headers, "Slipring-Code"), Some("trap"));
        assert_eq!(value(headers, "Slipring-Channel"), Some("orders:7"));
        assert_eq!(value(headers, "Slipring-Subject"), Some("orders.7"));
        assert_eq!(value(headers, "Slipring-Stream"), Some("ORDERS"));
        assert_eq!(value(headers, "Slipring-Sequence"), Some("42"));
        assert_eq!(value(headers, "Slipring-Timestamp"), Some("1700000000000000000"));
        assert_eq!(value(headers, "Slipring-Module-Sha256"), Some("ab12"));
        let id = "slipring.orders.ORDERS.42.1700000000000000000.transform";
        assert_eq!(value(headers, "Nats-Msg-Id"), Some(id));
    }

    #[test]
    fn a_payload_that_does_not_fit_with_the_headers_comes_in_parts() {
        let payload: &'static [u8] = &[7; 2000];
        let letters = letters(facts(&message(payload, &[]), &rejection("too bad")), 2000);
        assert_eq!(letters.len(), 2);
        let joined: Vec<u8> = letters.iter().flat_map(|(_, part)| part.to_vec()).collect();
        assert_eq!(joined, payload);
        for (index, (headers, part)) in letters.iter().enumerate() {
            assert!(size(headers) + part.len() <= 2000, "the server takes it");
            assert_eq!(
                value(headers, "Slipring-Part"),
                Some(format!("{}/2", index + 1).as_str())
            );
        }
        assert_ne!(value(&letters[0].0, "Nats-Msg-Id"), value(&letters[1].0, "Nats-Msg-Id"));
    }

    /// The message of a letter that was stored so.
    fn reopened(letters: &[(HeaderMap, Bytes)]) -> Message {
        let (mut assembly, mut whole) = (Assembly::default(), None);
        for (number, (headers, payload)) in (1..).zip(letters) {
            let letter = Letter::read(
                number,
                Timestamp::UNIX_EPOCH,
                "slipring.dead.orders",
                headers,
                payload.len(),
            );
            whole = assembly.add(letter);
        }
        let stored: Vec<u8> = letters.iter().flat_map(|(_, payload)| payload.to_vec()).collect();
        Opened::new(whole.expect("all parts are there"), stored.into())
            .message()
            .expect("a message")
    }

    #[test]
    fn whatever_the_message_is_its_letter_gives_it_back() {
        let large = "x".repeat(60_000);
        let block = |end: &[u8]| [format!("NATS/1.0\r\nCity: {large}\r\nTrace: 1").as_bytes(), end].concat();
        for (subject, block) in [
            (
                &b"orders.1"[..],
                b"NATS/1.0\r\nTrace: 1\r\nCity: M\xfcnchen\r\n\r\n".to_vec(),
            ),
            (b"orders.\xfc", Vec::new()),
            (b"orders.\xfc", b"NATS/1.0\r\nTrace: 1\r\n\r\n".to_vec()),
            (b"orders.\x0b\x7f", b"NATS/1.0\r\nTrace: 1\r\nTrace: 2\r\n\r\n".to_vec()),
            (b"orders.1", b"\xff".to_vec()),
            (b"orders.1", block(b"\r\n\r\n")),
            (b"orders.1", block(b"\xfc\r\n\r\n")),
        ] {
            let contents = crate::nats::headers::read(subject, &block);
            let message = Message {
                subject: contents.subject,
                headers: contents.headers,
                unreadable: contents.unreadable,
                ..message(b"{\"payload\":\"\xff\"}", &[])
            };
            for max_payload in [1 << 20, 70_000] {
                let letters = letters(facts(&message, &rejection("no")), max_payload);
                for (headers, payload) in &letters {
                    // Some are added when it is sent.
                    let fits = size(headers) <= 65_535 - 256 && size(headers) + payload.len() <= max_payload;
                    assert!(fits, "{} bytes of headers", size(headers));
                }
                assert_eq!(reopened(&letters), message);
            }
        }
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let reason = "é".repeat(MAX_REASON);
        assert!(line(&reason).len() <= MAX_REASON);
    }

    #[test]
    fn a_letter_says_what_became_of_each_channel_and_which_it_replaces() {
        let share = Share {
            number: 1,
            channels: vec!["test:größe".into(), "nowhere:\"1\"\n".into()],
            refused: vec!["nowhere:\"1\"\n".into()],
        };
        let results = Results::of(&[share]);
        let (message, rejection) = (message(b"{}", &[]), rejection("unknown channel"));
        let letters = letters(
            Facts {
                results: Some(&results),
                replaces: &[17, 18],
                ..facts(&message, &rejection)
            },
            1 << 20,
        );
        let headers = &letters[0].0;
        let expected = r#"{"nowhere:\"1\"\n":"-","test:größe":"+"}"#;
        assert_eq!(value(headers, "Slipring-Channels"), Some(expected));
        assert_eq!(value(headers, "Slipring-Replaces"), Some("17,18"));
        let id = "slipring.orders.ORDERS.42.1700000000000000000.transform.after.17,18";
        assert_eq!(value(headers, "Nats-Msg-Id"), Some(id));
        let opened = opened(&letters);
        assert_eq!(
            (opened.letter.results, opened.letter.replaces),
            (Some(results), vec![17, 18])
        );
    }

    proptest! {
        /// Whatever a message has, in however many parts: it comes back as it was.
        #[test]
        fn a_message_comes_back_as_it_was(
            payload in prop::collection::vec(any::<u8>(), 0..3000),
            headers in prop::collection::vec(
                ("(Trace|Nats-Msg-Id|nats-Expected-Stream|NATS-TTL|Slipring-Part|slipring-tail|Slipring-Kept-A|KV-Operation)", ".{0,40}|\\PC{0,300}| x |a\rb|"),
                0..20,
            ),
            channels in prop::option::of(0_usize..2000),
            max_payload in 2000_usize..6000,
        ) {
            let mut message = message(b"", &[]);
            message.payload = payload.into();
            message.headers = headers;
            message.headers.sort_by(|(left, _), (right, _)| left.cmp(right));
            let results = channels.map(|channels| {
                let channels: Vec<std::sync::Arc<str>> = (0..channels).map(|number| format!("a:{number}").into()).collect();
                let refused = channels.iter().step_by(3).cloned().collect();
                Results::of(&[Share { number: 0, channels, refused }])
            });
            let rejection = rejection("no");
            let stored = letters(Facts { results: results.as_ref(), ..facts(&message, &rejection) }, max_payload);
            for (headers, payload) in &stored {
                // With the largest header of ours the smallest server would take no payload at all.
                prop_assert!(size(headers) + payload.len() <= max_payload.max(size(headers) + 1));
            }
            let opened = opened(&stored);
            prop_assert_eq!(opened.letter.size(), message.payload.len());
            prop_assert_eq!(&opened.letter.results, &results);
            prop_assert_eq!(opened.message().unwrap(), message);
        }
    }
}
