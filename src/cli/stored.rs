//! Reads the messages of a stream beside all its other readers. Nothing is acknowledged or removed, no durable consumer
//! is created, and existing consumers are not affected.
//!
//! A stream that keeps its messages after they were read is read with a consumer that the server deletes by itself. On
//! a stream whose messages disappear once they are acked, such a consumer would affect that, or is not allowed. The
//! messages of such a stream are requested one by one.

mod begin;
mod feed;
mod gaps;

use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{RetentionPolicy, State, Stream};
use futures_util::{StreamExt, TryStreamExt, stream};
use slipring_core::read::Incarnation;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::feed::{Feed, HELD, INACTIVE};
use crate::config::covers;
use crate::message::Message;
use crate::nats::headers::Contents;
use crate::nats::{Nats, inactive_threshold, raw};

/// The most concurrent requests to the server when each message is a request.
const READ_AHEAD: usize = 16;

/// The most streams that are listed for a user who named a missing one.
const MAX_NAMED: usize = 20;

/// A stream. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stored {
    nats: Nats,
    stream: Stream,
    name: Arc<str>,
}

impl Stored {
    /// The error for a missing stream lists the existing ones.
    pub async fn open(nats: &Nats, stream: &str) -> anyhow::Result<Self> {
        let found = match nats.jetstream.get_stream(stream).await {
            Ok(found) => found,
            Err(error) => {
                return Err(match error.kind() {
                    GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                        no_stream(nats, stream).await
                    }
                    _ => anyhow::Error::new(error).context(format!("looking up the stream `{stream}` failed")),
                });
            }
        };
        Ok(Self {
            nats: nats.clone(),
            stream: found,
            name: stream.into(),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns when the stream was created, in nanoseconds since 1970. The relay's idempotency keys and versions depend
    /// on it.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation(self.stream.cached_info().created.unix_timestamp_nanos())
    }

    /// Returns the message with this sequence. The error for a missing message says what the stream holds.
    pub async fn message(&self, sequence: u64) -> anyhow::Result<Message> {
        match self.get(sequence).await? {
            Some(message) => Ok(message),
            None => Err(absent(&self.name, sequence, &self.state().await?)),
        }
    }

    /// Returns the last `count` messages whose subjects match one of `subjects` (all if it is empty), oldest first, or
    /// fewer if there are no more. Messages that arrive meanwhile do not count. Only a few more messages than these are
    /// read, however many there are.
    pub async fn last(&self, count: u64, subjects: &[String]) -> anyhow::Result<Messages> {
        let doing = || format!("looking for the last {count} messages of `{}` failed", self.name);
        let state = self.state().await?;
        if state.messages == 0 || count == 0 {
            return Ok(Messages::read(|_| async { Ok(()) }));
        }
        if !self.keeps_what_was_read() {
            let sequences = self.sequences_of_the_last(count, subjects, &state).await;
            let sequences = sequences.with_context(doing)?;
            let stored = self.clone();
            return Ok(Messages::read(async move |sender| {
                stored.read_each(sequences, sender).await
            }));
        }
        let matching_from = async |first| self.matching_from(first, subjects).await;
        let begin = begin::find(state.first_sequence, state.last_sequence, count, matching_from);
        let begin = begin.await.with_context(doing)?;
        let feed = Feed::last(self.clone(), subjects.to_vec(), begin, count).await;
        let feed = feed.with_context(doing)?;
        Ok(Messages::read(|sender| feed.run(sender)))
    }

    /// Returns matching messages that arrive from now on. It never ends by itself. After an interruption it continues
    /// with what arrived meanwhile.
    pub async fn tap(&self, subjects: &[String]) -> anyhow::Result<Messages> {
        let name = &self.name;
        if self.retention() == RetentionPolicy::WorkQueue {
            bail!(
                "the stream `{name}` is a work queue, where each message goes to one consumer, so watching it would \
                 take messages from the relay. Use `slipring try --last`, or watch a stream that sources this one"
            );
        }
        let begin = self.state().await?.last_sequence + 1;
        let feed = Feed::live(self.clone(), subjects.to_vec(), begin).await;
        let feed = feed.with_context(|| format!("watching the stream `{name}` failed"))?;
        Ok(Messages::read(|sender| feed.run(sender)))
    }

    /// Says that the stream holds nothing that matches.
    pub fn holds_nothing(&self, subjects: &[String]) -> String {
        match subjects {
            [] => format!("the stream `{}` holds no message", self.name),
            subjects => format!("the stream `{}` holds no message of {}", self.name, subjects.join(", ")),
        }
    }

    fn retention(&self) -> RetentionPolicy {
        self.stream.cached_info().config.retention
    }

    fn keeps_what_was_read(&self) -> bool {
        self.retention() == RetentionPolicy::Limits
    }

    /// Returns the current state.
    async fn state(&self) -> anyhow::Result<State> {
        let info = self.stream.get_info().await;
        let info = info.with_context(|| format!("asking for the state of the stream `{}` failed", self.name))?;
        Ok(info.state)
    }

    async fn get(&self, sequence: u64) -> anyhow::Result<Option<Message>> {
        // JetStream treats 0 as a request without a sequence.
        if sequence == 0 {
            return Ok(None);
        }
        let got = raw::get(&self.nats.jetstream, &self.name, sequence).await;
        let got = got.map_err(|error| {
            anyhow!(error).context(format!("reading the message {sequence} of `{}` failed", self.name))
        })?;
        let Some(raw) = got else { return Ok(None) };
        if raw.has_replaced_bytes() && self.keeps_what_was_read() {
            let exact = self.delivered(sequence).await;
            return exact.with_context(|| format!("reading the message {sequence} of `{}` failed", self.name));
        }
        let Contents {
            subject,
            headers,
            unreadable,
        } = raw.contents();
        Ok(Some(Message {
            subject,
            payload: raw.payload,
            headers,
            stream: Arc::clone(&self.name),
            place: raw.sequence.into(),
            timestamp: u64::try_from(raw.stored.as_nanosecond()).unwrap_or(0),
            deliveries: 1,
            unreadable,
        }))
    }

    /// Returns the message with this sequence as a consumer gets it, byte for byte.
    async fn delivered(&self, sequence: u64) -> anyhow::Result<Option<Message>> {
        let feed = Feed::live(self.clone(), Vec::new(), sequence).await?;
        let mut messages = Messages::read(|sender| feed.run(sender));
        let message = messages.next().await?;
        Ok(message
            .filter(|message| message.place == sequence.into())
            .map(Arc::unwrap_or_clone))
    }

    /// Creates a consumer of matching messages from this sequence on.
    async fn consumer(&self, first: u64, subjects: &[String]) -> anyhow::Result<Consumer<pull::Config>> {
        let config = pull::Config {
            description: Some("temporary, for a slipring command".to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: first },
            ack_policy: AckPolicy::None,
            filter_subjects: subjects.to_vec(),
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: inactive_threshold(&self.stream.cached_info().config, INACTIVE),
            ..Default::default()
        };
        let consumer = self.stream.create_consumer(config).await;
        consumer.context("creating a temporary consumer failed")
    }

    async fn remove(&self, consumer: &Consumer<pull::Config>) {
        // The server also does this after a while.
        let _ = self.stream.delete_consumer(&consumer.cached_info().name).await;
    }

    /// Returns how many messages match from this sequence on.
    async fn matching_from(&self, first: u64, subjects: &[String]) -> anyhow::Result<u64> {
        let consumer = self.consumer(first, subjects).await?;
        self.remove(&consumer).await;
        Ok(consumer.cached_info().num_pending)
    }

    /// Reads only the sequences, because the messages may be large and come oldest first.
    async fn sequences_of_the_last(&self, count: u64, subjects: &[String], state: &State) -> anyhow::Result<Vec<u64>> {
        let matches =
            |message: &Message| subjects.is_empty() || subjects.iter().any(|subject| covers(subject, &message.subject));
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let next = async |sequence| {
            let next = raw::next(&self.nats.jetstream, &self.name, sequence).await;
            next.map(|message| message.map(|message| message.sequence))
                .map_err(|error| anyhow!(error))
        };
        let mut found = Vec::new();
        let mut last = state.last_sequence;
        while found.len() < count
            && let Some(held) = gaps::last_held(state.first_sequence..=last, next).await?
        {
            // Asks for several at once, because where there is one, there are most likely more.
            let few = held.saturating_sub(READ_AHEAD as u64 - 1).max(state.first_sequence);
            let messages = stream::iter((few..=held).rev()).map(|sequence| self.get(sequence));
            let messages: Vec<_> = messages.buffered(READ_AHEAD).try_collect().await?;
            let matching = messages.into_iter().flatten().filter(&matches);
            found.extend(matching.map(|message| message.sequence()));
            last = few - 1;
        }
        found.truncate(count);
        found.reverse();
        Ok(found)
    }

    /// Reads the messages that still exist.
    async fn read_each(&self, sequences: Vec<u64>, sender: mpsc::Sender<Arc<Message>>) -> anyhow::Result<()> {
        let got = stream::iter(sequences).map(|sequence| self.get(sequence));
        let mut got = std::pin::pin!(got.buffered(READ_AHEAD));
        while let Some(message) = got.try_next().await? {
            if let Some(message) = message
                && sender.send(Arc::new(message)).await.is_err()
            {
                break;
            }
        }
        Ok(())
    }
}

/// Messages in stream order as they are read. A few are read ahead.
#[derive(Debug)]
pub struct Messages {
    receiver: mpsc::Receiver<Arc<Message>>,
    /// `None` once it has ended and its result was returned.
    reading: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Messages {
    /// Runs `read`, which sends messages and ends once the receiver is gone.
    fn read<F>(read: impl FnOnce(mpsc::Sender<Arc<Message>>) -> F) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(HELD);
        Self {
            receiver,
            reading: Some(tokio::spawn(read(sender))),
        }
    }

