//! Files that disappear and come back, as when somebody copies a new version. This does not bypass the probe, and does
//! not end what runs.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use slipring_support::guests;
use slipring_support::relay::Relay;

use super::super::world::{SOON, World, module, unruly_toml};
use super::{all_shown, at_work, mark, modules, text, unruly_when};

/// Installs a version that rejects everything.
fn put_bad(world: &World) -> Result<()> {
    let bad = format!("{}\nrefuse_from = 1", mark("bad"));
    world
        .home
        .add_module("unruly", &guests::component("unruly")?, &unruly_toml(&bad))
}

async fn is_refused(relay: &Relay) -> Result<Value> {
    let unruly = unruly_when(relay, "the refusal", |unruly| unruly["refused_swaps"] == 1).await?;
    let refusal = text(&unruly, "last_refusal");
    ensure!(
        refusal.contains("the new version rejects 256 of the last 256 messages"),
        "{refusal}"
    );
    Ok(unruly)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_removed_and_copied_again_is_a_swap_with_its_probe() -> Result<()> {
    for extensions in [&["wasm"][..], &["wasm", "toml"]] {
        let (world, mut relay, load) = at_work(&mark("good")).await?;
        for extension in extensions {
            fs::remove_file(world.home.modules().join("unruly").with_extension(extension))?;
        }
        relay.logs(SOON, "a file of the module is gone").await?;
        load.more(100).await;
        put_bad(&world)?;
        is_refused(&relay).await?;
        load.more(200).await;
        ensure!(starts(&relay) == 1, "it never stopped: {:#?}", relay.log());
        all_shown(&world, load, [], &["good"]).await?;
    }
    Ok(())
}

/// Returns how often the module was started.
fn starts(relay: &Relay) -> usize {
    relay
        .log()
        .iter()
        .filter(|line| line.contains("starting the module"))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_after_its_module_has_stopped_is_probed_as_well() -> Result<()> {
    let (world, relay, load) = at_work(&mark("good")).await?;
    let file = world.home.modules().join("unruly.wasm");
    fs::remove_file(&file)?;
    let begun = Instant::now();
    unruly_when(&relay, "the module to stop", |unruly| unruly["state"] == "waiting").await?;
    ensure!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    put_bad(&world)?;
    // The previous version continues.
    let running = |unruly: &Value| unruly["state"] == "running" && unruly["refused_swaps"] == 1;
    unruly_when(&relay, "the good version", running).await?;
    is_refused(&relay).await?;
    load.more(200).await;
    all_shown(&world, load, [], &["good"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_takes_over_after_its_file_was_away() -> Result<()> {
    let (world, mut relay, load) = at_work(&mark("1")).await?;
    world.home.remove_module("unruly")?;
    relay.logs(SOON, "a file of the module is gone").await?;
    world
        .home
        .add_module("unruly", &guests::component("unruly")?, &unruly_toml(&mark("2")))?;
    unruly_when(&relay, "a swap", |unruly| unruly["swaps"] == 1).await?;
    load.more(200).await;
    ensure!(starts(&relay) == 1, "{:#?}", relay.log());
    all_shown(&world, load, [], &["1", "2"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_names_that_come_and_go_leave_nothing_behind() -> Result<()> {
    const NAMES: usize = 1_000;
    let (world, relay, load) = at_work(&mark("1")).await?;
    let modules = world.home.modules();
    let threads = || fs::read_dir(format!("/proc/{}/task", relay.id())).map(Iterator::count);
    let before = threads()?;
    for number in 0..NAMES {
        fs::write(modules.join(format!("m{number}.toml")), "stream = \"UNRULY\"\n")?;
    }
    let known = |status: &Value| !module(status, &format!("m{}", NAMES - 1)).is_null();
    relay.status_when(SOON, "the last name", known).await?;
    for number in 0..NAMES {
        fs::remove_file(modules.join(format!("m{number}.toml")))?;
    }
    let forgotten = |status: &Value| status["modules"].as_array().is_some_and(|modules| modules.len() == 1);
    relay.status_when(SOON, "the names to be forgotten", forgotten).await?;
    ensure!(threads()? <= before + 20, "{} threads after {before}", threads()?);
    let status = relay.status().await.context("a relay that lives")?;
    ensure!(module(&status, "unruly")["state"] == "running", "{status}");
    all_shown(&world, load, [], &["1"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_was_removed_is_not_among_those_to_choose_from() -> Result<()> {
    let (world, relay, load) = at_work(&mark("1")).await?;
    let other = unruly_toml("consumer = \"other\"");
    world.home.add_module("other", &guests::component("unruly")?, &other)?;
    let state = |status: &Value| module(status, "other")["state"].clone();
    relay
        .status_when(SOON, "the other one", |status| state(status) == "running")
        .await?;
    world.home.remove_module("other")?;
    relay
        .status_when(SOON, "its end", |status| state(status).is_null())
        .await?;
    let told = "There is no module `nope`. The modules are: unruly\n";
    modules(&world, &relay, &["rollback", "nope"], 1, told)?;
    load.end().await.map(drop)
}
