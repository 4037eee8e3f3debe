//! Small messages that become a lot, and messages that take far more than their bytes: whatever they are, the relay holds no more
//! than its configuration allows.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use bytes::Bytes;
use serde_json::{Value, json};
use slipring_support::relay::Relay;
use slipring_support::servers::Centrifugo;

use crate::world::{SOON, World, module};

/// For a hundred broadcasts on 20,000 channels, on a busy machine.
const LONG: Duration = Duration::from_secs(300);

/// `window_bytes` by default.
const WINDOW: u64 = 32 << 20;

/// What the guest's instance takes is apart: `memory` by default. One thread has one.
const GUEST: u64 = 64 << 20;

/// What may be held above what the idle relay holds.
const BOUND: u64 = 2 * WINDOW + (64 << 20) + GUEST;

async fn world() -> Result<World> {
    let centrifugo = Centrifugo::prepare(|config| {
        let namespaces = config["channel"]["namespaces"].as_array_mut();
        // Without history: what Centrifugo holds does not matter here.
        namespaces
            .into_iter()
            .for_each(|namespaces| namespaces.push(json!({ "name": "unruly" })));
    })?;
    let (url, key) = (centrifugo.url(), centrifugo.api_key().to_owned());
    let world = World::start_with(centrifugo, &url, &key).await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    Ok(world)
}

/// An idle relay, and what it holds.
async fn idle(world: &World) -> Result<(Relay, u64)> {
    let relay = world.run().await?;
    // What compiling took is not what is looked at.
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

/// So many messages that ask for so much of something each are all published, within the bound.
async fn becomes(messages: u64, wish: &str, amount: usize) -> Result<()> {
    let mut world = world().await?;
    world.centrifugo.restart().await?;
    world.add_unruly("timeout = \"10s\"")?;
    let (relay, before) = idle(&world).await?;
    world
        .publish((0..messages).map(|_| (format!("unruly.{wish}"), amount.to_string())))
        .await?;
    world.all_acked(LONG, "UNRULY", "unruly").await?;
    let status = relay.status().await?;
    ensure!(module(&status, "unruly")["published"] == messages, "{status}");
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

/// No two messages have one in common, so that each needs a queue of its own.
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

/// The smallest headers there are, very many of them.
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
    // The relay takes in as many as fit, and not all.
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

/// Eight modules that could hold 256 MiB together, and a limit of 64: all is published, and a neighbour with little to do is not
/// kept waiting by those with much.
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
    // Nobody takes anything, so that they hold what they may.
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
    // One message each may go beyond it, and what was read and not taken in.
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
