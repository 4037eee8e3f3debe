//! Centrifugo's own consumer: no transform, and no process in between.

use std::time::Duration;

use anyhow::{Context, Result};

use super::measured::Measured;
use super::world::{SIZE, WITH_HEADERS, World};
use crate::arrived::{Shape, arrived};
use crate::centrifugo::Target;
use crate::clock;
use crate::delay::Link;
use crate::meter::Meter;
use crate::own_consumer::{self, CONSUMER, consumers};

/// The delay is between NATS and Centrifugo, because there is no other link.
pub async fn run(world: &World, delay: Duration) -> Result<Measured> {
    let link = Link::unless_zero(&world.url(), delay)?;
    let nats = link
        .as_ref()
        .map_or_else(|| world.url(), |link| format!("nats://{}", link.address()));
    own_consumer::create(&world.with_headers).await?;
    own_consumer::pause(&world.with_headers).await?;
    world.forget_peak_memory()?;
    let configure = |config: &mut serde_json::Value| config["consumers"] = consumers(&nats, WITH_HEADERS);
    let target = Target::start(world.history(), configure).await?;
    let meter = Meter::default()
        .watch("nats-server", || world.usage())
        .watch("centrifugo", || target.centrifugo.usage());
    let watched = [(&world.with_headers, CONSUMER)];
    let begin = own_consumer::resume(&world.with_headers);
    let drained = clock::drain_all(&watched, world.limit, &meter, begin)
        .await
        .with_context(|| format!("Centrifugo logged:\n{}", target.centrifugo.log().join("\n")))?;
    // Removed before its histories are read, because it would go on meanwhile.
    world.forget_consumers().await?;
    let arrived = arrived(&target.centrifugo, &world.events, SIZE, Shape::AsPublished).await?;
    arrived.ensure_in_order(drained.all.then_some(world.events.len() as u64), drained.acknowledged)?;
    Ok(Measured::new(drained, arrived))
}
