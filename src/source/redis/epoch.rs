//! One epoch: from taking the lease until the connection or the lease is lost.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};
use slipring_core::place::Place;
use slipring_core::read::{self, Again, Incarnation, MAX_CHUNK, Missed, Room};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use super::super::{Delivery, Lease, Receipt};
use super::entry::{Entries, entry, id};
use super::keys::Keys;
use super::{CONSUMER, scripts};
use crate::config::{Deliver, End, RedisSource};
use crate::redis::{Error, Facts, Server};

/// How many times a lease is renewed within its time-to-live.
const RENEWALS: u32 = 5;

/// How long the server waits for a message before it is asked again.
const WAIT_SECONDS: u32 = 5;

type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What all epochs of one reader share.
#[derive(Debug)]
pub(super) struct Setup {
    /// `None` if `slipring.toml` names no server.
    pub(super) server: Option<Server>,
    pub(super) source: RedisSource,
    pub(super) keys: Keys,
    pub(super) group: String,
    pub(super) deliver: Deliver,
    pub(super) entries: Entries,
    /// Names this reader in the lease, together with the number of the epoch.
    pub(super) reader: String,
    /// How long the lease lasts.
    pub(super) ttl: Duration,
    /// Other relays stand by, so the lease is waited for. Otherwise it is taken.
    pub(super) shared: bool,
    /// What the server says about itself was logged.
    pub(super) looked_at: AtomicBool,
}

/// An open epoch.
pub(super) struct Epoch {
    pub(super) incarnation: Incarnation,
    pub(super) again: Again,
    pub(super) lease: Lease,
    setup: Arc<Setup>,
    token: Arc<str>,
    connection: MultiplexedConnection,
    /// Its replies may take long.
    waiter: MultiplexedConnection,
    /// Where reading again what was not settled goes on. `None` once all of it has come.
    cursor: Option<String>,
    buffer: VecDeque<Delivery>,
    missed: Vec<Missed>,
    taking: Option<Task<Result<Value, RedisError>>>,
    waiting: Option<Task<Result<Value, RedisError>>>,
    /// The newest entry that came.
    last: Place,
    lost: watch::Receiver<Option<Lost>>,
    /// Goes on after the epoch was closed, for as long as something is in flight.
    pub(super) renewing: Option<AbortOnDropHandle<()>>,
}

/// Why a lease is no longer renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    Taken,
    Disconnected,
}

/// Why an epoch is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum EpochEnd {
    #[error(
        "another relay reads `{0}`, or Redis has lost the lease; if there is another relay, enable `[standby]` in both"
    )]
    Taken(String),
    #[error("the connection to Redis was lost")]
    Disconnected,
    #[error("the consumer group of `{0}` was deleted")]
    Gone(String),
    #[error(transparent)]
    Failed(#[from] Error),
}

impl Setup {
    fn ttl_ms(&self) -> u64 {
        u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX)
    }

    fn kind(&self) -> &'static str {
        match self.source {
            RedisSource::List { .. } => "list",
            RedisSource::Stream { .. } => "stream",
        }
    }
}

