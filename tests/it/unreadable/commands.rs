//! The commands that read streams and dead letters, when some of the messages cannot be read.

use std::process::Output;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::stream::RetentionPolicy;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use slipring_support::fake_centrifugo::FakeCentrifugo;
use slipring_support::raw::RawClient;
use slipring_support::servers::NatsVersion;
use slipring_support::{eventually, guests};

use super::super::numbers::counts;
use super::super::world::{SOON, World};
use super::{BAD, LETTERS, MODULE, STREAM, letters, send, world_on};

const WASM: &str = "modules/unruly.wasm";

fn run(world: &World<FakeCentrifugo>, arguments: &[&str]) -> Result<Output> {
    let output = world.home.command(arguments.iter().copied()).output();
    output.context("running slipring")
}

/// Returns the JSON lines of a command that succeeds.
fn lines(world: &World<FakeCentrifugo>, arguments: &[&str]) -> Result<Vec<Value>> {
    let output = run(world, arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {output:?}");
    let text = String::from_utf8(output.stdout)?;
    text.lines()
        .map(|line| serde_json::from_str(line).context("a line of JSON"))
        .collect()
}

async fn filled(retention: RetentionPolicy) -> Result<World<FakeCentrifugo>> {
    let world = world_on(NatsVersion::V2_15, retention).await?;
    send(&world, &BAD, 1).await?;
    let stored = 2 * BAD.len() as u64;
    eventually(SOON, "all to be stored", async || {
        let held = world.jetstream.get_stream(STREAM).await?.cached_info().state.messages;
        ensure!(held == stored, "it holds {held}");
        Ok(())
    })
    .await?;
    Ok(world)
}

#[tokio::test(flavor = "multi_thread")]
async fn try_and_diff_show_what_the_relay_makes_of_them() -> Result<()> {
    for retention in [RetentionPolicy::Limits, RetentionPolicy::WorkQueue] {
        let world = filled(retention).await?;
        let all = lines(&world, &["try", "--last", "100", WASM])?;
        ensure!(all.len() == 2 * BAD.len(), "{all:?}");
        for (bad, line) in BAD.iter().zip(all.iter().step_by(2)) {
            ensure!(line["outcome"] == "reject" && line["code"] == "unreadable", "{line}");
            let single = &lines(&world, &["try", "--seq", &line["sequence"].to_string(), WASM])?[0];
            for line in [line, single] {
                let reason = line["reason"].as_str().unwrap_or_default();
                // For a work queue, it is only known that the subject is not UTF-8.
                let known = reason.contains(bad.reason) || reason.ends_with("its subject is not UTF-8");
                ensure!(known, "{line}");
            }
        }
        ensure!(
            all.iter().skip(1).step_by(2).all(|line| line["outcome"] == "publish"),
            "{all:?}"
        );
        std::fs::copy(guests::component("unruly")?, world.home.path().join("next.wasm"))?;
        let output = run(&world, &["diff", "--last", "100", WASM, "next.wasm"])?;
        ensure!(output.status.success(), "{output:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_has_the_bytes_and_passes() -> Result<()> {
    let world = filled(RetentionPolicy::Limits).await?;
    let output = run(&world, &["record", WASM, "--last", "100"])?;
    ensure!(output.status.success(), "{output:?}");
    for (bad, sequence) in BAD.iter().zip((1..).step_by(2)) {
        let file = world
            .home
            .path()
            .join(format!("modules/cases/{STREAM}-{sequence}.json"));
        let case: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
        let message = &case["message"];
        ensure!(message["headers_base64"] == STANDARD.encode(bad.headers), "{case}");
        ensure!(message["payload_base64"] == STANDARD.encode(bad.payload()), "{case}");
        match std::str::from_utf8(bad.subject) {
            Ok(subject) => ensure!(
                message["subject"] == subject && message["subject_base64"].is_null(),
                "{case}"
            ),
            Err(_) => ensure!(message["subject_base64"] == STANDARD.encode(bad.subject), "{case}"),
        }
        ensure!(case["expect"]["code"] == "unreadable", "{case}");
    }
    let tested = run(&world, &["test", WASM])?;
    ensure!(tested.status.success(), "{tested:?}");

    // Bytes cannot be searched for what must not be in a case.
    let redacted = run(
        &world,
        &[
            "record",
            WASM,
            "--last",
            "100",
            "--redact-if-there",
            "city",
            "--into",
            "redacted",
        ],
    )?;
    ensure!(redacted.status.success(), "{redacted:?}");
    ensure!(
        std::fs::read_dir(world.home.path().join("redacted"))?.count() == 0,
        "{redacted:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_shows_them_as_they_arrive() -> Result<()> {
    let world = world_on(NatsVersion::V2_15, RetentionPolicy::Limits).await?;
    let mut dev = world.home.start(["dev", WASM, "--live"])?;
    let begun = "as they arrive";
    dev.line(SOON, begun, |line| line.contains(begun)).await?;
    send(&world, &BAD, 1).await?;
    for bad in &BAD {
        dev.line(SOON, bad.reason, |line| line.contains(bad.reason)).await?;
    }
    dev.interrupt()?;
    ensure!(dev.wait(SOON).await?.code() == Some(0));
    Ok(())
}

/// Waits until the stream of the dead letters has this many messages, although the client cannot read all of them.
async fn holds(world: &World<FakeCentrifugo>, count: usize) -> Result<()> {
    eventually(SOON, format!("{count} dead letters"), async || {
        let held = world.jetstream.get_stream(LETTERS).await?.cached_info().state.messages;
        ensure!(held == count as u64, "there are {held}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_show_the_bytes_and_a_replay_says_why_they_stay() -> Result<()> {
    let world = world_on(NatsVersion::V2_15, RetentionPolicy::Limits).await?;
    let mut relay = world.run().await?;
    send(&world, &BAD[..1], 1).await?;
    letters(&world, 1).await?;
    counts(&relay, MODULE, "published", 1).await?;
    relay.stop(SOON).await?;
    // Also something that no relay has stored there.
    let mut raw = RawClient::connect(&world.nats.url()).await?;
    for bad in &BAD {
        raw.publish(
            b"slipring.dead.unruly",
            if bad.headers.is_empty() { b"?" } else { bad.headers },
            bad.payload(),
        );
    }
    raw.publish(b"slipring.dead.\xfc", BAD[0].headers, BAD[0].payload());
    raw.flush().await?;
    let count = BAD.len() + 2;
    holds(&world, count).await?;

    let listed = lines(&world, &["dead-letters", "list", "--json"])?;
    ensure!(listed.len() == count && listed[0]["code"] == "unreadable", "{listed:?}");
    let shown = &lines(&world, &["dead-letters", "show", "1", "--json"])?[0];
    ensure!(shown["headers_base64"] == STANDARD.encode(BAD[0].headers), "{shown}");
    ensure!(shown["payload_base64"] == STANDARD.encode(BAD[0].payload()), "{shown}");
    for number in 1..=count {
        let output = run(&world, &["dead-letters", "show", &number.to_string()])?;
        ensure!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout)?;
        ensure!(
            number > 1 || text.contains("4e 41 54 53 2f 31 2e 30"),
            "the bytes are shown: {text}"
        );
    }
    let replayed = run(&world, &["dead-letters", "replay", "--module", "unruly"])?;
    ensure!(replayed.status.code() == Some(1), "{replayed:?}");
    let told = String::from_utf8(replayed.stdout)?;
    let reason = format!("the message cannot be read: {}", BAD[0].reason);
    ensure!(told.contains(&reason), "{told}");
    holds(&world, count).await?;
    let recorded = run(&world, &["record", WASM, "--dead-letter", "1"])?;
    ensure!(recorded.status.success(), "{recorded:?}");
    let case = std::fs::read_to_string(world.home.path().join("modules/cases/dead-letter-1.json"))?;
    ensure!(case.contains(&STANDARD.encode(BAD[0].headers)), "{case}");

    let removed = run(&world, &["dead-letters", "remove", "--all", "--yes"])?;
    ensure!(removed.status.success(), "{removed:?}");
    let left = world.jetstream.get_stream(LETTERS).await?.cached_info().state.messages;
    ensure!(left == 0, "{left} are left");
    Ok(())
}
