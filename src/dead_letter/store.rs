//! Stores messages that could not be published, with the reason.
//!
//! Storing never gives up. A message is acked only after its dead letter is stored, so it is always in one stream or
//! the other.

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

use super::header::{self, SUBJECT_PREFIX};
use super::tail::Tail;
use crate::config::DeadLetters as Config;
use crate::message::{Message, Rejection, Results};
use crate::nats::{Lazy, Nats};
#[cfg(feature = "redis")]
use crate::redis::Server;

/// The longest reason that is stored, in bytes.
const MAX_REASON: usize = 4096;

/// The longest message headers that are stored as headers of the letter, in bytes. JetStream accepts at most 65,535
/// bytes of headers, including ours (`processJetStreamMsg` in `server/stream.go`).
const MAX_HEADERS: usize = 32 << 10;

/// The longest header block of an unreadable message that is stored in a header, in base64.
const MAX_RAW_HEADERS: usize = 16 << 10;

/// The longest header with the results per channel, in bytes. Longer results are stored after the payload.
const MAX_CHANNELS: usize = 8192;

/// The longest letter in Redis, which takes 512 MB in one field.
#[cfg(feature = "redis")]
const MAX_IN_REDIS: usize = 256 << 20;

/// A generous estimate of the bytes of a header beside name and value (`: ` and the line's end), and of the block's
/// first line.
const HEADER_OVERHEAD: usize = 4;
const HEADERS_OVERHEAD: usize = 64;

/// The stream for dead letters. It is created when the first one comes.
#[derive(Debug)]
pub struct DeadLetters {
    home: Home,
    stream: String,
    /// How to create the stream.
    config: Config,
    /// The stream existed when it was last needed.
    ready: AtomicBool,
}

/// What keeps the dead letters.
#[derive(Debug, Clone)]
pub enum Home {
    JetStream(Lazy),
    #[cfg(feature = "redis")]
    Redis(Server),
}

/// The module that got the message.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    pub module: &'a str,
    /// The SHA-256 of the module's file, in hex.
    pub sha256: &'a str,
}

/// Everything that a dead letter records.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) sender: Sender<'a>,
    pub(super) message: &'a Message,
    pub(super) rejection: &'a Rejection,
    /// The result on each channel, if Centrifugo refused a part of it.
    pub(super) results: Option<&'a Results>,
    /// The letter that this one replaces.
    pub(super) replaces: &'a [u64],
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("creating the dead-letter stream `{stream}` failed")]
    Create { stream: String, source: async_nats::Error },
    #[error("storing a dead letter in the stream `{stream}` failed")]
    Store { stream: String, source: async_nats::Error },
}

impl DeadLetters {
    pub fn new(home: Home, config: Config) -> Self {
        Self {
            home,
            stream: config.stream.clone(),
            config,
            ready: AtomicBool::new(false),
        }
    }

