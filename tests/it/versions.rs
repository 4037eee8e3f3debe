//! The order on older NATS servers, which cannot reset a consumer: new messages are held back until all pending ones
//! have come again. The newest server runs the same tests, to show that it needs no pause.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream;
use futures_util::{StreamExt, future};
use serde::Deserialize;
use serde_json::{Value, json};
use slipring_support::fake_centrifugo::{Answer, Batch, Command, Executed, FakeCentrifugo, OnCommand, Plan};
use slipring_support::relay::Relay;
use slipring_support::servers::{NatsServer, NatsVersion};
use slipring_support::{eventually, guests};

use super::world::{SOON, World, module};

const STREAM: &str = "NOTIFICATIONS";
const MODULE: &str = "notifications";
const CHANNELS: u64 = 50;

/// The beginning of what the relay logs before and after it held messages back.
const HOLDING: &str = "holding new messages back until the ";
const HELD: &str = "the unacknowledged messages have been redelivered";

/// Runs the test on all versions at once.
async fn on_each(test: impl AsyncFn(NatsVersion) -> Result<()>) -> Result<()> {
    on(&NatsVersion::ALL, test).await
}

/// Runs the test on the versions that cannot reset a consumer.
async fn on_older(test: impl AsyncFn(NatsVersion) -> Result<()>) -> Result<()> {
    on(&[NatsVersion::V2_10, NatsVersion::V2_12], test).await
}

async fn on(versions: &[NatsVersion], test: impl AsyncFn(NatsVersion) -> Result<()>) -> Result<()> {
    let runs = versions
        .iter()
        .map(async |&version| test(version).await.with_context(|| format!("on NATS server {version}")));
    future::try_join_all(runs).await.map(drop)
}

fn resets(version: NatsVersion) -> bool {
    version == NatsVersion::V2_15
}

/// Prepares a stream of `count` messages, and a relay with a window of this size that is not started yet.
async fn world(
    version: NatsVersion,
    behaviour: impl FnMut(&Batch) -> Plan + Send + 'static,
    count: u64,
    window: usize,
) -> Result<World<FakeCentrifugo>> {
    let nats = NatsServer::start_version(version).await?;
    let world = World::start_fake_on(nats, FakeCentrifugo::start_with(behaviour).await?).await?;
    world.stream(STREAM, &["notifications.>"]).await?;
    fill(&world, count, window).await?;
    Ok(world)
}

/// Publishes messages, and adds a module that reads them with this window.
async fn fill(world: &World<FakeCentrifugo>, count: u64, window: usize) -> Result<()> {
    publish(world, 1..=count).await?;
    let toml = format!("stream = \"{STREAM}\"\ndeliver = \"all\"\nwindow = {window}\n");
    world.home.add_module(MODULE, &guests::component(MODULE)?, &toml)
}

/// Never 0, the actor, who gets no notification.
fn user(number: u64) -> u64 {
    number % CHANNELS + 1
}

/// Publishes messages with their number, each for one channel.
async fn publish(world: &World<FakeCentrifugo>, numbers: impl Iterator<Item = u64>) -> Result<()> {
    let message = |number: u64| {
        let event = json!({ "kind": "comment", "actor": 0, "text": number.to_string(), "followers": [user(number)] });
        ("notifications.comment", event.to_string())
    };
    world.publish(numbers.map(message)).await
}

fn channel(number: u64) -> String {
    format!("notifications:user-{}", user(number))
}

fn number(command: &Command) -> Result<u64> {
    #[derive(Deserialize)]
    struct Notification {
        text: String,
    }
    let data = command.data.as_ref().context("JSON")?;
    let notification: Notification = serde_json::from_str(data.get())?;
    Ok(notification.text.parse()?)
}

