//! Centrifugo does not accept a backlog: the relay holds a window of it, waits without using the processor, and
//! delivers all of it in the end.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use slipring_support::servers::Centrifugo;
use slipring_support::{eventually, guests};

use super::world::{SOON, World, has_published, module};

mod amplified;

const MESSAGES: u64 = 200_000;
const USERS: u64 = 1_000;
const SIZE: usize = 1_024;

/// The length of each channel's history. The last publications prove that all before came in order, or they
/// would be others.
const KEPT: u64 = 3;

/// The window is 4,096 messages or 32 MiB of them by default. Each may exist as a message, as a publication, and in
/// the body of a request. wasmtime, its compiled code and the guests take about 50 MiB. The backlog itself is larger
/// than this bound.
const BOUND: u64 = 128 << 20;

/// The limit for 200,000 messages, on a busy machine.
const LONG: Duration = Duration::from_secs(300);

/// The relay's processor usage is measured over this time.
const IDLE: Duration = Duration::from_secs(3);

fn message(number: u64) -> (String, String) {
    let text = format!("{number:0SIZE$}");
    let event = json!({ "kind": "comment", "actor": 0, "text": text, "followers": [1 + number % USERS] });
    ("notifications.comment".to_owned(), event.to_string())
}

fn short_history(config: &mut Value) {
    for namespace in config["channel"]["namespaces"].as_array_mut().into_iter().flatten() {
        namespace["history_size"] = KEPT.into();
        namespace["history_ttl"] = "1h".into();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_neither_fills_the_memory_nor_keeps_the_processor_busy() -> Result<()> {
    // It has an address, where nothing listens yet.
    let centrifugo = Centrifugo::prepare(short_history)?;
    let (url, key) = (centrifugo.url(), centrifugo.api_key().to_owned());
    let mut world = World::start_with(centrifugo, &url, &key).await?;
    world.stream("NOTIFICATIONS", &["notifications.>"]).await?;
    world.publish((1..=MESSAGES).map(message)).await?;
    let toml = "stream = \"NOTIFICATIONS\"\ndeliver = \"all\"\n";
    world
        .home
        .add_module("notifications", &guests::component("notifications")?, toml)?;

    let relay = world.home.run().await?;
    let full = |status: &Value| {
        let module = module(status, "notifications");
        module["window_messages"] == 4_096 && module["transformed"] == 4_096 && status["ready"] == false
    };
    relay.status_when(SOON, "a full window", full).await?;
    let idle = async || -> Result<f64> {
        let before = relay.usage()?;
        // This does not wait for an event: it takes time to see that nothing happens.
        tokio::time::sleep(IDLE).await;
        let busy = (relay.usage()?.cpu_time - before.cpu_time).as_secs_f64() / IDLE.as_secs_f64();
        ensure!(busy < 0.2, "it takes {:.0} % of a processor", 100.0 * busy);
        Ok(busy)
    };
    let busy = eventually(SOON, "the relay to be idle while it waits", idle).await?;
    let waiting = relay.usage()?;

    world.centrifugo.restart().await?;
    world.all_acked(LONG, "NOTIFICATIONS", "notifications").await?;
    let peak = relay.usage()?.peak_memory;
    println!(
        "peak memory: {} MiB while waiting, {} MiB in all; {:.1} % of a processor while waiting",
        waiting.peak_memory >> 20,
        peak >> 20,
        100.0 * busy
    );
    ensure!(peak < BOUND, "the relay held {} MiB", peak >> 20);
    has_published(&relay, "notifications", MESSAGES).await?;
    for user in 1..=USERS {
        let history = world.centrifugo.history(&format!("notifications:user-{user}")).await?;
        let numbers: Vec<u64> = history.iter().map(number).collect::<Result<_>>()?;
        let last = MESSAGES - (MESSAGES + 1 - user) % USERS;
        let expected: Vec<u64> = (0..KEPT).rev().map(|back| last - back * USERS).collect();
        ensure!(
            numbers == expected,
            "user {user} has {numbers:?} instead of {expected:?}"
        );
    }
    Ok(())
}

/// The messages are small, but the module makes large publications of them.
#[tokio::test(flavor = "multi_thread")]
async fn publications_that_wait_are_bounded_as_well() -> Result<()> {
    const MESSAGES: u64 = 3_000;
    const LARGE: usize = 100_000;
    let centrifugo = Centrifugo::prepare(|config| {
        let namespaces = config["channel"]["namespaces"].as_array_mut();
        namespaces
            .into_iter()
            .for_each(|namespaces| namespaces.push(json!({ "name": "unruly" })));
    })?;
    let (url, key) = (centrifugo.url(), centrifugo.api_key().to_owned());
    let mut world = World::start_with(centrifugo, &url, &key).await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world
        .publish((0..MESSAGES).map(|_| ("unruly.large", LARGE.to_string())))
        .await?;
    world.add_unruly("")?;

    let relay = world.home.run().await?;
    // Not quite full, because the next message would not fit.
    let full = |status: &Value| module(status, "unruly")["window_bytes"].as_u64() >= Some(28 << 20);
    relay.status_when(SOON, "a full window", full).await?;
    world.centrifugo.restart().await?;
    world.all_acked(LONG, "UNRULY", "unruly").await?;
    has_published(&relay, "unruly", MESSAGES).await?;
    let peak = relay.usage()?.peak_memory;
    println!("peak memory: {} MiB", peak >> 20);
    ensure!(peak < 2 * BOUND, "the relay held {} MiB", peak >> 20);
    Ok(())
}

fn number(publication: &slipring_support::Publication) -> Result<u64> {
    let data: Value = publication.json()?;
    Ok(data["text"].as_str().unwrap_or_default().parse()?)
}
