//! What all ways share: one NATS server or a cluster, and its streams.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use async_nats::jetstream::stream::Stream;
use slipring_support::servers::{NatsServer, NatsVersion};
use slipring_support::{Usage, guests};

use crate::clock;
use crate::event::{self, Event};
use crate::fill::{Headers, fill_replicated};
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
    /// At least one. Each has a replica of the streams.
    nodes: Vec<NatsServer>,
    pub plain: Stream,
    pub with_headers: Stream,
    pub events: Vec<Event>,
    pub slipring: PathBuf,
    /// The module that the relay runs.
    pub module: PathBuf,
    pub limit: Duration,
    /// The relay has a processor core of its own.
    pub own_core: bool,
    /// Somebody has the relay's page and a tap open.
    pub watched: bool,
}

impl World {
    pub async fn start(options: &Options, messages: usize) -> Result<Self> {
        Self::fill(options, messages, vec![NatsServer::start().await?]).await
    }

    /// Starts three nodes.
    pub async fn start_cluster(options: &Options, messages: usize) -> Result<Self> {
        let nodes = NatsServer::start_cluster(NatsVersion::V2_15).await?;
        Self::fill(options, messages, nodes.into()).await
    }

    async fn fill(options: &Options, messages: usize, nodes: Vec<NatsServer>) -> Result<Self> {
        let slipring = home::slipring(options.slipring.as_deref())?;
        let jetstream = nodes[0].jetstream().await?;
        let events = event::shuffled(messages, KEYS);
        let fill = async |name, headers| fill_replicated(&jetstream, nodes.len(), name, &events, SIZE, headers).await;
        Ok(Self {
            plain: fill(PLAIN, Headers::None).await?,
            with_headers: fill(WITH_HEADERS, Headers::Centrifugo).await?,
            nodes,
            events,
            slipring,
            module: guests::component("bench-guest")?,
            limit: Duration::from_secs_f64(options.limit),
            own_core: options.own_core,
            watched: false,
        })
    }

    /// Returns how many servers there are.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// Returns the URL of the server that clients connect to.
    pub fn url(&self) -> String {
        self.nodes[0].url()
    }

    /// Returns what all servers have used together.
    pub fn usage(&self) -> Result<Usage> {
        let (first, others) = (self.nodes[0].usage()?, &self.nodes[1..]);
        others.iter().try_fold(first, |sum, node| {
            let usage = node.usage()?;
            Ok(Usage {
                memory: sum.memory + usage.memory,
                peak_memory: sum.peak_memory + usage.peak_memory,
                cpu_time: sum.cpu_time + usage.cpu_time,
            })
        })
    }

    pub fn forget_peak_memory(&self) -> Result<()> {
        self.nodes.iter().try_for_each(NatsServer::forget_peak_memory)
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