/// Checks that every channel has shown its share of the first `count` messages: all, in order, none twice.
fn check(centrifugo: &FakeCentrifugo, count: u64) -> Result<()> {
    let mut shown: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for publication in centrifugo.executed().iter().filter(|publication| publication.shown) {
        let numbers = shown.entry(publication.channel.clone()).or_default();
        numbers.push(number(&publication.command)?);
    }
    let mut expected: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for number in 1..=count {
        expected.entry(channel(number)).or_default().push(number);
    }
    for (channel, numbers) in &expected {
        let shown = shown.get(channel);
        ensure!(
            shown == Some(numbers),
            "{channel} shows {shown:?} instead of {numbers:?}"
        );
    }
    ensure!(shown.len() == expected.len(), "more channels than expected");
    Ok(())
}

/// Waits until this many messages have been shown.
async fn shows(world: &World<FakeCentrifugo>, count: usize) -> Result<()> {
    let enough = async || -> Result<()> {
        let shown = world.centrifugo.executed();
        let shown = shown.iter().filter(|publication| publication.shown).count();
        ensure!(shown >= count, "{shown} are shown");
        Ok(())
    };
    eventually(SOON, format!("{count} messages to be shown"), enough).await
}

/// Returns how long the relay held messages back each time, from its log.
fn pauses(relay: &Relay) -> Vec<(usize, Duration)> {
    let field = |line: &str, name: &str| -> Option<u64> {
        let (_, rest) = line.split_once(&format!("{name}="))?;
        rest.split(' ').next()?.parse().ok()
    };
    relay
        .log()
        .iter()
        .filter(|line| line.contains(HELD))
        .filter_map(|line| {
            let held = usize::try_from(field(line, "held")?).ok()?;
            Some((held, Duration::from_millis(field(line, "duration_ms")?)))
        })
        .collect()
}

/// Bypasses the capture of the test's output: these are figures to see, not assertions.
fn print(version: NatsVersion, what: &str, pauses: &[(usize, Duration)]) -> Result<()> {
    let pauses: Vec<String> = pauses
        .iter()
        .map(|(held, pause)| format!("{held} messages in {pause:?}"))
        .collect();
    let pauses = if pauses.is_empty() {
        "no pause".to_owned()
    } else {
        pauses.join(", ")
    };
    writeln!(std::io::stderr(), "NATS server {version}, {what}: {pauses}").context("printing")
}

