//! The relay needs something that does not exist yet. It names what is missing, waits, affects nobody else, loses
//! nothing, and continues by itself once it exists.

use anyhow::{Result, ensure};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream;
use serde_json::Value;
use slipring_support::relay::{Home, Relay};
use slipring_support::servers::{Centrifugo, NatsServer};
use slipring_support::{eventually, guests};

use super::dead_letters::no_dead_letters;
use super::world::{SOON, World, binary, know_unruly, module, publish, unruly_toml};

/// Waits until `/readyz` says no, with this reason.
pub async fn not_ready(relay: &Relay, why: &str) -> Result<()> {
    let says_why = async || match relay.get("/readyz").await {
        Ok(text) => Err(text),
        Err(error) => {
            let text = format!("{error:#}");
            if text.contains("answered 503") && text.contains(why) {
                Ok(())
            } else {
                Err(text)
            }
        }
    };
    eventually(SOON, format!("/readyz to say {why:?}"), says_why).await
}

/// Waits until the module waits for this reason.
async fn waits(relay: &Relay, name: &str, why: &str) -> Result<()> {
    let says_why = |status: &Value| {
        let module = module(status, name);
        module["state"] == "waiting" && module["reason"].as_str().is_some_and(|reason| reason.contains(why))
    };
    relay
        .status_when(SOON, &format!("{name} to wait: {why}"), says_why)
        .await?;
    not_ready(relay, &format!("- {name} is waiting: ")).await?;
    relay.has_logged(SOON, "cannot read messages").await?;
    Ok(())
}

/// Numbered messages for `unruly`, which publishes them unchanged.
fn numbers(numbers: std::ops::RangeInclusive<u32>) -> impl Iterator<Item = (&'static str, String)> {
    numbers.map(|number| ("unruly.ok", number.to_string()))
}

/// Waits until the channel of `unruly` holds exactly this.
async fn publishes(centrifugo: &Centrifugo, expected: &[&str]) -> Result<()> {
    let seen = async || -> Result<()> {
        let history = centrifugo.history("unruly:ok").await?;
        let texts: Vec<_> = history.iter().map(|publication| publication.text()).collect();
        ensure!(texts == expected, "{texts:?}");
        Ok(())
    };
    eventually(SOON, format!("{expected:?}"), seen).await
}

/// Checks that the module `orders` publishes an order, whatever its neighbour waits for.
async fn the_neighbour_works(world: &World, relay: &Relay) -> Result<()> {
    let order = r#"{"id":1,"revision":1,"status":"paid","lines":[]}"#;
    world.publish([("orders.paid", order)]).await?;
    let published = |status: &Value| module(status, "orders")["published"] == 1;
    relay
        .status_when(SOON, "the neighbour to publish", published)
        .await
        .map(drop)
}

