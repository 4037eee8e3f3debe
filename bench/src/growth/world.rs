//! What the cases of a series share: one NATS server with their streams, and one cache of compiled modules.

use std::path::PathBuf;

use anyhow::{Context, Result};
use async_nats::jetstream::stream::Stream;
use slipring_support::servers::NatsServer;
use tempfile::TempDir;

use super::series::{Case, Load};
use crate::event::{self, Event};
use crate::fill::{Headers, fill};
use crate::home;
use crate::options::Options;

#[derive(Debug)]
pub struct World {
    pub nats: NatsServer,
    pub slipring: PathBuf,
    /// Not the user's cache, so that the content does not depend on earlier runs and does not stay.
    pub cache: TempDir,
    filled: Vec<Filled>,
}

/// Streams that hold a load.
#[derive(Debug)]
pub struct Filled {
    load: Load,
    pub streams: Vec<Stream>,
    /// The events of all streams.
    pub events: Vec<Event>,
}

impl World {
    pub async fn start(options: &Options, cases: &[Case]) -> Result<Self> {
        let nats = NatsServer::start().await?;
        let mut filled: Vec<Filled> = Vec::new();
        for case in cases {
            if filled.iter().all(|filled| filled.load != case.load) {
                filled.push(Filled::new(&nats, &format!("BENCH_{}", filled.len()), case.load).await?);
            }
        }
        Ok(Self {
            nats,
            slipring: home::slipring(options.slipring.as_deref())?,
            cache: TempDir::with_prefix("slipring-cache-").context("making a directory for compiled modules")?,
            filled,
        })
    }

    pub fn filled(&self, load: Load) -> Result<&Filled> {
        let mut all = self.filled.iter();
        all.find(|filled| filled.load == load)
            .with_context(|| format!("no stream was filled with {load:?}"))
    }
}

impl Filled {
    async fn new(nats: &NatsServer, name: &str, load: Load) -> Result<Self> {
        let jetstream = nats.jetstream().await?;
        let events = event::shuffled(load.messages, load.keys);
        let mut streams = Vec::new();
        for part in 0..load.streams {
            let of_part = |event: &Event| event.key % load.streams == part;
            let events: Vec<Event> = events.iter().copied().filter(of_part).collect();
            streams.push(fill(&jetstream, &format!("{name}_{part}"), &events, load.size, Headers::None).await?);
        }
        Ok(Self { load, streams, events })
    }
}
