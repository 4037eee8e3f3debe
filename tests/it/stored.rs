//! Reads the messages of a stream beside its other readers: the right messages, not many more, and nobody notices.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::header::HeaderMap;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{self, stream};
use slipring::cli::stored::{Messages, Stored};
use slipring::config;
use slipring::message::Message;
use slipring::nats::{self, Nats};
use slipring_support::servers::{NatsServer, NatsVersion};
use tokio::time::timeout;

use super::world::{SOON, publish};

const STREAM: &str = "ORDERS";

async fn connect(server: &NatsServer) -> Result<Nats> {
    Ok(nats::connect(&config::Nats::at([server.url()])).await)
}

async fn create(jetstream: &jetstream::Context, retention: stream::RetentionPolicy) -> Result<stream::Stream> {
    let config = stream::Config {
        name: STREAM.to_owned(),
        subjects: vec!["orders.>".to_owned()],
        retention,
        ..Default::default()
    };
    jetstream.create_stream(config).await.context("creating the stream")
}

/// Starts a server with messages of these subjects. Each payload is the message's sequence.
async fn holding(
    version: NatsVersion,
    retention: stream::RetentionPolicy,
    subjects: impl IntoIterator<Item = &'static str>,
) -> Result<(NatsServer, Nats, stream::Stream)> {
    let server = NatsServer::start_version(version).await?;
    let nats = connect(&server).await?;
    let stream = create(&nats.jetstream, retention).await?;
    let messages = (1_u64..).zip(subjects);
    let messages = messages.map(|(number, subject)| (subject, number.to_string()));
    publish(&nats.jetstream, messages).await?;
    Ok((server, nats, stream))
}

async fn all(mut messages: Messages) -> Result<Vec<u64>> {
    let mut sequences = Vec::new();
    while let Some(message) = messages.next().await? {
        ensure!(message.payload == message.sequence().to_string(), "{message:?}");
        ensure!(message.timestamp > 0 && message.deliveries == 1, "{message:?}");
        sequences.push(message.sequence());
    }
    ensure!(messages.next().await?.is_none(), "it ends once and for all");
    Ok(sequences)
}

fn filters(subjects: &[&str]) -> Vec<String> {
    subjects.iter().map(|subject| (*subject).to_owned()).collect()
}

async fn consumers(stream: &stream::Stream) -> Result<usize> {
    Ok(stream.get_info().await?.state.consumer_count)
}

/// Every thousandth message is rare.
fn rarely() -> impl Iterator<Item = &'static str> {
    (1..=50_000).map(|number| {
        if number % 1_000 == 0 {
            "orders.rare"
        } else {
            "orders.often"
        }
    })
}

