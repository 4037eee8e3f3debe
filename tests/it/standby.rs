//! Several relays on the same consumers: one works, and another takes over when it ends, however it ends.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::stream;
use serde_json::Value;
use slipring_support::fake_centrifugo::{self, Answer, Batch, FakeCentrifugo, Plan};
use slipring_support::proxy::Proxy;
use slipring_support::relay::{Home, Relay};
use slipring_support::servers::{Centrifugo, NatsServer, NatsVersion};
use slipring_support::{eventually, guests};

use super::numbers::{CHANNEL, consumer, numbers, settled, shows};
use super::world::{SOON, World, binary, know_unruly, module, unruly_toml};

const STREAM: &str = "UNRULY";
const CONSUMER: &str = "slipring-unruly";

/// Short, to keep the tests fast, but long enough for a busy machine.
const STANDBY: &str = "[standby]\nenabled = true\nttl = \"4s\"";
const TTL: Duration = Duration::from_secs(4);

/// How much longer than the time-to-live a standby relay may take: the rest of a pull, and a look at the consumer.
const MARGIN: Duration = Duration::from_secs(4);

async fn world() -> Result<World> {
    let world = World::start().await?;
    world.home.configure_more(STANDBY)?;
    world.stream(STREAM, &["unruly.>"]).await?;
    world.add_unruly("")?;
    Ok(world)
}

async fn becomes(relay: &Relay, state: &str) -> Result<()> {
    let holds = |status: &Value| module(status, "unruly")["state"] == state;
    relay
        .status_when(SOON, &format!("{state} relay"), holds)
        .await
        .map(drop)
}

/// Starts two relays: the first reads and the second stands by. One message is already settled.
async fn two(world: &World) -> Result<(Relay, Relay)> {
    world.publish(numbers(1..=1)).await?;
    let first = world.run().await?;
    becomes(&first, "running").await?;
    let second = world.run().await?;
    becomes(&second, "standby").await?;
    settled(world, STREAM, CONSUMER).await?;
    Ok((first, second))
}

