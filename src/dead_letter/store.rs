//! Stores what could not be published, with the reason.
//!
//! Storing never gives up: until a dead letter is stored its message is not acked, so it is in one stream or the other.

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

use super::{SUBJECT_PREFIX, header};
use crate::message::{Message, Rejection};
use crate::nats::Nats;
use crate::nats::headers::block;

/// The longest reason that is stored, in bytes.
const MAX_REASON: usize = 4096;

/// What a header takes beside its name and value (`: ` and the line's end), and the head of them all, generously.
const HEADER_OVERHEAD: usize = 4;
const HEADERS_OVERHEAD: usize = 64;

/// JetStream takes no more than 65,535 bytes of headers (`processJetStreamMsg` in `server/stream.go`), and some are added when a letter
/// is sent.
const MAX_HEADERS: usize = 65_535 - 512;

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

#[derive(Debug, thiserror::Error)]
enum StoreError {
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
    pub async fn store(&self, sender: Sender<'_>, message: &Message, rejection: &Rejection) {
        let mut delay = Duration::from_millis(100);
        while let Err(error) = self.try_store(sender, message, rejection).await {
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

    async fn try_store(&self, sender: Sender<'_>, message: &Message, rejection: &Rejection) -> Result<(), StoreError> {
        if !self.ready.load(Ordering::Relaxed) {
            self.create().await?;
        }
        let max_payload = self.nats.client.max_payload();
        let letters = letters(sender, message, rejection, max_payload);
        for (headers, payload) in letters {
            let letter = PublishMessage::build()
                .headers(headers)
                .payload(payload)
                .expected_stream(&self.stream);
            let failed = |source: async_nats::Error| StoreError::Store {
                stream: self.stream.clone(),
                source,
            };
            let subject = format!("{SUBJECT_PREFIX}.{}", sender.module);
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

/// The dead letter as it is stored: one, unless the server takes none that large with the headers added. Then its payload
/// comes in parts, in order, marked with `Slipring-Part: 1/2`.
pub(super) fn letters(
    sender: Sender<'_>,
    message: &Message,
    rejection: &Rejection,
    max_payload: usize,
) -> Vec<(HeaderMap, Bytes)> {
    let (headers, payload) = fitting(headers(sender, message, rejection), message);
    // Room for `Slipring-Part` and `Nats-Expected-Stream` as well.
    let taken = size(&headers) + 256;
    let room = max_payload.saturating_sub(taken).max(1);
    if payload.len() <= room {
        return vec![(headers, payload)];
    }
    let parts = payload.len().div_ceil(room);
    let mut rest = payload;
    let mut letters = Vec::with_capacity(parts);
    for part in 1..=parts {
        let mut headers = headers.clone();
        headers.insert(header::PART, format!("{part}/{parts}"));
        headers.insert(header::ID, format!("{}.{part}", id(sender, message, rejection)));
        letters.push((headers, rest.split_to(room.min(rest.len()))));
    }
    letters
}

fn headers(sender: Sender<'_>, message: &Message, rejection: &Rejection) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &message.headers {
        if !header::is_the_messages(name) {
            continue;
        }
        if let (Ok(name), Ok(value)) = (HeaderName::from_str(name), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
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
    headers.insert(header::ID, id(sender, message, rejection));
    headers
}

/// The headers and the payload of the letter. Headers of the message that would not fit go before its payload, as they are on the wire.
fn fitting(mut headers: HeaderMap, message: &Message) -> (HeaderMap, Bytes) {
    let unreadable = message.unreadable.as_deref();
    if let Some(unreadable) = unreadable {
        headers.insert(header::RAW_HEADERS, STANDARD.encode(&unreadable.headers));
    }
    let subject = unreadable.map_or(message.subject.as_bytes(), |unreadable| &unreadable.subject);
    if subject != line(&message.subject).as_bytes() {
        headers.insert(header::RAW_SUBJECT, STANDARD.encode(subject));
    }
    if size(&headers) <= MAX_HEADERS {
        return (headers, message.payload.clone());
    }
    let block = match unreadable {
        Some(unreadable) => unreadable.headers.clone(),
        None => block(&message.headers).into(),
    };
    let mut ours = HeaderMap::new();
    for (name, values) in headers.iter() {
        let text = name.to_string();
        if text != header::RAW_HEADERS && !header::is_the_messages(&text) {
            values.iter().for_each(|value| ours.append(name.clone(), value.clone()));
        }
    }
    ours.insert(header::RAW_HEADERS_SIZE, block.len().to_string());
    (ours, [block, message.payload.clone()].concat().into())
}

/// The same for the same message, module and stage, so that what is stored twice within JetStream's duplicate window (two
/// minutes by default) is there once.
fn id(sender: Sender<'_>, message: &Message, rejection: &Rejection) -> String {
    format!(
        "slipring.{}.{}.{}.{}.{}",
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

    use super::super::letter::{Letter, Opened};
    use super::super::parts::Assembly;
    use super::*;
    use crate::message::Stage;

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
        let letters = letters(SENDER, &message, &rejection("panicked at\nsrc/lib.rs:3"), 1 << 20);
        let [(headers, payload)] = letters.as_slice() else {
            panic!("one letter")
        };
        assert_eq!(payload.as_ref(), b"{}");
        let traces: Vec<_> = headers.get_all("Trace").map(HeaderValue::as_str).collect();
        assert_eq!(traces, ["1", "2"]);
        assert_eq!(value(headers, "nats-ttl"), None);
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
        let letters = letters(SENDER, &message(payload, &[]), &rejection("too bad"), 2000);
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
                let letters = letters(SENDER, &message, &rejection("no"), max_payload);
                for (headers, payload) in &letters {
                    assert!(size(headers) <= MAX_HEADERS && size(headers) + payload.len() <= max_payload);
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
}
