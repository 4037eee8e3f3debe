//! Reads dead letters, and removes them. Reading leaves no trace: no lasting consumer, no acks.
//!
//! A scan uses a consumer that the server forgets by itself. A stream whose messages leave when they are acknowledged
//! (a work queue, or one of retention `interest`) would refuse such a consumer or keep messages for it. Letters in such
//! a stream are requested one by one.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, pull};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{RetentionPolicy, Stream};
use async_nats::jetstream::{self, ErrorCode};
use bytes::BytesMut;
use jiff::Timestamp;

use super::header::SUBJECT_PREFIX;
use super::letter::{Letter, Opened};
use super::parts::Assembly;
use crate::nats::wire::{self, Answer, Fetch, Frame, PullRequest, Wire, status};
use crate::nats::{Nats, headers, inactive_threshold, raw};

/// Messages per pull during a scan.
const BATCH: usize = 500;

/// Reading pauses while this many bytes wait to be processed.
const MAX_AHEAD: usize = 8 << 20;

/// How long the server may take for the next message.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the server keeps an idle consumer.
const INACTIVE: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("looking up the dead-letter stream `{stream}` failed")]
    Stream { stream: String, source: async_nats::Error },
    #[error("reading the dead letters in `{stream}` failed")]
    Scan { stream: String, source: async_nats::Error },
    #[error("reading the dead letter {number} in `{stream}` failed")]
    Get {
        stream: String,
        number: u64,
        source: async_nats::Error,
    },
    #[error("removing the dead letter {number} from `{stream}` failed")]
    Remove {
        stream: String,
        number: u64,
        source: async_nats::Error,
    },
}

/// Reads the stream of the dead letters.
#[derive(Debug, Clone)]
pub struct Reader {
    nats: Nats,
    jetstream: jetstream::Context,
    stream: Stream,
    name: String,
}

impl Reader {
    /// Returns `None` if there is no such stream. Then no message was ever rejected.
    pub async fn open(nats: &Nats, stream: &str) -> Result<Option<Self>, ReadError> {
        match nats.jetstream.get_stream(stream).await {
            Ok(found) => Ok(Some(Self {
                nats: nats.clone(),
                jetstream: nats.jetstream.clone(),
                stream: found,
                name: stream.to_owned(),
            })),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
                _ => Err(ReadError::Stream {
                    stream: stream.to_owned(),
                    source: error.into(),
                }),
            },
        }
    }

    /// Returns the stream's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Scans all letters that are there now, of one module or of all.
    pub async fn scan(&self, module: Option<&str>) -> Result<Scan, ReadError> {
        let subject = format!("{SUBJECT_PREFIX}.{}", module.unwrap_or(">"));
        let way = match self.stream.cached_info().config.retention {
            RetentionPolicy::Limits => Way::Consumed(Box::new(Consumed::open(self, subject).await?)),
            RetentionPolicy::WorkQueue | RetentionPolicy::Interest => Way::Asked(Asked::open(self, subject).await?),
        };
        Ok(Scan {
            reader: self.clone(),
            way,
            assembly: Assembly::default(),
            rest: None,
        })
    }

    /// Returns the dead letter that has this number for itself or for one of its parts.
    pub async fn find(&self, number: u64) -> Result<Option<Letter>, ReadError> {
        let Some(message) = self.get(number).await? else {
            return Ok(None);
        };
        let letter = read(&message);
        if letter.parts() == 1 {
            return Ok(Some(letter));
        }
        let mut scan = self.scan(Some(&letter.module)).await?;
        while let Some(letter) = scan.next().await? {
            if letter.numbers().contains(&number) {
                return Ok(Some(letter));
            }
        }
        Ok(None)
    }

    /// Returns the dead letter stored under these numbers, or `None` if it is gone.
    pub async fn fetch(&self, numbers: &[u64]) -> Result<Option<Opened>, ReadError> {
        let mut assembly = Assembly::default();
        let mut whole = None;
        let mut payloads = Vec::with_capacity(numbers.len());
        for &number in numbers {
            let Some(message) = self.get(number).await? else {
                continue;
            };
            whole = assembly.add(read(&message)).or(whole);
            payloads.push((number, message.payload));
        }
        let Some(letter) = whole.or_else(|| assembly.rest().pop()) else {
            return Ok(None);
        };
        if let ([(_, payload)], 1) = (payloads.as_slice(), letter.parts()) {
            return Ok(Some(Opened::new(letter, payload.clone())));
        }
        let mut joined = BytesMut::new();
        for number in letter.parts.found.values() {
            let part = payloads.iter().find(|(other, _)| other == number);
            joined.extend_from_slice(part.map_or(&[], |(_, payload)| payload));
        }
        Ok(Some(Opened::new(letter, joined.freeze())))
    }

    /// Removes a dead letter with all its parts, starting with the first. Returns true if any of it was still there.
    pub async fn remove(&self, numbers: &[u64]) -> Result<bool, ReadError> {
        let mut found = false;
        for &number in numbers {
            let removed = raw::remove(&self.jetstream, &self.name, number).await;
            found |= removed.map_err(|source| ReadError::Remove {
                stream: self.name.clone(),
                number,
                source,
            })?;
        }
        Ok(found)
    }

    async fn get(&self, number: u64) -> Result<Option<raw::Message>, ReadError> {
        // JetStream treats the sequence 0 as missing.
        if number == 0 {
            return Ok(None);
        }
        let got = raw::get(&self.jetstream, &self.name, number).await;
        got.map_err(|source| ReadError::Get {
            stream: self.name.clone(),
            number,
            source,
        })
    }

    fn scan_failed(&self, error: impl Into<async_nats::Error>) -> ReadError {
        ReadError::Scan {
            stream: self.name.clone(),
            source: error.into(),
        }
    }
}

