//! What is published while everything fails, and what the stream holds of it in the end.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::jetstream;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::message::PublishMessage;
use fastrand::Rng;
use futures_util::StreamExt;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::checker::Expected;
use crate::world;

const CHANNELS: u32 = 200;

/// A third of the messages goes to these.
const HOT: u32 = 5;

/// Messages each [`PACE`].
const BURST: usize = 10;
const PACE: Duration = Duration::from_millis(20);

/// What the guest `unruly` is asked to publish.
#[derive(Serialize, Deserialize)]
struct Wish {
    channels: BTreeSet<String>,
    data: u64,
}

pub fn channels() -> Vec<String> {
    (0..CHANNELS).map(channel).collect()
}

fn channel(number: u32) -> String {
    format!("unruly:{number}")
}

/// One message of ten is a broadcast.
fn wish(number: u64, random: &mut Rng) -> Wish {
    let count = if random.u32(..10) == 0 { 3 } else { 1 };
    let one = |_| {
        let among = if random.u32(..3) == 0 { HOT } else { CHANNELS };
        channel(random.u32(..among))
    };
    Wish {
        channels: (0..count).map(one).collect(),
        data: number,
    }
}

/// Publishes so many, as fast as they are stored.
pub async fn publish_many(jetstream: &jetstream::Context, numbers: RangeInclusive<u64>) -> Result<()> {
    let mut random = Rng::with_seed(*numbers.start());
    let messages = numbers.map(|number| {
        let wish = serde_json::to_string(&[wish(number, &mut random)]);
        ("unruly.publish", wish.expect("text and a number are JSON"))
    });
    world::publish(jetstream, messages).await
}

/// Publishes until told to end; each message is stored once, however often that has to be tried. What could not be stored goes
/// again beside newer ones: the stream decides about the order.
pub async fn publish(jetstream: &jetstream::Context, seed: u64, end: CancellationToken) -> Result<()> {
    let mut random = Rng::with_seed(seed);
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    while !end.is_cancelled() {
        pace.tick().await;
        let mut burst = Vec::with_capacity(BURST);
        for _ in 0..BURST {
            number += 1;
            let wish = serde_json::to_string(&[wish(number, &mut random)]).context("writing a message")?;
            burst.push((number, wish));
        }
        while !burst.is_empty() {
            let stored = join_all(
                burst
                    .iter()
                    .map(|(number, wish)| store(jetstream, *number, wish.clone())),
            )
            .await;
            let mut stored = stored.into_iter();
            burst.retain(|_| !stored.next().unwrap_or_default());
            if !burst.is_empty() {
                sleep(PACE).await;
            }
        }
    }
    Ok(())
}

async fn store(jetstream: &jetstream::Context, number: u64, wish: String) -> bool {
    let message = PublishMessage::build()
        .payload(wish.into())
        .message_id(number.to_string());
    match jetstream.send_publish("unruly.publish", message).await {
        Ok(ack) => ack.await.is_ok(),
        Err(_) => false,
    }
}

/// How many messages the stream holds, and what each channel is to show.
pub async fn expected(jetstream: &jetstream::Context, name: &str) -> Result<(u64, Expected)> {
    let stream = jetstream.get_stream(name).await.context("looking up the stream")?;
    let count = stream.cached_info().state.messages;
    let config = pull::Config {
        ack_policy: AckPolicy::None,
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await.context("reading the stream")?;
    let mut messages = consumer.messages().await?.take(usize::try_from(count)?);
    let mut expected = Expected::new();
    while let Some(message) = messages.next().await {
        let wishes: Vec<Wish> = serde_json::from_slice(&message?.payload).context("reading a message")?;
        for wish in wishes {
            for channel in wish.channels {
                expected.entry(channel).or_default().push(wish.data);
            }
        }
    }
    Ok((count, expected))
}
