//! The modules directory while the relay runs: adding, replacing, editing, renaming and removing, as people and tools
//! do it. Each takes effect without a restart, loses nothing and leaves the neighbours alone.

mod files;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use slipring_support::guests;
use slipring_support::relay::Relay;

use super::numbers::{
    CHANNEL, acknowledged_as_shown, consumer, counts, marked, number_on, numbers, settled, shows, state,
};
use super::world::{SOON, World, module, unruly_toml};

async fn world() -> Result<World> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    Ok(world)
}

/// Returns the settings that mark each publication.
fn mark(mark: &str) -> String {
    unruly_toml(&format!("settings.mark = \"{mark}\""))
}

async fn removed(relay: &Relay, name: &str) -> Result<()> {
    let gone = |status: &Value| module(status, name).is_null();
    relay
        .status_when(SOON, &format!("{name} to be gone"), gone)
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_before_a_change_of_settings_carries_the_old_ones_and_every_later_one_the_new() -> Result<()> {
    const CHANNELS: u64 = 20;
    const CHUNK: u64 = 100;
    let world = world().await?;
    world
        .home
        .add_module("unruly", &guests::component("unruly")?, &mark("a"))?;
    let relay = world.run().await?;
    let created = consumer(&world, "UNRULY", "slipring-unruly").await?.created;

    let edited = AtomicBool::new(false);
    let publish = async {
        let mut last = 0;
        while !edited.load(Ordering::Relaxed) {
            let numbers = (last + 1)..=(last + CHUNK);
            let messages = numbers.map(|number| number_on(&format!("unruly:{}", number % CHANNELS), number));
            world.publish(messages).await?;
            last += CHUNK;
        }
        Ok(last)
    };
    let edit = async {
        let swaps: Result<()> = async {
            for (swaps, letter) in (1..).zip(["b", "c", "d"]) {
                world.home.configure_module("unruly", &mark(letter))?;
                counts(&relay, "unruly", "swaps", swaps).await?;
                // The messages of the version before are settled first. A version that is replaced before that gets none.
                let what = format!("a publication marked {letter}");
                slipring_support::eventually(SOON, what, async || {
                    let shown = marked(&world.centrifugo, "unruly:0").await?;
                    ensure!(shown.iter().any(|(_, mark)| mark == letter), "{} others", shown.len());
                    Ok(())
                })
                .await?;
            }
            // Many changes within a second. The relay may skip some, but it must end with the last one.
            for letter in ["e", "f", "g", "h", "i", "j"] {
                world.home.configure_module("unruly", &mark(letter))?;
            }
            counts(&relay, "unruly", "swaps", 4).await
        }
        .await;
        edited.store(true, Ordering::Relaxed);
        swaps
    };
    let (last, ()) = tokio::try_join!(publish, edit)?;
    world
        .publish((last + 1..=last + CHUNK).map(|number| number_on("unruly:0", number)))
        .await?;
    let last = last + CHUNK;
    counts(&relay, "unruly", "published", last).await?;

    let mut all = Vec::new();
    for channel in 0..CHANNELS {
        let shown = marked(&world.centrifugo, &format!("unruly:{channel}")).await?;
        ensure!(
            shown.is_sorted_by(|(a, _), (b, _)| a < b),
            "unruly:{channel} is in order: {shown:?}"
        );
        all.extend(shown);
    }
    all.sort();
    ensure!(
        all.iter().map(|(number, _)| *number).eq(1..=last),
        "all are there, none twice"
    );
    let mut marks: Vec<&str> = all.iter().map(|(_, mark)| mark.as_str()).collect();
    marks.dedup();
    ensure!(marks.is_sorted(), "the settings took turns: {marks:?}");
    ensure!(
        marks.starts_with(&["a", "b", "c", "d"]) && marks.ends_with(&["j"]),
        "each took its turn: {marks:?}"
    );
    let consumer = consumer(&world, "UNRULY", "slipring-unruly").await?;
    ensure!(consumer.created == created, "the consumer is the same");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn other_subjects_restart_the_pipeline_and_change_the_consumer() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["a.*", "b.*", "c.*"]).await?;
    world.add_unruly("subjects = [\"a.*\"]")?;
    let relay = world.run().await?;
    let created = consumer(&world, "UNRULY", "slipring-unruly").await?.created;
    world.publish([("a.ok", "1"), ("c.ok", "100"), ("a.ok", "2")]).await?;
    shows(&world.centrifugo, CHANNEL, [1, 2]).await?;

    world
        .home
        .configure_module("unruly", &unruly_toml("subjects = [\"a.*\", \"b.*\"]"))?;
    let subjects = async || {
        let config = consumer(&world, "UNRULY", "slipring-unruly").await?.config;
        ensure!(
            config.filter_subjects == ["a.*", "b.*"],
            "{:?} {:?}",
            config.filter_subject,
            config.filter_subjects
        );
        Ok(())
    };
    slipring_support::eventually(SOON, "the consumer to have both subjects", subjects).await?;
    world.publish([("b.ok", "3"), ("c.ok", "101"), ("a.ok", "4")]).await?;
    shows(&world.centrifugo, CHANNEL, 1..=4).await?;
    ensure!(
        consumer(&world, "UNRULY", "slipring-unruly").await?.created == created,
        "the consumer is the same"
    );
    ensure!(
        module(&relay.status().await?, "unruly")["state"] == "running",
        "it runs again"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_on_reject_counts_from_the_next_message_on() -> Result<()> {
    let world = world().await?;
    world.add_unruly("")?;
    let relay = world.run().await?;
    let dead_letters = async || -> Result<u64> {
        let mut stream = world.jetstream.get_stream("SLIPRING_DEAD_LETTERS").await?;
        Ok(stream.info().await?.state.messages)
    };
    world.publish([("unruly.reject", "no"), ("unruly.ok", "1")]).await?;
    shows(&world.centrifugo, CHANNEL, [1]).await?;
    slipring_support::eventually(SOON, "a dead letter", async || {
        let count = dead_letters().await?;
        ensure!(count == 1, "{count}");
        Ok(())
    })
    .await?;
    world
        .home
        .configure_module("unruly", &unruly_toml("on_reject = \"drop\""))?;
    counts(&relay, "unruly", "swaps", 1).await?;
    world.publish([("unruly.reject", "no"), ("unruly.ok", "2")]).await?;
    shows(&world.centrifugo, CHANNEL, [1, 2]).await?;
    counts(&relay, "unruly", "rejected", 2).await?;
    settled(&world, "UNRULY", "slipring-unruly").await?;
    ensure!(dead_letters().await? == 1, "the second one was dropped");
    Ok(())
}

/// What is in flight on one channel goes out one by one, and must do so within `shutdown.grace` on a busy machine too.
const DRAINS: &str = "window = 300\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_module_drains_and_its_consumer_waits_for_it_to_come_back() -> Result<()> {
    const MESSAGES: u64 = 5_000;
    let world = world().await?;
    let wasm = guests::component("unruly")?;
    world.publish(numbers(1..=MESSAGES)).await?;
    world
        .home
        .add_module("unruly", &wasm, &format!("{DRAINS}{}", mark("before")))?;
    let mut relay = world.run().await?;
    let some = |status: &Value| module(status, "unruly")["published"].as_u64() > Some(100);
    relay.status_when(SOON, "the first publications", some).await?;

    world.home.remove_module("unruly")?;
    relay.logs(SOON, "the module was removed; its consumer stays").await?;
    removed(&relay, "unruly").await?;
    acknowledged_as_shown(&world, "UNRULY", "slipring-unruly").await?;
    ensure!(
        !relay.logged("ended with unsettled messages"),
        "nothing is left: {:#?}",
        relay.log()
    );
    ensure!(
        !relay.metrics().await?.contains("module=\"unruly\""),
        "its metrics are gone"
    );
    relay.ready(SOON).await?;

    world.publish(numbers(MESSAGES + 1..=MESSAGES + 10)).await?;
    world.home.add_module("unruly", &wasm, &mark("after"))?;
    shows(&world.centrifugo, CHANNEL, 1..=MESSAGES + 10).await?;
    let last = marked(&world.centrifugo, CHANNEL).await?.pop().context("a last one")?;
    ensure!(
        last.1 == "after",
        "the module that came back has its new settings: {last:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_module_goes_on_with_the_consumer_it_names() -> Result<()> {
    const MESSAGES: u64 = 5_000;
    let world = world().await?;
    world.publish(numbers(1..=MESSAGES)).await?;
    world.home.add_module(
        "old",
        &guests::component("unruly")?,
        &unruly_toml(&format!("consumer = \"shared\"\n{DRAINS}")),
    )?;
    let mut relay = world.run().await?;
    let some = |status: &Value| module(status, "old")["published"].as_u64() > Some(100);
    relay.status_when(SOON, "the first publications", some).await?;
    let modules = world.home.modules();
    for extension in ["wasm", "toml"] {
        fs::rename(
            modules.join("old").with_extension(extension),
            modules.join("new").with_extension(extension),
        )?;
    }
    // The new module has other keys, which are made from its name, so nothing would hide a repeat.
    shows(&world.centrifugo, CHANNEL, 1..=MESSAGES).await?;
    removed(&relay, "old").await?;
    settled(&world, "UNRULY", "shared").await?;
    let line = |text: &str| relay.log().iter().position(|line| line.contains(text));
    let gone = line("the module was removed").context("the old one's end")?;
    let log = relay.log();
    let started = log
        .iter()
        .rposition(|line| line.contains("starting the module") && line.contains("new"));
    ensure!(
        started > Some(gone),
        "the new one starts when the old one has drained: {log:#?}"
    );
    ensure!(
        !relay.logged("reading was interrupted"),
        "they never read at the same time: {log:#?}"
    );
    relay.stop(SOON).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_module_on_one_consumer_is_refused_until_the_first_one_leaves() -> Result<()> {
    let world = world().await?;
    let wasm = guests::component("unruly")?;
    let toml = |mark: &str| unruly_toml(&format!("consumer = \"shared\"\nsettings.mark = \"{mark}\""));
    world.home.add_module("first", &wasm, &toml("first"))?;
    let relay = world.run().await?;
    world.home.add_module("second", &wasm, &toml("second"))?;
    let second = state(&relay, "second", "failed").await?;
    let reason = second["reason"].as_str().unwrap_or_default();
    ensure!(
        reason.contains("`shared`") && reason.contains("`UNRULY`") && reason.contains("the module `first`"),
        "the reason names them: {reason}"
    );
    let ready = relay.get("/readyz").await?;
    ensure!(ready.contains("warnings:\n- second has failed: "), "{ready}");
    ensure!(
        relay.get("/readyz/second").await.is_err(),
        "the second one is not ready"
    );
    world.publish(numbers(1..=20)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=20).await?;
    ensure!(
        module(&relay.status().await?, "first")["state"] == "running",
        "the first one is unharmed"
    );
    settled(&world, "UNRULY", "shared").await?;

    world.home.remove_module("first")?;
    state(&relay, "second", "running").await?;
    world.publish(numbers(21..=40)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=40).await?;
    let makers = marked(&world.centrifugo, CHANNEL).await?;
    ensure!(
        makers
            .iter()
            .all(|(number, mark)| mark == if *number <= 20 { "first" } else { "second" }),
        "{makers:?}"
    );

    // A running module keeps its consumer when it is pointed at another module's.
    let own = "stream = \"UNRULY\"\nsettings.mark = \"third\"\n";
    world.home.add_module("third", &wasm, own)?;
    state(&relay, "third", "running").await?;
    world.home.configure_module("third", &toml("third"))?;
    counts(&relay, "third", "refused_swaps", 1).await?;
    world.publish(numbers(41..=41)).await?;
    counts(&relay, "third", "published", 1).await
}
