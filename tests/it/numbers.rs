//! Numbered messages for the guest `unruly`, and what a channel's history shows of them.

use std::ops::RangeInclusive;

use anyhow::{Result, ensure};
use async_nats::jetstream::consumer;
use serde_json::json;
use slipring_support::eventually;
use slipring_support::relay::Relay;
use slipring_support::servers::Centrifugo;

use super::world::{SOON, World, module};

/// The channel for [`numbers`].
pub const CHANNEL: &str = "unruly:ok";

/// Returns messages that become publications of their number on [`CHANNEL`].
pub fn numbers(numbers: RangeInclusive<u64>) -> impl Iterator<Item = (&'static str, String)> {
    numbers.map(|number| ("unruly.ok", number.to_string()))
}

/// Returns the message that becomes a publication of this number on that channel.
pub fn number_on(channel: &str, number: u64) -> (&'static str, String) {
    let wishes = json!([{ "channels": [channel], "data": number }]);
    ("unruly.publish", wishes.to_string())
}

/// Returns the numbers on a channel, each with the `mark` of the settings that made it.
pub async fn marked(centrifugo: &Centrifugo, channel: &str) -> Result<Vec<(u64, String)>> {
    let history = centrifugo.history(channel).await?;
    let read = |publication: &slipring_support::Publication| {
        let mark = publication.tags.get("mark").cloned().unwrap_or_default();
        Ok((publication.json()?, mark))
    };
    history.iter().map(read).collect()
}

/// Waits until a channel shows these numbers: all, in order, none twice.
pub async fn shows(centrifugo: &Centrifugo, channel: &str, expected: impl IntoIterator<Item = u64>) -> Result<()> {
    let expected: Vec<u64> = expected.into_iter().collect();
    let what = format!("{channel} to show {} numbers", expected.len());
    eventually(SOON, what, async || {
        let history = marked(centrifugo, channel).await?;
        let shown: Vec<u64> = history.into_iter().map(|(number, _)| number).collect();
        let alike = shown.iter().zip(&expected).take_while(|(left, right)| left == right);
        let alike = alike.count();
        let next = &shown[alike..];
        ensure!(
            shown == expected,
            "{} numbers; the first {alike} are right, and then {:?}",
            shown.len(),
            next.get(..20).unwrap_or(next)
        );
        Ok(())
    })
    .await
}

/// Returns what JetStream knows about a consumer.
pub async fn consumer(world: &World, stream: &str, consumer: &str) -> Result<consumer::Info> {
    let stream = world.jetstream.get_stream(stream).await?;
    Ok(stream.consumer_info(consumer).await?)
}

/// Waits until a count of the module's status has this value.
pub async fn counts(relay: &Relay, name: &str, field: &str, value: u64) -> Result<()> {
    let what = format!("{name} to have {value} {field}");
    let holds = |status: &serde_json::Value| module(status, name)[field] == value;
    relay.status_when(SOON, &what, holds).await.map(drop)
}

/// Waits until the module is in this state.
pub async fn state(relay: &Relay, name: &str, state: &str) -> Result<serde_json::Value> {
    let what = format!("{name} to be {state}");
    let holds = |status: &serde_json::Value| module(status, name)["state"] == state;
    let status = relay.status_when(SOON, &what, holds).await?;
    Ok(module(&status, name).clone())
}

/// Waits until the consumer has nothing outstanding and nothing to deliver.
pub async fn settled(world: &World, stream: &str, name: &str) -> Result<()> {
    eventually(SOON, "all to be acknowledged", async || {
        let info = consumer(world, stream, name).await?;
        ensure!(info.num_pending == 0 && info.num_ack_pending == 0, "{info:?}");
        Ok(())
    })
    .await
}

/// Waits until exactly those messages are acknowledged that [`CHANNEL`] shows, which are the first ones of the stream.
/// What was delivered to a relay that had stopped taking in messages comes again.
pub async fn acknowledged_as_shown(world: &World, stream: &str, name: &str) -> Result<()> {
    let shown = world.centrifugo.history(CHANNEL).await?.len() as u64;
    eventually(SOON, format!("{shown} to be acknowledged"), async || {
        let info = consumer(world, stream, name).await?;
        ensure!(info.ack_floor.stream_sequence == shown, "{info:?}");
        ensure!(
            info.delivered.stream_sequence - shown == info.num_ack_pending as u64,
            "{info:?}"
        );
        Ok(())
    })
    .await
}
