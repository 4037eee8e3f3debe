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
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;

use super::header::SUBJECT_PREFIX;
use super::letter::{Letter, Opened};
use super::parts::Assembly;
use crate::nats::wire::{self, Answer, Fetch, Frame, PullRequest, Wire, status};
use crate::nats::{Nats, headers, inactive_threshold, raw};
#[cfg(feature = "redis")]
use crate::redis::Server;

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
    home: Home,
    name: String,
}

#[derive(Debug, Clone)]
enum Home {
    JetStream(Box<JetStream>),
    #[cfg(feature = "redis")]
    Redis(Server),
}

#[derive(Debug, Clone)]
struct JetStream {
    nats: Nats,
    context: jetstream::Context,
    stream: Stream,
    name: String,
}

impl Reader {
    /// Returns `None` if there is no such stream in JetStream. Then no message was ever rejected.
    pub async fn open(nats: &Nats, stream: &str) -> Result<Option<Self>, ReadError> {
        match nats.jetstream.get_stream(stream).await {
            Ok(found) => Ok(Some(Self {
                home: Home::JetStream(Box::new(JetStream {
                    nats: nats.clone(),
                    context: nats.jetstream.clone(),
                    stream: found,
                    name: stream.to_owned(),
                })),
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

    /// Returns `None` if there is no such stream in Redis. Then no message was ever rejected.
    #[cfg(feature = "redis")]
    pub async fn open_redis(server: &Server, stream: &str) -> Result<Option<Self>, ReadError> {
        let found = super::redis::exists(server, stream).await;
        let found = found.map_err(|error| ReadError::Stream {
            stream: stream.to_owned(),
            source: error.into(),
        })?;
        Ok(found.then(|| Self {
            home: Home::Redis(server.clone()),
            name: stream.to_owned(),
        }))
    }

    /// Returns the stream's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Scans all letters that are there now, of one module or of all.
    pub async fn scan(&self, module: Option<&str>) -> Result<Scan, ReadError> {
        let subject = format!("{SUBJECT_PREFIX}.{}", module.unwrap_or(">"));
        let way = match &self.home {
            Home::JetStream(reader) => match reader.stream.cached_info().config.retention {
                RetentionPolicy::Limits => Way::Consumed(Box::new(Consumed::open((**reader).clone(), subject).await?)),
                RetentionPolicy::WorkQueue | RetentionPolicy::Interest => {
                    Way::Asked(Box::new(Asked::open((**reader).clone(), subject).await?))
                }
            },
            #[cfg(feature = "redis")]
            Home::Redis(server) => {
                let last = super::redis::last(server, &self.name).await;
                Way::Redis {
                    module: module.map(str::to_owned),
                    next: 0,
                    last: last.map_err(|error| self.scan_failed(error))?,
                    waiting: VecDeque::new(),
                }
            }
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
        let Some((letter, _)) = self.get(number).await? else {
            return Ok(None);
        };
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
            let Some((letter, payload)) = self.get(number).await? else {
                continue;
            };
            whole = assembly.add(letter).or(whole);
            payloads.push((number, payload));
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
            let removed: Result<bool, async_nats::Error> = match &self.home {
                Home::JetStream(reader) => raw::remove(&reader.context, &self.name, number).await,
                #[cfg(feature = "redis")]
                Home::Redis(server) => super::redis::remove(server, &self.name, number)
                    .await
                    .map_err(Into::into),
            };
            found |= removed.map_err(|source| ReadError::Remove {
                stream: self.name.clone(),
                number,
                source,
            })?;
        }
        Ok(found)
    }

    /// Returns a letter, or a part of one, with its payload.
    async fn get(&self, number: u64) -> Result<Option<(Letter, Bytes)>, ReadError> {
        // JetStream treats the sequence 0 as missing.
        if number == 0 {
            return Ok(None);
        }
        let got: Result<_, async_nats::Error> = match &self.home {
            Home::JetStream(reader) => {
                let got = raw::get(&reader.context, &self.name, number).await;
                got.map(|got| got.map(|message| (read(&message), message.payload)))
            }
            #[cfg(feature = "redis")]
            Home::Redis(server) => {
                let got = super::redis::get(server, &self.name, number).await;
                got.map(|got| got.map(|stored| (stored.letter, stored.payload)))
                    .map_err(Into::into)
            }
        };
        got.map_err(|source| ReadError::Get {
            stream: self.name.clone(),
            number,
            source,
        })
    }

    #[cfg(feature = "redis")]
    fn scan_failed(&self, error: impl Into<async_nats::Error>) -> ReadError {
        scan_failed(&self.name, error)
    }
}

impl JetStream {
    fn scan_failed(&self, error: impl Into<async_nats::Error>) -> ReadError {
        scan_failed(&self.name, error)
    }
}

fn scan_failed(stream: &str, error: impl Into<async_nats::Error>) -> ReadError {
    ReadError::Scan {
        stream: stream.to_owned(),
        source: error.into(),
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
    Asked(Box<Asked>),
    #[cfg(feature = "redis")]
    Redis {
        module: Option<String>,
        /// The number of the last letter that was read.
        next: u64,
        /// The last number at the beginning.
        last: u64,
        waiting: VecDeque<Letter>,
    },
}

impl Scan {
    /// Returns the next dead letter.
    pub async fn next(&mut self) -> Result<Option<Letter>, ReadError> {
        loop {
            if let Some(rest) = &mut self.rest {
                return Ok(rest.pop_front());
            }
            let letter = match &mut self.way {
                Way::Consumed(consumed) => consumed.next().await?,
                Way::Asked(asked) => asked.next().await?,
                #[cfg(feature = "redis")]
                Way::Redis {
                    module,
                    next,
                    last,
                    waiting,
                } => {
                    let Home::Redis(server) = &self.reader.home else {
                        return Ok(None);
                    };
                    let mut found = waiting.pop_front();
                    while found.is_none() && *next < *last {
                        let after = super::redis::after(server, &self.reader.name, *next, *last).await;
                        let letters = after.map_err(|error| self.reader.scan_failed(error))?;
                        *next = letters.last().map_or(*last, Letter::number);
                        let of = |letter: &Letter| module.as_ref().is_none_or(|module| letter.module == *module);
                        waiting.extend(letters.into_iter().filter(of));
                        found = waiting.pop_front();
                    }
                    found
                }
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
    reader: JetStream,
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
    async fn open(reader: JetStream, filter_subject: String) -> Result<Self, ReadError> {
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
            reader,
        })
    }

    /// Returns the next letter, or the next part of one.
    async fn next(&mut self) -> Result<Option<Letter>, ReadError> {
        let Some(frame) = self.next_message().await? else {
            // The server would delete the consumer too, after a while.
            let name = self.consumer.cached_info().name.clone();
            let _ = self.reader.stream.delete_consumer(&name).await;
            return Ok(None);
        };
        let reply = frame.reply().and_then(|reply| std::str::from_utf8(reply).ok());
        let delivered = reply.and_then(wire::Delivered::parse);
        let delivered = delivered.ok_or_else(|| {
            self.reader
                .scan_failed("the server sent something other than a message")
        })?;
        self.received += 1;
        if delivered.consumer_sequence != self.received {
            let lost = format!(
                "the consumer's deliveries have a gap: expected number {}, got {}",
                self.received, delivered.consumer_sequence
            );
            return Err(self.reader.scan_failed(lost));
        }
        let stored = Timestamp::from_nanosecond(delivered.timestamp.into()).unwrap_or_default();
        let headers = headers::map(frame.headers());
        let subject = String::from_utf8_lossy(frame.subject());
        let letter = Letter::read(delivered.sequence, stored, &subject, &headers, frame.payload().len());
        Ok(Some(letter))
    }

    async fn next_message(&mut self) -> Result<Option<Frame>, ReadError> {
        while self.received < self.expected {
            if self.open == 0 {
                let pull = PullRequest {
                    batch: self.max_batch,
                    no_wait: true,
                    ..PullRequest::default()
                };
                self.fetch.ask(&pull).map_err(|error| self.reader.scan_failed(error))?;
                self.open = self.max_batch;
            }
            let next = tokio::time::timeout(PATIENCE, self.fetch.next()).await;
            let next = next.map_err(|_| self.reader.scan_failed("the server went silent"))?;
            match next.map_err(|error| self.reader.scan_failed(error))? {
                Answer::Message(frame) => {
                    self.open -= 1;
                    return Ok(Some(frame));
                }
                Answer::Status(status::IDLE_HEARTBEAT, _) => {}
                Answer::Status(status::NO_MESSAGES | status::TIMEOUT, _) => {
                    self.open = 0;
                    // What was counted at the beginning may have been removed since.
                    if self.is_empty().await? {
                        return Ok(None);
                    }
                }
                Answer::Status(code, description) => {
                    let answer = format!("the server returned {code} {description}");
                    return Err(self.reader.scan_failed(answer));
                }
            }
        }
        Ok(None)
    }

    async fn is_empty(&mut self) -> Result<bool, ReadError> {
        let info = self.consumer.info().await;
        match info {
            Ok(info) => Ok(info.num_pending == 0),
            Err(error) => Err(self.reader.scan_failed(error)),
        }
    }
}

/// Messages that are requested one by one.
struct Asked {
    reader: JetStream,
    subject: String,
    next: u64,
    /// The last sequence at the beginning.
    last: u64,
}

impl Asked {
    async fn open(reader: JetStream, subject: String) -> Result<Self, ReadError> {
        let info = reader.stream.get_info().await;
        let state = info.map_err(|error| reader.scan_failed(error))?.state;
        Ok(Self {
            subject,
            next: state.first_sequence,
            last: state.last_sequence,
            reader,
        })
    }

    /// Returns the next letter, or the next part of one.
    async fn next(&mut self) -> Result<Option<Letter>, ReadError> {
        let reader = &self.reader;
        let next = raw::next_of(&reader.context, &reader.name, self.next, &self.subject).await;
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
