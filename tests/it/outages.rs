//! A server is away for a while, under load. The relay keeps its messages, tries again now and then, keeps JetStream
//! from redelivering them, and continues by itself. `faults` tests the answers of a running Centrifugo, and `streams`
//! tests restarts. These tests are about time.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use async_nats::jetstream::consumer;
use serde_json::Value;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::chaos::arena::Arena;
use super::chaos::{messages, number};
use super::numbers::{CHANNEL, numbers, shows};
use super::world::{SOON, World, module};

/// Long enough for every backoff to reach its longest pause.
const AWAY: Duration = Duration::from_secs(10);

/// The time before and after the outage, with constant load.
const AROUND: Duration = Duration::from_secs(2);

/// The default window is 4,096 messages. The relay may hold each in three forms, beside wasmtime and the guest.
const MEMORY: u64 = 128 << 20;

/// The messages that wait in the long outage, twelve times the window.
const WAITING: u64 = 50_000;

/// Publishes all the time while a server is away. Everything is shown in the end, and only once, except for what
/// Centrifugo forgot. Returns the consumer's state at the end.
async fn outlives(
    down: impl AsyncFnOnce(&mut Arena) -> Result<()>,
    up: impl AsyncFnOnce(&mut Arena) -> Result<()>,
) -> Result<consumer::Info> {
    let mut arena = Arena::start(1).await?;
    let (jetstream, over) = (arena.jetstream.clone(), CancellationToken::new());
    let outage = async {
        arena.relay(0)?.ready(SOON).await?;
        sleep(AROUND).await;
        down(&mut arena).await?;
        let before = arena.relay(0)?.usage()?;
        sleep(AWAY).await;
        let after = arena.relay(0)?.usage()?;
        ensure!(
            arena.relay(0)?.get("/readyz").await.is_err(),
            "it is not ready while a server is away"
        );
        up(&mut arena).await?;
        sleep(AROUND).await;
        over.cancel();
        let busy = (after.cpu_time - before.cpu_time).as_secs_f64() / AWAY.as_secs_f64();
        anyhow::Ok((busy, after.memory))
    };
    let publisher = messages::publish(&jetstream, 1, over.clone());
    let ((), (busy, memory)) = tokio::try_join!(publisher, outage)?;
    arena.all_acked(SOON).await?;
    arena.relay(0)?.ready(SOON).await?;
    let info = arena.consumer().await?;
    let (messages, _, judgement) = arena.judge().await?;
    println!(
        "{messages} messages; {:.0} % of a processor and {} MiB while the server was away\n{judgement}",
        100.0 * busy,
        memory >> 20
    );
    ensure!(judgement.is_good(), "{judgement}");
    // The relay transforms what still comes in.
    ensure!(busy < 0.5, "the relay took {:.0} % of a processor", 100.0 * busy);
    ensure!(memory < MEMORY, "the relay held {} MiB", memory >> 20);
    Ok(info)
}