/// One pass through the dead letters. Parts are joined; a letter is returned with its last part.
pub struct Scan {
    reader: Reader,
    way: Way,
    assembly: Assembly,
    /// Letters with missing parts, returned at the end.
    rest: Option<VecDeque<Letter>>,
}

enum Way {
    Consumed(Box<Consumed>),
    /// Such a stream refuses a second consumer for messages that one may already read, or would lose what is acked.
    Asked(Asked),
}

impl Scan {
    /// Returns the next dead letter.
    pub async fn next(&mut self) -> Result<Option<Letter>, ReadError> {
        loop {
            if let Some(rest) = &mut self.rest {
                return Ok(rest.pop_front());
            }
            let letter = match &mut self.way {
                Way::Consumed(consumed) => consumed.next(&self.reader).await?,
                Way::Asked(asked) => asked.next(&self.reader).await?,
            };
            let Some(letter) = letter else {
                self.rest = Some(self.assembly.rest().into());
                continue;
            };
            if let Some(letter) = self.assembly.add(letter) {
                return Ok(Some(letter));
            }
        }
    }
}

/// The messages of a consumer that exists only for reading.
struct Consumed {
    consumer: Consumer<pull::Config>,
    /// What was there at the beginning. The scan does not wait for later messages.
    expected: u64,
    received: u64,
    fetch: Fetch,
    /// Messages that were requested and have not arrived.
    open: usize,
    /// The limit on messages per pull, if the server has one.
    max_batch: usize,
}

impl Consumed {
    async fn open(reader: &Reader, filter_subject: String) -> Result<Self, ReadError> {
        // Includes the payloads: for a header block of one byte, which anybody may store, a consumer without payloads
        // crashes nats-server 2.15.2 (`convertToHeadersOnly` in `server/consumer.go`).
        let config = pull::Config {
            description: Some("slipring dead-letters".to_owned()),
            ack_policy: AckPolicy::None,
            filter_subject,
            memory_storage: true,
            inactive_threshold: inactive_threshold(&reader.stream.cached_info().config, INACTIVE),
            ..Default::default()
        };
        let consumer = reader.stream.create_consumer(config).await;
        let consumer = consumer.map_err(|error| reader.scan_failed(error))?;
        let wire = Wire::open(&reader.nats, MAX_AHEAD).await;
        let wire = wire.map_err(|error| reader.scan_failed(error))?;
        let allowed = usize::try_from(consumer.cached_info().config.max_batch).unwrap_or(0);
        Ok(Self {
            expected: consumer.cached_info().num_pending,
            received: 0,
            fetch: Fetch::new(
                wire,
                reader.nats.pull_subject(&reader.name, &consumer.cached_info().name),
            ),
            open: 0,
            max_batch: if allowed == 0 { BATCH } else { BATCH.min(allowed) },
            consumer,
        })
    }

