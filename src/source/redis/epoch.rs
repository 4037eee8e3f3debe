//! One epoch: from taking the lease until the connection or the lease is lost.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};
use slipring_core::message::PLACE;
use slipring_core::place::Place;
use slipring_core::read::{Again, Incarnation, MAX_CHUNK, Missed, Newest, Room};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::super::{Delivery, Lease, Receipt};
use super::entry::Entries;
use super::keys::Keys;
use super::reply::{self, Taken, text};
use super::{CONSUMER, scripts};
use crate::config::{Deliver, End, RedisSource};
use crate::redis::{Error, Server};

/// How long the server waits for a message before it is asked again.
pub(super) const WAIT_SECONDS: u32 = 5;

/// How long reading pauses when a full server refuses to wait.
const FULL_PAUSE: Duration = Duration::from_millis(500);

type Request = Pin<Box<dyn Future<Output = Result<Value, RedisError>> + Send>>;

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
    /// The other relay that was last seen to have the lease.
    pub(super) other: Mutex<Option<Other>>,
    /// What the server says about itself was logged.
    pub(super) looked_at: AtomicBool,
    /// The newest message that this reader has had. Before the first one, where its newest epoch began.
    pub(super) newest: Mutex<Newest>,
}

/// Another relay that had the lease. It publishes for as long as its lease lasts, even if Redis has lost it.
#[derive(Debug, Clone)]
pub(super) struct Other {
    pub(super) reader: String,
    /// The epoch of this reader that was about to begin.
    pub(super) epoch: u64,
    /// Everything up to here was settled.
    pub(super) settled: Option<Place>,
    pub(super) seen: Instant,
    /// When its lease ends, as far as this reader knows.
    pub(super) until: Instant,
    /// It may have been renewed after it was seen.
    pub(super) is_unsure: bool,
}

impl Other {
    /// The lease may have been renewed until now. Before this one is seen again, that is taken into account only once,
    /// because whoever has lost its server cannot renew.
    pub(super) fn doubt(&mut self, now: Instant, ttl: Duration) {
        if !self.is_unsure {
            (self.until, self.is_unsure) = (now + ttl, true);
        }
    }
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
    /// Where to continue reading what was not settled. `None` once all of it has come.
    cursor: Option<String>,
    /// About how many messages are still to come again.
    again_left: u64,
    /// The next message needs more room than this.
    full: Option<Room>,
    /// A request for messages, and the room that it was sent with.
    taking: Option<(Room, Request)>,
    waiting: Option<Request>,
    /// The newest entry that came.
    last: Place,
    tell: watch::Sender<Option<EpochEnd>>,
    over: watch::Receiver<Option<EpochEnd>>,
    /// Goes on after the epoch was closed, for as long as something is in flight.
    pub(super) renewing: Option<AbortOnDropHandle<()>>,
}

/// What Redis held when the lease was taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) incarnation: Incarnation,
    pub(super) again: Again,
    /// Everything up to here is settled.
    pub(super) settled: Place,
}

/// What was delivered, and what was removed before it could be.
pub(super) type Came = (Vec<Delivery>, Vec<Missed>);

/// Why an epoch is over.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum EpochEnd {
    #[error(
        "another relay has taken the lease of `{key}`, or Redis has lost it{}",
        if *.standby { "" } else { "; to run two relays, enable `[standby]` in both" }
    )]
    Taken { key: String, standby: bool },
    #[error("the connection to Redis was lost")]
    Disconnected,
    #[error("the stream `{0}` or its consumer group was deleted")]
    Gone(String),
    #[error(transparent)]
    Failed(#[from] Arc<Error>),
}

impl Setup {
    /// Returns what a failed request means for the epoch over whose connection it was sent.
    pub(super) fn end_of(&self, doing: &str, error: RedisError) -> EpochEnd {
        if error.is_connection_dropped() || (error.is_io_error() && !error.is_timeout()) {
            return EpochEnd::Disconnected;
        }
        EpochEnd::Failed(Arc::new(match &self.server {
            Some(server) => server.error(doing, error),
            None => Error::NotConfigured,
        }))
    }

    pub(super) fn taken(&self) -> EpochEnd {
        EpochEnd::Taken {
            key: self.keys.source.clone(),
            standby: self.shared,
        }
    }