    /// Returns once the message is stored, however long that takes. Calls `failed` with the reason after each attempt that
    /// did not succeed.
    pub async fn store(
        &self,
        sender: Sender<'_>,
        message: &Message,
        rejection: &Rejection,
        results: Option<&Results>,
        failed: impl Fn(String),
    ) {
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
                sequence = %message.place,
                error = &error as &dyn std::error::Error,
                "cannot store a dead letter, retrying; its message stays unacknowledged"
            );
            failed(format!("{:#}", anyhow::Error::new(error)));
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(10));
        }
    }

    /// Stores what is left of the letter with these numbers, after a replay that published a part of it. The letter
    /// itself stays.
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
        let nats = match &self.home {
            Home::JetStream(nats) => nats.get().await,
            #[cfg(feature = "redis")]
            Home::Redis(server) => return self.store_in_redis(server, facts).await,
        };
        if !self.ready.load(Ordering::Relaxed) {
            self.create(&nats).await?;
        }
        for (headers, payload) in letters(facts, nats.client.max_payload()) {
            let letter = PublishMessage::build()
                .headers(headers)
                .payload(payload)
                .expected_stream(&self.stream);
            let failed = |source: async_nats::Error| StoreError::Store {
                stream: self.stream.clone(),
                source,
            };
            let subject = format!("{SUBJECT_PREFIX}.{}", facts.sender.module);
            let ack = nats
                .jetstream
                .send_publish(subject, letter)
                .await
                .map_err(|error| failed(error.into()))?;
            ack.await.map_err(|error| failed(error.into()))?;
        }
        Ok(())
    }

    #[cfg(feature = "redis")]
    async fn store_in_redis(&self, server: &Server, facts: Facts<'_>) -> Result<(), StoreError> {
        for (headers, payload) in letters(facts, MAX_IN_REDIS) {
            let (module, max_age) = (facts.sender.module, self.config.max_age);
            let stored = super::redis::store(server, &self.stream, module, max_age, &headers, &payload);
            stored.await.map_err(|source| StoreError::Store {
                stream: self.stream.clone(),
                source: source.into(),
            })?;
        }
        Ok(())
    }

    async fn create(&self, nats: &Nats) -> Result<(), StoreError> {
        let config = stream::Config {
            name: self.stream.clone(),
            description: Some("Messages that Slipring could not publish".to_owned()),
            subjects: vec![format!("{SUBJECT_PREFIX}.>")],
            num_replicas: self.config.replicas,
            max_age: self.config.max_age.unwrap_or_default(),
            max_bytes: self
                .config
                .max_bytes
                .map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            ..Default::default()
        };
        let stream = nats.jetstream.get_or_create_stream(config.clone()).await;
        let stream = stream.map_err(|error| StoreError::Create {
            stream: self.stream.clone(),
            source: error.into(),
        })?;
        if !self.ready.swap(true, Ordering::Relaxed) {
            info!(stream = self.stream, "storing dead letters in this stream");
            let differences = differences(&stream.cached_info().config, &config);
            if !differences.is_empty() {
                warn!(
                    stream = self.stream,
                    differences = differences.join(", "),
                    "the dead-letter stream differs from `[dead_letters]`, and was not changed; change the stream or \
                     these keys"
                );
            }
        }
        Ok(())
    }
}

/// Returns which settings of an existing stream are not as the keys say, one phrase each. Keys that are not set say
/// nothing.
fn differences(found: &stream::Config, wanted: &stream::Config) -> Vec<String> {
    let settings = |config: &stream::Config| {
        [
            ("replicas", "", config.num_replicas.max(1) as u64),
            ("max_age", " s", config.max_age.as_secs()),
            ("max_bytes", " bytes", u64::try_from(config.max_bytes).unwrap_or(0)),
        ]
    };
    let shown = |value: u64, unit: &str| match value {
        0 => "unlimited".to_owned(),
        value => format!("{value}{unit}"),
    };
    let pairs = settings(found).into_iter().zip(settings(wanted));
    let unset = settings(&stream::Config {
        num_replicas: 1,
        max_bytes: -1,
        ..Default::default()
    });
    pairs
        .zip(unset)
        .filter(|((found, wanted), unset)| wanted != unset && found != wanted)
        .map(|(pair, _)| pair)
        .map(|((key, unit, found), (_, _, wanted))| {
            format!(
                "`{key}` is {} in the stream and {} in the configuration",
                shown(found, unit),
                shown(wanted, unit)
            )
        })
        .collect()
}

/// Returns the messages that make up the dead letter. There is one, unless it would be too large for the server with
/// the headers added. Then it is stored in parts, in order, marked with `Slipring-Part: 1/2`.
pub(super) fn letters(facts: Facts<'_>, max_payload: usize) -> Vec<(HeaderMap, Bytes)> {
    let (headers, mut rest) = whole(facts, max_payload);
    // Leaves room for `Slipring-Part` and `Nats-Expected-Stream`.
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

/// Whatever does not fit into the headers follows the payload.
fn whole(facts: Facts<'_>, max_payload: usize) -> (HeaderMap, Bytes) {
    let (mut headers, mut tail) = (own_headers(facts), Tail::default());
    // Each part repeats the headers.
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

/// Returns `None` if one of the headers cannot be sent.
fn message_headers(message: &Message) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in &message.headers {
        // Reading strips spaces around a value.
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
    headers.insert(header::SEQUENCE, message.place.to_string());
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

/// The same message, module and stage have the same ID. What is stored twice within JetStream's duplicate window (two
/// minutes by default) is then kept once.
fn id(facts: Facts<'_>) -> String {
    let replaces = match facts.replaces {
        [] => Cow::Borrowed(""),
        replaces => Cow::Owned(format!(".after.{}", list(replaces))),
    };
    format!(
        "slipring.{}.{}.{}.{}.{}{replaces}",
        facts.sender.module,
        line(&facts.message.stream),
        facts.message.place,
        facts.message.timestamp,
        facts.rejection.stage
    )
}

/// Returns one line of bounded length, which is all that a header can hold.
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
mod tests;
