//! A halt ends when its cause does: by itself if the cause is outside the module, or when somebody asks.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream;
use serde_json::{Value, json};
use slipring_support::eventually;
use slipring_support::guests;
use slipring_support::relay::Relay;

use super::commands::{exits, stderr};
use super::dead_letters::{dead_letters, no_dead_letters};
use super::world::{SOON, World, know, module, unruly_toml};

const STREAM: &str = "SLIPRING_DEAD_LETTERS";

async fn status_when(relay: &Relay, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
    let status = relay
        .status_when(SOON, what, |status| holds(module(status, "unruly")))
        .await?;
    Ok(module(&status, "unruly").clone())
}

async fn halts(relay: &Relay) -> Result<Value> {
    status_when(relay, "the pipeline to halt", |unruly| unruly["state"] == "halted").await
}

async fn letters(world: &World) -> Result<u64> {
    let stream = world.jetstream.get_stream(STREAM).await?;
    Ok(stream.cached_info().state.messages)
}

async fn shown(world: &World, channel: &str) -> Result<Vec<String>> {
    let history = world.centrifugo.history(channel).await?;
    Ok(history.iter().map(|publication| publication.text()).collect())
}

/// Sends each number to its channel.
async fn send(world: &World, numbers: impl IntoIterator<Item = (u64, &str)>) -> Result<()> {
    let messages = numbers.into_iter().map(|(number, channel)| {
        let wishes = json!([{ "channels": [channel], "data": number }]);
        ("unruly.publish", wishes.to_string())
    });
    world.publish(messages).await
}

