//! The options that a module or a configuration sets on publications, as they reach Centrifugo: on the wire with the
//! fake one, and in their effect with the real one.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use serde_json::{Value, json};
use slipring_support::fake_centrifugo::{API_KEY, Command, FakeCentrifugo};
use slipring_support::relay::{Home, Relay};
use slipring_support::servers::NatsServer;
use slipring_support::subscriber::Subscriber;
use slipring_support::{Api, eventually, guests};

use super::numbers::{CHANNEL, counts, number_on, numbers, settled, shows};
use super::world::{SOON, World, binary, module, over_both, publish, unruly_toml};

/// The guest `unruly` with the fake Centrifugo, which remembers every command.
struct Wire {
    centrifugo: FakeCentrifugo,
    relay: Relay,
    jetstream: jetstream::Context,
    _nats: NatsServer,
    _home: Home,
}

impl Wire {
    async fn start(config: &str, toml: &str) -> Result<Self> {
        Self::start_over(Api::Http, config, toml).await
    }

    async fn start_over(api: Api, config: &str, toml: &str) -> Result<Self> {
        let (nats, centrifugo) = tokio::try_join!(NatsServer::start(), FakeCentrifugo::start())?;
        let jetstream = nats.jetstream().await?;
        let stream = jetstream::stream::Config {
            name: "UNRULY".to_owned(),
            subjects: vec!["unruly.>".to_owned()],
            ..Default::default()
        };
        jetstream.create_stream(stream).await?;
        let home = Home::new(binary(), &nats.url(), &centrifugo.endpoint(api), API_KEY)?;
        home.configure_more(config)?;
        home.add_module("unruly", &guests::component("unruly")?, &unruly_toml(toml))?;
        let relay = home.run().await?;
        relay.ready(SOON).await?;
        Ok(Self {
            centrifugo,
            relay,
            jetstream,
            _nats: nats,
            _home: home,
        })
    }

    /// Sends a message that asks for these publications, and returns their commands by first channel.
    async fn send(&self, wishes: &[Value]) -> Result<BTreeMap<String, Command>> {
        let before = self.published().await?;
        let messages = wishes.iter().map(|wish| ("unruly.publish", json!([wish]).to_string()));
        publish(&self.jetstream, messages).await?;
        counts(&self.relay, "unruly", "published", before + wishes.len() as u64).await?;
        let batches = self.centrifugo.batches();
        let commands = batches.into_iter().flat_map(|batch| batch.commands);
        Ok(commands.map(|command| (command.channels[0].clone(), command)).collect())
    }

    async fn published(&self) -> Result<u64> {
        let status = self.relay.status().await?;
        module(&status, "unruly")["published"].as_u64().context("a count")
    }
}

/// Starts a world with the stream `UNRULY` and a relay that runs `unruly`.
async fn unruly(toml: &str) -> Result<(World, Relay)> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly(toml)?;
    let relay = world.run().await?;
    Ok((world, relay))
}

async fn wish(world: &World, wishes: &[Value]) -> Result<()> {
    let messages = wishes.iter().map(|wish| ("unruly.publish", json!([wish]).to_string()));
    world.publish(messages).await
}

over_both!(what_a_module_sets_is_what_centrifugo_is_asked_for);