async fn the_last_ones(version: NatsVersion) -> Result<()> {
    let (_server, nats, stream) = holding(version, stream::RetentionPolicy::Limits, rarely()).await?;
    for removed in [20_000, 49_990, 49_995] {
        stream.delete_message(removed).await?;
    }
    let durable = pull::Config {
        durable_name: Some("slipring-orders".to_owned()),
        ..Default::default()
    };
    let mut durable = stream.create_consumer(durable).await?;
    let before = durable.info().await?.clone();
    let stored = Stored::open(&nats, STREAM).await?;
    let received = || nats.client.statistics().in_messages.load(Ordering::Relaxed);
    let thousands = |from: u64, to: u64| -> Vec<u64> { (from..=to).map(|number| number * 1_000).collect() };
    let without_removed: Vec<u64> = (49_989..=50_000)
        .filter(|number| ![49_990, 49_995].contains(number))
        .collect();
    for (subjects, count, expected) in [
        (&[][..], 10, without_removed.clone()),
        (&["orders.>"], 10, without_removed),
        (&["orders.rare"], 30, [thousands(20, 50)].concat()[1..].to_vec()),
        (&["orders.rare"], 1, vec![50_000]),
        (&["orders.rare"], 1_000, [thousands(1, 19), thousands(21, 50)].concat()),
        (&["orders.rare", "orders.none.*"], 2, vec![49_000, 50_000]),
        (&["orders.none"], 5, vec![]),
        (&[], 0, vec![]),
    ] {
        let before = received();
        let found = all(stored.last(count, &filters(subjects)).await?).await?;
        ensure!(found == expected, "{subjects:?}, {count}: {found:?}");
        let asked = received() - before;
        ensure!(
            asked < count + count / 4 + 120,
            "{subjects:?}, {count}: {asked} messages came"
        );
    }
    let whole = all(stored.last(u64::MAX, &[]).await?).await?;
    ensure!(whole.len() == 49_997 && whole.is_sorted(), "{} messages", whole.len());

    ensure!(consumers(&stream).await? == 1, "only the durable one is there");
    let after = durable.info().await?;
    ensure!(
        after.delivered == before.delivered && after.num_pending == before.num_pending,
        "{after:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_ones_are_found_without_reading_the_others() -> Result<()> {
    the_last_ones(NatsVersion::V2_15).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_ones_are_found_on_an_old_server_too() -> Result<()> {
    the_last_ones(NatsVersion::V2_10).await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_acknowledged_messages_leave_nothing_does_because_it_was_read() -> Result<()> {
    for retention in [stream::RetentionPolicy::WorkQueue, stream::RetentionPolicy::Interest] {
        let server = NatsServer::start().await?;
        let nats = connect(&server).await?;
        let stream = create(&nats.jetstream, retention).await?;
        let durable = pull::Config {
            durable_name: Some("slipring-orders".to_owned()),
            ..Default::default()
        };
        stream.create_consumer(durable).await?;
        let subjects = ["orders.a", "orders.b", "orders.a", "orders.b", "orders.a", "orders.a"];
        let messages = (1_u64..)
            .zip(subjects)
            .map(|(number, subject)| (subject, number.to_string()));
        publish(&nats.jetstream, messages).await?;
        stream.delete_message(5).await?;

        let stored = Stored::open(&nats, STREAM).await?;
        ensure!(all(stored.last(2, &[]).await?).await? == [4, 6], "{retention:?}");
        ensure!(
            all(stored.last(3, &filters(&["*.a"])).await?).await? == [1, 3, 6],
            "{retention:?}"
        );
        ensure!(
            all(stored.last(9, &[]).await?).await? == [1, 2, 3, 4, 6],
            "{retention:?}"
        );
        ensure!(stored.message(4).await?.subject == "orders.b", "{retention:?}");
        let state = stream.get_info().await?.state;
        ensure!(
            (state.messages, state.consumer_count) == (5, 1),
            "{retention:?}: {state:?}"
        );
        if retention == stream::RetentionPolicy::WorkQueue {
            let refused = format!("{:#}", stored.tap(&[]).await.unwrap_err());
            ensure!(refused.contains("is a work queue"), "{refused}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_in_a_queue_is_found_across_the_gaps() -> Result<()> {
    for version in [NatsVersion::V2_10, NatsVersion::V2_15] {
        let (_server, nats, stream) = holding(version, stream::RetentionPolicy::WorkQueue, rarely()).await?;
        stream.purge().filter("orders.often").await?;
        let stored = Stored::open(&nats, STREAM).await?;
        let received = || nats.client.statistics().in_messages.load(Ordering::Relaxed);
        let before = received();
        let found = all(stored.last(3, &[]).await?).await?;
        ensure!(found == [48_000, 49_000, 50_000], "{found:?}");
        // Two requests for each doubling of each gap, and those around each match.
        let asked = received() - before;
        ensure!(asked < 150, "{asked} answers");
        let found = all(stored.last(100, &filters(&["orders.rare"])).await?).await?;
        ensure!(found.len() == 50 && found.is_sorted(), "{found:?}");
    }
    Ok(())
}

/// A consumer's delivery and a get by sequence return the same message.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_whole_however_it_is_read() -> Result<()> {
    let (_server, nats, _) = holding(NatsVersion::V2_15, stream::RetentionPolicy::Limits, []).await?;
    let mut headers = HeaderMap::new();
    for (name, value) in [("Trace", "1"), ("Trace", "2"), ("Kind", "paid"), ("Nats-Msg-Id", "7")] {
        headers.append(name, value);
    }
    let stored_as = nats
        .jetstream
        .publish_with_headers("orders.7", headers, "\u{0}{}".into());
    ensure!(stored_as.await?.await?.sequence == 1, "it is the first");

    let stored = Stored::open(&nats, STREAM).await?;
    let got = stored.message(1).await?;
    let delivered = stored.last(1, &[]).await?.next().await?.context("one message")?;
    ensure!(*delivered == got, "{delivered:?}\n{got:?}");
    let expected = [("Kind", "paid"), ("Nats-Msg-Id", "7"), ("Trace", "1"), ("Trace", "2")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    ensure!(got.headers == expected, "{:?}", got.headers);
    ensure!(got.payload == "\u{0}{}" && &*got.stream == STREAM, "{got:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_told_with_what_is() -> Result<()> {
    let (_server, nats, stream) = holding(NatsVersion::V2_15, stream::RetentionPolicy::Limits, ["orders.a"; 5]).await?;
    stream.delete_message(1).await?;
    stream.delete_message(3).await?;
    let stored = Stored::open(&nats, STREAM).await?;
    for (sequence, said) in [
        (0, "it holds 3 from 2 to 5"),
        (1, "it holds 3 from 2 to 5"),
        (3, "it holds 3 from 2 to 5, and this one was removed"),
        (6, "it holds 3 from 2 to 5"),
    ] {
        let error = format!("{:#}", stored.message(sequence).await.unwrap_err());
        let said = format!("there is no message {sequence} in the stream `ORDERS`: {said}");
        ensure!(error == said, "{error}");
    }
    let error = format!("{:#}", Stored::open(&nats, "BILLS").await.unwrap_err());
    ensure!(error == "there is no stream `BILLS`; there are ORDERS", "{error}");
    nats.jetstream.delete_stream(STREAM).await?;
    let error = format!("{:#}", Stored::open(&nats, "BILLS").await.unwrap_err());
    ensure!(error == "there is no stream `BILLS`; there are no streams", "{error}");
    Ok(())
}

async fn next(messages: &mut Messages) -> Result<Message> {
    let next = timeout(SOON, messages.next()).await.context("waiting for a message")?;
    Ok((*next?.context("the tap does not end")?).clone())
}

/// The server is killed, and with it the consumer, which is in memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_tap_gets_what_arrives_and_goes_on_after_an_interruption() -> Result<()> {
    let (mut server, nats, stream) =
        holding(NatsVersion::V2_15, stream::RetentionPolicy::Limits, ["orders.a"; 3]).await?;
    let stored = Stored::open(&nats, STREAM).await?;
    let mut tap = stored.tap(&filters(&["orders.a", "orders.c"])).await?;
    publish(
        &nats.jetstream,
        [("orders.b", "4"), ("orders.c", "5"), ("orders.a", "6")],
    )
    .await?;
    ensure!(
        next(&mut tap).await?.sequence() == 5,
        "not what was there, and not what does not match"
    );
    ensure!(next(&mut tap).await?.sequence() == 6, "in order");
    let nothing = timeout(Duration::from_millis(50), tap.next()).await;
    ensure!(nothing.is_err(), "it waits: {nothing:?}");

    server.kill();
    server.restart().await?;
    publish(&server.jetstream().await?, [("orders.a", "7"), ("orders.a", "8")]).await?;
    ensure!(next(&mut tap).await?.sequence() == 7, "nothing is left out");
    ensure!(next(&mut tap).await?.sequence() == 8, "and nothing comes twice");
    ensure!(consumers(&stream).await? == 1, "its own");
    drop(tap);
    slipring_support::eventually(SOON, "its consumer to be gone", async || {
        let consumers = consumers(&stream).await?;
        ensure!(consumers == 0, "{consumers} of them");
        Ok(())
    })
    .await
}
