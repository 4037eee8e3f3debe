//! JetStream: one durable pull consumer per pipeline, read in epochs.
//!
//! An epoch begins with a reset of the consumer to its ack floor and lasts as long as deliveries are contiguous. This
//! keeps the order, whatever happened before. If a server cannot reset a consumer, the relay has it deliver all pending
//! messages first (`hold_back`). Nothing here knows what becomes of a message.

mod acks;
mod consumer;
mod delivery;
mod epoch;
mod fitness;
mod hold_back;
mod inspect;
mod memory;
mod pin;
mod reader;
mod retention;
mod server;
mod settings;
mod signature;

pub use consumer::holds_subjects;
pub use delivery::Reader as DeliveryReader;
pub use fitness::{Fitness, Settings};
pub use inspect::inspect;
pub use reader::Reader;
pub use server::{FIRST_WITH_RESET, OLDEST, Server};

use std::sync::Arc;

use async_nats::jetstream::consumer::{Consumer, Info, pull};
use async_nats::jetstream::stream::Stream;
use slipring_core::read::{Again, Found, Incarnation, Position, Resume, Retention};
use tracing::debug;

use crate::config::{ModuleConfig, Standby};
use crate::nats::Nats;
use crate::nats::wire::Wire;

use self::consumer::Bound;
use self::epoch::Epoch;
use self::memory::Memory;
use self::pin::Pin;
use super::Delivery;
use super::standing_by::Teller;

/// Why there is no epoch yet. All of these can be fixed while the relay runs, so the relay reports them and tries
/// again.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("the stream `{stream}` does not exist: create it, or correct `stream` in the module's .toml")]
    NoStream { stream: String },
    #[error(
        "the stream `{stream}` cannot hold messages of the subject `{subject}`: its subjects are {subjects}; correct \
         `subjects` in the module's .toml, or change the stream"
    )]
    NoSubject {
        stream: String,
        subject: String,
        subjects: String,
    },
    #[error(
        "the consumer `{consumer}` of the stream `{stream}` already exists with settings that would break ordering or \
         delivery: {settings}; delete it, or name another with `consumer` in the module's .toml"
    )]
    Unfit {
        stream: String,
        consumer: String,
        settings: String,
    },
    /// The reason is a sentence that says what to change.
    #[error("{reason}")]
    Refused { reason: String },
    #[error("the consumer `{consumer}` of the stream `{stream}` cannot be created: {hint}")]
    NotMade {
        stream: String,
        consumer: String,
        hint: &'static str,
        source: async_nats::Error,
    },
    #[error(
        "the NATS server is {version}, but a consumer with several subjects needs {oldest} or later: upgrade it, if \
         possible to {recommended} or later",
        oldest = server::OLDEST,
        recommended = server::FIRST_WITH_RESET
    )]
    TooOld { version: String },
    #[error(
        "`[standby]` is enabled, and the NATS server is {version}; it must be 2.14.3 or later, because earlier \
         versions cannot reset a consumer or have bugs in pinning"
    )]
    NoStandby { version: String },
    #[error("{doing} was interrupted: the connection to NATS was lost")]
    Disconnected { doing: String },
    #[error("{doing} failed")]
    Request { doing: String, source: async_nats::Error },
}

impl SourceError {
    fn request(doing: String, source: impl Into<async_nats::Error>) -> Self {
        Self::Request {
            doing,
            source: source.into(),
        }
    }
}

/// Where an epoch begins.
#[derive(Debug, Default)]
struct Start {
    /// The consumer sequence of the last delivery before the epoch.
    delivered: u64,
    /// Messages that were delivered already. They come first, in stream order.
    held: Vec<Delivery>,
}

/// What an epoch reads, and the pin that allows it.
struct Reading {
    stream: Stream,
    identity: Incarnation,
    again: Again,
    retention: Retention,
    /// Another relay may have published deliveries above this sequence.
    floor: u64,
    memory: Arc<Memory>,
    pin: Option<Arc<Pin>>,
    /// The most messages that a pull may ask for.
    max_batch: usize,
}

/// What the source needs to share a consumer with other relays.
#[derive(Debug)]
struct StandingBy {
    standby: Standby,
    /// The pin of the epoch before.
    pin: Option<Arc<Pin>>,
    /// Is told while another relay reads.
    waiting: Teller,
}

