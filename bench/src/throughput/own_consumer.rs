//! Centrifugo's own `nats_jetstream` consumer: no transform, and no process between. It publishes the payload as it is, to the
//! channel and with the version that the message's headers name.

use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use serde_json::{Value, json};

use super::way::Measured;
use super::world::{SIZE, WITH_HEADERS, World};
use crate::arrived::{Shape, arrived};
use crate::centrifugo::Target;
use crate::clock;
use crate::delay::Link;
use crate::meter::Meter;

const CONSUMER: &str = "centrifugo";

/// More than the 500 that it asks for at once (nats.go's default), which it has no setting for: 100, its own default, would
/// slow it down.
const MAX_ACK_PENDING: i64 = 10_000;

/// The delay lies between NATS and Centrifugo, since there is nothing else to delay.
pub async fn run(world: &World, delay: Duration) -> Result<Measured> {
    let link = Link::unless_zero(&world.nats.url(), delay)?;
    let nats = link
        .as_ref()
        .map_or_else(|| world.nats.url(), |link| format!("nats://{}", link.address()));
    // Made here so that it ends with us: one that Centrifugo makes, it makes again when it is gone, and reads everything once more.
    let config = pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        ack_policy: AckPolicy::Explicit,
        deliver_policy: DeliverPolicy::All,
        max_ack_pending: MAX_ACK_PENDING,
        ..pull::Config::default()
    };
    world
        .with_headers
        .create_consumer(config)
        .await
        .context("creating the consumer for Centrifugo")?;
    world.nats.forget_peak_memory()?;
    let target = Target::start(world.history(), |config| config["consumers"] = consumers(&nats)).await?;
    let meter = Meter::default()
        .watch("nats-server", || world.nats.usage())
        .watch("centrifugo", || target.centrifugo.usage());
    let drained = clock::drain(&world.with_headers, CONSUMER, world.limit, &meter)
        .await
        .with_context(|| format!("Centrifugo logged:\n{}", target.centrifugo.log().join("\n")))?;
    // Before its histories are read: it would go on meanwhile.
    world.forget_consumers().await?;
    let arrived = arrived(&target.centrifugo, &world.events, SIZE, Shape::AsPublished).await?;
    arrived.ensure_in_order(drained.all.then_some(world.events.len() as u64), drained.acknowledged)?;
    Ok(Measured::new(drained, arrived))
}

fn consumers(nats: &str) -> Value {
    json!([{
        "name": "bench",
        "enabled": true,
        "type": "nats_jetstream",
        "nats_jetstream": {
            "url": nats,
            "stream_name": WITH_HEADERS,
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
