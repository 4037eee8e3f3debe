//! Centrifugo's own `nats_jetstream` consumer, as it is set up here. It publishes the payload unchanged, to the channel
//! and with the version in the message's headers.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::Stream;
use serde_json::{Value, json};

pub const CONSUMER: &str = "centrifugo";

/// Must exceed the 500 messages that Centrifugo asks for at once (nats.go's default), which it has no setting for. Its
/// own default of 100 would slow it down.
const MAX_ACK_PENDING: i64 = 10_000;

/// Longer than Centrifugo takes to start.
const PAUSE: Duration = Duration::from_secs(600);

/// The benchmark creates the consumer. Centrifugo recreates one of its own when it is gone, and reads everything again.
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

/// Holds its messages back until [`resume`]: Centrifugo reads as soon as it is up, before anybody can look.
pub async fn pause(stream: &Stream) -> Result<()> {
    let until = (SystemTime::now() + PAUSE).into();
    let paused = stream.pause_consumer(CONSUMER, until).await;
    paused.map(drop).context("pausing the consumer for Centrifugo")
}

pub async fn resume(stream: &Stream) -> Result<()> {
    let resumed = stream.resume_consumer(CONSUMER).await;
    resumed.map(drop).context("resuming the consumer for Centrifugo")
}

/// Returns the value of `consumers` in Centrifugo's configuration.
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
