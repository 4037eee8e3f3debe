//! What all ways share: one NATS server, and its streams.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use async_nats::jetstream::stream::Stream;
use slipring_support::servers::NatsServer;

use crate::clock;
use crate::event::{self, Event};
use crate::fill::{Headers, fill};
use crate::home;
use crate::options::Options;

/// Bytes of a message.
pub const SIZE: usize = 200;
/// Also the number of channels.
pub const KEYS: u32 = 1_000;

/// The stream without headers.
pub const PLAIN: &str = "BENCH";
/// The same messages with the headers that Centrifugo's own consumer needs. The other ways do not carry them.
pub const WITH_HEADERS: &str = "BENCH_HEADERS";

#[derive(Debug)]
pub struct World {
    pub nats: NatsServer,
    pub plain: Stream,
    pub with_headers: Stream,
    pub events: Vec<Event>,
    pub slipring: PathBuf,
    pub limit: Duration,
}

impl World {
    pub async fn start(options: &Options, messages: usize) -> Result<Self> {
        let slipring = home::slipring(options.slipring.as_deref())?;
        let nats = NatsServer::start().await?;
        let jetstream = nats.jetstream().await?;
        let events = event::shuffled(messages, KEYS);
        Ok(Self {
            plain: fill(&jetstream, PLAIN, &events, SIZE, Headers::None).await?,
            with_headers: fill(&jetstream, WITH_HEADERS, &events, SIZE, Headers::Centrifugo).await?,
            nats,
            events,
            slipring,
            limit: Duration::from_secs_f64(options.limit),
        })
    }

    /// Returns how many publications a channel's history must hold to keep everything.
    pub fn history(&self) -> usize {
        self.events.len()
    }

    pub async fn forget_consumers(&self) -> Result<()> {
        for stream in [&self.plain, &self.with_headers] {
            clock::forget_consumers(stream).await?;
        }
        Ok(())
    }
}