/// Waits for the lease, and prepares what is read. `standing_by` is set while another relay has the lease.
pub(super) async fn begin(setup: Arc<Setup>, number: u64, standing_by: watch::Sender<bool>) -> Result<Epoch, Error> {
    let token: Arc<str> = format!("{}.{number}", setup.reader).into();
    let server = setup.server.as_ref().ok_or(Error::NotConfigured)?;
    let mut connection = server.connect().await?;
    let waiter = server.connect_to_wait().await?;
    look_at(&setup, server, &connection).await?;
    let Keys {
        lease, state, source, ..
    } = &setup.keys;
    let fresh: i128 = (i128::from(fastrand::u64(1..)) << 32) | i128::from(fastrand::u32(..));
    let start = match setup.deliver {
        Deliver::New => "$".to_owned(),
        Deliver::All | Deliver::Sequence(_) => "0".to_owned(),
        Deliver::Since(time) => format!("{}-0", time.as_millisecond().max(0)),
    };
    loop {
        let sent = Instant::now();
        let reply = scripts::BEGIN
            .key(lease)
            .key(state)
            .key(source)
            .arg(&setup.reader)
            .arg(&*token)
            .arg(setup.ttl_ms())
            .arg(i32::from(!setup.shared))
            .arg(fresh.to_string())
            .arg(setup.kind())
            .arg(&setup.group)
            .arg(&start)
            .invoke_async::<Vec<Value>>(&mut connection)
            .await
            .map_err(|error| server.error(&format!("taking the lease of `{source}` in Redis"), error))?;
        let words: Vec<Option<String>> = reply.iter().map(text).collect();
        let word = |at: usize| words.get(at).and_then(Option::as_deref);
        match word(0) {
            Some("held") => {
                standing_by.send_if_modified(|standing_by| !std::mem::replace(standing_by, true));
                sleep((setup.ttl / RENEWALS / 2).min(Duration::from_millis(500))).await;
            }
            Some("kind") => {
                return Err(Error::Kind {
                    key: source.clone(),
                    found: word(1).unwrap_or_default().to_owned(),
                    wanted: setup.kind(),
                });
            }
            Some("ok") => {
                let incarnation = word(1).and_then(|number| number.parse().ok());
                let numbers = (incarnation, word(4).and_then(|number| number.parse().ok()));
                let ids = (reply.get(3).and_then(id), reply.get(5).and_then(id));
                let ((Some(incarnation), Some(messages)), (Some(settled), Some(through))) = (numbers, ids) else {
                    return Err(Error::Reply("begin.lua"));
                };
                match word(2) {
                    Some("group") => warn!(
                        key = source,
                        group = setup.group,
                        id = %settled,
                        "the consumer group was deleted; it was created again where the relay had settled everything"
                    ),
                    Some("recreated") => warn!(
                        key = source,
                        "the stream in Redis was deleted and created again; reading it from its beginning"
                    ),
                    _ => {}
                }
                if setup.shared {
                    info!(key = source, "reading from Redis, other relays stand by");
                }
                standing_by.send_replace(false);
                let (sender, lease) = Lease::new(read::Lease::given(sent, setup.ttl));
                let (tell, lost) = watch::channel(None);
                let renewing = renew(Arc::clone(&setup), Arc::clone(&token), connection.clone(), sender, tell);
                let cursor = match setup.source {
                    RedisSource::List { .. } => settled.to_string(),
                    RedisSource::Stream { .. } => "0-0".to_owned(),
                };
                return Ok(Epoch {
                    incarnation: Incarnation(incarnation),
                    again: Again { messages, through },
                    lease,
                    token,
                    connection,
                    waiter,
                    cursor: Some(cursor),
                    buffer: VecDeque::new(),
                    missed: Vec::new(),
                    taking: None,
                    waiting: None,
                    last: settled.max(through),
                    lost,
                    renewing: Some(AbortOnDropHandle::new(tokio::spawn(renewing))),
                    setup,
                });
            }
            _ => return Err(Error::Reply("begin.lua")),
        }
    }
}

/// Refuses a server that cannot be used, and says once what weakens a promise.
async fn look_at(setup: &Setup, server: &Server, connection: &MultiplexedConnection) -> Result<(), Error> {
    let facts = Facts::ask(connection.clone()).await;
    let facts = facts.map_err(|error| server.error("asking Redis about itself", error))?;
    if let Some(refusal) = facts.refusal() {
        return Err(Error::Refused(refusal));
    }
    if !setup.looked_at.swap(true, Ordering::Relaxed) {
        for warning in facts.warnings() {
            warn!(key = setup.keys.source, server = facts.name, "{warning}");
        }
    }
    Ok(())
}

/// Renews the lease until it is lost.
async fn renew(
    setup: Arc<Setup>,
    token: Arc<str>,
    mut connection: MultiplexedConnection,
    lease: watch::Sender<read::Lease>,
    lost: watch::Sender<Option<Lost>>,
) {
    loop {
        sleep(setup.ttl / RENEWALS).await;
        let sent = Instant::now();
        let reply = scripts::RENEW
            .key(&setup.keys.lease)
            .arg(&*token)
            .arg(setup.ttl_ms())
            .invoke_async::<String>(&mut connection)
            .await;
        match reply.as_deref() {
            Ok("ok") => {
                lease.send_if_modified(|lease| lease.renewed(Instant::now(), sent));
            }
            Ok(_) => lease.send_modify(|lease| lease.lost(Instant::now())),
            Err(error) => {
                // The next epoch may still have the lease in time.
                debug!(error = error as &dyn std::error::Error, "the lease was not renewed");
                lost.send_replace(Some(Lost::Disconnected));
                return;
            }
        }
        if !lease.borrow().is_valid(Instant::now()) {
            lost.send_replace(Some(Lost::Taken));
            return;
        }
    }
}