    pub(super) fn newest(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn other(&self) -> MutexGuard<'_, Option<Other>> {
        self.other.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ttl_ms(&self) -> u64 {
        u64::try_from(self.ttl.as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn kind(&self) -> &'static str {
        match self.source {
            RedisSource::List { .. } => "list",
            RedisSource::Stream { .. } => "stream",
        }
    }
}

impl Epoch {
    pub(super) fn new(
        setup: Arc<Setup>,
        token: Arc<str>,
        found: Found,
        lease: Lease,
        (connection, waiter): (MultiplexedConnection, MultiplexedConnection),
        (tell, over): (watch::Sender<Option<EpochEnd>>, watch::Receiver<Option<EpochEnd>>),
        renewing: AbortOnDropHandle<()>,
    ) -> Self {
        let Found {
            incarnation,
            again,
            settled,
        } = found;
        let from = match setup.source {
            RedisSource::List { .. } => settled,
            RedisSource::Stream { .. } => Place::Id(0, 0),
        };
        Self {
            incarnation,
            again,
            lease,
            setup,
            token,
            connection,
            waiter,
            cursor: Some(from.to_string()),
            again_left: again.messages as u64,
            full: None,
            taking: None,
            waiting: None,
            last: settled.max(again.through),
            tell,
            over,
            renewing: Some(renewing),
        }
    }

    pub(super) fn connection(&self) -> MultiplexedConnection {
        self.connection.clone()
    }

    pub(super) fn token(&self) -> Arc<str> {
        Arc::clone(&self.token)
    }

    /// Returns what ends the epoch, for those who use its connection.
    pub(super) fn teller(&self) -> watch::Sender<Option<EpochEnd>> {
        self.tell.clone()
    }

    /// Returns what comes next. Without `room` it only waits for the end of the epoch. Cancel-safe: a request that is under
    /// way goes on in the next call.
    pub(super) async fn next(&mut self, room: Option<Room>) -> Result<Came, EpochEnd> {
        let Some(room) = room else {
            return Err(ended(&mut self.over).await);
        };
        loop {
            if self.waiting.is_none() && self.taking.is_none() {
                if room.messages == 0 || self.full == Some(room) {
                    return Err(ended(&mut self.over).await);
                }
                self.taking = Some((room, self.take(room)));
            }
            let mut over = self.over.clone();
            tokio::select! {
                biased;
                end = ended(&mut over) => return Err(end),
                (asked, reply) = taken(&mut self.taking) => {
                    self.taking = None;
                    let reply = reply.map_err(|error| self.setup.end_of("taking messages from Redis", error))?;
                    let taken = self.read(reply)?;
                    // The room may be another one by now.
                    self.full = taken.has_no_room.then_some(asked);
                    let may_wait = self.cursor.is_none() && self.full.is_none();
                    let came = self.count(taken);
                    if !came.0.is_empty() || !came.1.is_empty() {
                        return Ok(came);
                    }
                    if may_wait {
                        self.waiting = Some(self.wait());
                    }
                }
                reply = waited(&mut self.waiting) => {
                    self.waiting = None;
                    if let Err(error) = reply {
                        if error.code() != Some("OOM") {
                            return Err(self.setup.end_of("waiting for messages in Redis", error));
                        }
                        // A full server refuses to wait. What is there can be taken all the same, and little comes.
                        self.waiting = Some(Box::pin(async {
                            sleep(FULL_PAUSE).await;
                            Ok(Value::Nil)
                        }));
                    }
                }
            }
        }
    }

    /// Asks for as many messages as there is room for.
    fn take(&self, room: Room) -> Request {
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
    fn wait(&self) -> Request {
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

    fn read(&mut self, reply: Value) -> Result<Taken, EpochEnd> {
        let unexpected = || EpochEnd::from(Arc::new(Error::Reply("a script that takes messages")));
        let Value::Array(parts) = reply else {
            return Err(unexpected());
        };
        let word = parts.first().and_then(text);
        match word.as_deref() {
            Some("ok") => {}
            Some("lost") => return Err(self.setup.taken()),
            Some("gone") => return Err(EpochEnd::Gone(self.setup.keys.source.clone())),
            _ => return Err(unexpected()),
        }
        let entries = &self.setup.entries;
        let again = self.cursor.as_ref().map(|_| self.again.through);
        let taken = match self.setup.source {
            RedisSource::List { .. } => reply::of_list(parts, entries, again, self.cursor.as_deref()),
            RedisSource::Stream { .. } => reply::of_stream(parts, entries, again),
        };
        let taken = taken.ok_or_else(unexpected)?;
        self.cursor.clone_from(&taken.cursor);
        self.last = self.last.max(taken.delivered);
        Ok(taken)
    }

    /// Counts what came. What is still to come again counts as pending, so that the pipeline does not believe too early
    /// that it has caught up.
    fn count(&mut self, taken: Taken) -> Came {
        let count = taken.messages.len();
        let left = self.again_left.saturating_sub((count + taken.trimmed.len()) as u64);
        self.again_left = if self.cursor.is_some() { left.max(1) } else { 0 };

        let mut newest = self.setup.newest();
        // The pipeline still has what it received, whatever the stream lost since.
        let had = newest.of(self.incarnation);
        let trimmed: Vec<Place> = taken
            .trimmed
            .into_iter()
            .filter(|at| had.is_none_or(|had| *at > had))
            .collect();
        let trimmed = trimmed.first().zip(trimmed.last()).map(|(first, last)| Missed {
            first: *first,
            last: *last,
            messages: trimmed.len() as u64,
            exact: true,
        });
        if let Some(message) = taken.messages.last() {
            newest.handed_on(self.incarnation, message.place);
        }
        let left = taken.left + self.again_left;
        let deliveries = taken.messages.into_iter().enumerate().map(|(index, message)| Delivery {
            receipt: Receipt::Redis(message.place),
            message: Arc::new(message),
            pending: left + (count - 1 - index) as u64,
        });
        (deliveries.collect(), trimmed.into_iter().chain(taken.unread).collect())
    }
}

/// Waits for the end of the epoch.
async fn ended(over: &mut watch::Receiver<Option<EpochEnd>>) -> EpochEnd {
    let end = over.wait_for(Option::is_some).await;
    end.ok().and_then(|end| end.clone()).unwrap_or(EpochEnd::Disconnected)
}

/// Waits for a request that is under way, or for ever.
async fn taken(task: &mut Option<(Room, Request)>) -> (Room, Result<Value, RedisError>) {
    match task {
        Some((room, request)) => (*room, request.await),
        None => std::future::pending().await,
    }
}

/// Waits for a request that is under way, or for ever.
async fn waited(task: &mut Option<Request>) -> Result<Value, RedisError> {
    match task {
        Some(request) => request.await,
        None => std::future::pending().await,
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
