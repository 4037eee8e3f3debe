//! Where messages come from. A pipeline reads one [`Source`] and knows nothing more about it than what is here.
//!
//! Each source keeps these rules, and the pipeline relies on them:
//!
//! 1. What comes in one epoch is in the order of the source, without a hole. Each source says what a hole is, and ends
//!    the epoch if it finds one.
//! 2. An epoch begins with everything that is not settled, oldest first.
//! 3. A source settles nothing at its server that was not passed to [`Source::acknowledge`]. The receipts come in the
//!    order of the messages, and may reach the server late. What the server does not hear of comes again.
//! 4. A message has the same [`Place`](crate::message::Message::place) and timestamp each time it comes, after a crash too.
//! 5. With standby, the lease ends by this machine's clock before any other relay can read.
//!
//! CONTRIBUTING.md has the steps to add one.

pub mod jetstream;
mod lease;
#[cfg(feature = "redis")]
pub mod redis;
mod standing_by;

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use slipring_core::place::Place;
use slipring_core::read::{Again, Incarnation, Missed, Newest, Position, Room};

use crate::config::{ModuleConfig, Standby};
use crate::nats::Lazy;

pub use lease::Lease;
pub use standing_by::Active;

/// A delivered message with what acknowledges it.
pub type Delivery = slipring_core::read::Delivery<Receipt>;

/// What acknowledges a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// The subject of the ack.
    JetStream(Subject),
    Redis(Place),
}

/// What to tell the source about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ack {
    /// It is settled.
    Done(Receipt),
    /// It takes longer than usual.
    InProgress(Receipt),
}

/// The events of a source.
#[derive(Debug)]
pub enum News {
    /// Another relay reads, and this one waits for its turn. Comes again when the other one changes.
    StandingBy(Active),
    /// An epoch has started on this incarnation of the source. These messages come first.
    Began(Incarnation, Again),
    /// The deliveries, and messages that the source removed before they could be read.
    Delivered(Vec<Delivery>, Vec<Missed>),
    /// The epoch has ended.
    Over(Over),
    /// The attempt to open an epoch failed. The error says what to change.
    Trouble(anyhow::Error),
}

/// Why an epoch has ended, and another one has to begin.
#[derive(Debug)]
pub struct Over {
    pub reason: anyhow::Error,
    /// Another relay may be reading now.
    pub lost: bool,
}

/// The connections that sources need, each made when the first one needs it. A clone has the same ones.
#[derive(Debug, Clone)]
pub struct Connections {
    pub nats: Lazy,
    #[cfg(feature = "redis")]
    /// `None` if `slipring.toml` has no `[redis]`.
    pub redis: Option<crate::redis::Server>,
}

/// What one pipeline reads.
#[derive(Debug)]
pub enum Source {
    JetStream(Box<jetstream::Reader>),
    #[cfg(feature = "redis")]
    Redis(Box<redis::Reader>),
}

/// Calls the method of the source that it is.
macro_rules! each {
    ($source:expr, $reader:ident => $call:expr) => {
        match $source {
            Source::JetStream($reader) => $call,
            #[cfg(feature = "redis")]
            Source::Redis($reader) => $call,
        }
    };
}

impl Source {
    /// `before` is the newest message that earlier runs of the pipeline have read.
    pub fn new(
        connections: &Connections,
        config: &Arc<ModuleConfig>,
        standby: Option<Standby>,
        before: Newest,
    ) -> Self {
        match &config.source {
            crate::config::Source::JetStream => Self::JetStream(Box::new(jetstream::Reader::new(
                connections.nats.clone(),
                Arc::clone(config),
                standby,
                before,
            ))),
            #[cfg(feature = "redis")]
            crate::config::Source::Redis(source) => Self::Redis(Box::new(redis::Reader::new(
                connections.redis.clone(),
                config,
                source.clone(),
                standby.as_ref(),
            ))),
            #[cfg(not(feature = "redis"))]
            crate::config::Source::Redis(_) => unreachable!("the configuration refuses it"),
        }
    }

    /// Opens an epoch. If the server has forgotten what was read, reading resumes at `position`.
    pub fn open(&mut self, position: Option<Position>) {
        each!(self, reader => reader.open(position));
    }

    /// Returns the next event. Cancel-safe. While the source is closed there are no events. Without `room` it takes in
    /// no messages, but still notices that the epoch is over.
    pub async fn next(&mut self, room: Option<Room>) -> News {
        each!(self, reader => reader.next(room).await)
    }

    /// Returns the bytes that have come and were not taken in.
    pub fn waiting(&self) -> usize {
        each!(self, reader => reader.waiting())
    }

    /// Returns the lease on publishing, with standby.
    pub fn lease(&self) -> Option<&Lease> {
        each!(self, reader => reader.lease())
    }

    /// Takes acks, in the order of their messages, and returns at once. All that are there at a time should come
    /// together.
    pub fn acknowledge(&mut self, acks: Vec<Ack>) {
        each!(self, reader => reader.acknowledge(acks));
    }

    /// Stops reading. Messages that were delivered and not taken in come again in another epoch.
    pub fn close(&mut self) {
        each!(self, reader => reader.close());
    }

    /// Returns once the server has all acks, or does not reply in time. If `release` is set, another relay may then take
    /// over at once.
    pub async fn end(self, release: bool) {
        each!(self, reader => reader.end(release).await);
    }
}

/// How far the reader of a source is, as its server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderState {
    /// Messages that were not delivered yet.
    pub pending: u64,
    /// Messages that were delivered and not acknowledged.
    pub ack_pending: u64,
    /// The place of the newest delivery.
    pub delivered: Place,
    /// The place up to which everything is acknowledged.
    pub ack_floor: Place,
    /// How long the reader stays paused, if it is.
    pub paused_for: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is no connection, which is trouble of its own.
    #[error("the server is not connected")]
    Disconnected,
    /// Neither is trouble: a pipeline creates its reader, and waits for its source.
    #[error("the consumer or its stream does not exist")]
    Absent,
    #[error("{server} did not reply within {} s", INSPECT_TIMEOUT.as_secs())]
    Late { server: &'static str },
    #[error("asking for the state of the consumer failed")]
    Failed(#[source] anyhow::Error),
}

/// How long a server may take to tell the state of a reader.
pub const INSPECT_TIMEOUT: Duration = Duration::from_secs(4);

/// Asks the server how far a module's reader is. It needs no epoch, so it also works while nothing is read.
pub async fn inspect(connections: &Connections, config: &ModuleConfig) -> Result<ReaderState, InspectError> {
    match &config.source {
        crate::config::Source::JetStream => match connections.nats.made() {
            Some(nats) => jetstream::inspect(&nats, config).await,
            None => Err(InspectError::Disconnected),
        },
        #[cfg(feature = "redis")]
        crate::config::Source::Redis(source) => match &connections.redis {
            Some(server) => redis::inspect(server, config, source).await,
            None => Err(InspectError::Disconnected),
        },
        #[cfg(not(feature = "redis"))]
        crate::config::Source::Redis(_) => Err(InspectError::Disconnected),
    }
}