/// Checks that the connected server supports standby.
pub fn can_stand_by(nats: &Nats) -> Result<(), SourceError> {
    if nats.client.is_server_compatible(2, 14, 3) {
        return Ok(());
    }
    Err(SourceError::NoStandby {
        version: nats.client.server_info().version,
    })
}

/// Begins an epoch: waits for a connection, binds to the consumer or creates it, makes sure that no pending message can
/// arrive after a newer one, and subscribes. If the consumer was deleted, it is created at the pipeline's position, if
/// that is known.
async fn begin_epoch(
    mut nats: Nats,
    config: Arc<ModuleConfig>,
    position: Option<Position>,
    standby: Option<StandingBy>,
    memory: Arc<Memory>,
) -> Result<Epoch, SourceError> {
    // The watch cannot close while `nats` holds the client whose callback feeds it.
    let generation = nats
        .link
        .wait_for(|link| link.connected)
        .await
        .map_or(0, |link| link.generation);
    let server = Server::of(&nats.client);
    if server == Server::TooOld {
        return Err(SourceError::TooOld {
            version: nats.client.server_info().version,
        });
    }
    if standby.is_some() {
        can_stand_by(&nats)?;
    }
    let settings = standby.as_ref().map(|standing_by| standing_by.standby.clone());
    let Bound {
        mut consumer,
        stream,
        identity,
        is_new,
        max_ack_pending,
    } = consumer::bind(&nats.jetstream, &config, settings.as_ref(), position, &memory).await?;
    let wire = Wire::open(&nats, config.window_bytes).await;
    let mut wire = wire.map_err(|error| {
        SourceError::request(
            format!(
                "opening a connection to NATS for the deliveries of `{}`",
                config.consumer
            ),
            error,
        )
    })?;
    let pin = match standby {
        None => None,
        Some(StandingBy { pin: Some(pin), .. }) => Some(pin),
        Some(StandingBy { standby, waiting, .. }) => {
            let pin = pin::acquire(
                &nats,
                &mut wire,
                &config,
                stream.clone(),
                &mut consumer,
                &standby,
                &waiting,
            )
            .await?;
            Some(Arc::new(pin))
        }
    };
    let mut floor = consumer.cached_info().ack_floor.stream_sequence;
    let waiting = consumer.cached_info().num_ack_pending > 0;
    let through = consumer.cached_info().delivered.stream_sequence;
    let max_batch = settings::max_batch(&consumer.cached_info().config);
    let (start, to_come) = if server == Server::Resets {
        let info = reset(consumer, &config).await?;
        floor = info.ack_floor.stream_sequence;
        let name = settings.as_ref().and_then(|standby| standby.name.as_deref());
        if let (Some(pin), Some(name)) = (&pin, name) {
            signature::write(&nats, &stream, &info, pin, name).await;
        }
        (Start::default(), info.num_pending)
    } else {
        let (start, back) = hold_back::begin(&nats, wire, generation, &config).await?;
        wire = back;
        let held = start.held.len() as u64;
        (start, held)
    };
    let keeps = retention::keeps(&stream.cached_info().config, &config.subjects);
    let found = Found {
        is_new,
        floor,
        delivered_through: through,
        max_ack_pending,
        to_come,
    };
    let Resume {
        again,
        read_through,
        floor,
    } = Resume::of(found, memory.newest(identity), memory.before(identity));
    let retention = Retention::new(keeps, read_through, waiting);
    let reading = Reading {
        stream,
        identity,
        again,
        retention,
        floor,
        memory,
        pin,
        max_batch,
    };
    Ok(Epoch::subscribe(nats, generation, wire, &config, reading, start))
}

/// Resets the consumer and returns its new state. The next delivery has consumer sequence 1.
async fn reset(mut consumer: Consumer<pull::Config>, config: &ModuleConfig) -> Result<Info, SourceError> {
    let reset = consumer.reset(None).await.map_err(|error| {
        SourceError::request(
            format!("resetting the consumer `{}` of `{}`", config.consumer, config.stream),
            error,
        )
    })?;
    let floor = reset.info.ack_floor.stream_sequence;
    debug!(consumer = config.consumer, floor, "reset the consumer");
    Ok(reset.info)
}
