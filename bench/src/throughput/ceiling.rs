//! Centrifugo alone, fed by a client that only sends what was prepared before the clock started. Nothing that sends
//! batches can be faster. Eight batches are in flight, each with channels of its own, so that the order is kept.

mod grpc;
mod http;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use slipring_support::Usage;

use super::measured::Measured;
use super::world::{SIZE, World};
use crate::arrived::{Shape, arrived};
use crate::centrifugo::{Api, Target};
use crate::clock::Drained;
use crate::delay::Link;
use crate::event::Event;
use crate::meter::{self, Meter};

const BATCH: usize = 500;
const IN_FLIGHT: u32 = 8;

/// `keys`: whether publications carry idempotency keys.
pub async fn run(world: &World, delay: Duration, api: Api, keys: bool) -> Result<Measured> {
    let target = Target::start(world.history(), |_| ()).await?;
    let link = Link::unless_zero(&target.endpoint(api, None), delay)?;
    let (endpoint, key) = (target.endpoint(api, link.as_ref()), target.centrifugo.api_key());
    let mut lanes = Vec::new();
    for lane in 0..IN_FLIGHT {
        let events: Vec<Event> = world
            .events
            .iter()
            .copied()
            .filter(|event| event.key % IN_FLIGHT == lane)
            .collect();
        lanes.push(match api {
            Api::Http => Lane::Http(http::Lane::prepare(&endpoint, key, &events, keys)),
            Api::Grpc => Lane::Grpc(grpc::Lane::prepare(&endpoint, key, &events, keys).await?),
        });
    }
    // The prepared batches are most of this process's memory, so its memory says nothing.
    let meter = Meter::default()
        .watch("client", || Usage::of(std::process::id()))
        .watch("centrifugo", || target.centrifugo.usage());
    let drained = send(lanes, world, &meter)
        .await
        .with_context(|| format!("sending to {endpoint}"))?;
    let arrived = arrived(&target.centrifugo, &world.events, SIZE, Shape::AsPublished).await?;
    arrived.ensure_in_order(drained.all.then_some(world.events.len() as u64), drained.acknowledged)?;
    Ok(Measured::new(drained, arrived))
}

/// The batches of one part of the channels, to be sent one after the other.
enum Lane {
    Http(http::Lane),
    Grpc(grpc::Lane),
}

async fn send(lanes: Vec<Lane>, world: &World, meter: &Meter<'_>) -> Result<Drained> {
    let over = AtomicBool::new(false);
    let before = meter.read()?;
    let start = Instant::now();
    let sending = try_join_all(lanes.into_iter().map(|lane| {
        let go_on = || {
            if start.elapsed() >= world.limit {
                over.store(true, Ordering::Relaxed);
            }
            !over.load(Ordering::Relaxed)
        };
        async move {
            match lane {
                Lane::Http(lane) => lane.send(go_on).await,
                Lane::Grpc(lane) => lane.send(go_on).await,
            }
        }
    }));
    let sent: u64 = sending.await?.into_iter().sum();
    let elapsed = start.elapsed();
    Ok(Drained {
        messages: sent,
        elapsed,
        acknowledged: sent,
        all: sent == world.events.len() as u64,
        used: meter::between(&before, &meter.read()?),
    })
}

/// As long as the relay's.
fn idempotency_key(event: Event) -> String {
    format!("{:08x}{:08x}", event.key, event.revision)
}
