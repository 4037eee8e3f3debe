//! Modules that use all the processor time they can get, and a neighbour with little to do that must be served at once.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use slipring_support::relay::Relay;
use slipring_support::subscriber::Subscriber;
use slipring_support::{eventually, guests};

use super::numbers::CHANNEL;
use super::world::{SOON, World};

/// Loops of one call, which take about 50 ms.
const SPIN: &str = "100000000";

/// Each one waits until it is settled, so this measures a little more than what a user sees.
const MESSAGES: u64 = 200;

/// Adds a module that asks for 64 threads in its `.toml`, and work for all of them.
fn add_spinner(world: &World, number: usize) -> Result<()> {
    let toml = format!(
        "stream = \"UNRULY\"\nsubjects = [\"unruly.{number}.*\"]\ndeliver = \"all\"\nworkers = 64\ntimeout = \"10s\"\n"
    );
    let wasm = guests::component("unruly")?;
    world.home.add_module(&format!("spinner-{number}"), &wasm, &toml)
}

/// Returns the niceness of each of the relay's threads whose name begins with `name`.
fn niceness(relay: &Relay, name: &str) -> Result<Vec<i64>> {
    let dir = format!("/proc/{}/task", relay.id());
    let mut found = Vec::new();
    for task in fs::read_dir(&dir).with_context(|| format!("reading {dir}"))? {
        // The thread may have ended meanwhile.
        let Ok(stat) = fs::read_to_string(task?.path().join("stat")) else {
            continue;
        };
        let (head, rest) = stat.rsplit_once(") ").context("a name in parentheses")?;
        let (_, thread) = head.split_once('(').context("a name in parentheses")?;
        if thread.starts_with(name) {
            // The 19th field. Two of them are in the head.
            let nice = rest.split(' ').nth(16).context("a niceness")?;
            found.push(nice.parse()?);
        }
    }
    Ok(found)
}

/// Publishes one message after the other and waits for each to be shown. Returns how long each took, the
/// shortest first.
async fn delays(world: &World, jetstream: &jetstream::Context) -> Result<Vec<Duration>> {
    let mut subscriber = Subscriber::connect(&world.centrifugo.websocket_url(), [CHANNEL]).await?;
    let mut delays = Vec::new();
    for number in 1..=MESSAGES {
        let start = std::time::Instant::now();
        jetstream
            .publish("unruly.quick.ok", number.to_string().into())
            .await?
            .await?;
        subscriber.next(SOON).await?;
        delays.push(start.elapsed());
    }
    delays.sort();
    Ok(delays)
}

/// A module has no more threads than there are cores, whatever its `.toml` asks for, and threads that are busy for
/// long give way.
#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_of_modules_that_spin_is_served_in_time() -> Result<()> {
    const SPINNERS: usize = 2;
    const WORK: usize = 2_000;
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    let wasm = guests::component("unruly")?;
    let quick = "stream = \"UNRULY\"\nsubjects = [\"unruly.quick.*\"]\ndeliver = \"all\"\n";
    world.home.add_module("quick", &wasm, quick)?;
    let relay = world.run().await?;
    let alone = delays(&world, &world.jetstream).await?;

    for number in 0..SPINNERS {
        add_spinner(&world, number)?;
        let subject = format!("unruly.{number}.spin");
        world
            .publish((0..WORK).map(|_| (subject.clone(), SPIN.to_owned())))
            .await?;
    }
    let cores = std::thread::available_parallelism()?.get();
    let usual = niceness(&relay, "slipring")?
        .first()
        .copied()
        .context("the main thread")?;
    let give_way = async || {
        for number in 0..SPINNERS {
            let niceness = niceness(&relay, &format!("spinner-{number} "))?;
            ensure!(
                niceness.len() == cores && niceness.iter().all(|nice| *nice > usual),
                "spinner-{number} has threads with {niceness:?}"
            );
        }
        Ok(())
    };
    eventually(SOON, "as many threads as cores, which give way", give_way).await?;
    let beside = delays(&world, &world.jetstream).await?;
    let quick = niceness(&relay, "quick ")?;
    ensure!(
        quick.iter().all(|nice| *nice == usual),
        "a quick module gives way to nobody: {quick:?}"
    );
    let (median, worst) = (MESSAGES as usize / 2, MESSAGES as usize - 1);
    println!(
        "alone: median {:.1?}, worst {:.1?}; beside {SPINNERS} modules that spin: median {:.1?}, worst {:.1?}",
        alone[median], alone[worst], beside[median], beside[worst]
    );
    ensure!(
        beside[median] < Duration::from_millis(500),
        "median {:?}",
        beside[median]
    );
    Ok(())
}