/// Publishes numbers as long as `work` runs, no faster than a single channel accepts them. Returns the last one.
async fn publishing_while(world: &World, from: u64, work: impl Future<Output = Result<()>>) -> Result<u64> {
    let mut next = from;
    tokio::pin!(work);
    loop {
        world.publish(numbers(next..=next + 4)).await?;
        next += 5;
        tokio::select! {
            done = &mut work => return done.map(|()| next - 1),
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stops_hands_over_at_once() -> Result<()> {
    let world = world().await?;
    let (mut first, second) = two(&world).await?;
    let began = Instant::now();
    let stops = async {
        ensure!(first.stop(SOON).await?.success(), "it stops cleanly");
        becomes(&second, "running").await
    };
    let last = publishing_while(&world, 2, stops).await?;
    let took = began.elapsed();
    ensure!(took < TTL, "it took {took:?}, as if the pin had run out");
    settled(&world, STREAM, CONSUMER).await?;
    shows(&world.centrifugo, CHANNEL, 1..=last).await?;

    // Now back again, with a relay that is like the first.
    let third = world.run().await?;
    becomes(&third, "standby").await?;
    let mut second = second;
    ensure!(second.stop(SOON).await?.success(), "it stops cleanly");
    world.publish(numbers(last + 1..=last + 100)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=last + 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_relay_is_killed_the_other_takes_over_in_order() -> Result<()> {
    let world = world().await?;
    let (mut first, second) = two(&world).await?;
    let mut took = Duration::MAX;
    let kill = async {
        let published = |status: &Value| module(status, "unruly")["published"].as_u64() >= Some(200);
        first.status_when(SOON, "200 publications", published).await?;
        first.kill();
        let killed = Instant::now();
        becomes(&second, "running").await?;
        took = killed.elapsed();
        Ok(())
    };
    let last = publishing_while(&world, 2, kill).await?;
    ensure!(took < TTL + MARGIN, "it took {took:?}");
    settled(&world, STREAM, CONSUMER).await?;
    shows(&world.centrifugo, CHANNEL, 1..=last).await
}

/// A pin comes with a message that can be delivered. The messages of the dead relay cannot be delivered until ack_wait
/// has expired after a minute.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_relay_held_is_taken_over_on_an_idle_stream() -> Result<()> {
    let silent = |_: &Batch| Plan::answer(Answer::Silence { executed: false });
    let world = World::start_fake(FakeCentrifugo::start_with(silent).await?).await?;
    world.home.configure_more(STANDBY)?;
    world.stream(STREAM, &["unruly.>"]).await?;
    world.add_unruly("")?;
    world.publish(numbers(1..=100)).await?;
    let mut first = world.home.run().await?;
    eventually(SOON, "all to be delivered", async || {
        let info = world.consumer(STREAM, "unruly").await?;
        ensure!(info.num_ack_pending == 100, "{info:?}");
        Ok(())
    })
    .await?;
    let second = world.home.run().await?;
    becomes(&second, "standby").await?;
    first.kill();
    let killed = Instant::now();
    world.centrifugo.behave(|_| Plan::execute());
    world.all_acked(SOON, STREAM, "unruly").await?;
    let took = killed.elapsed();
    ensure!(took < TTL + MARGIN, "it took {took:?}");
    let shown = world.centrifugo.shown(CHANNEL).len();
    ensure!(shown == 100, "{shown} were shown");
    Ok(())
}

/// A relay with much left to publish, one request after the other, and another that stands by. Each has a Centrifugo of
/// its own, which records what it published. The first reaches NATS through a proxy.
struct Divided {
    world: World<FakeCentrifugo>,
    first: Relay,
    second: Relay,
    link: Proxy,
    firsts: FakeCentrifugo,
}

impl Divided {
    async fn start() -> Result<Self> {
        let slow = |_: &Batch| Plan::execute().after(Duration::from_millis(200));
        let firsts = FakeCentrifugo::start_with(slow).await?;
        let world = World::start_fake(FakeCentrifugo::start().await?).await?;
        world.home.configure_more(STANDBY)?;
        world.stream(STREAM, &["unruly.>"]).await?;
        world.add_unruly("")?;
        let link = Proxy::start(&world.nats.url()).await?;
        let nats = format!("nats://{}", link.address());
        let home = Home::new(binary(), &nats, &firsts.url(), fake_centrifugo::API_KEY)?;
        home.configure_more(STANDBY)?;
        home.add_module("unruly", &guests::component("unruly")?, &unruly_toml(""))?;

        world.publish(numbers(1..=1_000)).await?;
        let first = home.run().await?;
        becomes(&first, "running").await?;
        let second = world.home.run().await?;
        becomes(&second, "standby").await?;
        eventually(SOON, "something to be published", async || {
            ensure!(firsts.shown(CHANNEL).len() > 3, "not yet");
            Ok(())
        })
        .await?;
        Ok(Self {
            world,
            first,
            second,
            link,
            firsts,
        })
    }

    /// Waits until the second relay has taken over and published everything. Returns how many requests the first
    /// had sent by then.
    async fn takes_over(&self) -> Result<usize> {
        becomes(&self.second, "running").await?;
        let before = self.firsts.batches().len();
        self.world.all_acked(SOON, STREAM, "unruly").await?;
        let last = self
            .world
            .centrifugo
            .shown(CHANNEL)
            .pop()
            .and_then(|one| one.command.data);
        let last = last.context("a publication")?;
        ensure!(last.get() == "1000", "the second ended with {last}");
        ensure!(before < 900, "the first had sent {before} requests");
        Ok(before)
    }

    fn has_sent(&self, before: usize) -> Result<()> {
        let late = self.firsts.batches().len() - before;
        ensure!(late == 0, "{late} requests were sent too late");
        Ok(())
    }
}

/// NATS tells the relay nothing when it resumes, so it can rely only on its own clock.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_stopped_for_a_while_publishes_nothing_when_it_goes_on() -> Result<()> {
    let mut divided = Divided::start().await?;
    divided.first.pause()?;
    divided.link.change(|faults| faults.stall = true);
    let before = divided.takes_over().await?;
    divided.first.resume()?;
    becomes(&divided.first, "starting").await?;
    divided.has_sent(before)?;
    divided.link.heal();
    becomes(&divided.first, "standby").await?;
    divided.has_sent(before)
}

/// The relay learns that it is cut off only long after its pin has expired.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_cut_off_from_nats_stops_publishing_before_another_is_pinned() -> Result<()> {
    let divided = Divided::start().await?;
    divided.link.change(|faults| faults.stall = true);
    let before = divided.takes_over().await?;
    divided.has_sent(before)?;
    divided.link.heal();
    becomes(&divided.first, "standby").await?;
    divided.has_sent(before)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_nats_one_of_them_reads_on() -> Result<()> {
    let mut world = world().await?;
    let (_first, _second) = two(&world).await?;
    world.publish(numbers(2..=5_000)).await?;
    world.nats.restart().await?;
    world.publish(numbers(5_001..=10_000)).await?;
    settled(&world, STREAM, CONSUMER).await?;
    shows(&world.centrifugo, CHANNEL, 1..=10_000).await
}

async fn says(relay: &Relay, expected: &str) -> Result<()> {
    let holds = |status: &Value| module(status, "unruly")["reason"] == expected;
    relay.status_when(SOON, expected, holds).await.map(drop)
}

/// Each knows the other by the name that its configuration gives it, and says so wherever somebody may look.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_stands_by_says_which_one_is_active() -> Result<()> {
    let mut world = world().await?;
    world.home.env("SLIPRING_STANDBY__NAME", "web-1");
    world.publish(numbers(1..=1)).await?;
    let mut first = world.run().await?;
    becomes(&first, "running").await?;
    settled(&world, STREAM, CONSUMER).await?;
    world.home.env("SLIPRING_STANDBY__NAME", "web-2");
    let mut second = world.run().await?;
    says(&second, "the active relay is web-1").await?;
    ensure!(second.get("/readyz").await? == "ready\nstanding by:\n- unruly: the active relay is web-1\n");
    second.has_logged(SOON, "the active relay is web-1").await?;
    let output = world.home.command(["status", "--url", second.url()]).output()?;
    let shown = String::from_utf8_lossy(&output.stdout);
    ensure!(
        shown.contains("unruly is standby: the active relay is web-1"),
        "{shown}"
    );

    // It dies, and what it wrote is there until the other one is pinned.
    first.kill();
    world.publish(numbers(2..=50)).await?;
    becomes(&second, "running").await?;
    world.home.env("SLIPRING_STANDBY__NAME", "web-1");
    let first = world.run().await?;
    says(&first, "the active relay is web-2").await?;
    ensure!(second.stop(SOON).await?.success(), "it stops cleanly");
    says(
        &first,
        "no relay is active; the next message decides which one takes over",
    )
    .await?;
    world.publish(numbers(51..=100)).await?;
    becomes(&first, "running").await?;
    settled(&world, STREAM, CONSUMER).await?;
    shows(&world.centrifugo, CHANNEL, 1..=100).await
}

/// With replicas, a change of the consumer goes through the cluster. It must not end an epoch.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_names_are_known_and_interrupt_nothing() -> Result<()> {
    let [nats, _second, _third] = NatsServer::start_cluster(NatsVersion::V2_15).await?;
    let centrifugo = Centrifugo::start_with(know_unruly).await?;
    let (url, key) = (centrifugo.url(), centrifugo.api_key().to_owned());
    let mut world = World::start_on(nats, centrifugo, &url, &key).await?;
    world.home.configure_more(STANDBY)?;
    world.add_unruly("")?;
    let config = stream::Config {
        name: STREAM.to_owned(),
        subjects: vec!["unruly.>".to_owned()],
        num_replicas: 3,
        ..Default::default()
    };
    let formed = async || world.jetstream.create_stream(config.clone()).await.map(drop);
    eventually(SOON, "the cluster to form", formed).await?;
    world.home.env("SLIPRING_STANDBY__NAME", "web-1");
    world.publish(numbers(1..=1)).await?;
    let mut active = world.run().await?;
    becomes(&active, "running").await?;
    let mut last = 1;
    for (old, new) in [("web-1", "web-2"), ("web-2", "web-3")] {
        world.home.env("SLIPRING_STANDBY__NAME", new);
        let standby = world.run().await?;
        says(&standby, &format!("the active relay is {old}")).await?;
        let stops = async {
            ensure!(active.stop(SOON).await?.success(), "it stops cleanly");
            becomes(&standby, "running").await
        };
        last = publishing_while(&world, last + 1, stops).await?;
        settled(&world, STREAM, CONSUMER).await?;
        for relay in [&active, &standby] {
            ensure!(!relay.logged("reading was interrupted"), "{:#?}", relay.log());
        }
        active = standby;
    }
    shows(&world.centrifugo, CHANNEL, 1..=last).await
}

/// Covers both: a consumer of a relay without standby, and one of a relay with standby.
#[tokio::test(flavor = "multi_thread")]
async fn standby_can_be_switched_on_and_off() -> Result<()> {
    let mut world = World::start().await?;
    world.stream(STREAM, &["unruly.>"]).await?;
    world.add_unruly("")?;
    for (round, enabled) in [(0, "false"), (1, "true"), (2, "false")] {
        world.home.env("SLIPRING_STANDBY__ENABLED", enabled);
        let mut relay = world.run().await?;
        let first = 100 * round + 1;
        world.publish(numbers(first..=first + 99)).await?;
        settled(&world, STREAM, CONSUMER).await?;
        let config = consumer(&world, STREAM, CONSUMER).await?.config;
        let is_signed = config.metadata.contains_key("slipring-active");
        ensure!(config.priority_groups.is_empty() != is_signed, "{config:?}");
        ensure!(is_signed == (enabled == "true"), "{config:?}");
        ensure!(relay.stop(SOON).await?.success(), "it stops cleanly");
    }
    shows(&world.centrifugo, CHANNEL, 1..=300).await
}

/// Uses the default time-to-live of 10 s.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: `make take-over`"]
async fn takeover_times() -> Result<()> {
    let kills: usize = std::env::var("KILLS").map_or(Ok(10), |kills| kills.parse())?;
    let world = World::start().await?;
    world.home.configure_more("[standby]\nenabled = true")?;
    world.stream(STREAM, &["unruly.>"]).await?;
    world.add_unruly("")?;
    let (mut active, mut standby) = two(&world).await?;
    let (mut last, mut times) = (1, Vec::new());
    for _ in 0..kills {
        let shown = world.centrifugo.history(CHANNEL).await?.len();
        let kill = async {
            eventually(SOON, "some messages", async || {
                let now = world.centrifugo.history(CHANNEL).await?.len();
                ensure!(now > shown + 200, "{now}");
                Ok(())
            })
            .await?;
            active.kill();
            let (killed, shown) = (Instant::now(), world.centrifugo.history(CHANNEL).await?.len());
            eventually(SOON, "the next publication", async || {
                ensure!(world.centrifugo.history(CHANNEL).await?.len() > shown, "none yet");
                Ok(())
            })
            .await?;
            times.push(killed.elapsed());
            Ok(())
        };
        last = publishing_while(&world, last + 1, kill).await?;
        active = std::mem::replace(&mut standby, world.run().await?);
        becomes(&active, "running").await?;
        becomes(&standby, "standby").await?;
    }
    settled(&world, STREAM, CONSUMER).await?;
    shows(&world.centrifugo, CHANNEL, 1..=last).await?;
    times.sort_unstable();
    println!(
        "{kills} kills of the active relay, {last} messages, all shown once and in order; from the kill to the next publication: \
         median {:.1} s, worst {:.1} s",
        times[kills / 2].as_secs_f64(),
        times[kills - 1].as_secs_f64()
    );
    Ok(())
}
