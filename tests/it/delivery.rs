//! The main promise: 100,000 messages on 1,000 channels arrive completely, in order, none twice, while modules are
//! swapped and while the relay is stopped and started.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use slipring_support::relay::Relay;
use slipring_support::{Api, guests};

use super::numbers::{CHANNEL, counts, shows};
use super::world::{SOON, World, module, over_both};

const MESSAGES: u64 = 100_000;
const CHANNELS: u64 = 1_000;

/// The limit for a whole run, which takes some seconds on an idle machine.
const LONG: Duration = Duration::from_secs(300);

over_both!(
    keeps_all_in_order_through_three_swaps,
    keeps_all_in_order_through_five_restarts,
);

/// The output of the example `orders`. `items` is the stream sequence, as [`order`] sets it.
#[derive(Deserialize)]
struct View {
    items: u64,
    total_cents: u64,
    currency: Option<String>,
}

/// Returns the message with this stream sequence.
fn order(sequence: u64) -> (String, String) {
    let id = sequence % CHANNELS;
    let lines = format!(r#"[{{"sku":"A-1","quantity":{sequence},"price_cents":450}}]"#);
    let order = format!(r#"{{"id":{id},"revision":{sequence},"status":"paid","customer":"Ada","lines":{lines}}}"#);
    ("orders.paid".to_owned(), order)
}

/// Creates a stream with this many messages, and a module to read it.
async fn orders(api: Api, messages: u64) -> Result<World> {
    let world = World::start_over(api).await?;
    world.stream("ORDERS", &["orders.>"]).await?;
    world.publish((1..=messages).map(order)).await?;
    let toml = "stream = \"ORDERS\"\ndeliver = \"all\"\n";
    world.home.add_module("orders", &guests::component("orders")?, toml)?;
    Ok(world)
}

/// Waits until the module has published this many since the relay started.
async fn published(relay: &Relay, count: u64) -> Result<()> {
    let what = format!("{count} publications");
    let enough = |status: &serde_json::Value| module(status, "orders")["published"].as_u64() >= Some(count);
    relay.status_when(LONG, &what, enough).await.map(drop)
}

/// Reads every channel's history: complete, in order, none twice. Returns what each stream sequence became.
async fn check_histories(world: &World) -> Result<BTreeMap<u64, View>> {
    let mut views = BTreeMap::new();
    for id in 0..CHANNELS {
        let channel = format!("orders:{id}");
        let history = world.centrifugo.history(&channel).await?;
        let history: Vec<View> = history
            .iter()
            .map(|publication| publication.json())
            .collect::<Result<_>>()?;
        let sequences: Vec<u64> = history.iter().map(|view| view.items).collect();
        let expected: Vec<u64> = (1..=MESSAGES).filter(|sequence| sequence % CHANNELS == id).collect();
        ensure!(
            sequences == expected,
            "{channel} holds {sequences:?} instead of {expected:?}"
        );
        views.extend(history.into_iter().map(|view| (view.items, view)));
    }
    Ok(views)
}

async fn keeps_all_in_order_through_three_swaps(api: Api) -> Result<()> {
    // A new module takes a moment to compile. The messages for it are sent once it has taken over.
    const PART: u64 = MESSAGES / 4;
    let world = orders(api, PART).await?;
    let start = Instant::now();
    let mut relay = world.run().await?;
    for (swap, guest) in (1..).zip(["orders-next", "orders", "orders-next"]) {
        published(&relay, swap * PART - PART / 2).await?;
        world.home.replace_wasm("orders", &guests::component(guest)?)?;
        let swapped = |status: &serde_json::Value| module(status, "orders")["swaps"].as_u64() == Some(swap);
        relay.status_when(SOON, "the swap", swapped).await?;
        world.publish((swap * PART + 1..=(swap + 1) * PART).map(order)).await?;
    }
    published(&relay, MESSAGES).await?;
    let seconds = start.elapsed().as_secs_f64();
    // Bypasses the capture of the test's output: this is a figure to see, not an assertion.
    writeln!(
        std::io::stderr(),
        "{MESSAGES} messages on {CHANNELS} channels with three swaps over {api:?}: {seconds:.1} s, {:.0} messages/s",
        MESSAGES as f64 / seconds
    )?;
    ensure!(relay.stop(SOON).await?.success(), "the relay stops cleanly");

    let views = check_histories(&world).await?;
    // By stream sequence, the old module made everything before a swap and the new one everything after it.
    let mut makers: Vec<bool> = views.values().map(|view| view.currency.is_some()).collect();
    makers.dedup();
    ensure!(
        makers == [false, true, false, true],
        "the modules took turns: {makers:?}"
    );
    Ok(())
}

async fn keeps_all_in_order_through_five_restarts(api: Api) -> Result<()> {
    let world = orders(api, MESSAGES).await?;
    let mut all_published = 0;
    for _ in 0..5 {
        let mut relay = world.run().await?;
        published(&relay, MESSAGES / 10).await?;
        relay.sigterm()?;
        let status = relay.wait(SOON).await?;
        ensure!(status.success(), "the relay stops cleanly, not with {status}");
        let left = relay.logged("ended with unsettled messages");
        ensure!(!left, "everything in flight is finished: {:#?}", relay.log());
        all_published += MESSAGES / 10;
    }
    let relay = world.run().await?;
    let consumer = "slipring-orders";
    let drained = async || -> Result<()> {
        let stream = world.jetstream.get_stream("ORDERS").await?;
        let info = stream
            .consumer_info(consumer)
            .await
            .context("looking up the consumer")?;
        ensure!(info.num_pending == 0 && info.num_ack_pending == 0, "{info:?}");
        Ok(())
    };
    slipring_support::eventually(LONG, "all to be acknowledged", drained).await?;
    let rest = module(&relay.status().await?, "orders")["published"]
        .as_u64()
        .unwrap_or(0);
    ensure!(all_published + rest <= MESSAGES, "nothing is published twice");
    check_histories(&world).await?;
    Ok(())
}

/// What is settled while the relay stops is acknowledged before it ends, so that nothing comes again.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stops_acknowledges_what_it_finishes() -> Result<()> {
    const ROUNDS: u64 = 5;
    const MESSAGES: u64 = 20;
    let mut world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    for round in 0..ROUNDS {
        let mut relay = world.run().await?;
        relay.ready(SOON).await?;
        world.centrifugo.pause()?;
        let first = round * MESSAGES;
        world
            .publish((first + 1..=first + MESSAGES).map(|number| ("unruly.ok", number.to_string())))
            .await?;
        counts(&relay, "unruly", "received", MESSAGES).await?;
        relay.sigterm()?;
        relay.has_logged(SOON, "shutting down").await?;
        world.centrifugo.resume()?;
        ensure!(relay.wait(SOON).await?.success(), "the relay stops cleanly");
        let info = world.consumer("UNRULY", "unruly").await?;
        ensure!(
            info.num_pending == 0 && info.num_ack_pending == 0,
            "round {round}: {info:?}"
        );
    }
    shows(&world.centrifugo, CHANNEL, 1..=ROUNDS * MESSAGES).await
}

/// Few messages are transformed where they are read, and many on the module's own thread. Neither overtakes the other.
#[tokio::test(flavor = "multi_thread")]
async fn few_messages_do_not_overtake_many() -> Result<()> {
    const ROUNDS: u64 = 60;
    const BURST: u64 = 200;
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let relay = world.run().await?;
    let mut last = 0;
    for _ in 0..ROUNDS {
        // The last ones of a burst come while the first ones are being transformed.
        for count in [1, BURST, 1, 2] {
            let messages = (last + 1..=last + count).map(|number| ("unruly.ok", number.to_string()));
            world.publish(messages).await?;
            last += count;
        }
        counts(&relay, "unruly", "published", last).await?;
    }
    shows(&world.centrifugo, CHANNEL, 1..=last).await
}

/// The same guest, built both ways, makes the same publications.
#[tokio::test(flavor = "multi_thread")]
async fn a_core_module_publishes_what_the_component_does() -> Result<()> {
    let world = World::start().await?;
    world.stream("ORDERS", &["orders.>"]).await?;
    world.publish((1..=50).map(order)).await?;
    let toml = "stream = \"ORDERS\"\ndeliver = \"all\"\n";
    world.home.add_module("orders", &guests::component("orders")?, toml)?;
    let relay = world.run().await?;
    published(&relay, 50).await?;
    world.home.replace_wasm("orders", &guests::core_module("orders")?)?;
    let swapped = |status: &serde_json::Value| module(status, "orders")["swaps"] == 1;
    relay.status_when(SOON, "the swap to the core module", swapped).await?;
    world
        .publish((1..=50).map(|sequence| order(CHANNELS + sequence)))
        .await?;
    published(&relay, 100).await?;
    for id in 1..=50 {
        let history = world.centrifugo.history(&format!("orders:{id}")).await?;
        let views: Vec<View> = history
            .iter()
            .map(|publication| publication.json())
            .collect::<Result<_>>()?;
        let items: Vec<u64> = views.iter().map(|view| view.items).collect();
        ensure!(items == [id, CHANNELS + id], "orders:{id} holds {items:?}");
        let totals: Vec<u64> = views.iter().map(|view| view.total_cents).collect();
        ensure!(
            totals == [450 * id, 450 * (CHANNELS + id)],
            "orders:{id} holds {totals:?}"
        );
    }
    Ok(())
}
