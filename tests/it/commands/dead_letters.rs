//! `slipring dead-letters`: looking at dead letters and removing them.

mod faithful;
mod interrupted;
mod replay;

use std::process::Output;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{self, RetentionPolicy};
use bytes::Bytes;
use serde_json::Value;
use slipring_support::eventually;

use super::super::world::{SOON, World, unruly_toml};
use super::{exits, stderr, stdout};

const STREAM: &str = "SLIPRING_DEAD_LETTERS";

/// Runs the command in the relay's home.
fn run<C>(world: &World<C>, arguments: &[&str]) -> Result<Output> {
    let arguments = ["dead-letters"].iter().chain(arguments).copied();
    world.home.command(arguments).output().context("running slipring")
}

/// Returns the JSON lines of a command that succeeds.
fn json<C>(world: &World<C>, arguments: &[&str]) -> Result<Vec<Value>> {
    let output = run(world, &[arguments, &["--json"]].concat())?;
    exits(&output, 0)?;
    stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).context("a line of JSON"))
        .collect()
}

/// Returns the numbers of the letters that `list` shows.
fn listed<C>(world: &World<C>, filters: &[&str]) -> Result<Vec<u64>> {
    let letters = json(world, &[&["list"], filters].concat())?;
    Ok(letters.iter().filter_map(|letter| letter["number"].as_u64()).collect())
}

/// Waits until the stream of the dead letters has this many messages. A letter in parts is several.
async fn stored<C>(world: &World<C>, count: u64) -> Result<()> {
    eventually(SOON, format!("{count} dead letters"), async || {
        let stream = world.jetstream.get_stream(STREAM).await?;
        let messages = stream.cached_info().state.messages;
        ensure!(messages == count, "{messages} of them");
        Ok(())
    })
    .await
}

/// Starts a world with the guest `unruly` and its stream, and dead letters of the messages. Each message is sent once
/// the letter before is stored, so that the letters have the numbers 1, 2, …
async fn letters_of(messages: &[(&'static str, &'static [u8])]) -> Result<World> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let mut relay = world.run().await?;
    for (count, message) in (1..).zip(messages) {
        world.publish([*message]).await?;
        stored(&world, count).await?;
    }
    relay.stop(SOON).await?;
    Ok(world)
}