async fn what_a_module_sets_is_what_centrifugo_is_asked_for(api: Api) -> Result<()> {
    let wire = Wire::start_over(api, "", "").await?;
    let commands = wire
        .send(&[
            json!({ "channels": ["plain"], "data": { "id": 1 } }),
            json!({ "channels": ["tags"], "data": 1, "tags": { "a": "1", "\"b\"": "zwei" } }),
            json!({ "channels": ["delta"], "data": 1, "delta": true }),
            json!({ "channels": ["skip"], "data": 1, "skip_history": true }),
            json!({ "channels": ["version"], "data": 1, "version": 9_007_199_254_740_991_u64, "version_epoch": "e" }),
            json!({ "channels": ["key"], "data": 1, "idempotency_key": "its own" }),
            json!({ "channels": ["one", "two", "three"], "data": 1 }),
            json!({ "channels": ["binary"], "bytes": [0, 255, 128] }),
        ])
        .await?;
    let text = |data: &Option<Box<serde_json::value::RawValue>>| data.as_ref().map(|data| data.get().to_owned());
    let plain = &commands["plain"];
    ensure!(text(&plain.data).as_deref() == Some(r#"{"id":1}"#), "{plain:?}");
    ensure!(
        !plain.broadcast && !plain.delta && !plain.skip_history && plain.tags.is_empty(),
        "{plain:?}"
    );
    ensure!(
        plain.version.is_none() && plain.version_epoch.is_none() && plain.b64data.is_none() && plain.binary.is_none(),
        "{plain:?}"
    );
    ensure!(
        plain.idempotency_key.as_ref().is_some_and(|key| key.len() == 16),
        "{plain:?}"
    );
    let tags = &commands["tags"].tags;
    ensure!(
        tags.len() == 2 && tags["a"] == "1" && tags["\"b\""] == "zwei",
        "{tags:?}"
    );
    ensure!(commands["delta"].delta, "{:?}", commands["delta"]);
    ensure!(commands["skip"].skip_history, "{:?}", commands["skip"]);
    let version = &commands["version"];
    ensure!(version.version == Some((1 << 53) - 1), "{version:?}");
    ensure!(version.version_epoch.as_deref() == Some("e"), "{version:?}");
    ensure!(
        commands["key"].idempotency_key.as_deref() == Some("its own"),
        "{:?}",
        commands["key"]
    );
    let broadcast = &commands["one"];
    ensure!(
        broadcast.broadcast && broadcast.channels == ["one", "two", "three"],
        "{broadcast:?}"
    );
    let binary = &commands["binary"];
    let as_sent = match api {
        Api::Http => binary.b64data.as_deref() == Some("AP+A"),
        Api::Grpc => binary.binary.as_deref() == Some(&[0, 255, 128]),
    };
    ensure!(as_sent && binary.data.is_none(), "{binary:?}");
    let keys: Vec<_> = commands.values().map(|command| &command.idempotency_key).collect();
    let distinct: std::collections::HashSet<_> = keys.iter().collect();
    ensure!(distinct.len() == keys.len(), "each has a key of its own: {keys:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_idempotency_only_a_modules_own_keys_are_sent() -> Result<()> {
    let wire = Wire::start("[publish]\nidempotency = false", "").await?;
    let commands = wire
        .send(&[
            json!({ "channels": ["plain"], "data": 1 }),
            json!({ "channels": ["key"], "data": 1, "idempotency_key": "its own" }),
        ])
        .await?;
    ensure!(commands["plain"].idempotency_key.is_none(), "{:?}", commands["plain"]);
    ensure!(
        commands["key"].idempotency_key.as_deref() == Some("its own"),
        "{:?}",
        commands["key"]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sequence_as_version_replaces_the_modules_own() -> Result<()> {
    let wire = Wire::start("", "version = \"sequence\"").await?;
    let commands = wire
        .send(&[
            json!({ "channels": ["a"], "data": 1, "version": 700, "version_epoch": "its own" }),
            json!({ "channels": ["b", "c"], "data": 1 }),
        ])
        .await?;
    let (a, b) = (&commands["a"], &commands["b"]);
    ensure!(a.version == Some(1) && b.version == Some(2), "{a:?} {b:?}");
    let created = wire
        .jetstream
        .get_stream("UNRULY")
        .await?
        .cached_info()
        .created
        .unix_timestamp_nanos();
    let epochs = [&a.version_epoch, &b.version_epoch];
    ensure!(epochs[0] == epochs[1], "one stream, one epoch: {epochs:?}");
    ensure!(
        epochs[0].as_deref() == Some(&*format!("{created}-unruly")),
        "the stream's creation, {created}, and the module: {epochs:?}"
    );

    // If there were two publications on one channel, Centrifugo would show only the first.
    let twice = json!([{ "channels": ["x", "y"], "data": 1 }, { "channels": ["z", "y"], "data": 2 }]);
    publish(&wire.jetstream, [("unruly.publish", twice.to_string())]).await?;
    counts(&wire.relay, "unruly", "rejected", 1).await?;
    wire.send(&[json!({ "channels": ["after"], "data": 1 })]).await?;
    // What follows on other channels does not wait until the letter is stored.
    let letter = eventually(SOON, "the dead letter", async || {
        let stream = wire.jetstream.get_stream("SLIPRING_DEAD_LETTERS").await?;
        Ok::<_, anyhow::Error>(stream.get_raw_message(1).await?)
    })
    .await?;
    let header = |name: &str| letter.headers.get(name).map(ToString::to_string).unwrap_or_default();
    ensure!(
        header("Slipring-Code") == "version" && header("Slipring-Channel") == "y",
        "{:?}",
        letter.headers
    );
    ensure!(
        header("Slipring-Reason").contains("the channel `y`"),
        "{:?}",
        letter.headers
    );
    ensure!(letter.payload == twice.to_string(), "the message is kept as it was");
    let channels = wire.centrifugo.channels();
    ensure!(
        channels == ["a", "after", "b", "c"],
        "nothing of it was published: {channels:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_centrifugo_does_what_a_module_asked_for() -> Result<()> {
    let (world, relay) = unruly("").await?;
    let channels = [
        "unruly:tags",
        "unruly:skip",
        "unruly:binary",
        "unruly:version",
        "unruly:a",
        "unruly:b",
        "test:delta",
    ];
    let mut subscriber = Subscriber::connect(&world.centrifugo.websocket_url(), channels).await?;
    let wishes = [
        json!({ "channels": ["unruly:tags"], "data": 1, "tags": { "kind": "first" } }),
        json!({ "channels": ["unruly:skip"], "data": 2, "skip_history": true }),
        json!({ "channels": ["unruly:binary"], "bytes": [0, 255, 128], "skip_history": true }),
        json!({ "channels": ["unruly:version"], "data": 4, "version": 4 }),
        json!({ "channels": ["unruly:version"], "data": 3, "version": 3 }),
        json!({ "channels": ["unruly:version"], "data": 5, "version": 5 }),
        json!({ "channels": ["unruly:version"], "data": 1, "version": 1, "version_epoch": "another" }),
        json!({ "channels": ["unruly:a", "unruly:b"], "data": 6 }),
        json!({ "channels": ["test:delta"], "data": 7, "delta": true }),
        json!({ "channels": ["unruly:a"], "data": "once", "idempotency_key": "once" }),
        json!({ "channels": ["unruly:a"], "data": "twice", "idempotency_key": "once" }),
    ];
    wish(&world, &wishes).await?;
    counts(&relay, "unruly", "published", wishes.len() as u64).await?;

    // Two are suppressed, and the broadcast arrives twice.
    let received = subscriber.take(wishes.len() - 2 + 1, SOON).await?;
    let mut seen: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for each in received {
        if each.channel == "unruly:tags" {
            ensure!(each.publication.tags["kind"] == "first", "{each:?}");
        }
        seen.entry(each.channel).or_default().push(each.publication.data);
    }
    let expected: [(&str, &[&[u8]]); 7] = [
        ("test:delta", &[b"7"]),
        ("unruly:a", &[b"6", b"\"once\""]),
        ("unruly:b", &[b"6"]),
        ("unruly:binary", &[&[0, 255, 128]]),
        ("unruly:skip", &[b"2"]),
        ("unruly:tags", &[b"1"]),
        ("unruly:version", &[b"4", b"5", b"1"]),
    ];
    let expected: BTreeMap<String, Vec<Vec<u8>>> = expected
        .iter()
        .map(|(channel, data)| ((*channel).to_owned(), data.iter().map(|data| data.to_vec()).collect()))
        .collect();
    ensure!(seen == expected, "{seen:?}");
    ensure!(
        world.centrifugo.history("unruly:skip").await?.is_empty(),
        "it has no history"
    );
    ensure!(subscriber.drain()?.is_empty(), "nothing else arrived");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_older_than_max_age_is_left_out_and_counted() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.publish(numbers(1..=10)).await?;
    // A module's files must rest longer than this before they are read.
    world.add_unruly("max_age = \"100ms\"")?;
    let relay = world.run().await?;
    counts(&relay, "unruly", "expired", 10).await?;
    // With a wrong clock, recent messages are skipped like these.
    relay
        .has_logged(SOON, "compare this machine's clock with that of")
        .await?;
    world
        .home
        .configure_module("unruly", &unruly_toml("max_age = \"1h\""))?;
    counts(&relay, "unruly", "swaps", 1).await?;
    world.publish(numbers(11..=20)).await?;
    shows(&world.centrifugo, CHANNEL, 11..=20).await?;
    let status = relay.status().await?;
    let unruly = module(&status, "unruly");
    ensure!(
        unruly["received"] == 20 && unruly["expired"] == 10 && unruly["dropped"] == 0 && unruly["transformed"] == 10,
        "{unruly}"
    );
    Ok(())
}

/// What was sent before it became too old may still be executed, so it has to come first.
#[tokio::test(flavor = "multi_thread")]
async fn what_became_too_old_while_centrifugo_was_away_is_not_shown() -> Result<()> {
    let mut world = World::start().await?;
    world.home.env("SLIPRING_CENTRIFUGO__TIMEOUT", "500ms");
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("max_age = \"2s\"")?;
    let relay = world.run().await?;
    world.publish(numbers(1..=1)).await?;
    counts(&relay, "unruly", "published", 1).await?;

    world.centrifugo.pause()?;
    world.publish(numbers(2..=2)).await?;
    let sent = |status: &Value| !status["centrifugo"]["trouble"].is_null();
    relay.status_when(SOON, "the second one to be lost", sent).await?;
    world.publish(numbers(3..=50)).await?;
    world
        .publish((1..=50).map(|number| number_on(&format!("unruly:{number}"), number)))
        .await?;
    counts(&relay, "unruly", "transformed", 100).await?;
    // Everything on the other channels, except those that a probe has carried. The rest waits behind the second one.
    let expired = |status: &Value| module(status, "unruly")["expired"].as_u64() >= Some(30);
    relay.status_when(SOON, "what waits to be too old", expired).await?;
    relay.has_logged(SOON, "skipped messages older than `max_age`").await?;

    world.centrifugo.resume()?;
    settled(&world, "UNRULY", "slipring-unruly").await?;
    world.publish(numbers(101..=101)).await?;
    shows(&world.centrifugo, CHANNEL, [1, 2, 101]).await?;
    let count = |unruly: &Value, of: &str| unruly[of].as_u64().unwrap_or_default();
    let all = |status: &Value| {
        let unruly = module(status, "unruly");
        count(unruly, "expired") + count(unruly, "published") == 101
    };
    let status = relay.status_when(SOON, "each to be one or the other", all).await?;
    ensure!(module(&status, "unruly")["dropped"] == 0, "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn batched_delivers_a_hot_channel_in_order_with_many_publications_a_request() -> Result<()> {
    const MESSAGES: u64 = 20_000;
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.home.configure_more("[publish]\norder = \"batched\"")?;
    // A hot channel, and some others.
    let channel = |number: u64| {
        if number.is_multiple_of(10) {
            format!("unruly:{}", number % 100)
        } else {
            CHANNEL.to_owned()
        }
    };
    world
        .publish((1..=MESSAGES).map(|number| number_on(&channel(number), number)))
        .await?;
    world.add_unruly("")?;
    let relay = world.run().await?;
    counts(&relay, "unruly", "published", MESSAGES).await?;
    shows(
        &world.centrifugo,
        CHANNEL,
        (1..=MESSAGES).filter(|number| number % 10 != 0),
    )
    .await?;
    for each in (0..100).step_by(10) {
        let expected = (1..=MESSAGES).filter(|number| number % 100 == each);
        shows(&world.centrifugo, &format!("unruly:{each}"), expected).await?;
    }
    let metrics = relay.metrics().await?;
    let count = "slipring_batch_size_count{module=\"unruly\"} ";
    let requests = metrics
        .lines()
        .find_map(|line| line.strip_prefix(count))
        .context("the count of requests")?;
    let requests: u64 = requests.parse()?;
    ensure!(requests * 10 < MESSAGES, "{requests} requests for {MESSAGES} messages");
    Ok(())
}