/// Starts servers with the stream `ORDERS` and the module `orders` that reads it.
async fn world_with_orders() -> Result<World> {
    let world = World::start().await?;
    world.stream("ORDERS", &["orders.>"]).await?;
    world.home.add_module(
        "orders",
        &guests::component("orders")?,
        "stream = \"ORDERS\"\ndeliver = \"all\"\n",
    )?;
    Ok(world)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_does_not_exist() -> Result<()> {
    let world = world_with_orders().await?;
    world.add_unruly("")?;
    let relay = world.home.run().await?;
    waits(&relay, "unruly", "the stream `UNRULY` does not exist: create it").await?;
    the_neighbour_works(&world, &relay).await?;

    world.stream("UNRULY", &["unruly.>"]).await?;
    world.publish(numbers(1..=3)).await?;
    publishes(&world.centrifugo, &["1", "2", "3"]).await?;
    relay.ready(SOON).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_the_stream_never_holds() -> Result<()> {
    let world = world_with_orders().await?;
    world.stream("UNRULY", &["other.>"]).await?;
    world.add_unruly("subjects = [\"unruly.*\"]")?;
    let relay = world.home.run().await?;
    let why = "the stream `UNRULY` cannot hold messages of the subject `unruly.*`: its subjects are other.>";
    waits(&relay, "unruly", why).await?;
    the_neighbour_works(&world, &relay).await?;

    let subjects = vec!["other.>".to_owned(), "unruly.>".to_owned()];
    let config = stream::Config {
        name: "UNRULY".to_owned(),
        subjects,
        ..Default::default()
    };
    world.jetstream.update_stream(config).await?;
    world.publish(numbers(1..=3)).await?;
    publishes(&world.centrifugo, &["1", "2", "3"]).await?;
    relay.ready(SOON).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_with_which_the_promise_could_not_be_kept() -> Result<()> {
    let world = world_with_orders().await?;
    let stream = world.stream("UNRULY", &["unruly.>"]).await?;
    let careless = pull::Config {
        durable_name: Some("slipring-unruly".to_owned()),
        ack_policy: AckPolicy::None,
        max_deliver: 5,
        ..Default::default()
    };
    stream.create_consumer(careless).await?;
    world.add_unruly("")?;
    let relay = world.home.run().await?;
    waits(
        &relay,
        "unruly",
        "the consumer `slipring-unruly` of the stream `UNRULY`",
    )
    .await?;
    waits(&relay, "unruly", "ack_policy is none, and must be explicit").await?;
    waits(&relay, "unruly", "max_deliver is 5").await?;
    the_neighbour_works(&world, &relay).await?;
    let found = stream.consumer_info("slipring-unruly").await?.config;
    ensure!(
        found.ack_policy == AckPolicy::None && found.max_deliver == 5,
        "it is not touched: {found:?}"
    );

    world.publish(numbers(1..=3)).await?;
    stream.delete_consumer("slipring-unruly").await?;
    publishes(&world.centrifugo, &["1", "2", "3"]).await?;
    relay.ready(SOON).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_absent_at_the_start() -> Result<()> {
    let mut nats = NatsServer::prepare("")?;
    let centrifugo = Centrifugo::start_with(know_unruly).await?;
    let home = Home::new(binary(), &nats.url(), &centrifugo.url(), centrifugo.api_key())?;
    home.add_module("unruly", &guests::component("unruly")?, &unruly_toml(""))?;
    let mut relay = home.run().await?;
    let line = relay.logs(SOON, "cannot connect to NATS, retrying").await?;
    ensure!(line.contains(&nats.url()), "{line}");
    ensure!(relay.get("/healthz").await? == "ok\n");
    not_ready(&relay, "- NATS is not connected").await?;
    ensure!(relay.status().await?["nats"]["connected"] == false);

    nats.restart().await?;
    let jetstream = nats.jetstream().await?;
    let subjects = vec!["unruly.>".to_owned()];
    jetstream
        .create_stream(stream::Config {
            name: "UNRULY".to_owned(),
            subjects,
            ..Default::default()
        })
        .await?;
    publish(&jetstream, numbers(1..=3)).await?;
    publishes(&centrifugo, &["1", "2", "3"]).await?;
    relay.ready(SOON).await
}

/// Centrifugo starts only later. Until then the messages wait.
#[tokio::test(flavor = "multi_thread")]
async fn centrifugo_absent_at_the_start() -> Result<()> {
    let mut world = World::start().await?;
    world.centrifugo.stop().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let mut relay = world.home.run().await?;
    // Logged before there is a message to publish.
    let line = relay
        .logs(SOON, "Centrifugo does not accept publications yet, retrying")
        .await?;
    ensure!(line.contains(&world.centrifugo.url()), "{line}");
    not_ready(&relay, "- Centrifugo: ").await?;

    world.publish(numbers(1..=3)).await?;
    let line = relay.logs(SOON, "publishing is paused").await?;
    ensure!(line.contains(&world.centrifugo.url()), "{line}");
    not_ready(&relay, "- Centrifugo: ").await?;
    ensure!(relay.get("/healthz").await? == "ok\n");
    let trouble = relay.status().await?["centrifugo"]["trouble"].to_string();
    ensure!(
        trouble.contains(&world.centrifugo.url()) && trouble.contains("refused"),
        "{trouble}"
    );

    world.publish(numbers(4..=6)).await?;
    world.centrifugo.restart().await?;
    publishes(&world.centrifugo, &["1", "2", "3", "4", "5", "6"]).await?;
    relay.ready(SOON).await?;
    no_dead_letters(&world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_api_key() -> Result<()> {
    let mut world = World::start().await?;
    let key = world.centrifugo.api_key().to_owned();
    world.centrifugo.restart_with_key("another-key").await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let mut relay = world.home.run().await?;
    let hint = "does `centrifugo.api_key_file` name a file that holds the value of Centrifugo's `http_api.key`?";
    // Logged once before there is a message to publish, and again when there is one.
    let line = relay
        .logs(SOON, "Centrifugo does not accept publications yet, retrying")
        .await?;
    ensure!(line.contains("401") && line.contains(hint), "{line}");
    not_ready(&relay, hint).await?;
    world.publish(numbers(1..=3)).await?;
    let line = relay.logs(SOON, "publishing is paused").await?;
    ensure!(line.contains("401") && line.contains(hint), "{line}");
    ensure!(!relay.logged(&key), "the key is not logged: {:#?}", relay.log());
    not_ready(&relay, hint).await?;
    let status = relay.status().await?;
    let trouble = status["centrifugo"]["trouble"].as_str().unwrap_or_default();
    ensure!(trouble.contains("401") && trouble.contains(hint), "{trouble}");
    ensure!(module(&status, "unruly")["rejected"] == 0, "{status}");

    world.centrifugo.restart_with_key(&key).await?;
    publishes(&world.centrifugo, &["1", "2", "3"]).await?;
    relay.ready(SOON).await?;
    no_dead_letters(&world).await
}
