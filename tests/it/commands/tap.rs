//! `slipring tap` and `slipring top`, beside a running relay.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use slipring_support::eventually;
use slipring_support::process::Process;
use slipring_support::relay::Relay;

use super::super::numbers::number_on;
use super::super::world::{SOON, World, module};
use super::{exits, stderr};

async fn world() -> Result<(World, Relay)> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("max_consecutive_rejects = 1000000")?;
    let relay = world.run().await?;
    Ok((world, relay))
}

fn start(world: &World, relay: &Relay, arguments: &[&str]) -> Result<Process> {
    let all = [&["tap", "--url", relay.url()][..], arguments].concat();
    world.home.start(all)
}

/// Publishes this message until the tap shows what the text says. A tap is a sample, and it may not be open yet.
async fn shows(world: &World, tap: &Process, (subject, payload): (&'static str, &str), text: &str) -> Result<String> {
    eventually(SOON, format!("{text:?} on the tap"), async || {
        world.publish([(subject, payload.to_owned())]).await?;
        let line = tap.log().into_iter().find(|line| line.contains(text));
        line.with_context(|| format!("{:#?}", tap.log()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_is_a_line_until_ctrl_c() -> Result<()> {
    let (world, relay) = world().await?;
    let mut tap = start(&world, &relay, &["--rate", "50"])?;
    let line = shows(&world, &tap, ("unruly.ok", "1"), "unruly.ok → unruly:ok  unruly ").await?;
    let status = relay.status().await?;
    let unruly = module(&status, "unruly");
    for hash in ["sha256", "toml_sha256"] {
        let hash = unruly[hash].as_str().context("a hash")?;
        ensure!(line.contains(&hash[..12]), "{hash} is not in {line}");
    }
    ensure!(line.ends_with(" µs"), "{line}");
    let many = r#"["unruly:a","unruly:b"]"#;
    shows(
        &world,
        &tap,
        ("unruly.channels", many),
        "unruly.channels → unruly:a, unruly:b  ",
    )
    .await?;
    shows(&world, &tap, ("unruly.drop", ""), "unruly.drop dropped  ").await?;
    let line = "unruly.reject rejected: rejected as asked: no  ";
    shows(&world, &tap, ("unruly.reject", "no"), line).await?;
    let hostile = "[\"unruly:\u{202e}\"]";
    shows(&world, &tap, ("unruly.channels", hostile), "→ unruly:\\u{202e}  ").await?;
    tap.interrupt()?;
    let status = tap.wait(SOON).await?;
    ensure!(status.code() == Some(0), "{status}: {:#?}", tap.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_get_as_many_lines_as_they_want_of_a_channel() -> Result<()> {
    let (world, relay) = world().await?;
    let arguments = ["--json", "--module", "unruly", "--channel", "unruly:b", "--count", "2"];
    let mut tap = start(&world, &relay, &arguments)?;
    let status = eventually(SOON, "the tap to end", async || {
        world
            .publish([number_on("unruly:a", 1), number_on("unruly:b", 2)])
            .await?;
        tap.exited().with_context(|| "it runs")
    })
    .await?;
    ensure!(status.code() == Some(0), "{status}: {:#?}", tap.log());
    let lines: Vec<String> = tap.log().into_iter().filter(|line| line.starts_with('{')).collect();
    ensure!(lines.len() == 2, "{lines:#?}");
    for line in lines {
        let shown: Value = serde_json::from_str(&line)?;
        let publication = &shown["publications"][0];
        ensure!(
            shown["module"] == "unruly" && shown["outcome"] == "publish" && shown["payload"].is_string(),
            "{line}"
        );
        ensure!(
            publication["channels"][0] == "unruly:b" && publication["data"] == 2,
            "{line}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_shown_is_counted() -> Result<()> {
    let (world, relay) = world().await?;
    let tap = start(&world, &relay, &["--rate", "1"])?;
    shows(&world, &tap, ("unruly.ok", "1"), " not shown").await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_ends_with_its_reader_and_with_its_relay() -> Result<()> {
    let (world, mut relay) = world().await?;
    let arguments = ["tap", "--url", relay.url()];
    let mut command = world.home.command(arguments);
    let mut closed = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut reader = BufReader::new(closed.stdout.take().context("a pipe")?);
    let first = std::thread::spawn(move || {
        let mut line = String::new();
        reader.read_line(&mut line).map(|_| line)
    });
    eventually(SOON, "a reader that has seen enough to end the tap", async || {
        world.publish([("unruly.ok", "1")]).await?;
        closed.try_wait()?.context("it runs")
    })
    .await?;
    let line = first.join().ok().context("a reader")??;
    ensure!(line.contains("unruly.ok"), "{line}");
    let output = closed.wait_with_output()?;
    exits(&output, 0)?;
    ensure!(!stderr(&output).to_lowercase().contains("error"), "{}", stderr(&output));

    let mut tap = start(&world, &relay, &[])?;
    shows(&world, &tap, ("unruly.ok", "1"), "unruly.ok").await?;
    relay.kill();
    let status = tap.wait(SOON).await?;
    ensure!(status.code() == Some(1), "{status}: {:#?}", tap.log());
    let last = tap.log().pop().unwrap_or_default();
    ensure!(last.contains("connection"), "{last}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_they_cannot_show_is_told() -> Result<()> {
    let (world, relay) = world().await?;
    let fails = |arguments: &[&str], reason: &str| {
        let all = [arguments, &["--url", relay.url()]].concat();
        let output = world.home.command(all).output()?;
        exits(&output, 1)?;
        ensure!(stderr(&output).contains(reason), "{reason:?}: {}", stderr(&output));
        anyhow::Ok(())
    };
    fails(
        &["tap", "--module", "nobody"],
        "There is no module `nobody`. The modules are: unruly",
    )?;
    fails(&["top"], "`slipring top` needs a terminal: use `slipring status`")?;
    // Another user has other directories, and so no token.
    let mut another = world.home.command(["tap", "--url", relay.url()]);
    let another = another
        .env("XDG_RUNTIME_DIR", "/nowhere")
        .env("TMPDIR", "/nowhere")
        .output()?;
    exits(&another, 1)?;
    ensure!(stderr(&another).contains("requires its token"), "{}", stderr(&another));
    Ok(())
}
