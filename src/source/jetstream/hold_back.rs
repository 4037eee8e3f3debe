//! Begins an epoch on a server that cannot reset a consumer: new messages are held back until every pending one has
//! been delivered again.
//!
//! Without this, such a server delivers new messages first, and unacked ones only after ack_wait. So the relay narrows
//! the consumer for a moment. With max_ack_pending at 1 nothing new is delivered while anything is pending, and with a
//! short ack_wait all pending messages come soon. (nats-server 2.10.26 and 2.12.8, `server/consumer.go`: `updateConfig`
//! lets the redelivery timer fire 100 ms later, `checkPending` queues what is older than ack_wait, `getNextMsg` takes
//! from that queue first and then respects max_ack_pending.) When all pending messages have come, the consumer gets its
//! settings back, and the epoch begins with the collected messages in stream order. If the relay is interrupted, the
//! consumer stays narrow. The next relay that binds to it restores its settings.

use std::time::Duration;

use async_nats::jetstream::consumer::{Consumer, FromConsumer, pull};
use slipring_core::read::{ACK_WAIT, Collection, Snapshot};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::super::Receipt;
use super::delivery::Reader;
use super::settings::{self, SHORT_ACK_WAIT};
use super::{SourceError, Start};
use crate::config::ModuleConfig;
use crate::nats::Nats;
use crate::nats::wire::{Answer, Fetch, PullRequest, Wire, status};

/// How long a pull lives. By then, everything that can come has started to come.
const EXPIRES: Duration = Duration::from_millis(600);

/// If the server has not even ended a pull this long after its time, the pull is lost.
const SILENCE: Duration = Duration::from_secs(3);

/// On a consumer with replicas, the server may count a delivery a moment after it came.
const SETTLING: Duration = Duration::from_millis(20);
const SETTLING_ATTEMPTS: usize = 10;

/// What has not come by then will not come. nats-server 2.10.26 may keep a message pending that the stream has lost. It
/// is twice ack_wait because the times of redelivery may be off by one ack_wait.
const GIVE_UP: Duration = Duration::from_secs(2 * ACK_WAIT.as_secs());

/// Begins an epoch on a consumer that `consumer::bind` has just bound.
pub(super) async fn begin(
    nats: &Nats,
    wire: Wire,
    generation: u64,
    config: &ModuleConfig,
) -> Result<(Start, Wire), SourceError> {
    let mut link = nats.link.clone();
    let other = |link: &crate::nats::Link| !link.connected || link.generation != generation;
    let mut fetch = Fetch::new(wire, nats.pull_subject(&config.stream, &config.consumer));
    tokio::select! {
        start = (HoldBack { nats, config }).run(&mut fetch) => Ok((start?, fetch.into_wire())),
        // What comes afterwards would belong to another connection.
        _ = link.wait_for(other) => Err(SourceError::Disconnected { doing: "holding new messages back".to_owned() }),
    }
}

#[derive(Clone, Copy)]
struct HoldBack<'a> {
    nats: &'a Nats,
    config: &'a ModuleConfig,
}

