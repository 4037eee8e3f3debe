//! What a pipeline reads: every kind of stream, from every start position, within its window, and through the end and
//! return of either server.

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use serde_json::Value;
use slipring_support::subscriber::Subscriber;
use slipring_support::{eventually, guests};

use super::numbers::{CHANNEL, consumer, counts, marked, number_on, numbers, settled, shows, state};
use super::world::{SOON, World, has_published, module};

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_every_retention_are_read_and_those_that_forget_what_is_done_become_empty() -> Result<()> {
    const KINDS: [(&str, RetentionPolicy); 3] = [
        ("limits", RetentionPolicy::Limits),
        ("interest", RetentionPolicy::Interest),
        ("workqueue", RetentionPolicy::WorkQueue),
    ];
    let world = World::start().await?;
    let wasm = guests::component("unruly")?;
    let send = async |kind: &str, numbers: std::ops::RangeInclusive<u64>| {
        let channel = format!("unruly:{kind}");
        let messages = numbers.map(|number| (format!("{kind}.publish"), number_on(&channel, number).1));
        world.publish(messages).await
    };
    for (kind, retention) in KINDS {
        let config = Config {
            name: kind.to_owned(),
            subjects: vec![format!("{kind}.>")],
            retention,
            ..Default::default()
        };
        world.jetstream.create_stream(config).await?;
        let toml = format!("stream = \"{kind}\"\ndeliver = \"all\"\n");
        world.home.add_module(kind, &wasm, &toml)?;
    }
    // A stream of retention `interest` keeps nothing that was published before its first consumer.
    send("limits", 1..=100).await?;
    send("workqueue", 1..=100).await?;
    let relay = world.run().await?;
    send("interest", 1..=100).await?;
    for (kind, retention) in KINDS {
        send(kind, 101..=200).await?;
        shows(&world.centrifugo, &format!("unruly:{kind}"), 1..=200).await?;
        counts(&relay, kind, "published", 200).await?;
        let left = if retention == RetentionPolicy::Limits { 200 } else { 0 };
        eventually(SOON, format!("{kind} to hold {left}"), async || {
            let mut stream = world.jetstream.get_stream(kind).await?;
            let held = stream.info().await?.state.messages;
            ensure!(held == left, "it holds {held}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_consumer_begins_where_deliver_says() -> Result<()> {
    let world = World::start().await?;
    let stream = world.stream("UNRULY", &["unruly.>"]).await?;
    world.publish(numbers(1..=10)).await?;
    let stored = stream.get_raw_message(4).await?.time.unix_timestamp_nanos();
    let stored = jiff::Timestamp::from_nanosecond(stored)?;
    let wasm = guests::component("unruly")?;
    let ways = [
        ("new", "\"new\"".to_owned(), 11),
        ("all", "\"all\"".to_owned(), 1),
        ("sequence", "{ sequence = 6 }".to_owned(), 6),
        ("since", format!("{{ since = \"{stored}\" }}"), 4),
    ];
    for (name, deliver, _) in &ways {
        let toml = format!("stream = \"UNRULY\"\ndeliver = {deliver}\nsettings.mark = \"{name}\"\n");
        world.home.add_module(name, &wasm, &toml)?;
    }
    let mut relay = world.run().await?;
    let left_out = relay
        .logs(SOON, "begins with new messages and leaves out the older ones")
        .await?;
    ensure!(
        left_out.contains("older=10") && left_out.contains("slipring-new"),
        "{left_out}"
    );
    world.publish(numbers(11..=20)).await?;
    for (name, _, first) in &ways {
        counts(&relay, name, "published", 21 - first).await?;
        let shown = marked(&world.centrifugo, CHANNEL).await?;
        let shown = shown.iter().filter(|(_, mark)| mark == name).map(|(number, _)| *number);
        ensure!(
            shown.clone().eq(*first..=20),
            "{name} shows {:?}",
            shown.collect::<Vec<_>>()
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_gets_the_messages_of_its_subjects_in_the_order_of_the_stream() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["a.>", "b.>", "c.>"]).await?;
    let subjects = (1..=300).map(|number| (["a.x.ok", "b.ok", "c.ok"][number % 3], number.to_string()));
    world.publish(subjects).await?;
    world.add_unruly("subjects = [\"a.*.ok\", \"b.>\"]")?;
    let _relay = world.run().await?;
    shows(&world.centrifugo, CHANNEL, (1..=300).filter(|number| number % 3 != 2)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_outstanding_than_the_window_holds() -> Result<()> {
    const WINDOW: usize = 10;
    let mut world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.centrifugo.stop().await?;
    world.publish(numbers(1..=100)).await?;
    world.add_unruly(&format!("window = {WINDOW}"))?;
    let relay = world.home.run().await?;
    let full = |status: &Value| {
        let window = module(status, "unruly")["window_messages"].as_u64();
        window == Some(WINDOW as u64) && status["centrifugo"]["trouble"].is_string()
    };
    let status = relay.status_when(SOON, "a full window and the reason", full).await?;
    ensure!(module(&status, "unruly")["received"] == WINDOW, "{status}");
    let info = consumer(&world, "UNRULY", "slipring-unruly").await?;
    ensure!(info.num_ack_pending == WINDOW, "{info:?}");
    ensure!(info.config.max_ack_pending == WINDOW as i64, "{info:?}");

    world.centrifugo.restart().await?;
    let mut most = 0;
    eventually(SOON, "all to be acknowledged", async || {
        let info = consumer(&world, "UNRULY", "slipring-unruly").await?;
        most = most.max(info.num_ack_pending);
        ensure!(info.num_pending == 0 && info.num_ack_pending == 0, "{info:?}");
        Ok(())
    })
    .await?;
    ensure!(most <= WINDOW, "{most} were outstanding");
    shows(&world.centrifugo, CHANNEL, 1..=100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_larger_than_the_window_come_one_by_one() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    // Repeated digits, so that a number can be recognized by its length.
    let large = |number: usize| format!("\"{}\"", "x".repeat(100_000 + number));
    let small = |number: usize| format!("\"{}\"", "x".repeat(number));
    let payload = |number: usize| {
        if number.is_multiple_of(3) {
            small(number)
        } else {
            large(number)
        }
    };
    world
        .publish((1..=30).map(|number| ("unruly.ok", payload(number))))
        .await?;
    world.add_unruly("window_bytes = \"64KiB\"")?;
    let relay = world.run().await?;
    counts(&relay, "unruly", "published", 30).await?;
    let history = world.centrifugo.history(CHANNEL).await?;
    let lengths: Vec<usize> = history.iter().map(|publication| publication.data.len()).collect();
    let expected: Vec<usize> = (1..=30).map(|number| payload(number).len()).collect();
    ensure!(lengths == expected, "{lengths:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_comes_back_and_the_run_goes_on_where_it_was() -> Result<()> {
    const MESSAGES: u64 = 20_000;
    const CHANNELS: u64 = 100;
    let channel = |number: u64| format!("unruly:{}", number % CHANNELS);
    let mut world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world
        .publish((1..=MESSAGES).map(|number| number_on(&channel(number), number)))
        .await?;
    world.add_unruly("")?;
    let mut relay = world.run().await?;
    let published = async |count: u64| {
        let what = format!("{count} publications");
        let holds = |status: &Value| module(status, "unruly")["published"].as_u64() >= Some(count);
        relay.status_when(SOON, &what, holds).await.map(drop)
    };
    published(MESSAGES / 4).await?;
    world.nats.restart().await?;
    published(MESSAGES / 2).await?;
    // Not gracefully this time.
    world.nats.kill();
    relay
        .status_when(SOON, "the relay to notice", |status| {
            status["nats"]["connected"] == false
        })
        .await?;
    ensure!(relay.get("/readyz").await.is_err(), "it is not ready without NATS");
    world.nats.restart().await?;
    published(MESSAGES).await?;
    for number in 0..CHANNELS {
        let expected = (1..=MESSAGES).filter(|each| each % CHANNELS == number);
        shows(&world.centrifugo, &channel(number), expected).await?;
    }
    relay.ready(SOON).await?;
    settled(&world, "UNRULY", "slipring-unruly").await?;
    has_published(&relay, "unruly", MESSAGES).await?;
    ensure!(relay.stop(SOON).await?.success(), "it stops cleanly");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn centrifugo_comes_back_and_gets_all_it_had_not_confirmed() -> Result<()> {
    const MESSAGES: u64 = 10_000;
    let mut world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.publish(numbers(1..=MESSAGES)).await?;
    world.add_unruly("")?;
    let mut before = Subscriber::connect(&world.centrifugo.websocket_url(), [CHANNEL]).await?;
    let relay = world.run().await?;
    let some = |status: &Value| module(status, "unruly")["published"].as_u64() >= Some(1_000);
    relay.status_when(SOON, "1000 publications", some).await?;
    world.centrifugo.kill();
    relay
        .status_when(SOON, "the relay to notice", |status| {
            status["centrifugo"]["trouble"].is_string()
        })
        .await?;
    ensure!(
        relay.get("/readyz").await.is_err(),
        "it is not ready without Centrifugo"
    );
    let confirmed = module(&relay.status().await?, "unruly")["published"]
        .as_u64()
        .context("a count")?;
    world.centrifugo.restart().await?;
    counts(&relay, "unruly", "published", MESSAGES).await?;
    relay.ready(SOON).await?;

    // The memory engine has forgotten exactly what it had confirmed.
    shows(&world.centrifugo, CHANNEL, confirmed + 1..=MESSAGES).await?;
    let mut seen = Vec::new();
    // Its connection ended with the first Centrifugo, so this loop ends.
    while let Ok(received) = before.next(SOON).await {
        seen.push(received.publication.json::<u64>()?);
    }
    ensure!(
        seen.iter().copied().eq(1..=seen.len() as u64),
        "the subscriber saw the rest in order: {seen:?}"
    );
    state(&relay, "unruly", "running").await?;
    let status = relay.status().await?;
    ensure!(
        module(&status, "unruly")["rejected"] == 0,
        "nothing was given up: {status}"
    );
    Ok(())
}
