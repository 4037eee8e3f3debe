//! Settles messages in Redis beside the pipeline, so that a slow server never delays it.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use slipring_core::place::Place;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::epoch::{EpochEnd, Setup};
use super::keys::Keys;
use super::scripts;
use crate::config::RedisSource;

/// How long the last settlements may take. Without a connection they never arrive.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// The most messages that are settled in one request.
const MOST: usize = 1_024;

/// Takes places in order, and settles them over the connection of one epoch. What is not settled when that is lost comes
/// again, and is settled then.
#[derive(Debug)]
pub(super) struct Settler {
    sender: mpsc::UnboundedSender<Vec<Place>>,
    task: JoinHandle<()>,
}

impl Settler {
    /// An error ends the epoch, through `tell`.
    pub(super) fn start(
        setup: Arc<Setup>,
        token: Arc<str>,
        connection: MultiplexedConnection,
        tell: watch::Sender<Option<EpochEnd>>,
    ) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        let task = tokio::spawn(run(setup, token, connection, receiver, tell));
        Self { sender, task }
    }

    /// If the task has ended, nothing more can be settled over its connection.
    pub(super) fn settle(&self, places: Vec<Place>) {
        let _ = self.sender.send(places);
    }

    /// Returns once everything is settled, or the server does not reply in time.
    pub(super) async fn flush(self) {
        let Self { sender, mut task } = self;
        drop(sender);
        if timeout(FLUSH_TIMEOUT, &mut task).await.is_err() {
            task.abort();
            warn!("Redis did not confirm in time what was settled last; these messages may be delivered again");
        }
    }
}

async fn run(
    setup: Arc<Setup>,
    token: Arc<str>,
    mut connection: MultiplexedConnection,
    mut receiver: mpsc::UnboundedReceiver<Vec<Place>>,
    tell: watch::Sender<Option<EpochEnd>>,
) {
    let mut places: Vec<Place> = Vec::new();
    while let Some(first) = receiver.recv().await {
        places.extend(first);
        while places.len() < MOST
            && let Ok(more) = receiver.try_recv()
        {
            places.extend(more);
        }
        for chunk in places.chunks(MOST) {
            let end = match settle(&setup, &token, &mut connection, chunk).await {
                Ok(reply) if reply == "ok" => continue,
                Ok(_) => setup.taken(),
                Err(error) => setup.end_of("settling messages in Redis", error),
            };
            debug!(%end, "the epoch is over, so these messages are delivered again");
            tell.send_if_modified(|known| {
                let is_first = known.is_none();
                if is_first {
                    *known = Some(end);
                }
                is_first
            });
            return;
        }
        places.clear();
    }
}

pub(super) async fn settle(
    setup: &Setup,
    token: &str,
    connection: &mut MultiplexedConnection,
    places: &[Place],
) -> Result<String, redis::RedisError> {
    let Keys {
        lease,
        state,
        source,
        taken,
    } = &setup.keys;
    let ttl = setup.ttl_ms();
    let last = places.last().copied().unwrap_or_default().to_string();
    match &setup.source {
        RedisSource::List { keep, .. } => {
            scripts::SETTLE_LIST
                .key(lease)
                .key(state)
                .key(taken)
                .arg(token)
                .arg(ttl)
                .arg(last)
                .arg(places.len())
                .arg(*keep)
                .invoke_async(connection)
                .await
        }
        RedisSource::Stream { .. } => {
            let mut call = scripts::SETTLE_STREAM.key(lease);
            call.key(state).key(source).arg(token).arg(ttl).arg(&setup.group);
            for place in places {
                call.arg(place.to_string());
            }
            call.invoke_async(connection).await
        }
    }
}