impl HoldBack<'_> {
    async fn run(self, fetch: &mut Fetch) -> Result<Start, SourceError> {
        let begun = Instant::now();
        let consumer = self.consumer().await?;
        let opening = snapshot(&consumer);
        if opening.pending == 0 {
            return Ok(Start {
                delivered: opening.delivered,
                held: Vec::new(),
            });
        }
        info!(
            consumer = self.config.consumer,
            pending = opening.pending,
            "the NATS server {} cannot reset a consumer (2.14 and later can): holding new messages back until the {} \
             unacknowledged ones have been redelivered",
            self.nats.client.server_info().version,
            opening.pending
        );
        let wide = pull::Config::try_from_consumer_config(consumer.cached_info().config.clone())
            .map_err(|error| SourceError::request(self.doing("reading the settings of"), error))?;
        let max_batch = settings::max_batch(&consumer.cached_info().config);
        let narrow = pull::Config {
            ack_wait: SHORT_ACK_WAIT,
            max_ack_pending: 1,
            ..wide.clone()
        };
        let held = loop {
            self.update(narrow.clone()).await?;
            let collection = self.collect(fetch, max_batch).await?;
            self.update(wide.clone()).await?;
            if let Some(start) = self.release(collection).await? {
                break start;
            }
        };
        info!(
            consumer = self.config.consumer,
            held = held.held.len(),
            duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "the unacknowledged messages have been redelivered, continuing with new ones"
        );
        Ok(held)
    }

    /// Pulls until as many different messages have come as are pending.
    async fn collect(self, fetch: &mut Fetch, max_batch: usize) -> Result<Collection<Receipt>, SourceError> {
        let mut collection = Collection::new(self.snapshot().await?);
        let (mut progress, mut came) = (Instant::now(), 0);
        while !collection.is_complete() {
            self.pull(fetch, &mut collection, max_batch).await?;
            if collection.is_complete() {
                break;
            }
            if collection.came() > came {
                (progress, came) = (Instant::now(), collection.came());
            }
            let now = self.snapshot().await?;
            if !collection.goes_on(now) {
                // Late acks from another connection arrived. It is unknown which messages are still to come.
                collection = Collection::new(now);
                (progress, came) = (Instant::now(), 0);
            } else if progress.elapsed() >= GIVE_UP {
                warn!(
                    consumer = self.config.consumer,
                    lost = collection.give_up(),
                    "some unacknowledged messages were not redelivered: the stream has probably removed them. Continuing \
                     without them"
                );
            }
        }
        Ok(collection)
    }

    /// Sends one pull for all that is pending, or for as many as a pull may ask for. When this returns, the pull has
    /// ended at the server, so nothing is delivered to it later.
    async fn pull(
        self,
        fetch: &mut Fetch,
        collection: &mut Collection<Receipt>,
        max_batch: usize,
    ) -> Result<(), SourceError> {
        let batch = collection.due().min(max_batch);
        let request = PullRequest {
            batch,
            expires: Some(EXPIRES),
            ..PullRequest::default()
        };
        let failed = |error: async_nats::Error| SourceError::request(self.doing("pulling from"), error);
        fetch.ask(&request).map_err(|error| failed(error.into()))?;
        let reader = Reader::new(&self.config.stream);
        for _ in 0..batch {
            let Ok(answer) = timeout(EXPIRES + SILENCE, fetch.next()).await else {
                return Ok(());
            };
            match answer.map_err(|error| failed(error.into()))? {
                Answer::Message(frame) => {
                    let (sequence, delivery) = reader.read(&frame).map_err(|error| failed(error.into()))?;
                    collection.take(sequence, delivery);
                }
                Answer::Status(status::TIMEOUT, _) => return Ok(()),
                Answer::Status(status, description) => {
                    return Err(failed(format!("the server returned {status} {description}").into()));
                }
            }
        }
        Ok(())
    }

    /// Returns the beginning of the epoch if the collected messages are the ones that are pending now.
    async fn release(self, mut collection: Collection<Receipt>) -> Result<Option<Start>, SourceError> {
        for _ in 0..SETTLING_ATTEMPTS {
            let closing = self.snapshot().await?;
            match collection.release(closing) {
                Ok(held) => {
                    let delivered = closing.delivered;
                    return Ok(Some(Start { delivered, held }));
                }
                Err(rest) => collection = rest,
            }
            sleep(SETTLING).await;
        }
        Ok(None)
    }

    async fn update(self, settings: pull::Config) -> Result<(), SourceError> {
        let updated = self
            .nats
            .jetstream
            .update_consumer_on_stream(settings, &self.config.stream)
            .await;
        updated
            .map(drop)
            .map_err(|error| SourceError::request(self.doing("updating"), error))
    }

    async fn snapshot(self) -> Result<Snapshot, SourceError> {
        self.consumer().await.map(|consumer| snapshot(&consumer))
    }

    async fn consumer(self) -> Result<Consumer<pull::Config>, SourceError> {
        self.nats
            .jetstream
            .get_consumer_from_stream(&self.config.consumer, &self.config.stream)
            .await
            .map_err(|error| SourceError::request(self.doing("looking up"), error))
    }

    fn doing(self, what: &str) -> String {
        format!(
            "{what} the consumer `{}` of `{}`",
            self.config.consumer, self.config.stream
        )
    }
}

fn snapshot(consumer: &Consumer<pull::Config>) -> Snapshot {
    let info = consumer.cached_info();
    Snapshot {
        pending: info.num_ack_pending,
        floor: info.ack_floor.stream_sequence,
        delivered: info.delivered.consumer_sequence,
    }
}
