//! What other clients of Centrifugo receive through the relay.

use anyhow::{Context, Result, ensure};
use slipring_support::clients::JavaScriptClient;
use slipring_support::demo::{self, Checker, Events};
use slipring_support::guests;

use super::world::{SOON, World};

const EVENTS: usize = 600;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node.js: make test-clients"]
async fn javascript_client_receives_events_in_order() -> Result<()> {
    let world = World::start().await?;
    for (stream, subjects) in demo::STREAMS {
        world.stream(stream, &[subjects]).await?;
    }
    for name in ["orders", "notifications", "telemetry"] {
        let toml = format!("{}/examples/{name}/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let toml = std::fs::read_to_string(&toml).with_context(|| format!("reading {toml}"))?;
        world.home.add_module(name, &guests::component(name)?, &toml)?;
    }
    let _relay = world.run().await?;

    let mut events = Events::default();
    let events: Vec<_> = (0..EVENTS).map(|_| events.make()).collect();
    let mut checker = Checker::default();
    events.iter().for_each(|event| checker.expect(event));
    let count: usize = events.iter().map(|event| event.arrives.len()).sum();
    let client = JavaScriptClient::start(&world.centrifugo.websocket_url(), &demo::channels(), count).await?;
    world
        .publish(events.into_iter().map(|event| (event.subject, event.payload)))
        .await?;

    let delivered = client.finish(SOON).await?;
    for delivered in &delivered {
        checker.received(&delivered.channel, &delivered.publication);
    }
    ensure!(checker.is_good() && delivered.len() == count, "{}", checker.summary());
    Ok(())
}
