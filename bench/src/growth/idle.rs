//! What modules cost while nothing happens.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::time::sleep;

use super::module::{add_idle, distinct, running};
use crate::centrifugo::{Api, Target};
use crate::event;
use crate::fill::{Headers, fill};
use crate::home;
use crate::meter::{self, Meter};
use crate::options::Options;
use slipring_support::servers::NatsServer;

const STREAM: &str = "BENCH";

/// Messages in the stream. None of them is for these modules.
const MESSAGES: usize = 1_000;

#[derive(Debug, Serialize, Deserialize)]
pub struct Idle {
    pub modules: u32,
    /// From 1.
    pub round: usize,
    pub seconds: f64,
    /// The relay's processor time during these seconds.
    pub cpu_seconds: f64,
    pub nats_cpu_seconds: f64,
    /// The relay's memory at the end, in bytes.
    pub memory: u64,
    /// The relay's largest memory at any time, in bytes.
    pub peak_memory: u64,
}

pub async fn run(options: &Options) -> Result<Vec<Idle>> {
    let (modules, settle, watch): (&[u32], _, _) = if options.smoke {
        (&[3], Duration::from_millis(100), Duration::from_millis(300))
    } else {
        (&[1, 10, 100], Duration::from_secs(3), Duration::from_secs(10))
    };
    let mut all = Vec::new();
    for round in 1..=options.rounds(3, 1) {
        for &modules in modules {
            let idle = one(options, modules, round, settle, watch).await?;
            println!(
                "round {round}, {modules} modules at rest: {:.2} s CPU in {:.1} s, {:.1} MiB",
                idle.cpu_seconds,
                idle.seconds,
                mebibytes(idle.memory)
            );
            all.push(idle);
        }
    }
    Ok(all)
}

async fn one(options: &Options, modules: u32, round: usize, settle: Duration, watch: Duration) -> Result<Idle> {
    let nats = NatsServer::start().await?;
    let events = event::shuffled(MESSAGES, 100);
    fill(&nats.jetstream().await?, STREAM, &events, 200, Headers::None).await?;
    let target = Target::start(1, |_| ()).await?;
    let mut home = home::bare(
        &home::slipring(options.slipring.as_deref())?,
        &nats.url(),
        &target.endpoint(Api::Http, None),
        target.centrifugo.api_key(),
        "",
    )?;
    home.env("SLIPRING_MODULES__CACHE_DIR", home.path().join("cache"));
    let files = TempDir::new().context("making a directory for modules")?;
    add_idle(&home, STREAM, &distinct(files.path(), modules)?)?;
    // The state after a restart: memory that compiling took has been given back.
    let mut relay = home.run().await?;
    running(&relay, modules).await?;
    relay.stop(Duration::from_secs(30)).await?;
    let relay = home.run().await?;
    running(&relay, modules).await?;
    sleep(settle).await;

    let meter = Meter::default()
        .watch("nats-server", || nats.usage())
        .watch("slipring", || relay.usage());
    let before = meter.read()?;
    sleep(watch).await;
    let used = meter::between(&before, &meter.read()?);
    let usage = relay.usage()?;
    Ok(Idle {
        modules,
        round,
        seconds: watch.as_secs_f64(),
        cpu_seconds: used["slipring"].cpu_seconds,
        nats_cpu_seconds: used["nats-server"].cpu_seconds,
        memory: usage.memory,
        peak_memory: usage.peak_memory,
    })
}

pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
