//! Centrifugo's own `nats_jetstream` consumer, as it is set up here. It publishes the payload as it is, to the channel and with
//! the version that the message's headers name.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::Stream;
use serde_json::{Value, json};

pub const CONSUMER: &str = "centrifugo";

/// More than the 500 that it asks for at once (nats.go's default), which it has no setting for: 100, its own default, would
/// slow it down.
const MAX_ACK_PENDING: i64 = 10_000;

/// Longer than Centrifugo takes to start.
const PAUSE: Duration = Duration::from_secs(600);

/// Made here so that it ends with us: one that Centrifugo makes, it makes again when it is gone, and reads everything once more.
pub async fn create(stream: &Stream) -> Result<()> {
    let config = pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        ack_policy: AckPolicy::Explicit,
        deliver_policy: DeliverPolicy::All,
        max_ack_pending: MAX_ACK_PENDING,
        ..pull::Config::default()
    };
    stream
        .create_consumer(config)
        .await
        .map(drop)
        .context("creating the consumer for Centrifugo")
}

/// Keeps its messages back until [`resume`]: Centrifugo reads as soon as it is up, which is before anybody can look.
pub async fn pause(stream: &Stream) -> Result<()> {
    let until = (SystemTime::now() + PAUSE).into();
    let paused = stream.pause_consumer(CONSUMER, until).await;
    paused.map(drop).context("pausing the consumer for Centrifugo")
}

pub async fn resume(stream: &Stream) -> Result<()> {
    let resumed = stream.resume_consumer(CONSUMER).await;
    resumed.map(drop).context("resuming the consumer for Centrifugo")
}

/// What goes under `consumers` in Centrifugo's configuration.
pub fn consumers(nats: &str, stream: &str) -> Value {
    json!([{
        "name": "bench",
        "enabled": true,
        "type": "nats_jetstream",
        "nats_jetstream": {
            "url": nats,
            "stream_name": stream,
            "durable_consumer_name": CONSUMER,
            "use_existing_consumer": true,
            "publication_data_mode": {
                "enabled": true,
                "channels_header": "centrifugo-channels",
                "version_header": "centrifugo-version",
            },
        },
    }])
}
