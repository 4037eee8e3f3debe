//! A stream or consumer is deleted, purged, recreated or restored from a copy under a running relay. Nothing that
//! JetStream still holds is lost, and no message is mistaken for an older one with the same sequence.

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use async_nats::jetstream::consumer::DeliverPolicy;
use slipring_support::eventually;

use super::numbers::{CHANNEL, consumer, counts, numbers, settled, shows};
use super::world::{SOON, World};

const STREAM: &str = "UNRULY";
const CONSUMER: &str = "slipring-unruly";

/// Uses `deliver = "new"`, the default, because with it a new beginning could lose something.
async fn world() -> Result<World> {
    let world = World::start().await?;
    world.stream(STREAM, &["unruly.>"]).await?;
    let wasm = slipring_support::guests::component("unruly")?;
    world
        .home
        .add_module("unruly", &wasm, &format!("stream = \"{STREAM}\"\n"))?;
    Ok(world)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_consumer_is_created_where_the_relay_stands() -> Result<()> {
    let mut world = world().await?;
    let relay = world.run().await?;
    world.publish(numbers(1..=100)).await?;
    counts(&relay, "unruly", "published", 100).await?;
    // When the stream is deleted, some messages are delivered but not confirmed, and others not even delivered.
    world.centrifugo.stop().await?;
    world.publish(numbers(101..=20_000)).await?;
    eventually(SOON, "a full window", async || {
        let info = consumer(&world, STREAM, CONSUMER).await?;
        ensure!(info.num_ack_pending as i64 == info.config.max_ack_pending, "{info:?}");
        Ok(())
    })
    .await?;
    let stream = world.jetstream.get_stream(STREAM).await?;
    stream.delete_consumer(CONSUMER).await?;
    // With a full window the relay asks nothing of JetStream, so it notices only now.
    world.centrifugo.restart().await?;
    eventually(SOON, "the consumer", async || {
        let info = consumer(&world, STREAM, CONSUMER).await?;
        let policy = info.config.deliver_policy;
        ensure!(matches!(policy, DeliverPolicy::ByStartSequence { .. }), "{policy:?}");
        Ok(())
    })
    .await?;
    settled(&world, STREAM, CONSUMER).await?;
    // Its memory was lost, so the history begins with 101.
    shows(&world.centrifugo, CHANNEL, 101..=20_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_made_anew_is_read_from_its_beginning_and_its_sequences_are_not_taken_for_the_old_ones() -> Result<()>
{
    let world = world().await?;
    let relay = world.run().await?;
    world.publish(numbers(1..=50)).await?;
    counts(&relay, "unruly", "published", 50).await?;
    settled(&world, STREAM, CONSUMER).await?;

    world.jetstream.delete_stream(STREAM).await?;
    world.stream(STREAM, &["unruly.>"]).await?;
    // Most likely before the consumer exists again, and with the sequences 1 to 50.
    world.publish(numbers(51..=100)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=100).await?;
    settled(&world, STREAM, CONSUMER).await?;
    relay.has_logged(SOON, "the stream was recreated").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_takes_what_was_not_delivered_and_nothing_that_comes_after() -> Result<()> {
    let mut world = world().await?;
    let _relay = world.run().await?;
    world.centrifugo.stop().await?;
    world.publish(numbers(1..=20_000)).await?;
    let mut window = 0;
    eventually(SOON, "a full window", async || {
        let info = consumer(&world, STREAM, CONSUMER).await?;
        window = info.num_ack_pending as u64;
        ensure!(info.num_ack_pending as i64 == info.config.max_ack_pending, "{info:?}");
        Ok(())
    })
    .await?;
    world.jetstream.get_stream(STREAM).await?.purge().await?;
    world.publish(numbers(20_001..=20_100)).await?;
    world.centrifugo.restart().await?;
    settled(&world, STREAM, CONSUMER).await?;
    // Messages that the relay already holds are still published.
    shows(&world.centrifugo, CHANNEL, (1..=window).chain(20_001..=20_100)).await
}

/// This happens after a disaster, or when a machine loses what was not on its disk yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_put_back_from_a_copy_has_other_messages_with_sequences_that_were_seen() -> Result<()> {
    let mut world = world().await?;
    let relay = world.run().await?;
    world.publish(numbers(1..=50)).await?;
    counts(&relay, "unruly", "published", 50).await?;
    settled(&world, STREAM, CONSUMER).await?;
    world.nats.stop().await?;
    let copy = world.nats.copy_store()?;

    world.nats.restart().await?;
    world.publish(numbers(51..=80)).await?;
    counts(&relay, "unruly", "published", 80).await?;
    settled(&world, STREAM, CONSUMER).await?;
    world.nats.stop().await?;
    world.nats.put_back(&copy)?;

    world.nats.restart().await?;
    // Uses the sequences 51 to 80 again, and more.
    world.publish(numbers(81..=150)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=150).await?;
    settled(&world, STREAM, CONSUMER).await?;
    relay.has_logged(SOON, "the stream was restored").await?;
    Ok(())
}

/// The stream keeps the newest 100 messages while more than that wait.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_the_stream_removed_before_they_were_read_are_counted_and_named() -> Result<()> {
    let mut world = World::start().await?;
    let config = jetstream::stream::Config {
        name: STREAM.to_owned(),
        subjects: vec!["unruly.>".to_owned()],
        max_messages: 100,
        ..Default::default()
    };
    world.jetstream.create_stream(config).await?;
    world.add_unruly("window = 10")?;
    let relay = world.run().await?;
    world.publish(numbers(1..=50)).await?;
    counts(&relay, "unruly", "published", 50).await?;
    settled(&world, STREAM, CONSUMER).await?;
    world.centrifugo.stop().await?;
    world.publish(numbers(51..=60)).await?;
    eventually(SOON, "a full window", async || {
        let info = consumer(&world, STREAM, CONSUMER).await?;
        ensure!(info.num_ack_pending == 10, "{info:?}");
        Ok(())
    })
    .await?;
    world.publish(numbers(61..=300)).await?;
    world.centrifugo.restart().await?;
    settled(&world, STREAM, CONSUMER).await?;
    shows(&world.centrifugo, CHANNEL, (51..=60).chain(201..=300)).await?;
    counts(&relay, "unruly", "missed", 140).await?;
    relay.has_logged(SOON, "before they could be read").await?;
    let said = relay
        .log()
        .into_iter()
        .find(|line| line.contains("before they could be read"));
    let said = said.context("a line about it")?;
    ensure!(said.contains("first=61") && said.contains("last=200"), "{said}");

    // Now while no relay runs.
    let mut relay = relay;
    ensure!(relay.stop(SOON).await?.success(), "it stops cleanly");
    world.publish(numbers(301..=500)).await?;
    // On a restart the server moves the consumer's floor past what is gone, as it does every minute or two.
    world.nats.restart().await?;
    let relay = world.run().await?;
    shows(&world.centrifugo, CHANNEL, (51..=60).chain(201..=300).chain(401..=500)).await?;
    counts(&relay, "unruly", "missed", 100).await
}
