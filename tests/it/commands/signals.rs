//! Signals from service managers and people to a running relay.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::super::numbers::{CHANNEL, acknowledged_as_shown, counts, numbers, shows, state};
use super::super::world::{SOON, World, module};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_and_sigint_finish_what_is_in_flight() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    world.publish(numbers(1..=10_000)).await?;
    for terminate in [true, false] {
        let mut relay = world.run().await?;
        let some = |status: &Value| module(status, "unruly")["published"].as_u64() > Some(100);
        relay.status_when(SOON, "some publications", some).await?;
        if terminate {
            relay.sigterm()?
        } else {
            relay.sigint()?
        }
        let status = relay.wait(SOON).await?;
        ensure!(status.code() == Some(0), "{status}: {:#?}", relay.log());
        let signal = if terminate { "SIGTERM" } else { "SIGINT" };
        let said = relay.log();
        ensure!(
            said.iter()
                .any(|line| line.contains(signal) && line.contains("shutting down")),
            "{said:#?}"
        );
        ensure!(
            !relay.logged("ended with unsettled messages"),
            "nothing is left: {said:#?}"
        );
        acknowledged_as_shown(&world, "UNRULY", "slipring-unruly").await?;
    }
    let _relay = world.run().await?;
    shows(&world.centrifugo, CHANNEL, 1..=10_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_leaves_at_once_and_says_what_remains() -> Result<()> {
    let mut world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.home.configure_more("[shutdown]\ngrace = \"10m\"")?;
    world.add_unruly("")?;
    world.publish(numbers(1..=20)).await?;
    let mut relay = world.run().await?;
    shows(&world.centrifugo, CHANNEL, 1..=20).await?;
    world.centrifugo.stop().await?;
    world.publish(numbers(21..=50)).await?;
    let stuck =
        |status: &Value| module(status, "unruly")["received"] == 50 && status["centrifugo"]["trouble"].is_string();
    relay
        .status_when(SOON, "30 messages to wait for Centrifugo", stuck)
        .await?;

    relay.sigterm()?;
    relay.logs(SOON, "a second signal exits at once").await?;
    state(&relay, "unruly", "draining").await?;
    let why = format!("{:#}", relay.get("/readyz").await.err().context("it is not ready")?);
    ensure!(why.contains("shutting down"), "{why}");
    relay.sigint()?;
    let status = relay.wait(SOON).await?;
    ensure!(status.code() == Some(0), "it did as it was told: {status}");
    let left = relay.logs(SOON, "ended with unsettled messages").await?;
    ensure!(
        ["messages=30", "first=21", "last=50", "delivered again"]
            .iter()
            .all(|word| left.contains(word)),
        "{left}"
    );
    world.centrifugo.restart().await?;
    let _relay = world.run().await?;
    shows(&world.centrifugo, CHANNEL, 21..=50).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_cannot_finish_ends_with_its_grace() -> Result<()> {
    let mut world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.home.configure_more("[shutdown]\ngrace = \"500ms\"")?;
    world.add_unruly("")?;
    let mut relay = world.run().await?;
    world.centrifugo.stop().await?;
    world.publish(numbers(1..=5)).await?;
    counts(&relay, "unruly", "window_messages", 5).await?;
    relay.sigterm()?;
    let status = relay.wait(SOON).await?;
    ensure!(status.code() == Some(0), "{status}");
    let waits = relay.logs(SOON, "still waiting for messages in flight").await?;
    ensure!(waits.contains("messages=5") && waits.contains("trouble="), "{waits}");
    let left = relay.logs(SOON, "ended with unsettled messages").await?;
    ensure!(
        left.contains("messages=5") && left.contains("first=1") && left.contains("last=5"),
        "{left}"
    );

    // Without NATS nobody can confirm acks, and the relay ends all the same.
    let mut relay = world.home.run().await?;
    counts(&relay, "unruly", "received", 5).await?;
    world.nats.kill();
    relay.sigterm()?;
    let status = relay.wait(SOON).await?;
    ensure!(status.code() == Some(0), "{status}");
    world.nats.restart().await?;
    world.centrifugo.restart().await?;
    let _relay = world.run().await?;
    shows(&world.centrifugo, CHANNEL, 1..=5).await
}
