//! Reads what a list or a stream still holds, for commands. Takes nothing, and settles nothing.

use redis::Value;
use redis::aio::MultiplexedConnection;
use slipring_core::place::Place;

use super::entry::{Entries, entry};
use super::keys::Keys;
use crate::config::{End, ModuleConfig, RedisSource};
use crate::message::Message;
use crate::redis::{Error, Server};

/// The most messages in one reply.
const BATCH: u64 = 100;

/// What a module reads.
#[derive(Debug)]
pub struct Held {
    pub(super) server: Server,
    pub(super) source: RedisSource,
    keys: Keys,
    entries: Entries,
}

pub(super) const READING: &str = "reading messages from Redis";

impl Held {
    pub fn new(server: Server, config: &ModuleConfig, source: &RedisSource) -> Self {
        Self {
            server,
            keys: Keys::of(source, &config.stream, &config.consumer),
            entries: Entries::of(config, source),
            source: source.clone(),
        }
    }

    /// Returns the key of the list or stream.
    pub fn key(&self) -> &str {
        &self.keys.source
    }

    pub fn is_list(&self) -> bool {
        matches!(self.source, RedisSource::List { .. })
    }

    /// Returns the key that exists while a relay reads.
    pub(super) fn lease(&self) -> &str {
        &self.keys.lease
    }

    /// Returns the key of the stream, or of that of what was taken from the list.
    pub(super) fn stream(&self) -> &str {
        match self.source {
            RedisSource::List { .. } => &self.keys.taken,
            RedisSource::Stream { .. } => &self.keys.source,
        }
    }

    /// Returns the message with this ID: an entry of the stream, or what was taken from the list and is still kept.
    pub async fn get(&self, id: Place) -> Result<Option<Message>, Error> {
        let mut connection = self.server.shared(self.key()).await?;
        let id = id.to_string();
        let found = self.range(&mut connection, "XRANGE", &id, &id, 1).await?;
        Ok(found.into_iter().next())
    }

    /// Returns the newest messages, oldest first: what is in the stream, or what waits in the list and, before that, what
    /// was taken from it and is still kept. Messages that wait have no ID yet, but their number in the list.
    pub async fn last(&self, count: u64) -> Result<Vec<Message>, Error> {
        let mut connection = self.server.shared(self.key()).await?;
        let waiting = match &self.source {
            RedisSource::List { take, .. } => self.last_of_list(&mut connection, *take, count).await?,
            RedisSource::Stream { .. } => Vec::new(),
        };
        let mut newest: Vec<Message> = Vec::new();
        let mut end = "+".to_owned();
        while (newest.len() + waiting.len()) < usize::try_from(count).unwrap_or(usize::MAX) {
            let left = count - (newest.len() + waiting.len()) as u64;
            let found = self
                .range(&mut connection, "XREVRANGE", &end, "-", left.min(BATCH))
                .await?;
            let Some(oldest) = found.last() else { break };
            end = format!("({}", oldest.place);
            newest.extend(found);
        }
        newest.reverse();
        newest.extend(waiting);
        Ok(newest)
    }

    pub(super) async fn last_of_list(
        &self,
        connection: &mut MultiplexedConnection,
        take: End,
        count: u64,
    ) -> Result<Vec<Message>, Error> {
        let mut length = redis::cmd("LLEN");
        length.arg(&self.keys.source);
        let length: u64 = self.server.checked(READING, length.query_async(connection).await)?;
        let count = count.min(length);
        let mut found = Vec::new();
        // In the order in which they will be taken.
        let mut number = length - count;
        while number < length {
            let last = (number + BATCH).min(length) - 1;
            let (from, to) = match take {
                End::Left => (number, last),
                End::Right => (length - 1 - last, length - 1 - number),
            };
            let mut range = redis::cmd("LRANGE");
            range.arg(&self.keys.source).arg(from).arg(to);
            let mut payloads: Vec<Vec<u8>> = self.server.checked(READING, range.query_async(connection).await)?;
            if take == End::Right {
                payloads.reverse();
            }
            if payloads.is_empty() {
                break;
            }
            for payload in payloads {
                number += 1;
                found.push(self.entries.of_list(Place::Sequence(number), payload, false));
            }
        }
        Ok(found)
    }

    pub(super) async fn range(
        &self,
        connection: &mut MultiplexedConnection,
        command: &str,
        first: &str,
        last: &str,
        count: u64,
    ) -> Result<Vec<Message>, Error> {
        let mut range = redis::cmd(command);
        range.arg(self.stream()).arg(first).arg(last).arg("COUNT").arg(count);
        let found = self.server.checked(READING, range.query_async(connection).await)?;
        Ok(self.messages(found).collect())
    }

    /// Reads entries of [`Self::stream`].
    pub(super) fn messages(&self, entries: Vec<Value>) -> impl Iterator<Item = Message> {
        let is_list = self.is_list();
        entries
            .into_iter()
            .filter_map(entry)
            .map(move |(id, fields)| match is_list {
                true => {
                    let payload = fields.into_iter().next().map(|(_, payload)| payload);
                    self.entries.of_list(id, payload.unwrap_or_default(), false)
                }
                false => self.entries.of_stream(id, fields, false),
            })
    }
}