    /// Returns the next letter, or the next part of one.
    async fn next(&mut self, reader: &Reader) -> Result<Option<Letter>, ReadError> {
        let Some(frame) = self.next_message(reader).await? else {
            // The server would delete the consumer too, after a while.
            let name = self.consumer.cached_info().name.clone();
            let _ = reader.stream.delete_consumer(&name).await;
            return Ok(None);
        };
        let reply = frame.reply().and_then(|reply| std::str::from_utf8(reply).ok());
        let delivered = reply.and_then(wire::Delivered::parse);
        let delivered =
            delivered.ok_or_else(|| reader.scan_failed("the server sent something other than a message"))?;
        self.received += 1;
        if delivered.consumer_sequence != self.received {
            let lost = format!(
                "the consumer's deliveries have a gap: expected number {}, got {}",
                self.received, delivered.consumer_sequence
            );
            return Err(reader.scan_failed(lost));
        }
        let stored = Timestamp::from_nanosecond(delivered.timestamp.into()).unwrap_or_default();
        let headers = headers::map(frame.headers());
        let subject = String::from_utf8_lossy(frame.subject());
        let letter = Letter::read(delivered.sequence, stored, &subject, &headers, frame.payload().len());
        Ok(Some(letter))
    }

    async fn next_message(&mut self, reader: &Reader) -> Result<Option<Frame>, ReadError> {
        while self.received < self.expected {
            if self.open == 0 {
                let pull = PullRequest {
                    batch: self.max_batch,
                    no_wait: true,
                    ..PullRequest::default()
                };
                self.fetch.ask(&pull).map_err(|error| reader.scan_failed(error))?;
                self.open = self.max_batch;
            }
            let next = tokio::time::timeout(PATIENCE, self.fetch.next()).await;
            let next = next.map_err(|_| reader.scan_failed("the server went silent"))?;
            match next.map_err(|error| reader.scan_failed(error))? {
                Answer::Message(frame) => {
                    self.open -= 1;
                    return Ok(Some(frame));
                }
                Answer::Status(status::IDLE_HEARTBEAT, _) => {}
                Answer::Status(status::NO_MESSAGES | status::TIMEOUT, _) => {
                    self.open = 0;
                    // What was counted at the beginning may have been removed since.
                    if self.is_empty(reader).await? {
                        return Ok(None);
                    }
                }
                Answer::Status(code, description) => {
                    let answer = format!("the server returned {code} {description}");
                    return Err(reader.scan_failed(answer));
                }
            }
        }
        Ok(None)
    }

    async fn is_empty(&mut self, reader: &Reader) -> Result<bool, ReadError> {
        let info = self.consumer.info().await;
        match info {
            Ok(info) => Ok(info.num_pending == 0),
            Err(error) => Err(reader.scan_failed(error)),
        }
    }
}

/// Messages that are requested one by one.
struct Asked {
    subject: String,
    next: u64,
    /// The last sequence at the beginning.
    last: u64,
}

impl Asked {
    async fn open(reader: &Reader, subject: String) -> Result<Self, ReadError> {
        let info = reader.stream.get_info().await;
        let state = info.map_err(|error| reader.scan_failed(error))?.state;
        Ok(Self {
            subject,
            next: state.first_sequence,
            last: state.last_sequence,
        })
    }

    /// Returns the next letter, or the next part of one.
    async fn next(&mut self, reader: &Reader) -> Result<Option<Letter>, ReadError> {
        let next = raw::next_of(&reader.jetstream, &reader.name, self.next, &self.subject).await;
        let found = next.map_err(|error| reader.scan_failed(error))?;
        let found = found.filter(|message| message.sequence <= self.last);
        self.next = found.as_ref().map_or(self.last, |message| message.sequence) + 1;
        Ok(found.as_ref().map(read))
    }
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan")
            .field("reader", &self.reader)
            .finish_non_exhaustive()
    }
}

fn read(message: &raw::Message) -> Letter {
    Letter::read(
        message.sequence,
        message.stored,
        &message.subject,
        &message.headers(),
        message.payload.len(),
    )
}
