//! How long a relay takes from the start of its process until subscribers see something, with and without compiled
//! modules in the cache. A message waits for each module.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_nats::jetstream;
use async_nats::jetstream::stream::Config;
use serde::{Deserialize, Serialize};
use slipring_support::relay::Home;
use slipring_support::servers::NatsServer;
use slipring_support::subscriber::{Received, Subscriber};
use tempfile::TempDir;
use tokio::time::sleep_until;

use super::module::distinct;
use crate::centrifugo::{Api, Target};
use crate::event::{self, Event};
use crate::home;
use crate::options::Options;

const STREAM: &str = "BENCH";
const SIZE: usize = 200;

/// How long a hundred modules may take to compile on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// When a file is this old, the relay assumes that nobody is writing to it, and reads it once instead of twice. Files
/// at a real restart are older.
const AGED: Duration = Duration::from_secs(11);

#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    pub modules: u32,
    /// From 1.
    pub round: usize,
    /// Whether the compiled modules were in the cache.
    pub cached: bool,
    /// From the start of the process until a subscriber had the message of any module.
    pub first_seconds: f64,
    /// Until it had those of all modules.
    pub all_seconds: f64,
}

pub async fn run(options: &Options) -> Result<Vec<Start>> {
    let modules: &[u32] = if options.smoke { &[3] } else { &[1, 10, 100] };
    let mut all = Vec::new();
    for &modules in modules {
        let mut world = World::start(options, modules).await?;
        // The first start creates the consumers, which a restart does not need to do, and the files grow old meanwhile.
        let files_are_old = Instant::now() + AGED;
        world.restart(false).await.context("starting for the first time")?;
        if !options.smoke {
            sleep_until(files_are_old.into()).await;
        }
        for round in 1..=options.rounds(5, 1) {
            for cached in [false, true] {
                let (first, last) = world.restart(cached).await?;
                println!(
                    "round {round}, {modules} modules{}: first after {first:.0?}, all after {last:.0?}",
                    if cached { " from the cache" } else { "" }
                );
                all.push(Start {
                    modules,
                    round,
                    cached,
                    first_seconds: first.as_secs_f64(),
                    all_seconds: last.as_secs_f64(),
                });
            }
        }
    }
    Ok(all)
}

struct World {
    modules: u32,
    home: Home,
    jetstream: jetstream::Context,
    subscriber: Subscriber,
    starts: u32,
    // They run until the end of the measurement.
    _nats: NatsServer,
    _target: Target,
}

impl World {
    async fn start(options: &Options, modules: u32) -> Result<Self> {
        let nats = NatsServer::start().await?;
        let jetstream = nats.jetstream().await?;
        let config = Config {
            name: STREAM.to_owned(),
            subjects: vec![format!("{STREAM}.>")],
            ..Config::default()
        };
        jetstream.create_stream(config).await.context("creating the stream")?;
        let target = Target::start(1, |_| ()).await?;
        let channels = (0..modules).map(event::channel);
        let subscriber = Subscriber::connect(&target.centrifugo.websocket_url(), channels).await?;
        let mut home = home::bare(
            &home::slipring(options.slipring.as_deref())?,
            &nats.url(),
            &target.endpoint(Api::Http, None),
            target.centrifugo.api_key(),
            "",
        )?;
        home.env("SLIPRING_MODULES__CACHE_DIR", cache(&home));
        let files = TempDir::new().context("making a directory for modules")?;
        for (number, wasm) in distinct(files.path(), modules)?.iter().enumerate() {
            let toml = format!("stream = \"{STREAM}\"\nsubjects = [\"{STREAM}.{number}\"]\ndeliver = \"all\"\n");
            home.add_module(&format!("bench-{number}"), wasm, &toml)?;
        }
        Ok(Self {
            modules,
            home,
            jetstream,
            subscriber,
            starts: 0,
            _nats: nats,
            _target: target,
        })
    }

    /// Stores a message for each module, starts the relay and stops it again. Returns how long it took until the first
    /// and the last message arrived.
    async fn restart(&mut self, cached: bool) -> Result<(Duration, Duration)> {
        self.starts += 1;
        for key in 0..self.modules {
            let event = Event {
                key,
                revision: self.starts,
            };
            let payload = event.payload(SIZE).into();
            let ack = self.jetstream.publish(format!("{STREAM}.{key}"), payload).await?;
            ack.await.context("storing a message")?;
        }
        let cache = cache(&self.home);
        if !cached && cache.exists() {
            std::fs::remove_dir_all(&cache).with_context(|| format!("removing {}", cache.display()))?;
        }
        let start = Instant::now();
        let mut relay = self.home.run().await?;
        let received = self.subscriber.take(self.modules as usize, PATIENCE).await;
        let received = received.with_context(|| format!("the relay logged:\n{}", relay.log().join("\n")))?;
        relay.stop(PATIENCE).await?;
        let after = |received: Option<&Received>| received.map_or(Duration::ZERO, |received| received.at - start);
        Ok((after(received.first()), after(received.last())))
    }
}

fn cache(home: &Home) -> PathBuf {
    home.path().join("cache")
}
