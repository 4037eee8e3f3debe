//! The pictures of the page in the manual. They show the last 15 minutes of a relay, so that is how long they take.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use slipring_support::demo::{self, Events};
use slipring_support::guests;
use slipring_support::relay::Relay;
use tokio::time::{Instant, sleep_until};

use super::super::world::{SOON, World, module, publish};
use super::show_arrivals;
use super::stage::Stage;
use super::wish::Flow;

/// How often events are published.
const TICK: Duration = Duration::from_millis(100);

const OUTAGE: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a quarter of an hour: make page-shots"]
async fn are_taken() -> Result<()> {
    let (world, relay) = start().await?;
    let flow = Flow::from(tokio::spawn(events(world.jetstream.clone())));
    let mut stage = Stage::new(world, relay);
    stage.flow = Some(flow);
    live(&mut stage).await?;
    stage.play("shots.mjs").await
}

/// Starts the demo's modules.
async fn start() -> Result<(World, Relay)> {
    let world = World::start().await?;
    for (stream, subjects) in demo::STREAMS {
        world.stream(stream, &[subjects]).await?;
    }
    for name in ["orders", "notifications", "telemetry"] {
        let toml = format!("{}/examples/{name}/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let toml = std::fs::read_to_string(&toml).with_context(|| format!("reading {toml}"))?;
        world.home.add_module(name, &guests::component(name)?, &toml)?;
    }
    show_arrivals(&world)?;
    let relay = world.run().await?;
    Ok((world, relay))
}

/// Publishes events, more and fewer of them in turn.
async fn events(jetstream: async_nats::jetstream::Context) {
    let (mut events, start) = (Events::default(), Instant::now());
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        let minutes = start.elapsed().as_secs_f64() / 60.0;
        let rate = 90.0 + 45.0 * (minutes * 0.9).sin() + 20.0 * (minutes * 4.1).sin();
        let batch: Vec<_> = (0..(rate * TICK.as_secs_f64()).round() as usize)
            .map(|_| events.make())
            .collect();
        let batch = batch.into_iter().map(|event| (event.subject, event.payload));
        // JetStream is always there in this story.
        let _ = publish(&jetstream, batch).await;
    }
}

/// What happens in these minutes. `PAGE_SHOTS_MINUTE=4` makes each of them last 4 s, for somebody who works on the pictures.
async fn live(stage: &mut Stage) -> Result<()> {
    let shortened = std::env::var("PAGE_SHOTS_MINUTE").ok();
    let minute = Duration::from_secs(shortened.map_or(Ok(60), |seconds| seconds.parse())?);
    let start = Instant::now();
    sleep_until(start + 3 * minute).await;
    let next = guests::component("orders-next")?;
    stage.world.home.replace_wasm("orders", &next)?;
    has(&stage.relay, "orders", "swaps", 1).await?;

    sleep_until(start + 6 * minute).await;
    stage.world.centrifugo.kill();
    sleep_until(start + 6 * minute + OUTAGE).await;
    stage.world.centrifugo.restart().await?;

    sleep_until(start + 9 * minute).await;
    let broken = [
        r#"{"id":1003,"status":"paid","lines":[{"quantity":1,"price_cents":450}]}"#,
        r#"{"id":1001,"revision":12,"status":"paid","lines":[{"quantity":-1,"price_cents":450}]}"#,
    ];
    for (order, times) in broken.into_iter().zip([9, 3]) {
        let messages = std::iter::repeat_n(("orders.paid", order), times);
        stage.world.publish(messages).await?;
    }
    has(&stage.relay, "orders", "rejected", 12).await?;

    sleep_until(start + 11 * minute).await;
    // Somebody confuses two files.
    let wrong = guests::component("notifications")?;
    stage.world.home.replace_wasm("telemetry", &wrong)?;
    has(&stage.relay, "telemetry", "refused_swaps", 1).await?;
    // By now, the start is no longer shown.
    sleep_until(start + 15 * minute + minute / 2).await;
    Ok(())
}

async fn has(relay: &Relay, name: &str, counter: &str, number: u64) -> Result<()> {
    let holds = |status: &Value| module(status, name)[counter].as_u64() >= Some(number);
    relay
        .status_when(SOON, &format!("{number} {counter} of {name}"), holds)
        .await
        .map(drop)
}
