//! Small messages that become large, and messages that take far more memory than their bytes. The relay never holds
//! more than its configuration allows.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::{Value, json};
use slipring_support::relay::Relay;
use slipring_support::servers::Centrifugo;

use crate::world::{SOON, World, has_published, module};

/// The limit for a hundred broadcasts on 20,000 channels, on a busy machine.
const LONG: Duration = Duration::from_secs(300);

/// `window_bytes` by default.
const WINDOW: u64 = 32 << 20;

/// The guest's instance is counted separately: `memory` by default. One thread has one instance.
const GUEST: u64 = 64 << 20;

/// The most memory beyond that of the idle relay.
const BOUND: u64 = 2 * WINDOW + (64 << 20) + GUEST;

async fn world() -> Result<World> {
    let centrifugo = Centrifugo::prepare(|config| {
        let namespaces = config["channel"]["namespaces"].as_array_mut();
        // Without history, because Centrifugo's memory does not matter here.
        namespaces
            .into_iter()
            .for_each(|namespaces| namespaces.push(json!({ "name": "unruly" })));
    })?;
    let (url, key) = (centrifugo.url(), centrifugo.api_key().to_owned());
    let world = World::start_with(centrifugo, &url, &key).await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    Ok(world)
}

/// Returns an idle relay and its memory.
async fn idle(world: &World) -> Result<(Relay, u64)> {
    let relay = world.run().await?;
    // The memory for compiling is not measured here.
    relay.forget_peak_memory()?;
    let memory = relay.usage()?.memory;
    Ok((relay, memory))
}

fn within_the_bound(relay: &Relay, idle: u64) -> Result<()> {
    let peak = relay.usage()?.peak_memory - idle;
    println!("{} MiB above the {} MiB of the idle relay", peak >> 20, idle >> 20);
    ensure!(peak <= BOUND, "the relay held {} MiB more than when idle", peak >> 20);
    Ok(())
}

/// Sends messages that each ask for this amount of something. All are published, within the bound.
async fn becomes(messages: u64, wish: &str, amount: usize) -> Result<()> {
    let mut world = world().await?;
    world.centrifugo.restart().await?;
    world.add_unruly("timeout = \"10s\"")?;
    let (relay, before) = idle(&world).await?;
    world
        .publish((0..messages).map(|_| (format!("unruly.{wish}"), amount.to_string())))
        .await?;
    world.all_acked(LONG, "UNRULY", "unruly").await?;
    has_published(&relay, "unruly", messages).await?;
    within_the_bound(&relay, before)
}

#[tokio::test(flavor = "multi_thread")]
async fn broadcasts_on_100000_channels() -> Result<()> {
    becomes(25, "broadcast", 100_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn broadcasts_on_20000_channels() -> Result<()> {
    becomes(150, "broadcast", 20_000).await
}

/// No two messages have a channel in common, so each channel needs a queue of its own.
#[tokio::test(flavor = "multi_thread")]
async fn broadcasts_on_channels_that_nothing_else_is_for() -> Result<()> {
    becomes(15, "strangers", 100_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn publications_of_15_mb() -> Result<()> {
    becomes(25, "large", 15_000_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn publications_of_900_kb() -> Result<()> {
    becomes(400, "large", 900_000).await
}

/// The smallest possible headers, and very many of them.
#[tokio::test(flavor = "multi_thread")]
async fn headers_that_wait_for_centrifugo() -> Result<()> {
    const MESSAGES: u64 = 500;
    const LINES: usize = 12_000;
    let mut world = world().await?;
    world.centrifugo.restart().await?;
    world.add_unruly("")?;
    let (relay, before) = idle(&world).await?;
    world.centrifugo.kill();
    let mut headers = HeaderMap::new();
    for _ in 0..LINES {
        headers.append("a", "");
    }
    for _ in 0..MESSAGES {
        let stored = world
            .jetstream
            .publish_with_headers("unruly.ok", headers.clone(), Bytes::from_static(b"1"))
            .await?;
        stored.await.context("storing a message")?;
    }
    // The relay takes in as many as fit, but not all.
    let full = |status: &Value| module(status, "unruly")["window_bytes"].as_u64() >= Some(WINDOW / 2);
    let status = relay.status_when(SOON, "a full window", full).await?;
    ensure!(
        module(&status, "unruly")["window_messages"].as_u64() < Some(MESSAGES),
        "{status}"
    );
    world.centrifugo.restart().await?;
    world.all_acked(LONG, "UNRULY", "unruly").await?;
    within_the_bound(&relay, before)
}

/// Eight modules could hold 256 MiB together, and the limit is 64 MiB. Everything is published, and a neighbour with
/// little to do is not delayed by those with much.
#[tokio::test(flavor = "multi_thread")]
async fn all_modules_together_keep_to_the_limit_and_leave_their_neighbour_its_share() -> Result<()> {
    const GREEDY: usize = 7;
    const EACH: u64 = 150;
    let mut world = world().await?;
    world.home.env("SLIPRING_MEMORY_LIMIT", "64MiB");
    let wasm = slipring_support::guests::component("unruly")?;
    for number in 0..GREEDY {
        let toml = format!("stream = \"UNRULY\"\nsubjects = [\"unruly.{number}.*\"]\ndeliver = \"all\"\n");
        world.home.add_module(&format!("greedy-{number}"), &wasm, &toml)?;
    }
    let toml = "stream = \"UNRULY\"\nsubjects = [\"unruly.small.*\"]\ndeliver = \"all\"\n";
    world.home.add_module("small", &wasm, toml)?;
    // Nothing is accepted, so the modules hold what they may.
    let relay = world.home.run().await?;
    let messages =
        (0..EACH).flat_map(|_| (0..GREEDY).map(|number| (format!("unruly.{number}.large"), "300000".to_owned())));
    world.publish(messages).await?;
    let limit = 64_u64 << 20;
    let used = |status: &Value| status["memory"]["used"].as_u64().unwrap_or_default();
    let full = |status: &Value| status["memory"]["limit"] == limit && used(status) >= limit / 2;
    relay.status_when(SOON, "the memory to be used", full).await?;
    world
        .publish((0..EACH).map(|_| ("unruly.small.ok".to_owned(), "1".to_owned())))
        .await?;
    let taken_in = |status: &Value| module(status, "small")["transformed"] == EACH;
    relay
        .status_when(SOON, "the small module to take in its messages", taken_in)
        .await?;
    let status = relay.status().await?;
    // Each module may exceed the limit by one message, and by what was read but not taken in.
    ensure!(used(&status) <= limit + (8 << 20), "{status}");
    world.centrifugo.restart().await?;
    for number in 0..GREEDY {
        world.all_acked(LONG, "UNRULY", &format!("greedy-{number}")).await?;
    }
    world.all_acked(LONG, "UNRULY", "small").await?;
    let metrics = relay.metrics().await?;
    ensure!(metrics.contains("slipring_memory_limit_bytes 67108864"), "{metrics}");
    Ok(())
}
