//! What is published while everything fails, and what the stream holds of it at the end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::jetstream;
use async_nats::jetstream::message::PublishMessage;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use futures_util::StreamExt;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::checker::Expected;
use crate::world;

const CHANNELS: u32 = 200;

/// A third of the messages goes to these channels.
const HOT: u32 = 5;

/// Messages per [`PACE`].
const BURST: usize = 10;
const PACE: Duration = Duration::from_millis(20);

/// Messages of the stream that are read at once at the end.
const READING: usize = 64;

/// What the guest `unruly` should publish.
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

/// One message in ten is a broadcast.
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

/// Publishes messages with these numbers as fast as they are stored.
pub async fn publish_many(jetstream: &jetstream::Context, numbers: RangeInclusive<u64>) -> Result<()> {
    let mut random = Rng::with_seed(*numbers.start());
    let messages = numbers.map(|number| {
        let wish = serde_json::to_string(&[wish(number, &mut random)]);
        ("unruly.publish", wish.expect("text and a number are JSON"))
    });
    world::publish(jetstream, messages).await
}

/// Publishes until told to end. Each message is stored once, however often it has to be sent. A message that could not
/// be stored is sent again beside newer ones; the stream decides about the order.
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

/// The headers of a message of [`publish_unreadable`], and of no other: they are not UTF-8.
const UNREADABLE: &[u8] = b"NATS/1.0\r\nName: M\xfcller\r\n\r\n";

/// Publishes one message with a header that is not UTF-8, straight into the socket, because no client library would
/// send it. Only the stream tells whether it was stored.
pub async fn publish_unreadable(nats: SocketAddr) -> Result<()> {
    const PAYLOAD: &[u8] = b"[]";
    let mut socket = TcpStream::connect(nats).await?;
    let (headers, all) = (UNREADABLE.len(), UNREADABLE.len() + PAYLOAD.len());
    let mut bytes =
        format!("CONNECT {{\"headers\":true,\"verbose\":false}}\r\nHPUB unruly.publish {headers} {all}\r\n")
            .into_bytes();
    bytes.extend([UNREADABLE, PAYLOAD, b"\r\nPING\r\n"].concat());
    socket.write_all(&bytes).await?;
    // The server replies once everything before was taken in.
    let mut answers = BufReader::new(socket).lines();
    while answers.next_line().await?.is_some_and(|line| line != "PONG") {}
    Ok(())
}

/// What the stream holds at the end.
#[derive(Debug, Default)]
pub struct Held {
    pub messages: u64,
    /// The sequences of the messages that no module can get.
    pub unreadable: BTreeSet<u64>,
    /// What each channel should show.
    pub expected: Expected,
}

#[derive(Deserialize)]
struct Stored {
    message: StoredMessage,
}

#[derive(Deserialize)]
struct StoredMessage {
    hdrs: Option<String>,
    #[serde(default)]
    data: String,
}

/// Reads the whole stream, message by message and as bytes, because a consumer's messages would have to be readable.
pub async fn held(nats: &async_nats::Client, jetstream: &jetstream::Context, name: &str) -> Result<Held> {
    let stream = jetstream.get_stream(name).await.context("looking up the stream")?;
    let state = &stream.cached_info().state;
    let mut messages = futures_util::stream::iter(state.first_sequence..=state.last_sequence)
        .map(async |sequence| {
            let request = format!("{{\"seq\":{sequence}}}");
            let subject = format!("$JS.API.STREAM.MSG.GET.{name}");
            let answer = nats.request(subject, request.into()).await?;
            let stored = serde_json::from_slice::<Stored>(&answer.payload)
                .with_context(|| format!("reading message {sequence}: {:?}", answer.payload))?;
            anyhow::Ok((sequence, stored.message))
        })
        .buffered(READING);
    let mut held = Held::default();
    while let Some(stored) = messages.next().await {
        let (sequence, StoredMessage { hdrs, data }) = stored?;
        held.messages += 1;
        if STANDARD.decode(hdrs.unwrap_or_default())? == UNREADABLE {
            held.unreadable.insert(sequence);
            continue;
        }
        let wishes: Vec<Wish> = serde_json::from_slice(&STANDARD.decode(data)?).context("reading a message")?;
        for wish in wishes {
            for channel in wish.channels {
                held.expected.entry(channel).or_default().push(wish.data);
            }
        }
    }
    Ok(held)
}
