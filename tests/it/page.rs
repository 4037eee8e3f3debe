//! The operator's page in a real browser, on live servers. The checks are in `tests/page`, in JavaScript like the driver of the
//! browser. A script runs as a process of its own, and has things done to the servers over a [`Stage`].

mod author;
mod pictures;
mod stage;
mod wish;

use anyhow::Result;
use slipring_support::guests;

use self::stage::Stage;
use super::world::{SOON, World};

/// Rejects as often as the script wants, and forgives a version whatever it does.
const LENIENT: &str = "max_consecutive_rejects = 1000000\nwatch_max_rejects = 1000000";

/// The modules of the test with many of them.
const MANY: usize = 100;

/// Has the relay tell the page where browsers reach Centrifugo.
fn show_arrivals(world: &World) -> Result<()> {
    // `[admin]` is the last table.
    let address = format!("centrifugo_websocket = \"{}\"", world.centrifugo.websocket_url());
    world.home.configure_more(&address)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node.js and Chromium: make test-page"]
async fn shows_what_happens_and_carries_out_commands() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly(LENIENT)?;
    let relay = world.run().await?;
    Stage::new(world, relay).play("live.mjs").await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node.js and Chromium: make test-page"]
async fn shows_what_arrives_at_subscribers() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly(LENIENT)?;
    show_arrivals(&world)?;
    let relay = world.run().await?;
    Stage::new(world, relay).play("arrivals.mjs").await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node.js and Chromium: make test-page"]
async fn is_quick_with_a_hundred_modules_and_ten_thousand_dead_letters() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    let wasm = guests::component("unruly")?;
    for number in 0..MANY {
        let toml = format!("stream = \"UNRULY\"\nsubjects = [\"unruly.{number}.>\"]\ndeliver = \"all\"\n{LENIENT}\n");
        world.home.add_module(&format!("shop-{number:02}"), &wasm, &toml)?;
    }
    let relay = world.home.run().await?;
    relay.ready(2 * SOON).await?;
    Stage::new(world, relay).play("scale.mjs").await
}
