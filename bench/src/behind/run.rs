//! One run: starts the relay and watches until it has worked off the backlog.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::time::sleep;

use super::newest::Newest;
use super::probe::Probe;
use super::{STREAM, Way, World};
use crate::centrifugo::{Api, Target};
use crate::clock;
use crate::home::{self, CONSUMER, MODULE};

/// The pause between two looks. Each look costs Centrifugo a few milliseconds.
const PACE: Duration = Duration::from_millis(100);

/// How long the module may take to start on a busy machine, or to be refused.
const PATIENCE: Duration = Duration::from_secs(60);

/// Messages a second: fewer than anything here works off.
const SLOWEST: u64 = 2_000;

/// Times are from the start of the relay's process, unless stated otherwise.
#[derive(Debug)]
pub struct Measured {
    /// Until the median channel, and the last one, showed their newest state. `None` if not all do.
    pub newest: Option<(Duration, Duration)>,
    /// From publishing the first new message until its channel showed it, or a newer one.
    pub probe: Option<Duration>,
    /// Until something new came through within a second.
    pub live: Option<Duration>,
    /// Until the whole backlog was acknowledged.
    pub drained: Duration,
    /// Messages of the backlog.
    pub acknowledged: u64,
    /// Publications from the backlog.
    pub publications: u64,
    pub probes: usize,
    pub probes_seen: usize,
    /// The relay's memory in bytes.
    pub peak_memory: u64,
}

/// `probe` is the key of the new messages.
pub async fn run(world: &World, way: Way, probe: u32) -> Result<Measured> {
    // Versions require a history, of any size.
    let target = Target::start(1, |_| ()).await?;
    let home = home::home(
        &world.slipring,
        &world.nats.url(),
        &target.endpoint(Api::Http, None),
        target.centrifugo.api_key(),
        STREAM,
        "idempotency = false",
    )?;
    home.configure_module(
        MODULE,
        &format!("stream = \"{STREAM}\"\ndeliver = \"all\"\n{}\n", way.line),
    )?;
    let mut probe = Probe::subscribe(&target.centrifugo, probe).await?;
    let backlog = world.stream.get_info().await?.state.last_sequence;

    let start = Instant::now();
    let relay = home.run().await?;
    probe.publish(&world.jetstream).await?;
    let deadline = start + PATIENCE + Duration::from_secs(backlog / SLOWEST);
    let mut newest = Newest::new(&world.revisions);
    let mut drained = None;
    let acknowledged = loop {
        let next = Instant::now() + PACE;
        newest.look(&target.centrifugo).await?;
        probe.receive()?;
        let info = clock::look(&world.stream, CONSUMER).await?;
        let acknowledged = info.map_or(0, |info| info.ack_floor.stream_sequence);
        if acknowledged >= backlog {
            drained.get_or_insert_with(Instant::now);
            if probe.log().live().is_some() {
                break acknowledged;
            }
        }
        if Instant::now() >= deadline {
            let log = relay.log().join("\n");
            bail!("{acknowledged} of {backlog} messages are acknowledged after a long time; the relay logged:\n{log}");
        }
        sleep(next.saturating_duration_since(Instant::now())).await;
        probe.publish(&world.jetstream).await?;
    };
    newest.look(&target.centrifugo).await?;
    if way.shows_all {
        ensure!(newest.behind() == 0, "{} channels show an old state", newest.behind());
    }
    let since_start = |at: Instant| at - start;
    Ok(Measured {
        newest: newest
            .reached()
            .filter(|_| newest.behind() == 0)
            .map(|(median, last)| (since_start(median), since_start(last))),
        probe: probe.log().first(),
        live: probe.log().live().map(since_start),
        drained: drained.map(since_start).context("it is drained")?,
        acknowledged: acknowledged.min(world.messages as u64),
        publications: newest.publications(),
        probes: probe.log().published(),
        probes_seen: probe.log().seen(),
        peak_memory: relay.usage()?.peak_memory,
    })
}
