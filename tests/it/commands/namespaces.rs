//! A namespace that Centrifugo does not have is named before it refuses the first publication.

use std::process::Output;

use anyhow::{Context, Result, ensure};
use slipring_support::Api;

use super::super::numbers::{CHANNEL, counts, number_on, numbers, shows};
use super::super::world::{SOON, World, module, over_both, unruly_toml};
use super::{exits, stderr, stdout};

over_both!(
    check_and_try_name_it,
    the_probe_refuses_it,
    status_shows_why_a_message_was_rejected
);

const MISSING: &str = "Centrifugo has no namespace `nowhere` for the channel `nowhere:1`: add {\"name\": \"nowhere\"} to \
                       `channel.namespaces` in its configuration";

async fn check_and_try_name_it(api: Api) -> Result<()> {
    let world = World::start_over(api).await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let run = |arguments: &[&str]| -> Result<Output> {
        let output = world.home.command(arguments.iter().copied()).output();
        output.context("running slipring")
    };
    let tried = ["try", "modules/unruly.wasm", "--last", "5", "--online"];
    // The namespace `plain` keeps no history, so Centrifugo refuses to show any.
    world
        .publish([
            number_on("unruly:a", 1),
            number_on("plain:1", 2),
            number_on("without", 3),
        ])
        .await?;
    let output = run(&["check", "--online"])?;
    exits(&output, 0)?;
    let known = "publishes to namespaces that Centrifugo has: plain, unruly";
    ensure!(stdout(&output).contains(known), "{}", stdout(&output));
    let output = run(&tried)?;
    exits(&output, 0)?;
    let known = "Centrifugo has the namespaces: plain, unruly";
    ensure!(stderr(&output).contains(known), "{}", stderr(&output));

    world.publish([number_on("nowhere:1", 4)]).await?;
    let output = run(&["check", "--online"])?;
    exits(&output, 1)?;
    ensure!(stdout(&output).contains(MISSING), "{}", stdout(&output));
    ensure!(
        stderr(&output).ends_with("failed server checks: 1\n"),
        "{}",
        stderr(&output)
    );
    let output = run(&tried)?;
    exits(&output, 1)?;
    ensure!(
        stderr(&output).ends_with(&format!("{MISSING}\n")),
        "{}",
        stderr(&output)
    );
    ensure!(
        world.centrifugo.history("unruly:a").await?.is_empty(),
        "nothing is published"
    );
    Ok(())
}

async fn the_probe_refuses_it(api: Api) -> Result<()> {
    let world = World::start_over(api).await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let relay = world.run().await?;
    world.publish(numbers(1..=3)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=3).await?;
    world
        .home
        .configure_module("unruly", &unruly_toml("settings.lost_from = 1"))?;
    counts(&relay, "unruly", "refused_swaps", 1).await?;
    let status = relay.status().await?;
    let refusal = module(&status, "unruly")["last_refusal"].as_str().unwrap_or_default();
    ensure!(
        refusal.contains(MISSING) && refusal.contains("`probe = 0`"),
        "{refusal}"
    );
    world.publish(numbers(4..=5)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=5).await?;
    counts(&relay, "unruly", "rejected", 0).await?;

    // It is let through if somebody insists.
    world.home.configure_module(
        "unruly",
        &unruly_toml("probe = 0\nwatch = \"0s\"\nsettings.lost_from = 1"),
    )?;
    counts(&relay, "unruly", "swaps", 1).await
}

async fn status_shows_why_a_message_was_rejected(api: Api) -> Result<()> {
    let world = World::start_over(api).await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let relay = world.run().await?;
    world.publish([number_on("nowhere:1", 1)]).await?;
    counts(&relay, "unruly", "rejected", 1).await?;
    let known = |status: &serde_json::Value| !module(status, "unruly")["last_rejection"].is_null();
    let status = relay.status_when(SOON, "the last rejection", known).await?;
    let last = &module(&status, "unruly")["last_rejection"];
    ensure!(
        last["code"] == "102" && last["channel"] == "nowhere:1" && last["stage"] == "publish",
        "{last}"
    );
    let output = world.home.command(["status", "--url", relay.url()]).output()?;
    let shown = stdout(&output);
    let line = shown
        .lines()
        .find(|line| line.starts_with("unruly: the last rejection, at "));
    ensure!(
        line.is_some_and(|line| line.contains(" (102): Centrifugo refused the publication on `nowhere:1`")),
        "{shown}"
    );
    Ok(())
}