fn retry(world: &World, relay: &Relay) -> Result<std::process::Output> {
    let arguments = ["modules", "--url", relay.url(), "retry", "unruly"];
    world.home.command(arguments).output().context("running slipring")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_for_a_missing_namespace_ends_when_it_is_there() -> Result<()> {
    let mut world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("max_consecutive_rejects = 3")?;
    let relay = world.run().await?;
    send(&world, (1..=20).map(|number| (number, "nowhere:1"))).await?;
    let status = halts(&relay).await?;
    send(&world, [(21, "unruly:ok"), (22, "nowhere:1")]).await?;
    let reason = status["reason"].as_str().context("a reason")?;
    ensure!(
        reason.contains("the namespace before `:`") && reason.contains("; the next retry is at 20"),
        "{reason}"
    );
    relay.has_logged(SOON, "retries by itself").await?;
    // The relay tries twice, with a longer pause the second time.
    relay.has_logged(SOON, "pause_s=10").await?;
    let output = retry(&world, &relay)?;
    exits(&output, 0)?;
    ensure!(
        stderr(&output) == "`unruly` resumes where it halted\n",
        "{}",
        stderr(&output)
    );
    relay.has_logged(SOON, "pause_s=20").await?;
    let status = halts(&relay).await?;
    ensure!(
        status["rejected"] == 4,
        "the same message is not counted again: {status}"
    );
    ensure!(letters(&world).await? == 3, "no dead letter is added");
    ensure!(
        shown(&world, "unruly:ok").await?.is_empty(),
        "nothing follows the message"
    );
    let metrics = relay.metrics().await?;
    ensure!(metrics.contains("slipring_halted{module=\"unruly\"} 1"), "{metrics}");

    world.centrifugo.restart_with(|config| know("nowhere", config)).await?;
    exits(&retry(&world, &relay)?, 0)?;
    status_when(&relay, "the pipeline to run", |unruly| unruly["state"] == "running").await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    relay.ready(SOON).await?;
    let rest: Vec<String> = (4..=20).chain([22]).map(|number| number.to_string()).collect();
    ensure!(
        shown(&world, "nowhere:1").await? == rest,
        "{:?}",
        shown(&world, "nowhere:1").await?
    );
    ensure!(
        shown(&world, "unruly:ok").await? == ["21"],
        "{:?}",
        shown(&world, "unruly:ok").await?
    );
    ensure!(letters(&world).await? == 3, "no dead letter is added");
    Ok(())
}

/// Nobody asks for a retry.
#[tokio::test(flavor = "multi_thread")]
async fn it_ends_by_itself() -> Result<()> {
    let mut world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("on_reject = \"halt\"")?;
    let relay = world.run().await?;
    send(&world, [(1, "unruly:ok"), (2, "nowhere:1"), (3, "unruly:ok")]).await?;
    halts(&relay).await?;
    ensure!(shown(&world, "nowhere:1").await.is_err(), "there is no such namespace");
    world.centrifugo.restart_with(|config| know("nowhere", config)).await?;
    relay.has_logged(SOON, "the cause of the halt is gone").await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    ensure!(
        shown(&world, "nowhere:1").await? == ["2"],
        "{:?}",
        shown(&world, "nowhere:1").await?
    );
    no_dead_letters(&world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_halted_by_its_own_fault_goes_on_when_asked() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("max_consecutive_rejects = 3")?;
    let relay = world.run().await?;
    ensure!(!retry(&world, &relay)?.status.success(), "it is at work");
    world
        .publish((1..=6).map(|number| ("unruly.reject", number.to_string())))
        .await?;
    let status = halts(&relay).await?;
    let reason = status["reason"].as_str().context("a reason")?;
    ensure!(!reason.contains("next retry"), "{reason}");
    dead_letters(&world, "unruly", 3).await?;
    let output = retry(&world, &relay)?;
    exits(&output, 0)?;
    status_when(&relay, "the pipeline to run", |unruly| unruly["state"] == "running").await?;
    dead_letters(&world, "unruly", 6).await?;
    world.all_acked(SOON, "UNRULY", "unruly").await
}

/// Another version resumes the module at once, with a fresh allowance of rejections.
#[tokio::test(flavor = "multi_thread")]
async fn another_version_resumes_what_tries_again() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("on_reject = \"halt\"")?;
    let relay = world.run().await?;
    send(&world, [(1, "nowhere:1"), (2, "nowhere:1"), (3, "unruly:ok")]).await?;
    halts(&relay).await?;
    world
        .home
        .configure_module("unruly", &unruly_toml("on_reject = \"dead-letter\""))?;
    dead_letters(&world, "unruly", 2).await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    ensure!(
        shown(&world, "unruly:ok").await? == ["3"],
        "{:?}",
        shown(&world, "unruly:ok").await?
    );
    Ok(())
}

/// Deleted keys of a bucket, and expired messages. As many messages would otherwise halt a module that does not
/// understand them.
#[tokio::test(flavor = "multi_thread")]
async fn markers_are_not_taken_for_a_bad_module() -> Result<()> {
    const KEYS: usize = 150;
    let world = World::start().await?;
    // A bucket is a stream with a certain name, and a header marks messages that are not values.
    let bucket = stream::Config {
        name: "KV_orders".to_owned(),
        subjects: vec!["$KV.orders.>".to_owned()],
        max_messages_per_subject: 1,
        ..Default::default()
    };
    world.jetstream.create_stream(bucket).await?;
    for key in 0..KEYS {
        let subject = format!("$KV.orders.order.{key}");
        world.publish([(subject.clone(), "{}")]).await?;
        let deleted = PublishMessage::build().header("KV-Operation", "DEL");
        world.jetstream.send_publish(subject, deleted).await?.await?;
    }
    world.home.add_module(
        "unruly",
        &guests::component("unruly")?,
        "stream = \"KV_orders\"\ndeliver = \"all\"\n[settings]\nwish = \"reject\"",
    )?;
    let example = "stream = \"KV_orders\"\ndeliver = \"all\"\n";
    world
        .home
        .add_module("orders", &guests::component("orders")?, example)?;
    let relay = world.run().await?;
    let letters = dead_letters(&world, "unruly", KEYS).await?;
    let [stage, code, _, reason] = letters[0].why();
    ensure!((stage, code) == ("transform", "rejected"), "{:?}", letters[0].why());
    ensure!(reason.contains("a key was deleted (KV-Operation: DEL)"), "{reason}");
    world.all_acked(SOON, "KV_orders", "unruly").await?;
    world.all_acked(SOON, "KV_orders", "orders").await?;
    let status = relay.status().await?;
    for name in ["unruly", "orders"] {
        ensure!(module(&status, name)["state"] == "running", "{status}");
    }
    ensure!(module(&status, "orders")["dropped"] == KEYS, "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_of_expired_messages_keep_their_reason() -> Result<()> {
    const MESSAGES: usize = 105;
    let world = World::start().await?;
    let config = stream::Config {
        name: "UNRULY".to_owned(),
        subjects: vec!["unruly.>".to_owned()],
        max_age: Duration::from_secs(1),
        allow_message_ttl: true,
        subject_delete_marker_ttl: Some(Duration::from_secs(600)),
        ..Default::default()
    };
    world.jetstream.create_stream(config).await?;
    let number = |number: usize| (format!("unruly.{number}.reject"), "no");
    world.publish((0..MESSAGES).map(number)).await?;
    eventually(SOON, "markers", async || {
        let mut stream = world.jetstream.get_stream("UNRULY").await?;
        let state = stream.info().await?.state.clone();
        let all = MESSAGES as u64;
        ensure!(state.messages == all && state.first_sequence > all, "{state:?}");
        Ok(())
    })
    .await?;
    world.add_unruly("")?;
    let relay = world.run().await?;
    let letters = dead_letters(&world, "unruly", MESSAGES).await?;
    ensure!(
        letters[0].header("Slipring-Kept-Nats-Marker-Reason") == "MaxAge",
        "{:?}",
        letters[0]
    );
    ensure!(
        letters[0].why()[3].contains("expired (Nats-Marker-Reason: MaxAge)"),
        "{:?}",
        letters[0]
    );
    let status = status_when(&relay, "all of them", |unruly| unruly["rejected"] == MESSAGES).await?;
    ensure!(status["state"] == "running", "{status}");
    let output = world.home.command(["dead-letters", "show", "1"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(text.lines().any(|line| line == "Nats-Marker-Reason: MaxAge"), "{text}");
    Ok(())
}
