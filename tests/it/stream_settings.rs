//! Settings of streams, consumers, accounts and servers that affect a promise: the relay refuses them, warns about them
//! or adapts to them, and `check --online` names them. Also: what counts as missed on streams that lose messages for
//! other reasons than their limits.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{Config, ConsumerLimits, RetentionPolicy, Source, SubjectTransform};
use serde_json::Value;
use slipring_support::relay::Relay;
use slipring_support::servers::{Centrifugo, NatsServer};
use slipring_support::{Api, eventually, guests};
use tokio::time::sleep;

use super::absent::not_ready;
use super::commands::{exits, stdout};
use super::numbers::{CHANNEL, consumer, counts, number_on, numbers, settled, shows, state};
use super::world::{SOON, World, know_unruly, module, over_both, unruly_toml};

const STREAM: &str = "UNRULY";
const CONSUMER: &str = "slipring-unruly";

fn stream() -> Config {
    Config {
        name: STREAM.to_owned(),
        subjects: vec!["unruly.>".to_owned()],
        ..Default::default()
    }
}

/// Starts servers with this stream.
async fn world(stream: Config) -> Result<World> {
    let world = World::start().await?;
    world.jetstream.create_stream(stream).await?;
    Ok(world)
}

fn add(world: &World, toml: &str) -> Result<()> {
    let wasm = guests::component("unruly")?;
    world
        .home
        .add_module("unruly", &wasm, &format!("stream = \"{STREAM}\"\n{toml}\n"))
}

fn check(world: &World) -> Result<Output> {
    let output = world.home.command(["check", "--online"]).output();
    output.context("running slipring")
}

/// Checks that `check --online` fails with this reason.
fn refused_by_check(world: &World, because: &str) -> Result<()> {
    let output = check(world)?;
    exits(&output, 1)?;
    ensure!(stdout(&output).contains(because), "{}", stdout(&output));
    Ok(())
}

/// Checks that `check --online` succeeds with this note.
fn noted_by_check(world: &World, note: &str) -> Result<()> {
    let output = check(world)?;
    exits(&output, 0)?;
    let noted = |line: &str| line.contains("  note  ") && line.contains(note);
    ensure!(stdout(&output).lines().any(noted), "{}", stdout(&output));
    Ok(())
}

/// Checks that the module waits, and that both the relay and `check --online` say why.
async fn waits(world: &World, relay: &Relay, because: &str) -> Result<()> {
    let unruly = state(relay, "unruly", "waiting").await?;
    ensure!(
        unruly["reason"].as_str().is_some_and(|reason| reason.contains(because)),
        "{unruly}"
    );
    not_ready(relay, because).await?;
    refused_by_check(world, because)
}