#[tokio::test(flavor = "multi_thread")]
async fn centrifugo_is_away_under_load_and_comes_back_with_an_empty_memory() -> Result<()> {
    let down = async |arena: &mut Arena| {
        arena.centrifugo.kill();
        arena.centrifugo_ended().await
    };
    let info = outlives(down, async |arena: &mut Arena| arena.restart_centrifugo().await).await?;
    ensure!(info.num_redelivered == 0, "nothing was delivered again: {info:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_is_away_under_load_and_comes_back_with_its_store() -> Result<()> {
    let down = async |arena: &mut Arena| {
        arena.nats.kill();
        Ok(())
    };
    outlives(down, async |arena: &mut Arena| arena.nats.restart().await)
        .await
        .map(drop)
}

/// Longer than JetStream waits for an ack (60 s), and, as `make outage` runs it, longer than Centrifugo
/// remembers keys (300 s).
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make outage SECONDS=360"]
async fn a_long_outage_with_more_messages_than_the_window_takes() -> Result<()> {
    const BEFORE: u64 = 1_000;
    let away = Duration::from_secs(number("OUTAGE_SECONDS")?.unwrap_or(360));
    let mut arena = Arena::start(1).await?;
    messages::publish_many(&arena.jetstream, 1..=BEFORE).await?;
    arena.all_acked(SOON).await?;
    report(&mut arena, "before").await?;

    arena.witness.read_histories(&arena.centrifugo).await?;
    arena.centrifugo.kill();
    arena.centrifugo_ended().await?;
    let start = Instant::now();
    messages::publish_many(&arena.jetstream, BEFORE + 1..=BEFORE + WAITING).await?;
    let full = |status: &Value| module(status, "unruly")["window_messages"] == 4_096;
    arena.relay(0)?.status_when(SOON, "a full window", full).await?;
    let (filled, cpu) = (Instant::now(), arena.relay(0)?.usage()?.cpu_time);
    while start.elapsed() < away {
        sleep((away / 10).min(away.saturating_sub(start.elapsed()))).await;
        report(&mut arena, &format!("{:.0?} without Centrifugo", start.elapsed())).await?;
        let info = arena.consumer().await?;
        ensure!(info.num_redelivered == 0, "nothing is delivered again: {info:?}");
    }
    let cpu = arena.relay(0)?.usage()?.cpu_time - cpu;
    let busy = cpu.as_secs_f64() / filled.elapsed().as_secs_f64();
    ensure!(busy < 0.1, "the relay took {:.0} % of a processor", 100.0 * busy);

    arena.restart_centrifugo().await?;
    let healing = Instant::now();
    arena.all_acked(SOON * 5).await?;
    println!(
        "{WAITING} messages were delivered {:.1?} after Centrifugo came back; {:.1} % of a processor before",
        healing.elapsed(),
        100.0 * busy
    );
    report(&mut arena, "after").await?;
    let info = arena.consumer().await?;
    ensure!(info.num_redelivered == 0, "nothing was delivered again: {info:?}");
    let (messages, _, judgement) = arena.judge().await?;
    println!("{messages} messages; {judgement}");
    ensure!(judgement.is_good(), "{judgement}");
    ensure!(
        judgement.forgotten == 0,
        "what was confirmed and acked was not published again: {judgement}"
    );
    Ok(())
}

/// Prints a line about the relay and its consumer, and checks the memory.
async fn report(arena: &mut Arena, when: &str) -> Result<()> {
    let info = arena.consumer().await?;
    let usage = arena.relay(0)?.usage()?;
    println!(
        "{when}: {} MiB held, {} MiB at most; {:.1?} of processor time; {} messages pending, {} outstanding, num_redelivered {}",
        usage.memory >> 20,
        usage.peak_memory >> 20,
        usage.cpu_time,
        info.num_pending,
        info.num_ack_pending,
        info.num_redelivered
    );
    ensure!(
        usage.peak_memory < MEMORY,
        "the relay held {} MiB",
        usage.peak_memory >> 20
    );
    Ok(())
}

/// A window that is full, or whose oldest message has waited too long, takes nothing in. The relay must still notice at
/// once that NATS is gone, instead of queueing commands for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_noticed_while_the_window_takes_nothing_in() -> Result<()> {
    for toml in ["window_age = \"1s\"", "window = 10"] {
        let mut world = World::start().await?;
        world.stream("UNRULY", &["unruly.>"]).await?;
        world.add_unruly(toml)?;
        let relay = world.run().await?;
        world.centrifugo.kill();
        world.publish(numbers(1..=10)).await?;
        let taken_in = |status: &Value| module(status, "unruly")["transformed"] == 10;
        relay.status_when(SOON, "ten messages to wait", taken_in).await?;
        // The status shows how long the oldest message has waited.
        let overdue = |status: &Value| module(status, "unruly")["lag_seconds"].as_f64() > Some(1.5);
        relay.status_when(SOON, "the window to be overdue", overdue).await?;
        world.publish(numbers(11..=20)).await?;
        world.nats.kill();
        relay
            .has_logged(
                SOON,
                "reading was interrupted, continuing with the first unsettled message",
            )
            .await?;
        world.nats.restart().await?;
        world.centrifugo.restart().await?;
        shows(&world.centrifugo, CHANNEL, 1..=20).await?;
        world.all_acked(SOON, "UNRULY", "unruly").await?;
    }
    Ok(())
}
