//! Whatever happens to the relay's log, the relay goes on: it publishes, swaps, reconnects, serves its admin address
//! and ends when it is told to.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, PipeReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use slipring_support::relay::{Home, Relay};
use slipring_support::{eventually, guests};

use super::world::{SOON, World, binary, module, unruly_toml};

/// The default grace of a drain. A relay that takes longer has to be killed.
const GRACE: Duration = Duration::from_secs(10);

/// Logs everything, so that the log's reader is soon full.
const ALL: &str = "trace";

async fn world() -> Result<World> {
    let mut world = World::start().await?;
    world.home.env("SLIPRING_LOG", ALL);
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    Ok(world)
}

async fn publishes(world: &World, relay: &Relay, number: u64) -> Result<()> {
    let published = || module_with(move |module| module["published"].as_u64() >= Some(number));
    let nats = async || world.publish([("unruly.ok", "1")]).await;
    eventually(SOON, "NATS to store a message", nats).await?;
    relay
        .status_when(SOON, &format!("{number} publications"), published())
        .await
        .map(drop)
}

fn module_with(holds: impl Fn(&Value) -> bool) -> impl Fn(&Value) -> bool {
    move |status| holds(module(status, "unruly"))
}

/// Waits until lines were lost, because nothing takes the log any more.
async fn loses_lines(world: &World, relay: &Relay) -> Result<()> {
    let lost = async || -> Result<()> {
        // Each message makes the relay log more.
        world.publish((0..500).map(|_| ("unruly.ok", "1"))).await?;
        let metrics = relay.metrics().await?;
        let name = "slipring_log_lines_lost_total ";
        let lost = metrics.lines().find_map(|line| line.strip_prefix(name));
        let lost: u64 = lost.context("the metric")?.parse()?;
        ensure!(lost > 0, "none was lost");
        Ok(())
    };
    eventually(SOON, "log lines to be lost", lost).await
}

/// Checks that the relay works: it publishes, swaps a module many times, returns after NATS was gone, and ends.
async fn goes_on(world: &mut World, mut relay: Relay) -> Result<()> {
    for mark in 0..24 {
        let toml = unruly_toml(&format!("[settings]\nmark = \"{mark}\""));
        world.home.configure_module("unruly", &toml)?;
        let swapped = module_with(move |module| module["swaps"].as_u64() > Some(mark));
        relay.status_when(SOON, &format!("swap {mark}"), swapped).await?;
    }
    let before = relay.status().await?;
    let before = module(&before, "unruly")["published"].as_u64().context("a number")?;
    world.nats.restart().await?;
    world.jetstream = world.nats.jetstream().await?;
    publishes(world, &relay, before + 1).await?;
    relay.get("/healthz").await?;
    let ended = relay.stop(GRACE).await?;
    ensure!(ended.success(), "it ended with {ended}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk() -> Result<()> {
    let mut world = world().await?;
    let full = OpenOptions::new().write(true).open("/dev/full")?;
    let relay = world.home.run_with_stderr(full.into()).await?;
    publishes(&world, &relay, 1).await?;
    loses_lines(&world, &relay).await?;
    goes_on(&mut world, relay).await
}

/// Runs the relay with a pipe as its log, and returns the pipe's reader at once.
async fn piped(world: &World) -> Result<(Relay, PipeReader)> {
    let (reader, writer) = std::io::pipe()?;
    Ok((world.home.run_with_stderr(writer.into()).await?, reader))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_gone() -> Result<()> {
    let mut world = world().await?;
    let (relay, mut reader) = piped(&world).await?;
    reader.read_exact(&mut [0])?;
    drop(reader);
    publishes(&world, &relay, 1).await?;
    loses_lines(&world, &relay).await?;
    goes_on(&mut world, relay).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stands_still() -> Result<()> {
    let mut world = world().await?;
    let (relay, reader) = piped(&world).await?;
    publishes(&world, &relay, 1).await?;
    loses_lines(&world, &relay).await?;
    goes_on(&mut world, relay).await?;
    drop(reader);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_slow_hears_of_the_lines_it_missed() -> Result<()> {
    let mut world = world().await?;
    let (relay, reader) = piped(&world).await?;
    publishes(&world, &relay, 1).await?;
    loses_lines(&world, &relay).await?;
    let heard = tokio::task::spawn_blocking(move || -> Result<bool> {
        let mut lines = BufReader::new(reader).split(b'\n');
        while let Some(line) = lines.next().transpose()? {
            if String::from_utf8_lossy(&line).contains("log lines were lost") {
                return Ok(true);
            }
        }
        Ok(false)
    });
    // Once there is room again, the relay logs how many lines were lost.
    let goes_on = goes_on(&mut world, relay).await;
    ensure!(heard.await??, "the log did not say that lines were lost");
    goes_on
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_from_the_start() -> Result<()> {
    let mut world = world().await?;
    let script = world.home.path().join("closed");
    fs::write(&script, format!("#!/bin/sh\nexec {} \"$@\" 2>&-\n", binary()))?;
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755))?;
    world.home.replace_binary(&script);
    let relay = world.home.run_with_stderr(Stdio::null()).await?;
    publishes(&world, &relay, 1).await?;
    goes_on(&mut world, relay).await
}

/// The messages of a command for people may get lost, but not its work and its exit code.
#[tokio::test]
async fn commands_do_their_work_without_a_standard_error() -> Result<()> {
    let home = Home::new(binary(), "nats://127.0.0.1:1", "http://127.0.0.1:1", "key")?;
    home.add_module("orders", &guests::component("orders")?, "stream = \"ORDERS\"\n")?;
    let ends = |arguments: &[&str]| -> Result<(Option<i32>, Vec<u8>)> {
        let full = || File::options().write(true).open("/dev/full");
        let output = home.command(arguments).stderr(full()?).output()?;
        Ok((output.status.code(), output.stdout))
    };
    let (code, stdout) = ends(&["check"])?;
    ensure!(code == Some(0) && !stdout.is_empty(), "{code:?}");
    ensure!(ends(&["try", "modules/orders.wasm", "no-such-file"])?.0 == Some(1));
    ensure!(ends(&["new", "shop"])?.0 == Some(0));
    ensure!(ends(&["no-such-command"])?.0 == Some(2));
    home.configure("wrong = true")?;
    ensure!(ends(&["run"])?.0 == Some(78));
    Ok(())
}