/// Somebody created the streams for the dead letters beforehand, and their messages leave when they are acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn letters_in_a_stream_of_any_retention_are_listed_and_replayed() -> Result<()> {
    for retention in [RetentionPolicy::WorkQueue, RetentionPolicy::Interest] {
        let world = World::start().await?;
        let config = stream::Config {
            name: STREAM.to_owned(),
            subjects: vec!["slipring.dead.>".to_owned()],
            retention,
            ..Default::default()
        };
        let letters = world.jetstream.create_stream(config).await?;
        // Without this consumer, a stream of retention `interest` would keep nothing. With it, a work queue allows no
        // other consumer of these subjects.
        let archive = pull::Config {
            durable_name: Some("archive".to_owned()),
            ack_policy: AckPolicy::Explicit,
            ..Default::default()
        };
        letters.create_consumer(archive).await?;
        world.stream("UNRULY", &["unruly.>"]).await?;
        world.add_unruly("settings.refuse_from = 1")?;
        let mut relay = world.run().await?;
        // Large enough for a letter of two parts.
        let large = format!("\"{}\"", "x".repeat((1 << 20) - 2));
        for (count, payload) in [(1, "1".to_owned()), (3, large), (4, "3".to_owned())] {
            world.publish([("unruly.ok", payload)]).await?;
            stored(&world, count).await?;
        }
        relay.stop(SOON).await?;
        ensure!(
            listed(&world, &[])? == [1, 2, 4],
            "{retention:?}: {:?}",
            listed(&world, &[])?
        );
        ensure!(listed(&world, &["--module", "unruly", "--reason", "bad"])?.len() == 3);
        ensure!(listed(&world, &["--module", "another"])?.is_empty());
        let info = letters.consumer_info("archive").await?;
        ensure!(
            info.num_pending == 4 && info.num_ack_pending == 0,
            "nobody else noticed: {info:?}"
        );

        world.home.configure_module("unruly", &unruly_toml(""))?;
        exits(&run(&world, &["replay", "--all"])?, 0)?;
        ensure!(listed(&world, &[])?.is_empty());
        let history = world.centrifugo.history("unruly:ok").await?;
        ensure!(
            history.len() == 3 && history[0].text() == "1" && history[2].text() == "3",
            "{retention:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn list_shows_what_its_filters_match() -> Result<()> {
    let world = letters_of(&[
        ("unruly.reject", b"no such customer"),
        ("unruly.panic", b"out of order"),
        ("unruly.publish", br#"[{"channels":["nowhere:7"],"data":1}]"#),
        ("unruly.reject", b"no such product"),
    ])
    .await?;
    let output = run(&world, &["list"])?;
    exits(&output, 0)?;
    let table = stdout(&output);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    ensure!(rows.len() == 5 && rows[0][0] == "NUMBER", "{table}");
    ensure!(
        rows[1][0] == "1" && rows[1][2..5] == ["unruly", "transform", "rejected"],
        "{table}"
    );
    ensure!(rows[3][3..7] == ["publish", "102", "nowhere:7", "UNRULY:3"], "{table}");
    ensure!(table.contains("rejected as asked: no such customer"), "{table}");
    ensure!(stderr(&output).is_empty(), "{}", stderr(&output));

    let letters = json(&world, &["list"])?;
    ensure!(letters[1]["code"] == "trap" && letters[1]["size"] == 12, "{letters:?}");
    let between = letters[2]["stored"].as_str().context("a time")?;
    for (filters, expected) in [
        (&["--module", "unruly"][..], &[1, 2, 3, 4][..]),
        (&["--module", "orders"], &[]),
        (&["--stage", "publish"], &[3]),
        (&["--code", "trap"], &[2]),
        (&["--reason", "no such"], &[1, 4]),
        (&["--reason", "no such", "--limit", "1"], &[4]),
        (&["--since", between], &[3, 4]),
        (&["--until", between], &[1, 2]),
        (&["--since", "1h", "--stage", "transform"], &[1, 2, 4]),
        (&["--until", "1h"], &[]),
    ] {
        let found = listed(&world, filters)?;
        ensure!(found == expected, "{filters:?}: {found:?}");
    }
    let output = run(&world, &["list", "--code", "memory"])?;
    exits(&output, 0)?;
    ensure!(stdout(&output).is_empty(), "{}", stdout(&output));
    ensure!(
        stderr(&output).contains("no dead letter in SLIPRING_DEAD_LETTERS"),
        "{}",
        stderr(&output)
    );
    exits(&run(&world, &["list", "--since", "soon"])?, 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn show_gives_headers_and_payload() -> Result<()> {
    let world = letters_of(&[("unruly.reject", b"{\"id\": 7}"), ("unruly.panic", b"\x00\xff")]).await?;
    let output = run(&world, &["show", "1"])?;
    exits(&output, 0)?;
    let text = stdout(&output);
    for line in [
        "Slipring-Reason: rejected as asked: {\"id\": 7}",
        "Slipring-Subject: unruly.reject",
        "Slipring-Sequence: 1",
        "{\"id\": 7}",
    ] {
        ensure!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let output = run(&world, &["show", "2"])?;
    ensure!(stdout(&output).contains("00000000  00 ff "), "{}", stdout(&output));
    let output = run(&world, &["show", "2", "--payload"])?;
    ensure!(output.stdout == b"\x00\xff", "{:?}", output.stdout);

    let letters = json(&world, &["show", "2", "1"])?;
    ensure!(letters[0]["payload_base64"] == "AP8=", "{letters:?}");
    ensure!(
        letters[1]["payload"] == "{\"id\": 7}" && letters[1]["subject"] == "unruly.reject",
        "{letters:?}"
    );

    let output = run(&world, &["show", "1", "9"])?;
    exits(&output, 1)?;
    ensure!(!stdout(&output).is_empty(), "the one that is there is shown");
    ensure!(
        stderr(&output) == "there is no dead letter 9 in SLIPRING_DEAD_LETTERS\n",
        "{}",
        stderr(&output)
    );
    exits(&run(&world, &["show", "1", "2", "--payload"])?, 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_one_letter() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let mut relay = world.run().await?;
    let payload: Bytes = (0..1 << 20).map(|index| b'a' + (index % 26) as u8).collect();
    world.publish([("unruly.reject", payload.clone())]).await?;
    stored(&world, 2).await?;
    world.publish([("unruly.reject", "small")]).await?;
    stored(&world, 3).await?;
    relay.stop(SOON).await?;

    let letters = json(&world, &["list"])?;
    ensure!(letters.len() == 2, "{letters:?}");
    ensure!(
        letters[0]["number"] == 1 && letters[0]["parts"] == 2,
        "{}",
        letters[0]["number"]
    );
    ensure!(letters[0]["size"] == payload.len(), "{}", letters[0]["size"]);
    // Either of its numbers works.
    for number in ["1", "2"] {
        let output = run(&world, &["show", number, "--payload"])?;
        ensure!(output.stdout == payload, "{} bytes", output.stdout.len());
    }
    exits(&run(&world, &["remove", "1"])?, 0)?;
    stored(&world, 1).await?;
    ensure!(listed(&world, &[])? == [3], "the other one stays");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn remove_takes_what_was_named_and_nothing_by_mistake() -> Result<()> {
    let world = letters_of(&[
        ("unruly.reject", b"one"),
        ("unruly.reject", b"two"),
        ("unruly.panic", b"three"),
        ("unruly.panic", b"four"),
    ])
    .await?;
    let output = run(&world, &["remove", "1", "9"])?;
    exits(&output, 1)?;
    let said = "removed 1 dead letter from SLIPRING_DEAD_LETTERS\nthere is no dead letter 9 in SLIPRING_DEAD_LETTERS\n";
    ensure!(stderr(&output) == said, "{}", stderr(&output));

    let output = run(&world, &["remove", "--code", "trap"])?;
    exits(&output, 2)?;
    ensure!(
        stderr(&output).contains("this would remove 2 dead letters"),
        "{}",
        stderr(&output)
    );
    for wrong in [
        &["remove"][..],
        &["remove", "2", "--all"],
        &["remove", "--all", "--code", "trap"],
    ] {
        exits(&run(&world, wrong)?, 2)?;
    }
    ensure!(listed(&world, &[])? == [2, 3, 4], "nothing was removed");

    exits(&run(&world, &["remove", "--code", "trap", "--yes"])?, 0)?;
    ensure!(listed(&world, &[])? == [2], "the others are");
    exits(&run(&world, &["remove", "--all", "--yes"])?, 0)?;
    stored(&world, 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_stream_there_are_no_dead_letters() -> Result<()> {
    let world = World::start().await?;
    for (arguments, code) in [
        (&["list"][..], 0),
        (&["show", "1"], 1),
        (&["remove", "1"], 1),
        (&["remove", "--all", "--yes"], 0),
        (&["replay", "1"], 1),
        (&["replay", "--all"], 0),
    ] {
        let output = run(&world, arguments)?;
        exits(&output, code)?;
        let said = "there are no dead letters: the stream SLIPRING_DEAD_LETTERS does not exist\n";
        ensure!(
            stderr(&output) == said && output.stdout.is_empty(),
            "{}",
            stderr(&output)
        );
    }
    Ok(())
}
