//! The relay in its strict order, with a transform that does real work.

use std::time::Duration;

use anyhow::{Context, Result};

use super::measured::Measured;
use super::world::{PLAIN, SIZE, World};
use crate::arrived::{Shape, arrived};
use crate::centrifugo::{Api, Target};
use crate::clock;
use crate::delay::Link;
use crate::home::{CONSUMER, home};
use crate::meter::Meter;

/// `keys`: whether publications carry idempotency keys.
pub async fn run(world: &World, delay: Duration, api: Api, keys: bool) -> Result<Measured> {
    let target = Target::start(world.history(), |_| ()).await?;
    let link = Link::unless_zero(&target.endpoint(api, None), delay)?;
    let endpoint = target.endpoint(api, link.as_ref());
    let home = home(
        &world.slipring,
        &world.nats.url(),
        &endpoint,
        target.centrifugo.api_key(),
        PLAIN,
        &format!("idempotency = {keys}"),
    )?;
    world.nats.forget_peak_memory()?;
    let mut relay = home.run().await?;
    let meter = Meter::default()
        .watch("nats-server", || world.nats.usage())
        .watch("slipring", || relay.usage())
        .watch("centrifugo", || target.centrifugo.usage());
    let drained = clock::drain(&world.plain, CONSUMER, world.limit, &meter)
        .await
        .with_context(|| format!("the relay logged:\n{}", relay.log().join("\n")))?;
    drop(meter);
    relay.kill();
    let arrived = arrived(&target.centrifugo, &world.events, SIZE, Shape::Reshaped).await?;
    arrived.ensure_in_order(drained.all.then_some(world.events.len() as u64), drained.acknowledged)?;
    Ok(Measured::new(drained, arrived))
}