/// Answers slowly, and now and then with an error before or after executing a command.
fn troubled(seed: u64) -> impl FnMut(&Batch) -> Plan + Send + 'static {
    let mut random = fastrand::Rng::with_seed(seed);
    move |batch| {
        let commands = batch.commands.iter().map(|_| match random.u32(..20) {
            0 => OnCommand::Fail(100),
            1 => OnCommand::ExecuteAndFail(100),
            _ => OnCommand::Execute,
        });
        let commands = commands.collect();
        let delay = Duration::from_millis(random.u64(..20));
        Plan {
            commands,
            ..Plan::execute()
        }
        .after(delay)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_keeps_the_order_on_each_version() -> Result<()> {
    const MESSAGES: u64 = 3_000;
    on_each(async |version| {
        let seed = fastrand::u64(..);
        let run = async {
            let world = world(version, troubled(seed), MESSAGES, 200).await?;
            let mut all = Vec::new();
            for kill in 1..=3 {
                let mut relay = world.run().await?;
                shows(&world, kill * 500).await?;
                relay.kill();
                all.extend(pauses(&relay));
                let left = world.consumer(STREAM, MODULE).await?;
                ensure!(
                    left.num_ack_pending > 0,
                    "nothing was in the middle of anything: {left:?}"
                );
            }
            let mut relay = world.run().await?;
            world.all_acked(SOON, STREAM, MODULE).await?;
            all.extend(pauses(&relay));
            ensure!(relay.stop(SOON).await?.success(), "the relay stops cleanly");
            print(version, "killed three times", &all)?;
            ensure!(all.len() == if resets(version) { 0 } else { 3 }, "{all:?}");
            check(&world.centrifugo, MESSAGES)
        };
        run.await.with_context(|| format!("with the seed {seed}"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_repeats_nothing_on_each_version() -> Result<()> {
    const MESSAGES: u64 = 3_000;
    on_each(async |version| {
        let slow = |_: &Batch| Plan::execute().after(Duration::from_millis(10));
        let mut world = world(version, slow, MESSAGES, 200).await?;
        let mut relay = world.run().await?;
        for restart in 1..=2 {
            shows(&world, restart * 600).await?;
            world.nats.restart().await?;
        }
        world.all_acked(SOON, STREAM, MODULE).await?;
        print(version, "server restarted twice", &pauses(&relay))?;
        ensure!(
            relay.logged(HOLDING) != resets(version),
            "it holds back where it must: {:#?}",
            relay.log()
        );
        ensure!(relay.stop(SOON).await?.success(), "the relay stops cleanly");
        check(&world.centrifugo, MESSAGES)?;
        let executed = world.centrifugo.executed().len() as u64;
        ensure!(executed == MESSAGES, "{executed} publications of {MESSAGES} messages");
        Ok(())
    })
    .await
}

/// Standby requires a reset. Both `check` and `run` say so.
#[tokio::test(flavor = "multi_thread")]
async fn standby_on_a_server_that_is_too_old_for_it_is_refused_with_the_version_that_is_needed() -> Result<()> {
    on_each(async |version| {
        let world = world(version, |_| Plan::execute(), 10, 100).await?;
        world.home.configure_more("[standby]\nenabled = true")?;
        let checked = world.home.command(["check", "--online"]).output()?;
        let told = String::from_utf8_lossy(&checked.stdout).into_owned();
        ensure!(
            told.contains("the server supports pinned consumers") == resets(version),
            "{told}"
        );
        ensure!(told.contains("2.14.3 or later") != resets(version), "{told}");
        let mut relay = world.home.run().await?;
        if resets(version) {
            return world.all_acked(SOON, STREAM, MODULE).await;
        }
        relay.logs(SOON, "2.14.3 or later").await.map(drop)
    })
    .await
}

/// Messages that JetStream had just sent when the relay stopped pulling come again, and nothing else. A quiet relay
/// leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stops_in_good_order_repeats_nothing_on_any_version() -> Result<()> {
    const MESSAGES: u64 = 2_000;
    on_each(async |version| {
        let slow = |_: &Batch| Plan::execute().after(Duration::from_millis(5));
        let world = world(version, slow, MESSAGES, 200).await?;
        let told = world.home.command(["check", "--online"]).output()?;
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        ensure!(told.contains("holds back new ones") != resets(version), "{told}");
        let mut all = Vec::new();
        for stop in 1..=3 {
            let mut relay = world.run().await?;
            shows(&world, stop * 400).await?;
            ensure!(relay.stop(SOON).await?.success(), "the relay stops cleanly");
            all.extend(pauses(&relay));
        }
        let mut relay = world.run().await?;
        world.all_acked(SOON, STREAM, MODULE).await?;
        all.extend(pauses(&relay));
        print(version, "stopped three times at work", &all)?;
        ensure!(relay.stop(SOON).await?.success(), "the relay stops cleanly");

        publish(&world, MESSAGES + 1..=MESSAGES + 100).await?;
        let relay = world.run().await?;
        world.all_acked(SOON, STREAM, MODULE).await?;
        print(version, "stopped when it was quiet", &pauses(&relay))?;
        ensure!(!relay.logged(HOLDING), "nothing was pending: {:#?}", relay.log());
        check(&world.centrifugo, MESSAGES + 100)?;
        let executed = world.centrifugo.executed().len() as u64;
        ensure!(
            executed == MESSAGES + 100,
            "{executed} publications of {MESSAGES} messages and 100"
        );
        Ok(())
    })
    .await
}

/// A consumer with replicas reports its deliveries and acks a moment later.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_with_replicas_keeps_the_order_on_each_version() -> Result<()> {
    const MESSAGES: u64 = 2_000;
    on_each(async |version| {
        let [first, _second, mut third] = NatsServer::start_cluster(version).await?;
        let seed = fastrand::u64(..);
        let centrifugo = FakeCentrifugo::start_with(troubled(seed)).await?;
        let world = World::start_fake_on(first, centrifugo).await?;
        let stream = stream::Config {
            name: STREAM.to_owned(),
            subjects: vec!["notifications.>".to_owned()],
            num_replicas: 3,
            ..Default::default()
        };
        let formed = async || world.jetstream.create_stream(stream.clone()).await.map(drop);
        eventually(SOON, "the cluster to form", formed).await?;
        fill(&world, MESSAGES, 200).await?;
        let mut all = Vec::new();
        for kill in 1..=2 {
            let mut relay = world.run().await?;
            shows(&world, kill * 400).await?;
            relay.kill();
            all.extend(pauses(&relay));
        }
        let mut relay = world.run().await?;
        shows(&world, 1_200).await?;
        third.restart().await?;
        // A leader that was just elected may say that nothing is pending before it knows.
        shows(&world, usize::try_from(MESSAGES)?).await?;
        world.all_acked(SOON, STREAM, MODULE).await?;
        all.extend(pauses(&relay));
        ensure!(relay.stop(SOON).await?.success(), "the relay stops cleanly");
        print(version, "with three replicas", &all)?;
        ensure!(all.is_empty() == resets(version), "{all:?}");
        check(&world.centrifugo, MESSAGES).with_context(|| format!("with the seed {seed}"))
    })
    .await
}

/// The first message fails, and nothing after it is acked.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_window_comes_again_in_order_on_each_version() -> Result<()> {
    const WINDOW: u64 = 5_000;
    const MESSAGES: u64 = WINDOW + 1_000;
    on_each(async |version| {
        let stuck = |batch: &Batch| {
            let commands = batch.commands.iter().map(|command| match number(command) {
                Ok(1) => OnCommand::Fail(100),
                _ => OnCommand::Execute,
            });
            Plan {
                commands: commands.collect(),
                ..Plan::execute()
            }
        };
        let world = world(version, stuck, MESSAGES, usize::try_from(WINDOW)?).await?;
        let mut relay = world.run().await?;
        let in_the_stuck_channel = WINDOW / CHANNELS;
        shows(&world, usize::try_from(WINDOW - in_the_stuck_channel)?).await?;
        relay.kill();
        let left = world.consumer(STREAM, MODULE).await?;
        ensure!(
            left.num_ack_pending as u64 == WINDOW,
            "the window is not full: {left:?}"
        );

        let relay = world.run().await?;
        let takes_in = |status: &Value| module(status, MODULE)["received"].as_u64() >= Some(WINDOW);
        relay.status_when(SOON, "the window to fill again", takes_in).await?;
        ensure!(
            relay.logged(&format!("{HOLDING}{WINDOW}")) != resets(version),
            "it holds back where it must: {:#?}",
            relay.log()
        );
        let newer = |publication: &Executed| number(&publication.command).is_ok_and(|number| number > WINDOW);
        ensure!(
            !world.centrifugo.executed().iter().any(newer),
            "something beyond the window overtook the first message"
        );
        world.centrifugo.behave(|_| Plan::execute());
        world.all_acked(SOON, STREAM, MODULE).await?;
        print(version, "killed with a full window", &pauses(&relay))?;
        check(&world.centrifugo, MESSAGES)
    })
    .await
}

/// A relay that is cut off while it holds messages back leaves a consumer with unusual settings.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_while_it_holds_back_is_followed_by_one_that_begins_again() -> Result<()> {
    const MESSAGES: u64 = 1_000;
    const WINDOW: usize = 200;
    on_older(async |version| {
        let never = |_: &Batch| Plan::answer(Answer::Silence { executed: false });
        let world = world(version, never, MESSAGES, WINDOW).await?;
        let mut relay = world.run().await?;
        let takes_in = |status: &Value| module(status, MODULE)["received"].as_u64() >= Some(WINDOW as u64);
        relay.status_when(SOON, "the window to fill", takes_in).await?;
        relay.kill();
        // The hold-back takes at least a tenth of a second. The relay must be killed within it.
        let cut_off = async || -> Result<()> {
            let mut relay = world.home.run().await?;
            relay.logs(SOON, HOLDING).await?;
            relay.kill();
            let settings = world.consumer(STREAM, MODULE).await?.config;
            ensure!(settings.max_ack_pending == 1, "it was through already: {settings:?}");
            Ok(())
        };
        eventually(SOON, "a relay to be killed while it holds back", cut_off).await?;

        world.centrifugo.behave(|_| Plan::execute());
        let relay = world.run().await?;
        ensure!(relay.logged("restored the consumer's settings"), "{:#?}", relay.log());
        world.all_acked(SOON, STREAM, MODULE).await?;
        let settings = world.consumer(STREAM, MODULE).await?.config;
        ensure!(settings.max_ack_pending == i64::try_from(WINDOW)?, "{settings:?}");
        ensure!(settings.ack_wait == Duration::from_secs(60), "{settings:?}");
        print(version, "killed while it held back", &pauses(&relay))?;
        check(&world.centrifugo, MESSAGES)
    })
    .await
}

/// An earlier reader of the consumer still sends acks and still has a pull open. Some redelivered messages, and then
/// some new ones, go to it.
#[tokio::test(flavor = "multi_thread")]
async fn late_acks_and_a_pull_that_somebody_left_open_do_not_break_the_order() -> Result<()> {
    const MESSAGES: u64 = 1_000;
    const DELIVERED: usize = 300;
    const ACKED: u64 = 100;
    on_older(async |version| {
        let world = world(version, |_| Plan::execute(), MESSAGES, DELIVERED).await?;
        let consumer = world
            .jetstream
            .get_stream(STREAM)
            .await?
            .create_consumer(pull::Config {
                durable_name: Some(format!("slipring-{MODULE}")),
                deliver_policy: DeliverPolicy::All,
                ack_policy: AckPolicy::Explicit,
                // Keeps new messages from going to the open pull before the relay holds them back.
                max_ack_pending: i64::try_from(DELIVERED)?,
                ..Default::default()
            })
            .await?;
        let delivered = consumer.fetch().max_messages(DELIVERED).messages().await?;
        let delivered: Vec<_> = delivered.collect().await;
        ensure!(
            delivered.len() == DELIVERED,
            "{} messages are delivered",
            delivered.len()
        );
        // What the stream no longer holds cannot come again.
        let deleted = ACKED + 50;
        let stream = world.jetstream.get_stream(STREAM).await?;
        ensure!(stream.delete_message(deleted).await?, "it is deleted");
        let somebody = world.nats.client().await?;
        let inbox = somebody.new_inbox();
        let _open = somebody.subscribe(inbox.clone()).await?;
        let pull = json!({ "batch": DELIVERED + 50, "expires": 30_000_000_000_u64 }).to_string();
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{STREAM}.slipring-{MODULE}");
        somebody.publish_with_reply(subject, inbox, pull.into()).await?;
        somebody.flush().await?;

        let mut relay = world.home.run().await?;
        relay.logs(SOON, HOLDING).await?;
        for message in delivered.into_iter().take(usize::try_from(ACKED)?) {
            let message = message.map_err(anyhow::Error::from_boxed)?;
            message.ack().await.map_err(anyhow::Error::from_boxed)?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world.all_acked(SOON, STREAM, MODULE).await?;
        print(version, "with late acks and an open pull", &pauses(&relay))?;
        let mut numbers = BTreeSet::new();
        let mut last = BTreeMap::new();
        for publication in world
            .centrifugo
            .executed()
            .iter()
            .filter(|publication| publication.shown)
        {
            let number = number(&publication.command)?;
            numbers.insert(number);
            if let Some(last) = last.insert(publication.channel.clone(), number) {
                ensure!(last < number, "{}: {number} after {last}", publication.channel);
            }
        }
        // The earlier reader acked those before them.
        ensure!(
            (ACKED + 1..=MESSAGES).all(|number| number == deleted || numbers.contains(&number)),
            "of {MESSAGES} messages {} are shown",
            numbers.len()
        );
        Ok(())
    })
    .await
}
