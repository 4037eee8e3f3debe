//! One epoch: from taking the lease until the connection or the lease is lost.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};
use slipring_core::message::PLACE;
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
pub(super) const WAIT_SECONDS: u32 = 5;

/// How long reading pauses when a full server refuses to wait.
const FULL_PAUSE: Duration = Duration::from_millis(500);

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
    /// The newest message that this reader has had, and the incarnation that it is of.
    pub(super) newest: Mutex<Option<(Incarnation, Place)>>,
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
    /// How many messages, about, still come again.
    again_left: u64,
    /// The next message needs more room than this.
    full: Option<Room>,
    buffer: VecDeque<Delivery>,
    missed: Vec<Missed>,
    taking: Option<Task<Result<Value, RedisError>>>,
    waiting: Option<Task<Result<Value, RedisError>>>,
    /// The newest entry that came.
    last: Place,
    lost: watch::Receiver<Option<Lost>>,
    tell: watch::Sender<Option<Lost>>,
    /// Goes on after the epoch was closed, for as long as something is in flight.
    pub(super) renewing: Option<AbortOnDropHandle<()>>,
}

/// Why a lease is no longer renewed.
#[derive(Debug, Clone)]
pub(super) enum Lost {
    Taken,
    Disconnected,
    /// A request failed for another reason.
    Failed(Arc<Error>),
}

/// Why an epoch is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum EpochEnd {
    #[error(
        "another relay has taken the lease of `{key}`, or Redis has lost it{}",
        if *.standby { "" } else { "; to run two relays, enable `[standby]` in both" }
    )]
    Taken { key: String, standby: bool },
    #[error("the connection to Redis was lost")]
    Disconnected,
    #[error("the consumer group of `{0}` was deleted")]
    Gone(String),
    #[error(transparent)]
    Failed(#[from] Arc<Error>),
}

impl Setup {
    /// Returns why a request over the connection of an epoch failed.
    pub(super) fn lost(&self, doing: &str, error: RedisError) -> Lost {
        if error.is_connection_dropped() || (error.is_io_error() && !error.is_timeout()) {
            return Lost::Disconnected;
        }
        Lost::Failed(Arc::new(self.error(doing, error)))
    }

    fn error(&self, doing: &str, error: RedisError) -> Error {
        match &self.server {
            Some(server) => server.error(doing, error),
            None => Error::NotConfigured,
        }
    }