    /// Returns the next message, or `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> anyhow::Result<Option<Arc<Message>>> {
        if let Some(message) = self.receiver.recv().await {
            return Ok(Some(message));
        }
        let Some(reading) = &mut self.reading else {
            return Ok(None);
        };
        let ended = reading.await;
        self.reading = None;
        ended.context("reading the stream failed unexpectedly, which is a bug in Slipring")??;
        Ok(None)
    }
}

fn absent(stream: &str, sequence: u64, state: &State) -> anyhow::Error {
    let State {
        messages,
        first_sequence: first,
        last_sequence: last,
        ..
    } = state;
    let holds = match messages {
        0 if *last == 0 => "nothing was ever stored in it".to_owned(),
        0 => format!("it is empty; its last message was {last}"),
        1 => format!("it holds one, {first}"),
        messages if (*first..=*last).contains(&sequence) => {
            format!("it holds {messages} from {first} to {last}, and this one was removed")
        }
        messages => format!("it holds {messages} from {first} to {last}"),
    };
    anyhow!("there is no message {sequence} in the stream `{stream}`: {holds}")
}

async fn no_stream(nats: &Nats, stream: &str) -> anyhow::Error {
    let others = others(nats).await;
    anyhow!("there is no stream `{stream}`{others}")
}

/// Returns the end of a sentence, which says what streams there are.
pub async fn others(nats: &Nats) -> String {
    let names: Result<Vec<String>, _> = nats.jetstream.stream_names().take(MAX_NAMED + 1).try_collect().await;
    match names {
        // A user who may read one stream is not necessarily allowed to list all of them.
        Err(_) => String::new(),
        Ok(names) if names.is_empty() => "; there are no streams".to_owned(),
        Ok(mut names) => {
            let more = if names.len() > MAX_NAMED { ", …" } else { "" };
            names.truncate(MAX_NAMED);
            names.sort();
            format!("; there are {}{more}", names.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;

    fn told(messages: u64, first: u64, last: u64, sequence: u64) -> String {
        let state = json!({
            "messages": messages, "bytes": 0, "first_seq": first, "last_seq": last, "consumer_count": 0,
            "first_ts": "2026-11-01T00:00:00Z", "last_ts": "2026-11-01T00:00:00Z",
        });
        absent("ORDERS", sequence, &serde_json::from_value(state).unwrap()).to_string()
    }

    #[test]
    fn a_message_that_is_not_there_says_what_is() {
        let told = [
            told(0, 0, 0, 1),
            told(0, 6, 5, 1),
            told(1, 5, 5, 6),
            told(3, 5, 7, 8),
            told(3, 5, 9, 7),
        ];
        assert_snapshot!(told.join("\n"), @r"
        there is no message 1 in the stream `ORDERS`: nothing was ever stored in it
        there is no message 1 in the stream `ORDERS`: it is empty; its last message was 5
        there is no message 6 in the stream `ORDERS`: it holds one, 5
        there is no message 8 in the stream `ORDERS`: it holds 3 from 5 to 7
        there is no message 7 in the stream `ORDERS`: it holds 3 from 5 to 9, and this one was removed
        ");
    }
}
