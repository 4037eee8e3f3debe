//! What the routes for dead letters work with, and how much of it they may use at once.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::refused::Refused;
use crate::config::{self, Config};
use crate::dead_letter::{Servers, Session};
use crate::nats::Nats;
use crate::publish::Client;

/// How long a connection to NATS may take.
pub(super) const CONNECTING: Duration = Duration::from_secs(5);

/// How long it may take to connect and to look the stream up.
const OPENING: Duration = Duration::from_secs(8);

/// How long one request may read. It is enough for a million letters.
pub(super) const READING: Duration = Duration::from_secs(30);

/// How long a request waits for those before it.
const WAITING: Duration = Duration::from_secs(10);

/// How often to look whether NATS has denied a permission. A denied request has no reply.
const LOOKING: Duration = Duration::from_millis(100);

/// A clone is the same one.
#[derive(Debug, Clone)]
pub struct Backend(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    servers: Servers,
    centrifugo: Arc<Client>,
    publish: config::Publish,
    /// How long a replay that is told to stop waits for what is in flight.
    grace: Duration,
    /// Cancelled when the relay begins to end.
    drain: CancellationToken,
    /// One scan at a time, because each takes the time of a processor, and memory.
    scans: Semaphore,
    /// One payload at a time, because each may be large.
    payloads: Semaphore,
    /// One replay or removal at a time. Two replays could publish in another order than that of the messages.
    changes: Arc<Semaphore>,
}

impl Backend {
    /// `centrifugo` should be a client that no pipeline uses. Connections to Redis will live in the current tokio
    /// runtime.
    pub fn new(config: &Config, centrifugo: Client, drain: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            servers: Servers::new(config),
            centrifugo: Arc::new(centrifugo),
            publish: config.publish.clone(),
            grace: config.shutdown.grace,
            drain,
            scans: Semaphore::new(1),
            payloads: Semaphore::new(1),
            changes: Arc::new(Semaphore::new(1)),
        }))
    }

    /// Returns one that has no server, for tests of everything else.
    #[cfg(any(test, fuzzing))]
    pub(in crate::admin) fn without_servers() -> Self {
        let file = std::path::Path::new("slipring.toml");
        let mut config = config::parse_config(file, "", [("", ""); 0]).expect("the defaults");
        config.dead_letters.store = config::Store::Redis;
        let centrifugo = Client::new(&config.centrifugo).expect("the defaults");
        Self::new(&config, centrifugo, CancellationToken::new())
    }

    pub(super) fn servers(&self) -> &Servers {
        &self.0.servers
    }

    pub(super) fn centrifugo(&self) -> &Arc<Client> {
        &self.0.centrifugo
    }

    pub(super) fn publish(&self) -> &config::Publish {
        &self.0.publish
    }

    pub(super) fn grace(&self) -> Duration {
        self.0.grace
    }

    pub(super) fn drain(&self) -> &CancellationToken {
        &self.0.drain
    }

    /// Opens the stream of the dead letters.
    pub(super) async fn open(&self) -> Result<Session, Refused> {
        match timeout(OPENING, self.0.servers.open(CONNECTING)).await {
            Ok(opened) => Ok(opened?),
            Err(_) => Err(Refused::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "The server that keeps the dead letters did not reply within {} s.",
                    OPENING.as_secs()
                ),
            )),
        }
    }

    /// Waits for its turn to scan.
    pub(super) async fn scan(&self) -> Result<SemaphorePermit<'_>, Refused> {
        turn(&self.0.scans).await
    }

    /// Waits for its turn to read a payload.
    pub(super) async fn payload(&self) -> Result<SemaphorePermit<'_>, Refused> {
        turn(&self.0.payloads).await
    }

    /// Begins a replay or a removal, unless there is one.
    pub(super) fn change(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let permit = Arc::clone(&self.0.changes).try_acquire_owned();
        permit.map_err(|_| {
            let text = "Another replay or removal of dead letters is running; wait for its end.";
            Refused::new(StatusCode::CONFLICT, text)
        })
    }
}

async fn turn(permits: &Semaphore) -> Result<SemaphorePermit<'_>, Refused> {
    match timeout(WAITING, permits.acquire()).await {
        Ok(permit) => Ok(permit.expect("nobody closes the semaphore")),
        Err(_) => Err(Refused::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Other requests are reading the dead letters; try again.",
        )),
    }
}

/// Waits for `reading`, but not for a server that is slow or denies it.
pub(super) async fn within<T, E: Into<Refused>>(
    session: &Session,
    reading: impl Future<Output = Result<T, E>>,
) -> Result<T, Refused> {
    let text = tokio::select! {
        done = reading => return done.map_err(Into::into),
        text = denied(session.nats.as_ref()) => text,
        () = sleep(READING) => format!(
            "Reading the dead letters took longer than {} s; name one module, or use `slipring dead-letters`.",
            READING.as_secs()
        ),
    };
    Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, text))
}

/// Waits until NATS denies a permission on this connection, and says which.
async fn denied(nats: Option<&Nats>) -> String {
    let Some(nats) = nats else { return pending().await };
    loop {
        sleep(LOOKING).await;
        if let Some(text) = missing_permission(nats) {
            return text;
        }
    }
}

/// Says which permission NATS has denied on this connection, if it has.
pub(super) fn missing_permission(nats: &Nats) -> Option<String> {
    let denied = nats.denials.current(Instant::now()).pop()?;
    Some(format!(
        "NATS does not let the relay's user publish to `{}`. Allow it in NATS' configuration; `slipring check --permissions` \
         prints all that is needed.",
        denied.subject
    ))
}
