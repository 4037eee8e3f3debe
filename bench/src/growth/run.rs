//! One case: the relay drains the backlog.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::jetstream::stream::Stream;
use slipring_support::guests;
use tempfile::TempDir;

use super::module::{add_idle, distinct, running};
use super::series::Case;
use super::world::{Filled, World};
use crate::arrived::{Arrived, Shape, arrived};
use crate::centrifugo::{Api, Target};
use crate::clock::{self, Drained};
use crate::event::Event;
use crate::home;
use crate::meter::{Meter, Used};

/// Window bytes per message: the default of 32 MiB for 4,096.
const WINDOW_BYTES: usize = 8_192;

/// The most histories that are read afterwards.
const CHECKED: u32 = 2_000;

/// This many messages are expected to take no longer than the limit.
const PER_LIMIT: usize = 400_000;

#[derive(Debug)]
pub struct Measured {
    pub messages: u64,
    pub elapsed: Duration,
    /// Nothing was left when the clock stopped.
    pub all: bool,
    pub arrived: Arrived,
    pub used: BTreeMap<String, Used>,
}

/// `limit` is in seconds. Cases with more messages get more time.
pub async fn run(world: &World, case: &Case, limit: f64) -> Result<Measured> {
    let (load, setup) = (case.load, case.relay);
    let filled = world.filled(load)?;
    let limit = Duration::from_secs_f64(limit * (load.messages as f64 / PER_LIMIT as f64).max(1.0));
    let history = load.messages.div_ceil(load.keys as usize);
    let target = Target::start(history, |_| ()).await?;
    let mut home = home::bare(
        &world.slipring,
        &world.nats.url(),
        &target.endpoint(Api::Http, None),
        target.centrifugo.api_key(),
        &format!("idempotency = false\norder = \"{}\"", setup.order),
    )?;
    home.env("SLIPRING_MODULES__CACHE_DIR", world.cache.path());
    let files = TempDir::new().context("making a directory for modules")?;
    let stream = &filled.streams[0].cached_info().config.name;
    add_idle(&home, stream, &distinct(files.path(), setup.idle)?)?;
    world.nats.forget_peak_memory()?;
    let mut relay = home.run().await?;
    // Wait until the idle modules have started. Their start is measured elsewhere.
    running(&relay, setup.idle).await?;

    let wasm = guests::component("bench-guest")?;
    let mut consumers: Vec<(&Stream, String)> = Vec::new();
    for (number, stream) in filled.streams.iter().enumerate() {
        let toml = format!(
            "stream = \"{}\"\ndeliver = \"all\"\nwindow = {}\nwindow_bytes = {}\nworkers = {}\n",
            stream.cached_info().config.name,
            setup.window,
            setup.window * WINDOW_BYTES,
            setup.workers
        );
        let name = format!("bench-{number}");
        home.add_module(&name, &wasm, &toml)?;
        consumers.push((stream, format!("slipring-{name}")));
    }
    let meter = Meter::default()
        .watch("nats-server", || world.nats.usage())
        .watch("slipring", || relay.usage())
        .watch("centrifugo", || target.centrifugo.usage());
    let watched: Vec<(&Stream, &str)> = consumers
        .iter()
        .map(|(stream, name)| (*stream, name.as_str()))
        .collect();
    let drained = clock::drain_all(&watched, limit, &meter, async { Ok(()) })
        .await
        .with_context(|| format!("the relay logged:\n{}", relay.log().join("\n")))?;
    drop(meter);
    relay.kill();
    for stream in &filled.streams {
        clock::forget_consumers(stream).await?;
    }
    let arrived = check(&target, case, filled, &drained).await?;
    Ok(Measured {
        messages: drained.messages,
        elapsed: drained.elapsed,
        all: drained.all,
        arrived,
        used: drained.used,
    })
}

/// Reads the histories of all channels, or of some if there are too many.
async fn check(target: &Target, case: &Case, filled: &Filled, drained: &Drained) -> Result<Arrived> {
    let every = case.load.keys.div_ceil(CHECKED);
    let is_checked = |event: &&Event| event.key.is_multiple_of(every);
    let checked: Vec<Event> = filled.events.iter().filter(is_checked).copied().collect();
    let acknowledged = if every == 1 {
        drained.acknowledged
    } else {
        // With so many channels there is one stream, and the acknowledged messages are its first ones.
        let acknowledged = filled.events.iter().take(usize::try_from(drained.acknowledged)?);
        acknowledged.filter(is_checked).count() as u64
    };
    let arrived = arrived(&target.centrifugo, &checked, case.load.size, Shape::Reshaped).await?;
    arrived.ensure_in_order(drained.all.then_some(checked.len() as u64), acknowledged)?;
    Ok(arrived)
}
