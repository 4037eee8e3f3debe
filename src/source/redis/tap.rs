//! Reads messages as they arrive in a list or a stream, for commands. Takes nothing, and settles nothing.

use std::collections::VecDeque;
use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::held::{Held, READING};
use crate::config::RedisSource;
use crate::message::Message;
use crate::redis::Error;

/// How long one request waits. A list is looked at in between.
const WAIT_MS: u64 = 500;

/// The most messages that are read at once. A relay takes fewer at a time.
const MOST: u64 = 1_000;

/// New entries of a stream. Of a list: what a relay takes, or what is pushed while no relay reads.
#[derive(Debug)]
pub struct Tap {
    held: Held,
    connection: MultiplexedConnection,
    /// The newest entry that was seen, in the stream or in that of what was taken from the list.
    after: String,
    /// How many messages waited in the list.
    waiting: u64,
    came: VecDeque<Message>,
}

impl Tap {
    pub async fn open(held: Held) -> Result<Self, Error> {
        let mut connection = held
            .server
            .connect_to_wait(held.key(), Duration::from_millis(WAIT_MS))
            .await?;
        let newest = held.range(&mut connection, "XREVRANGE", "+", "-", 1).await?;
        let mut tap = Self {
            after: newest
                .first()
                .map_or("0-0".to_owned(), |newest| newest.place.to_string()),
            held,
            connection,
            waiting: 0,
            came: VecDeque::new(),
        };
        tap.waiting = tap.look().await?.0;
        Ok(tap)
    }

    /// Returns the next message. Cancel-safe: what came is kept.
    pub async fn next(&mut self) -> Result<Message, Error> {
        loop {
            if let Some(message) = self.came.pop_front() {
                return Ok(message);
            }
            let mut read = redis::cmd("XREAD");
            read.arg("COUNT").arg(MOST).arg("BLOCK").arg(WAIT_MS);
            read.arg("STREAMS").arg(self.held.stream()).arg(&self.after);
            let reply = read.query_async(&mut self.connection).await;
            let reply = reply.map_err(|error| self.held.server.error(READING, error))?;
            self.came.extend(self.held.messages(entries(reply)));
            if let Some(newest) = self.came.back() {
                self.after = newest.place.to_string();
            }
            if let RedisSource::List { take, .. } = self.held.source
                && self.came.is_empty()
            {
                let (waiting, is_read) = self.look().await?;
                if is_read {
                    // What is pushed is shown when it is taken or, if the relay ends, after its lease.
                    self.waiting = self.waiting.min(waiting);
                    continue;
                }
                let new = waiting.saturating_sub(self.waiting).min(MOST);
                if new > 0 {
                    let newest = self.held.last_of_list(&mut self.connection, take, new).await?;
                    self.came.extend(newest);
                }
                self.waiting = waiting;
            }
        }
    }

    /// Returns how many messages wait in the list, and whether a relay reads it.
    async fn look(&mut self) -> Result<(u64, bool), Error> {
        if !self.held.is_list() {
            return Ok((0, true));
        }
        let looked = redis::pipe()
            .cmd("LLEN")
            .arg(self.held.key())
            .cmd("EXISTS")
            .arg(self.held.lease())
            .query_async(&mut self.connection)
            .await;
        looked.map_err(|error| self.held.server.error(READING, error))
    }
}

/// Returns the entries of a reply to `XREAD` with one key.
fn entries(reply: Value) -> Vec<Value> {
    let first = |value: Value| match value {
        Value::Array(values) => values,
        _ => Vec::new(),
    };
    let of_key = first(reply).into_iter().next().map(first).unwrap_or_default();
    of_key.into_iter().nth(1).map(first).unwrap_or_default()
}