impl Epoch {
    pub(super) fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    pub(super) fn token(&self) -> Arc<str> {
        Arc::clone(&self.token)
    }

    pub(super) fn take_missed(&mut self) -> Vec<Missed> {
        std::mem::take(&mut self.missed)
    }

    /// Returns the bytes that came and were not taken in.
    pub(super) fn waiting(&self) -> usize {
        self.buffer.iter().map(|delivery| delivery.message.size()).sum()
    }

    /// Returns the next deliveries. None are there if entries were found to be trimmed. Without `room` it only waits for
    /// the end of the epoch. Cancel-safe: a request that is under way goes on in the next call.
    pub(super) async fn next(&mut self, room: Option<Room>) -> Result<Vec<Delivery>, EpochEnd> {
        let Some(room) = room else {
            return Err(self.ended().await);
        };
        loop {
            if !self.buffer.is_empty() {
                return Ok(self.buffer.drain(..).collect());
            }
            if !self.missed.is_empty() {
                return Ok(Vec::new());
            }
            if self.waiting.is_none() && self.taking.is_none() {
                if room.messages == 0 {
                    return Err(self.ended().await);
                }
                self.taking = Some(self.take(room));
            }
            let mut lost = self.lost.clone();
            tokio::select! {
                biased;
                () = is_lost(&mut lost) => return Err(self.ended().await),
                reply = resolve(&mut self.taking) => {
                    self.taking = None;
                    let doing = "taking messages from Redis";
                    let reply = reply.map_err(|error| self.failed(doing, error))?;
                    if self.received(reply)? == 0 && self.cursor.is_none() && self.missed.is_empty() {
                        self.waiting = Some(self.wait());
                    }
                }
                reply = resolve(&mut self.waiting) => {
                    self.waiting = None;
                    let doing = "waiting for messages in Redis";
                    reply.map_err(|error| self.failed(doing, error))?;
                }
            }
        }
    }

    fn failed(&self, doing: &str, error: RedisError) -> Error {
        match &self.setup.server {
            Some(server) => server.error(doing, error),
            None => Error::NotConfigured,
        }
    }

    /// Waits for the end of the epoch.
    async fn ended(&mut self) -> EpochEnd {
        is_lost(&mut self.lost).await;
        let lost = *self.lost.borrow();
        match lost {
            Some(Lost::Disconnected) => EpochEnd::Disconnected,
            Some(Lost::Taken) | None => self.taken(),
        }
    }

    fn taken(&self) -> EpochEnd {
        EpochEnd::Taken(self.setup.keys.source.clone())
    }

    /// Asks for as many messages as there is room for.
    fn take(&self, room: Room) -> Task<Result<Value, RedisError>> {
        let mut connection = self.connection.clone();
        let (setup, token) = (Arc::clone(&self.setup), Arc::clone(&self.token));
        let cursor = self.cursor.clone().unwrap_or_default();
        let (most, bytes) = (room.messages.min(MAX_CHUNK), room.bytes.max(1));
        Box::pin(async move {
            let Keys {
                lease,
                state,
                source,
                taken,
            } = &setup.keys;
            match &setup.source {
                RedisSource::List { take, .. } => {
                    let pop = match take {
                        End::Left => "LPOP",
                        End::Right => "RPOP",
                    };
                    scripts::TAKE_LIST
                        .key(lease)
                        .key(state)
                        .key(source)
                        .key(taken)
                        .arg(&*token)
                        .arg(setup.ttl_ms())
                        .arg(most)
                        .arg(bytes)
                        .arg(pop)
                        .arg(cursor)
                        .invoke_async(&mut connection)
                        .await
                }
                RedisSource::Stream { .. } => {
                    scripts::TAKE_STREAM
                        .key(lease)
                        .key(state)
                        .key(source)
                        .arg(&*token)
                        .arg(setup.ttl_ms())
                        .arg(most)
                        .arg(bytes)
                        .arg(&setup.group)
                        .arg(CONSUMER)
                        .arg(cursor)
                        .invoke_async(&mut connection)
                        .await
                }
            }
        })
    }