    fn newest(&self) -> Option<(Incarnation, Place)> {
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_had(&self, incarnation: Incarnation, place: Place) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let other = newest.filter(|(known, at)| *known == incarnation && *at >= place);
        *newest = other.or(Some((incarnation, place)));
    }

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
    let wait = Duration::from_secs(WAIT_SECONDS.into());
    let waiter = server.connect_to_wait(wait).await?;
    look_at(&setup, server, &connection).await?;
    let Keys {
        lease,
        state,
        source,
        taken,
    } = &setup.keys;
    let fresh: i128 = (i128::from(fastrand::u64(1..)) << 32) | i128::from(fastrand::u32(..));
    let start = match setup.deliver {
        Deliver::New => "$".to_owned(),
        Deliver::All | Deliver::Sequence(_) => Place::Id(0, 0).to_string(),
        // The group begins after this ID.
        Deliver::Since(time) => match u64::try_from(time.as_millisecond()) {
            Ok(0) | Err(_) => Place::Id(0, 0).to_string(),
            Ok(milliseconds) => Place::Id(milliseconds, 0).previous().to_string(),
        },
    };
    let (known, newest) = setup.newest().map_or_else(Default::default, |(incarnation, newest)| {
        (incarnation.0.to_string(), newest.to_string())
    });
    loop {
        let sent = Instant::now();
        let reply = scripts::BEGIN
            .key(lease)
            .key(state)
            .key(source)
            .key(taken)
            .arg(&setup.reader)
            .arg(&*token)
            .arg(setup.ttl_ms())
            .arg(i32::from(!setup.shared))
            .arg(fresh.to_string())
            .arg(setup.kind())
            .arg(&newest)
            .arg(&known)
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
                        "the consumer group was deleted; created it again at the last settled entry"
                    ),
                    Some("recreated") => warn!(
                        key = source,
                        "the stream in Redis was deleted and created again; reading it from its beginning"
                    ),
                    Some("behind") => warn!(
                        key = source,
                        newest, "Redis has lost messages that were read already, so some may be published again"
                    ),
                    _ => {}
                }
                if setup.shared {
                    info!(
                        key = source,
                        "reading from Redis; other relays stand by until this one stops"
                    );
                }
                standing_by.send_replace(false);
                let (sender, lease) = Lease::new(read::Lease::given(sent, setup.ttl));
                let (tell, lost) = watch::channel(None);
                let renewing = renew(
                    Arc::clone(&setup),
                    Arc::clone(&token),
                    connection.clone(),
                    sender,
                    tell.clone(),
                );
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
                    again_left: messages as u64,
                    full: None,
                    buffer: VecDeque::new(),
                    missed: Vec::new(),
                    taking: None,
                    waiting: None,
                    last: settled.max(through),
                    lost,
                    tell,
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
    let facts = facts.map_err(|error| server.error("reading the settings of Redis", error))?;
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
                lost.send_replace(Some(setup.lost("renewing the lease in Redis", error.clone())));
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

    /// Returns what ends the epoch, for those who use its connection.
    pub(super) fn teller(&self) -> watch::Sender<Option<Lost>> {
        self.tell.clone()
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
                if room.messages == 0 || self.full == Some(room) {
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
                    match self.received(reply)? {
                        Came::Nothing => self.waiting = Some(self.wait()),
                        // It is asked for again as soon as the room is another one.
                        Came::TooLarge => self.full = Some(room),
                        Came::Something => {}
                    }
                }
                reply = resolve(&mut self.waiting) => {
                    self.waiting = None;
                    if let Err(error) = reply {
                        // What is there can be taken all the same.
                        if error.code() == Some("OOM") {
                            self.waiting = Some(Box::pin(async {
                                sleep(FULL_PAUSE).await;
                                Ok(Value::Nil)
                            }));
                            self.taking = Some(self.take(room));
                            continue;
                        }
                        return Err(self.failed("waiting for messages in Redis", error).into());
                    }
                }
            }
        }
    }

    fn failed(&self, doing: &str, error: RedisError) -> Arc<Error> {
        Arc::new(self.setup.error(doing, error))
    }

    /// Waits for the end of the epoch.
    async fn ended(&mut self) -> EpochEnd {
        is_lost(&mut self.lost).await;
        let lost = self.lost.borrow().clone();
        match lost {
            Some(Lost::Disconnected) => EpochEnd::Disconnected,
            Some(Lost::Failed(error)) => EpochEnd::Failed(error),
            Some(Lost::Taken) | None => self.taken(),
        }
    }

    fn taken(&self) -> EpochEnd {
        EpochEnd::Taken {
            key: self.setup.keys.source.clone(),
            standby: self.setup.shared,
        }
    }

    /// Asks for as many messages as there is room for.
    fn take(&self, room: Room) -> Task<Result<Value, RedisError>> {
        let mut connection = self.connection.clone();
        let (setup, token) = (Arc::clone(&self.setup), Arc::clone(&self.token));
        let cursor = self.cursor.clone().unwrap_or_default();
        let (most, bytes, any_size) = (room.messages.min(MAX_CHUNK), room.bytes, i32::from(room.empty));
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
                        .arg(any_size)
                        .arg(PLACE)
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
                        .arg(any_size)
                        .arg(PLACE)
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

    fn received(&mut self, reply: Value) -> Result<Came, EpochEnd> {
        let unexpected = || EpochEnd::from(Arc::new(Error::Reply("a script that takes messages")));
        let Value::Array(parts) = reply else {
            return Err(unexpected());
        };
        let word = parts.first().and_then(text);
        match word.as_deref() {
            Some("ok") => {}
            Some("lost") => return Err(self.taken()),
            Some("gone") => return Err(EpochEnd::Gone(self.setup.keys.source.clone())),
            _ => return Err(unexpected()),
        }
        let came = match self.setup.source {
            RedisSource::List { .. } => self.of_list(parts),
            RedisSource::Stream { .. } => self.of_stream(parts),
        };
        came.ok_or_else(unexpected)
    }

    fn of_list(&mut self, parts: Vec<Value>) -> Option<Came> {
        let again = self.cursor.is_some();
        let follows = number(parts.get(1)?)?;
        let count = parts.len().checked_sub(3)? / 2;
        self.came_again(follows == 1, count);
        let left = number(parts.get(2)?)? + self.again_left;
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
        self.cursor = match (follows, newest) {
            (1, Some(newest)) => Some(newest.to_string()),
            (1, None) => self.cursor.take(),
            _ => None,
        };
        Some(self.came(count, follows == 2))
    }

    /// Counts what still comes again. The pipeline may not believe that it has caught up before.
    fn came_again(&mut self, more: bool, count: usize) {
        let left = self.again_left.saturating_sub(count as u64);
        self.again_left = if more { left.max(1) } else { 0 };
    }

    fn came(&self, count: usize, is_too_large: bool) -> Came {
        match count {
            _ if count > 0 || self.cursor.is_some() || !self.missed.is_empty() => Came::Something,
            _ if is_too_large => Came::TooLarge,
            _ => Came::Nothing,
        }
    }

    fn of_stream(&mut self, parts: Vec<Value>) -> Option<Came> {
        let again = self.cursor.is_some();
        let cursor = text(parts.get(1)?)?;
        let is_too_large = number(parts.get(6)?)? == 1;
        let count = parts.len().checked_sub(7)?;
        let Value::Array(trimmed) = parts.get(3)? else {
            return None;
        };
        let trimmed: Vec<Place> = trimmed.iter().filter_map(id).collect();
        self.came_again(!cursor.is_empty(), count + trimmed.len());
        let left = number(parts.get(2)?)? + self.again_left;
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
        // Nothing before it is waited for.
        self.last = self.last.max(id(parts.get(5)?)?);
        for (index, value) in parts.into_iter().skip(7).enumerate() {
            let (at, fields) = entry(value)?;
            let message = self
                .setup
                .entries
                .of_stream(at, fields, again && at <= self.again.through);
            self.add(at, message, left + (count - 1 - index) as u64);
        }
        self.cursor = Some(cursor).filter(|cursor| !cursor.is_empty());
        Some(self.came(count, is_too_large))
    }

    fn add(&mut self, at: Place, message: crate::message::Message, pending: u64) {
        self.last = self.last.max(at);
        self.setup.has_had(self.incarnation, at);
        self.buffer.push_back(Delivery {
            message: Arc::new(message),
            receipt: Receipt::Redis(at),
            pending,
        });
    }
}

/// What a request for messages brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    Nothing,
    Something,
    /// The next message needs more room.
    TooLarge,
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
