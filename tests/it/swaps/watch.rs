//! A version that passed the probe and turns out to be bad is rolled back by itself, and the messages that it rejected
//! are in the dead letters.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::super::world::{SOON, World, module, unruly_toml};
use super::{
    all_of_them_shown, all_shown, at_work, at_work_with, channel, configure, dead_letters, finish, has_published, mark,
    modules, replay, sha256, shown, text, unruly_when, wish,
};

/// The most messages sent while a version takes over: four seconds of them, for a machine that is busy
/// with other things.
const SWAP: u64 = 8_000;

/// The counter comes first, and then the reason.
fn has_rolled_back(unruly: &Value) -> bool {
    unruly["rollbacks"] == 1 && unruly["rolled_back"]["reason"].is_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_turns_out_to_be_bad_is_rolled_back_by_itself() -> Result<()> {
    let (world, mut relay, load) = at_work(&mark("old")).await?;
    let old = unruly_when(&relay, "a version", |unruly| unruly["toml_sha256"].is_string()).await?;
    // It is still good when it is probed.
    let from = load.sent() + SWAP;
    configure(
        &world,
        &format!("watch_max_rejects = 7\n{}\nrefuse_from = {from}", mark("new")),
    )?;
    let unruly = unruly_when(&relay, "the rollback", has_rolled_back).await?;
    ensure!(unruly["toml_sha256"] == old["toml_sha256"], "{unruly}");
    let reason = text(&unruly["rolled_back"], "reason");
    ensure!(
        reason.contains("the new version rejected 8 messages that the previous version accepts")
            && reason.contains("this version is bad"),
        "{reason}"
    );
    relay.has_logged(SOON, "rolled back to the last proven version").await?;
    load.more(500).await;

    // One more than it was allowed to, and no other.
    all_shown(&world, load, from..from + 8, &["old", "new", "old"]).await?;

    // The directory still holds the bad version. A restart does not load it.
    relay.stop(SOON).await?;
    let relay = world.run().await?;
    let unruly = unruly_when(&relay, "the old version", |unruly| {
        unruly["toml_sha256"] == old["toml_sha256"]
    })
    .await?;
    ensure!(unruly["rolled_back"]["toml_sha256"].is_string(), "{unruly}");
    modules(&world, &relay, &[], 0, "was rolled back at ")?;

    // Nor does a replay: the running version publishes the letters.
    replay(&world)?;
    let late = world
        .centrifugo
        .history(&channel(from))
        .await?
        .pop()
        .context("a publication")?;
    ensure!(late.json::<u64>()? == from && late.tags["mark"] == "old", "{late:?}");
    Ok(())
}

/// With little to do, messages are transformed where they are read, but not while a version is being watched.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_with_little_to_do_is_rolled_back_too() -> Result<()> {
    const EACH: u64 = 100;
    const BAD: u64 = 20;
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly(&mark("old"))?;
    let relay = world.run().await?;
    let one_by_one = async |numbers: std::ops::RangeInclusive<u64>| -> Result<()> {
        for number in numbers {
            world.publish([("unruly.publish", wish(number))]).await?;
            let settled = |unruly: &Value| {
                let count = |counter: &str| unruly[counter].as_u64().unwrap_or_default();
                count("published") + count("rejected") == number
            };
            unruly_when(&relay, &format!("message {number} to be settled"), settled).await?;
        }
        Ok(())
    };
    one_by_one(1..=EACH).await?;
    let from = 2 * EACH + 1;
    configure(&world, &format!("{}\nrefuse_from = {from}", mark("new")))?;
    unruly_when(&relay, "a swap", |unruly| unruly["swaps"] == 1).await?;
    one_by_one(EACH + 1..=2 * EACH).await?;
    one_by_one(from..=from + BAD - 1).await?;
    unruly_when(&relay, "the rollback", has_rolled_back).await?;
    let touched: Vec<u64> = (from..from + 5).collect();
    ensure!(dead_letters(&world)? == touched, "{:?}", dead_letters(&world)?);
    all_of_them_shown(&world, from + BAD - 1, &touched, &["old", "new", "old"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_publications_are_refused_is_rolled_back_too() -> Result<()> {
    let (world, relay, load) = at_work(&mark("old")).await?;
    let from = load.sent() + SWAP;
    configure(&world, &format!("{}\nlost_from = {from}", mark("new")))?;
    let unruly = unruly_when(&relay, "the rollback", has_rolled_back).await?;
    let reason = text(&unruly["rolled_back"], "reason");
    ensure!(reason.contains("nowhere:1"), "{reason}");
    load.more(500).await;
    let sent = finish(&world, load).await?;
    // Messages in flight while Centrifugo replied are among them.
    let touched = dead_letters(&world)?;
    ensure!(
        touched.len() >= 5 && touched.iter().all(|number| *number >= from),
        "{touched:?}"
    );
    let checked = match relay.logged("the pipeline is halted") {
        false => all_of_them_shown(&world, sent, &touched, &["old", "new", "old"]).await,
        // On a busy machine there may be a hundred refusals first. Then the old version gets everything again from the
        // oldest message that is not settled, dead letters too.
        true => shown(&world).await.and_then(|shown| {
            let missing: Vec<u64> = (1..=sent)
                .filter(|number| !shown.contains_key(number) && !touched.contains(number))
                .collect();
            ensure!(missing.is_empty(), "these are missing: {missing:?}");
            Ok(())
        }),
    };
    checked.with_context(|| format!("the dead letters are {touched:?}, the log is {:#?}", relay.log()))?;
    replay(&world)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_rejection_halts_the_pipeline_is_rolled_back_at_once() -> Result<()> {
    let (world, relay, load) = at_work(&format!("on_reject = \"halt\"\n{}", mark("old"))).await?;
    let from = load.sent() + SWAP;
    let bad = format!("on_reject = \"halt\"\n{}\nrefuse_from = {from}", mark("new"));
    configure(&world, &bad)?;
    unruly_when(&relay, "the rollback", |unruly| unruly["rollbacks"] == 1).await?;
    load.more(500).await;
    all_shown(&world, load, [], &["old", "new", "old"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_watch_does_not_resume_a_pipeline_that_is_halted() -> Result<()> {
    let halting = |text: &str| format!("on_reject = \"halt\"\nwatch = \"2s\"\n{}", mark(text));
    let (world, mut relay, load) = at_work(&halting("1")).await?;
    configure(&world, &halting("2"))?;
    unruly_when(&relay, "a swap", |unruly| unruly["swaps"] == 1).await?;
    // Both versions reject it.
    world.publish([("unruly.reject", "no")]).await?;
    unruly_when(&relay, "the halt", |unruly| unruly["state"] == "halted").await?;
    relay.logs(SOON, "passed its trial").await?;
    load.end().await?;
    let unruly = module(&relay.status().await?, "unruly").clone();
    ensure!(unruly["state"] == "halted" && unruly["rollbacks"] == 0, "{unruly}");
    ensure!(!relay.logged("resuming the halted pipeline"), "{:#?}", relay.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_reaches_a_standby_relay() -> Result<()> {
    let (world, mut first, load) = at_work_with("[standby]\nenabled = true\nttl = \"30s\"", &mark("old")).await?;
    let second = world.run().await?;
    let old = unruly_when(&second, "a relay that stands by", |unruly| unruly["state"] == "standby").await?;
    let from = load.sent() + SWAP;
    configure(&world, &format!("{}\nrefuse_from = {from}", mark("new")))?;
    unruly_when(&first, "the rollback", |unruly| unruly["rollbacks"] == 1).await?;
    unruly_when(&second, "the old version there, too", |unruly| {
        unruly["toml_sha256"] == old["toml_sha256"] && unruly["rolled_back"].is_object()
    })
    .await?;
    first.stop(SOON).await?;
    unruly_when(&second, "the other one to take over", |unruly| {
        unruly["state"] == "running"
    })
    .await?;
    load.more(500).await;
    all_shown(&world, load, from..from + 5, &["old", "new", "old"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_relay_gives_up_what_the_active_relay_refuses() -> Result<()> {
    let (world, mut first, load) = at_work_with("[standby]\nenabled = true\nttl = \"30s\"", &mark("old")).await?;
    let second = world.run().await?;
    let old = unruly_when(&second, "a relay that stands by", |unruly| unruly["state"] == "standby").await?;
    // The standby relay has seen no message to probe it with.
    configure(&world, &format!("{}\nrefuse_from = 1", mark("new")))?;
    unruly_when(&first, "the refusal", |unruly| {
        unruly["refused_swaps"].as_u64() >= Some(1)
    })
    .await?;
    for relay in [&first, &second] {
        unruly_when(relay, "the old version in both", |unruly| {
            unruly["toml_sha256"] == old["toml_sha256"] && unruly["rolled_back"].is_object()
        })
        .await?;
    }
    load.more(500).await;
    first.stop(SOON).await?;
    unruly_when(&second, "the other one to take over", |unruly| {
        unruly["state"] == "running"
    })
    .await?;
    load.more(500).await;
    all_shown(&world, load, [], &["old"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_came_while_the_relay_was_down_is_watched() -> Result<()> {
    let (world, mut relay, load) = at_work(&mark("old")).await?;
    relay.stop(SOON).await?;
    let from = load.sent() + 1_000;
    configure(&world, &format!("{}\nrefuse_from = {from}", mark("new")))?;
    let relay = world.run().await?;
    unruly_when(&relay, "the rollback", |unruly| unruly["rollbacks"] == 1).await?;
    load.more(500).await;
    all_shown(&world, load, from..from + 5, &["old", "new", "old"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn saving_again_is_no_way_around_the_watch() -> Result<()> {
    let (world, relay, load) = at_work(&mark("1")).await?;
    let from = load.sent() + 2 * SWAP;
    // Both have the same fault, which shows later.
    for (swaps, text) in [(1, "2"), (2, "3")] {
        configure(&world, &format!("{}\nrefuse_from = {from}", mark(text)))?;
        unruly_when(&relay, "a swap", |unruly| unruly["swaps"] == swaps).await?;
        has_published(&world, text).await?;
    }
    unruly_when(&relay, "the rollback", |unruly| unruly["rollbacks"] == 1).await?;
    load.more(500).await;
    all_shown(&world, load, from..from + 5, &["1", "2", "3", "1"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_withdrawn_is_what_failed_and_not_what_the_directory_holds_by_then() -> Result<()> {
    let (world, relay, load) = at_work(&mark("old")).await?;
    let from = load.sent() + SWAP;
    let bad = format!("{}\nrefuse_from = {from}", mark("bad"));
    configure(&world, &bad)?;
    unruly_when(&relay, "a swap", |unruly| unruly["swaps"] == 1).await?;
    // Refused at once, and it stays in the directory.
    world.home.configure_module("unruly", "stream = 7")?;
    unruly_when(&relay, "the refusal", |unruly| unruly["refused_swaps"] == 1).await?;
    let unruly = unruly_when(&relay, "the rollback", has_rolled_back).await?;
    let bad = sha256(unruly_toml(&bad).as_bytes());
    ensure!(unruly["rolled_back"]["toml_sha256"] == bad.as_str(), "{unruly}");
    configure(&world, &mark("mended"))?;
    unruly_when(&relay, "the mended one", |unruly| unruly["swaps"] == 3).await?;
    load.more(500).await;
    all_shown(&world, load, from..from + 5, &["old", "bad", "old", "mended"]).await
}