/// Checks that nothing counts as missed, and no line says so, now and for a second. The relay asks the stream about a
/// gap while it goes on, so a wrong count may come later than the messages.
async fn missed_nothing(relay: &Relay) -> Result<()> {
    for _ in 0..10 {
        let status = relay.status().await?;
        ensure!(module(&status, "unruly")["missed"] == 0, "{status}");
        ensure!(!relay.logged("before they could be read"), "{:#?}", relay.log());
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Waits until the module's window is full and nothing can be published.
async fn full_window(world: &World, window: usize) -> Result<()> {
    eventually(SOON, "a full window", async || {
        let info = consumer(world, STREAM, CONSUMER).await?;
        ensure!(info.num_ack_pending == window, "{info:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_the_server_would_forget_without_a_relay_is_kept() -> Result<()> {
    let world = world(stream()).await?;
    let stream = world.jetstream.get_stream(STREAM).await?;
    // Long enough for a relay to start on a busy machine.
    let soon_forgotten = |name: &str| pull::Config {
        durable_name: Some(name.to_owned()),
        deliver_policy: DeliverPolicy::New,
        ack_policy: AckPolicy::Explicit,
        inactive_threshold: Duration::from_secs(10),
        ..Default::default()
    };
    stream.create_consumer(soon_forgotten(CONSUMER)).await?;
    add(&world, "deliver = \"new\"")?;
    let mut relay = world.run().await?;
    world.publish(numbers(1..=1)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=1).await?;
    settled(&world, STREAM, CONSUMER).await?;
    relay
        .has_logged(SOON, "removed `inactive_threshold` from the consumer")
        .await?;
    ensure!(relay.stop(SOON).await?.success(), "it stops cleanly");

    world.publish(numbers(2..=4)).await?;
    // One that is created later expires later.
    stream.create_consumer(soon_forgotten("another")).await?;
    eventually(
        SOON,
        "the server to forget a consumer that nobody reads from",
        async || {
            ensure!(stream.consumer_info("another").await.is_err());
            Ok(())
        },
    )
    .await?;
    let _relay = world.run().await?;
    shows(&world.centrifugo, CHANNEL, 1..=4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_has_every_consumer_forgotten_is_refused_until_it_does_not() -> Result<()> {
    let mut config = stream();
    config.consumer_limits = Some(ConsumerLimits {
        inactive_threshold: Duration::from_secs(3_600),
        max_ack_pending: 0,
    });
    let world = world(config).await?;
    add(&world, "deliver = \"new\"")?;
    let relay = world.home.run().await?;
    waits(&world, &relay, "has `consumer_limits.inactive_threshold` = 1h").await?;
    let stream = world.jetstream.get_stream(STREAM).await?;
    ensure!(stream.consumer_info(CONSUMER).await.is_err(), "none was made");

    world.jetstream.update_stream(self::stream()).await?;
    relay.ready(SOON).await?;
    world.publish(numbers(1..=3)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=3).await?;
    exits(&check(&world)?, 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_consumer_is_no_riddle() -> Result<()> {
    let world = world(stream()).await?;
    let stream = world.jetstream.get_stream(STREAM).await?;
    let until = time::OffsetDateTime::now_utc() + time::Duration::HOUR;
    let paused = pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        ack_policy: AckPolicy::Explicit,
        pause_until: Some(until),
        ..Default::default()
    };
    stream.create_consumer(paused).await?;
    add(&world, "deliver = \"all\"")?;
    let relay = world.home.run().await?;
    waits(&world, &relay, "is paused until").await?;
    world.publish(numbers(1..=3)).await?;
    stream.resume_consumer(CONSUMER).await?;
    shows(&world.centrifugo, CHANNEL, 1..=3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_work_queue_wants_to_be_read_from_its_beginning() -> Result<()> {
    let mut config = stream();
    config.retention = RetentionPolicy::WorkQueue;
    let world = world(config).await?;
    add(&world, "deliver = \"new\"")?;
    let relay = world.home.run().await?;
    waits(&world, &relay, "set `deliver = \"all\"`").await?;
    world.publish(numbers(1..=3)).await?;
    world.home.configure_module("unruly", &unruly_toml(""))?;
    shows(&world.centrifugo, CHANNEL, 1..=3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_allows_less_than_a_window_is_read_with_what_it_allows() -> Result<()> {
    let mut config = stream();
    config.consumer_limits = Some(ConsumerLimits {
        inactive_threshold: Duration::ZERO,
        max_ack_pending: 10,
    });
    let world = world(config).await?;
    world.publish(numbers(1..=500)).await?;
    add(&world, "deliver = \"all\"")?;
    let note = "allows a consumer 10 unacknowledged messages (`consumer_limits.max_ack_pending`), but the module's `window` is 4096: \
                it reads only 10 ahead; set `window = 10`";
    noted_by_check(&world, note)?;
    let relay = world.run().await?;
    shows(&world.centrifugo, CHANNEL, 1..=500).await?;
    relay.has_logged(SOON, note).await?;
    let info = consumer(&world, STREAM, CONSUMER).await?;
    ensure!(info.config.max_ack_pending == 10, "{info:?}");

    // Now there is a consumer, and its stream allows less than the consumer has.
    let mut config = stream();
    config.consumer_limits = Some(ConsumerLimits {
        inactive_threshold: Duration::ZERO,
        max_ack_pending: 10,
    });
    world.jetstream.update_stream(config).await?;
    noted_by_check(&world, note)
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_and_servers_that_allow_less_than_the_relay_asks_for_are_read_with_what_they_allow() -> Result<()> {
    let of_account =
        "accounts { A { jetstream { max_ack_pending: 10 }, users: [{ user: a, password: a }] } }\nno_auth_user: a";
    let account = NatsServer::start_with(of_account).await?;
    let server = NatsServer::start_limited("max_ack_pending: 10, max_request_batch: 3").await?;
    for (nats, known_before) in [(account, true), (server, false)] {
        let centrifugo = Centrifugo::start_with(know_unruly).await?;
        let (url, key) = (centrifugo.endpoint(Api::Http), centrifugo.api_key().to_owned());
        let world = World::start_on(nats, centrifugo, &url, &key).await?;
        world.jetstream.create_stream(stream()).await?;
        world.publish(numbers(1..=100)).await?;
        add(&world, "deliver = \"all\"")?;
        if known_before {
            noted_by_check(
                &world,
                "the account allows a consumer 10 unacknowledged messages (`max_ack_pending`)",
            )?;
        }
        let mut relay = world.run().await?;
        shows(&world.centrifugo, CHANNEL, 1..=100).await?;
        relay.has_logged(SOON, "set `window = 10`").await?;
        ensure!(relay.stop(SOON).await?.success(), "it stops cleanly");
        // Again, with the existing consumer.
        let relay = world.run().await?;
        world.publish(numbers(101..=200)).await?;
        shows(&world.centrifugo, CHANNEL, 1..=200).await?;
        let status = relay.status().await?;
        ensure!(module(&status, "unruly")["state"] == "running", "{status}");
        exits(&check(&world)?, 0)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_deliver_than_that_of_the_consumer_is_noted() -> Result<()> {
    let world = world(stream()).await?;
    world.publish(numbers(1..=3)).await?;
    add(&world, "deliver = \"all\"")?;
    let mut relay = world.run().await?;
    shows(&world.centrifugo, CHANNEL, 1..=3).await?;
    ensure!(!relay.logged("continues at its position"), "{:#?}", relay.log());
    ensure!(relay.stop(SOON).await?.success(), "it stops cleanly");
    add(&world, "deliver = { sequence = 1 }")?;
    let relay = world.run().await?;
    let note = "already exists, was created to deliver all messages, and continues at its position";
    relay.has_logged(SOON, note).await?;
    noted_by_check(&world, note)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_transform_makes_the_subjects_is_read() -> Result<()> {
    let mut config = stream();
    config.subjects = vec!["in.*".to_owned()];
    config.subject_transform = Some(SubjectTransform {
        source: "in.*".to_owned(),
        destination: "unruly.{{wildcard(1)}}".to_owned(),
    });
    let world = world(config).await?;
    world
        .publish((1..=3).map(|number| ("in.ok", number.to_string())))
        .await?;
    add(&world, "deliver = \"all\"\nsubjects = [\"unruly.>\"]")?;
    exits(&check(&world)?, 0)?;
    let relay = world.run().await?;
    shows(&world.centrifugo, CHANNEL, 1..=3).await?;
    missed_nothing(&relay).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_is_in_the_stream_from_an_earlier_time_is_read() -> Result<()> {
    let world = world(stream()).await?;
    world.publish(numbers(1..=3)).await?;
    let mut config = stream();
    config.subjects = vec!["other.>".to_owned()];
    world.jetstream.update_stream(config).await?;
    add(&world, "deliver = \"all\"\nsubjects = [\"unruly.>\"]")?;
    let _relay = world.run().await?;
    shows(&world.centrifugo, CHANNEL, 1..=3).await?;
    exits(&check(&world)?, 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_in_a_mirror_with_a_filter_are_no_losses() -> Result<()> {
    gaps_in_a_mirror(Some("unruly.>".to_owned()), 60, "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_of_a_module_that_reads_a_part_of_a_mirror_are_no_losses() -> Result<()> {
    gaps_in_a_mirror(None, 120, "subjects = [\"unruly.>\"]").await
}

/// The mirror holds what was published while the relay was stopped. It has removed most of what was read before.
async fn gaps_in_a_mirror(filter_subject: Option<String>, max_messages: i64, module: &str) -> Result<()> {
    let world = World::start().await?;
    world.stream("ORIGIN", &["unruly.>", "other.>"]).await?;
    let sourced = Source {
        name: "ORIGIN".to_owned(),
        filter_subject,
        ..Default::default()
    };
    let mirror = Config {
        name: STREAM.to_owned(),
        mirror: Some(sourced),
        max_messages,
        ..Default::default()
    };
    world.jetstream.create_stream(mirror).await?;
    add(&world, &format!("deliver = \"all\"\n{module}"))?;
    let mixed = |numbers: std::ops::RangeInclusive<u64>| {
        numbers.flat_map(|number| [("other.x", String::new()), ("unruly.ok", number.to_string())])
    };
    let mut relay = world.run().await?;
    world.publish(mixed(1..=50)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=50).await?;
    missed_nothing(&relay).await?;
    settled(&world, STREAM, CONSUMER).await?;
    ensure!(relay.stop(SOON).await?.success(), "it stops cleanly");
    world.publish(mixed(51..=100)).await?;
    let stream = world.jetstream.get_stream(STREAM).await?;
    eventually(SOON, "the mirror to hold the last message", async || {
        let state = stream.get_info().await?.state;
        ensure!(state.last_sequence == 200 && state.first_sequence > 1, "{state:?}");
        Ok(())
    })
    .await?;
    let relay = world.run().await?;
    shows(&world.centrifugo, CHANNEL, 1..=100).await?;
    missed_nothing(&relay).await
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_expired_by_a_time_of_their_own_or_were_deleted_are_not_missed() -> Result<()> {
    let mut config = stream();
    config.allow_message_ttl = true;
    config.max_messages = 1_000;
    let mut world = world(config).await?;
    add(&world, "deliver = \"all\"\nwindow = 1")?;
    let relay = world.run().await?;
    world.centrifugo.stop().await?;
    for number in 1..=20_u64 {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-TTL", "1s");
        let stored = world
            .jetstream
            .publish_with_headers("unruly.ok", headers, number.to_string().into());
        stored.await?.await?;
        if number == 1 {
            full_window(&world, 1).await?;
        }
    }
    world.publish(numbers(21..=30)).await?;
    let stream = world.jetstream.get_stream(STREAM).await?;
    for sequence in 25..=27 {
        stream.delete_message(sequence).await?;
    }
    eventually(SOON, "the messages to expire", async || {
        let held = stream.get_info().await?.state.messages;
        ensure!(held == 7, "it holds {held}");
        Ok(())
    })
    .await?;
    world.centrifugo.restart().await?;
    shows(
        &world.centrifugo,
        CHANNEL,
        [1].into_iter().chain(21..=24).chain(28..=30),
    )
    .await?;
    settled(&world, STREAM, CONSUMER).await?;
    missed_nothing(&relay).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_purged_is_not_missed() -> Result<()> {
    let mut config = stream();
    config.max_messages = 1_000;
    config.max_age = Duration::from_secs(3_600);
    let mut world = world(config).await?;
    add(&world, "deliver = \"all\"\nwindow = 1")?;
    let relay = world.run().await?;
    world.publish(numbers(1..=10)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=10).await?;
    settled(&world, STREAM, CONSUMER).await?;
    world.centrifugo.stop().await?;
    world.publish(numbers(11..=100)).await?;
    full_window(&world, 1).await?;
    world.jetstream.get_stream(STREAM).await?.purge().await?;
    world.publish(numbers(101..=110)).await?;
    world.centrifugo.restart().await?;
    // Its memory was lost, so the history begins with 11.
    shows(&world.centrifugo, CHANNEL, [11].into_iter().chain(101..=110)).await?;
    settled(&world, STREAM, CONSUMER).await?;
    missed_nothing(&relay).await
}

/// Nobody can know how many of the lost messages were for this module.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_stream_removed_that_a_module_reads_in_part_is_a_warning_without_a_count() -> Result<()> {
    let mut config = stream();
    config.subjects.push("other.>".to_owned());
    config.max_messages = 20;
    let mut world = world(config).await?;
    add(&world, "deliver = \"all\"\nwindow = 1\nsubjects = [\"unruly.>\"]")?;
    world.centrifugo.stop().await?;
    world.publish(numbers(1..=5)).await?;
    let relay = world.home.run().await?;
    full_window(&world, 1).await?;
    world.publish((1..=100).map(|_| ("other.x", ""))).await?;
    world.publish(numbers(6..=10)).await?;
    world.centrifugo.restart().await?;
    shows(&world.centrifugo, CHANNEL, [1].into_iter().chain(6..=10)).await?;
    relay
        .has_logged(
            SOON,
            "messages were removed from the stream before they could be read; it is unknown how many",
        )
        .await?;
    let status = relay.status().await?;
    ensure!(module(&status, "unruly")["missed"] == 0, "{status}");
    Ok(())
}

/// Counts everything that was not read in time, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn what_became_too_old_to_be_kept_is_counted() -> Result<()> {
    let mut config = stream();
    // Long enough for a busy machine to read the first message.
    config.max_age = Duration::from_secs(10);
    let mut world = world(config).await?;
    add(&world, "deliver = \"all\"\nwindow = 1")?;
    let relay = world.run().await?;
    world.centrifugo.stop().await?;
    world.publish(numbers(1..=50)).await?;
    full_window(&world, 1).await?;
    let stream = world.jetstream.get_stream(STREAM).await?;
    eventually(SOON, "the messages to become too old", async || {
        let held = stream.get_info().await?.state.messages;
        ensure!(held == 0, "it holds {held}");
        Ok(())
    })
    .await?;
    world.centrifugo.restart().await?;
    counts(&relay, "unruly", "published", 1).await?;
    // The loss shows with the next message, which is read before it becomes too old.
    world.publish(numbers(51..=51)).await?;
    counts(&relay, "unruly", "missed", 49).await?;
    relay.has_logged(SOON, "before they could be read").await?;
    let said = relay.log();
    let said = said.iter().find(|line| line.contains("before they could be read"));
    let said = said.context("a line about it")?;
    ensure!(
        said.contains("ERROR") && said.contains("first=2") && said.contains("last=50"),
        "{said}"
    );
    Ok(())
}

/// In one version epoch, the slower module's publications would be suppressed as outdated.
#[tokio::test(flavor = "multi_thread")]
async fn two_modules_on_one_stream_and_channel_keep_all_they_publish_with_the_sequence_as_version() -> Result<()> {
    let world = world(stream()).await?;
    let wasm = guests::component("unruly")?;
    for (name, subject) in [("first", "unruly.first.*"), ("second", "unruly.second.*")] {
        let toml =
            format!("stream = \"{STREAM}\"\ndeliver = \"all\"\nversion = \"sequence\"\nsubjects = [\"{subject}\"]\n");
        world.home.add_module(name, &wasm, &toml)?;
    }
    let messages = (1..=200_u64).map(|number| {
        let subject = if number % 2 == 0 {
            "unruly.first.publish"
        } else {
            "unruly.second.publish"
        };
        (subject, number_on("unruly:shared", number).1)
    });
    world.publish(messages).await?;
    let relay = world.run().await?;
    counts(&relay, "first", "published", 100).await?;
    counts(&relay, "second", "published", 100).await?;
    let history = world.centrifugo.history("unruly:shared").await?;
    let shown: Vec<u64> = history.iter().map(|each| each.json()).collect::<Result<_, _>>()?;
    for remainder in [0, 1] {
        let of_one: Vec<u64> = shown.iter().copied().filter(|number| number % 2 == remainder).collect();
        let expected: Vec<u64> = (1..=200).filter(|number| number % 2 == remainder).collect();
        ensure!(of_one == expected, "{shown:?}");
    }
    Ok(())
}

over_both!(what_is_zero_or_empty_is_not_taken_for_something);

async fn what_is_zero_or_empty_is_not_taken_for_something(api: Api) -> Result<()> {
    let world = World::start_over(api).await?;
    world.jetstream.create_stream(stream()).await?;
    world.add_unruly("")?;
    let relay = world.run().await?;
    // Event stores count from 0, and the last two of these come again.
    let of_version = |version: u64| {
        let wishes = serde_json::json!([{ "channels": ["unruly:versions"], "data": version, "version": version }]);
        ("unruly.publish", wishes.to_string())
    };
    world.publish([0, 1, 2, 0, 1].map(of_version)).await?;
    counts(&relay, "unruly", "rejected", 2).await?;
    counts(&relay, "unruly", "published", 3).await?;
    shows(&world.centrifugo, "unruly:versions", 1..=2).await?;
    let letters = super::dead_letters::dead_letters(&world, "unruly", 2).await?;
    for letter in letters {
        let [stage, code, channel, reason] = letter.why();
        ensure!(
            [stage, code, channel] == ["transform", "version", "unruly:versions"],
            "{letter:?}"
        );
        ensure!(
            reason.contains("Centrifugo treats version 0 as no version") && reason.contains("count from 1"),
            "{reason}"
        );
    }

    // An empty key counts as none, so neither is taken for the other. An empty epoch, an empty tag and no
    // data are allowed.
    let wishes = [1, 2].map(|number| {
        let wishes = serde_json::json!([{
            "channels": ["unruly:empty"], "data": number, "idempotency_key": "", "version_epoch": "", "tags": { "": "", "kind": "" },
        }]);
        ("unruly.publish", wishes.to_string())
    });
    world.publish(wishes).await?;
    world
        .publish([("unruly.publish", r#"[{"channels":["unruly:empty"],"data":null}]"#)])
        .await?;
    counts(&relay, "unruly", "published", 6).await?;
    let history = world.centrifugo.history("unruly:empty").await?;
    let shown: Vec<String> = history.iter().map(|each| each.text()).collect();
    ensure!(shown == ["1", "2", "null"], "{shown:?}");
    let tags: Vec<_> = history.iter().map(|each| each.tags.len()).collect();
    ensure!(tags == [2, 2, 0], "{history:?}");

    // Centrifugo refuses a publication without data, unless the namespace allows it.
    world
        .publish([("unruly.publish", r#"[{"channels":["unruly:empty"],"bytes":[]}]"#)])
        .await?;
    counts(&relay, "unruly", "rejected", 3).await?;
    let letters = super::dead_letters::dead_letters(&world, "unruly", 3).await?;
    let why = letters[2].why();
    ensure!(
        why[..2] == ["publish", "107"] && why[3].contains("`publication_data_format`"),
        "{why:?}"
    );
    let status: Value = relay.status().await?;
    ensure!(module(&status, "unruly")["state"] == "running", "{status}");
    Ok(())
}