    /// Waits until there is something to take, and takes nothing.
    fn wait(&self) -> Task<Result<Value, RedisError>> {
        let mut connection = self.waiter.clone();
        let source = self.setup.keys.source.clone();
        let mut command = match &self.setup.source {
            // From one end to the same end: the list stays as it is.
            RedisSource::List { take, .. } => {
                let end = match take {
                    End::Left => "LEFT",
                    End::Right => "RIGHT",
                };
                let mut command = redis::cmd("BLMOVE");
                command.arg(&source).arg(&source).arg(end).arg(end).arg(WAIT_SECONDS);
                command
            }
            RedisSource::Stream { .. } => {
                let mut command = redis::cmd("XREAD");
                command.arg("COUNT").arg(1).arg("BLOCK").arg(WAIT_SECONDS * 1_000);
                command.arg("STREAMS").arg(&source).arg(self.last.to_string());
                command
            }
        };
        Box::pin(async move { command.take().query_async(&mut connection).await })
    }

    /// Returns how many messages came.
    fn received(&mut self, reply: Value) -> Result<usize, EpochEnd> {
        let Value::Array(parts) = reply else {
            return Err(Error::Reply("a script that takes messages").into());
        };
        let word = parts.first().and_then(text);
        match word.as_deref() {
            Some("ok") => {}
            Some("lost") => return Err(self.taken()),
            Some("gone") => return Err(EpochEnd::Gone(self.setup.keys.source.clone())),
            _ => return Err(Error::Reply("a script that takes messages").into()),
        }
        let came = match self.setup.source {
            RedisSource::List { .. } => self.of_list(parts),
            RedisSource::Stream { .. } => self.of_stream(parts),
        };
        came.ok_or_else(|| Error::Reply("a script that takes messages").into())
    }

    fn of_list(&mut self, parts: Vec<Value>) -> Option<usize> {
        let again = self.cursor.is_some();
        let more_again = number(parts.get(1)?)? == 1;
        let left = number(parts.get(2)?)?;
        let count = (parts.len() - 3) / 2;
        let mut rest = parts.into_iter().skip(3);
        let mut newest = None;
        for index in 0..count {
            let at = id(&rest.next()?)?;
            newest = Some(at);
            let Value::BulkString(payload) = rest.next()? else {
                return None;
            };
            let message = self
                .setup
                .entries
                .of_list(at, payload, again && at <= self.again.through);
            self.add(at, message, left + (count - 1 - index) as u64);
        }
        // What was taken before and has not come again follows this one.
        self.cursor = match (more_again, newest) {
            (true, Some(newest)) => Some(newest.to_string()),
            (true, None) => self.cursor.take(),
            (false, _) => None,
        };
        Some(count)
    }

    fn of_stream(&mut self, parts: Vec<Value>) -> Option<usize> {
        let again = self.cursor.is_some();
        let cursor = text(parts.get(1)?)?;
        let left = number(parts.get(2)?)?;
        let Value::Array(trimmed) = parts.get(3)? else {
            return None;
        };
        let trimmed: Vec<Place> = trimmed.iter().filter_map(id).collect();
        if let (Some(first), Some(last)) = (trimmed.first(), trimmed.last()) {
            self.missed.push(Missed {
                first: *first,
                last: *last,
                messages: trimmed.len() as u64,
                exact: true,
            });
        }
        let Value::Array(unread) = parts.get(4)? else {
            return None;
        };
        if let [after, before, messages, exact] = unread.as_slice() {
            self.missed.push(Missed {
                first: id(after)?.next(),
                last: id(before)?.previous(),
                messages: number(messages)?,
                exact: number(exact)? == 1,
            });
        }
        let count = parts.len() - 5;
        for (index, value) in parts.into_iter().skip(5).enumerate() {
            let (at, fields) = entry(value)?;
            let message = self
                .setup
                .entries
                .of_stream(at, fields, again && at <= self.again.through);
            self.add(at, message, left + (count - 1 - index) as u64);
        }
        self.cursor = Some(cursor).filter(|cursor| !cursor.is_empty());
        Some(count)
    }

    fn add(&mut self, at: Place, message: crate::message::Message, pending: u64) {
        self.last = self.last.max(at);
        self.buffer.push_back(Delivery {
            message: Arc::new(message),
            receipt: Receipt::Redis(at),
            pending,
        });
    }
}

/// Waits until the lease is not renewed any more. If the sender is gone, neither is it.
async fn is_lost(lost: &mut watch::Receiver<Option<Lost>>) {
    let _ = lost.wait_for(Option::is_some).await;
}

/// Waits for a request that is under way, or for ever.
async fn resolve<T>(task: &mut Option<Task<T>>) -> T {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Okay => Some("OK".to_owned()),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        other => text(other)?.parse().ok(),
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoch")
            .field("incarnation", &self.incarnation)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}
