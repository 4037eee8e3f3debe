//! Thousands of messages with random bytes in subject, header block and payload.

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use serde_json::Value;
use slipring_support::eventually;
use slipring_support::raw::RawClient;

use super::super::world::{SOON, World, module};
use super::{LETTERS, MODULE, STREAM, undisturbed};

const MESSAGES: u64 = 10_000;

/// JetStream drops what comes faster than it can store.
const AT_ONCE: u64 = 500;

/// Any bytes except those that end a subject. Every other one is text, so that the headers matter.
fn subject(random: &mut Rng) -> Vec<u8> {
    let text = random.bool();
    let mut subject = b"unruly.".to_vec();
    for _ in 0..random.usize(1..12) {
        let byte = if text { random.u8(b'!'..=b'~') } else { random.u8(..) };
        let is_kept_out = b" \t\r\n".contains(&byte) || text && b".*>".contains(&byte);
        if !is_kept_out {
            subject.push(byte);
        }
    }
    // Some of the readable messages should be published, and the module rejects the rest.
    if random.bool() {
        subject.extend_from_slice(b".ok");
    }
    subject
}

/// Noise, nearly valid headers, or valid headers.
fn headers(random: &mut Rng) -> Vec<u8> {
    let mut noise = |length: usize| -> Vec<u8> { (0..random.usize(..length)).map(|_| random.u8(..)).collect() };
    let (all, some) = (noise(60), noise(10));
    match random.u32(..6) {
        0 => Vec::new(),
        1 => all,
        2 => [b"NATS/1.0\r\n", &all[..]].concat(),
        3 => [b"NATS/1.0\r\nA: ", &some[..], b"\r\nB: 1\r\n\r\n"].concat(),
        4 => [b"NATS/1.0\r\n", &some[..], b": 1\r\n\r\n"].concat(),
        _ => b"NATS/1.0\r\nA: 1\r\nB: 2\r\n\r\n".to_vec(),
    }
}

fn payload(random: &mut Rng) -> Vec<u8> {
    match random.bool() {
        true => random.u32(..).to_string().into_bytes(),
        false => (0..random.usize(..40)).map(|_| random.u8(..)).collect(),
    }
}

async fn held<C>(world: &World<C>, stream: &str) -> Result<u64> {
    Ok(world.jetstream.get_stream(stream).await?.cached_info().state.messages)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_are_published_or_dead_letters() -> Result<()> {
    let seed = fastrand::u64(..);
    run(seed).await.with_context(|| format!("with the seed {seed}"))
}

async fn run(seed: u64) -> Result<()> {
    let mut random = Rng::with_seed(seed);
    let world = World::start().await?;
    world.stream(STREAM, &["unruly.>"]).await?;
    world.add_unruly("max_consecutive_rejects = 1000000")?;
    world.stream("NEIGHBOUR", &["neighbour.>"]).await?;
    let wasm = slipring_support::guests::component("unruly")?;
    world
        .home
        .add_module("neighbour", &wasm, "stream = \"NEIGHBOUR\"\ndeliver = \"all\"\n")?;
    let relay = world.run().await?;
    let mut raw = RawClient::connect(&world.nats.url()).await?;
    let mut sent = 0;
    while sent < MESSAGES {
        let before = held(&world, STREAM).await?;
        for _ in 0..AT_ONCE {
            let (subject, headers, payload) = (subject(&mut random), headers(&mut random), payload(&mut random));
            raw.publish(&subject, &headers, &payload);
        }
        // The last of these shows when JetStream has stored everything.
        raw.publish(b"unruly.ok", b"", b"0");
        raw.publish(b"neighbour.ok", b"", b"0");
        raw.flush().await?;
        sent += AT_ONCE;
        let batch = sent / AT_ONCE;
        eventually(SOON, "JetStream to have stored them", async || {
            let neighbour = held(&world, "NEIGHBOUR").await?;
            ensure!(
                neighbour == batch && held(&world, STREAM).await? > before,
                "{neighbour}"
            );
            Ok(())
        })
        .await?;
    }
    world.all_acked(SOON, STREAM, MODULE).await?;
    let stored = held(&world, STREAM).await?;
    ensure!(stored > MESSAGES / 2, "JetStream stored only {stored} of them");
    let all = |status: &Value| {
        let count = |field: &str| module(status, MODULE)[field].as_u64().unwrap_or(0);
        count("published") + count("rejected") == stored
    };
    let status = relay
        .status_when(SOON, &format!("all {stored} to be dealt with"), all)
        .await?;
    let unruly = module(&status, MODULE);
    let rejected = unruly["rejected"].as_u64().context("a count")?;
    ensure!(
        unruly["state"] == "running" && unruly["published"].as_u64() > Some(stored / 20),
        "{status}"
    );
    eventually(SOON, format!("{rejected} dead letters"), async || {
        let letters = held(&world, LETTERS).await?;
        ensure!(letters == rejected, "there are {letters}");
        Ok(())
    })
    .await?;
    let output = world
        .home
        .command(["dead-letters", "list", "--code", "unreadable", "--json"])
        .output()?;
    let unreadable = output.stdout.iter().filter(|byte| **byte == b'\n').count() as u64;
    ensure!(
        unreadable > stored / 4 && unreadable < rejected,
        "{unreadable} of {rejected}"
    );
    let metrics = relay.metrics().await?;
    let epochs = "slipring_epochs_total{module=\"neighbour\"} 1\n";
    ensure!(metrics.contains(epochs), "the neighbour began once: {metrics}");
    undisturbed(&relay)
}
