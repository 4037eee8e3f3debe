//! What every source promises, on its real server: order, nothing lost through kills and outages, one active reader,
//! dead letters, and bad input that harms nobody else. Each test runs for each source.

mod chaos;
mod connections;
mod feed;
mod from_benthos;
mod redis;

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::Value;
use slipring_support::eventually;
use slipring_support::relay::Relay;

use self::feed::{Feed, Kind};
use super::chaos::number;
use super::numbers::counts;
use super::world::{SOON, module};

/// Makes a test of each function for each source.
macro_rules! of_each_source {
    ($($test:ident),+ $(,)?) => {
        mod of_jetstream {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() -> anyhow::Result<()> {
                    super::$test(super::Kind::JetStream).await
                }
            )+
        }

        mod of_a_redis_list {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() -> anyhow::Result<()> {
                    super::$test(super::Kind::RedisList).await
                }
            )+
        }

        mod of_a_redis_stream {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() -> anyhow::Result<()> {
                    super::$test(super::Kind::RedisStream).await
                }
            )+
        }
    };
}

of_each_source!(
    everything_arrives_in_order,
    kills_lose_nothing_and_nothing_overtakes,
    a_server_that_is_killed_loses_nothing,
    a_server_that_is_away_at_the_start_is_waited_for,
    a_full_window_waits_and_goes_on,
    a_relay_that_stops_hands_over_at_once,
    a_relay_that_stands_by_names_the_active_one,
    a_frozen_relay_overtakes_nobody,
    what_is_rejected_is_a_dead_letter_and_can_be_replayed,
    any_payload_harms_nobody_else,
);

/// Short, to keep the tests fast, but long enough for a busy machine.
const STANDBY: &str = "[standby]\nenabled = true\nttl = \"4s\"";
const TTL: Duration = Duration::from_secs(4);

async fn everything_arrives_in_order(kind: Kind) -> Result<()> {
    let feed = Feed::start(kind, "", "").await?;
    feed.numbers(1..=3_000).await?;
    let mut relay = feed.run().await?;
    feed.numbers(3_001..=6_000).await?;
    feed.shows(6_000).await?;
    counts(&relay, "unruly", "published", 6_000).await?;
    feed.is_settled(&relay).await?;
    ensure!(relay.stop(SOON).await?.success(), "it stops cleanly");
    let relay = feed.run().await?;
    feed.numbers(6_001..=6_010).await?;
    feed.shows(6_010).await?;
    counts(&relay, "unruly", "published", 10).await
}

async fn kills_lose_nothing_and_nothing_overtakes(kind: Kind) -> Result<()> {
    let feed = Feed::start(kind, "window = 64\n", "").await?;
    let (mut next, mut relay) = (1, feed.run().await?);
    let kills = number("KILLS")?.unwrap_or(10);
    for _ in 0..kills {
        feed.numbers(next..=next + 299).await?;
        next += 300;
        // In the middle of the work, wherever that is.
        let some = next - 150;
        eventually(SOON, "some to be shown", async || feed.shows_at_least(some).await).await?;
        relay.kill();
        relay = feed.home.run().await?;
    }
    feed.shows(next - 1).await?;
    feed.is_settled(&relay).await
}

async fn a_server_that_is_killed_loses_nothing(kind: Kind) -> Result<()> {
    let mut feed = Feed::start(kind, "window = 64\n", "").await?;
    let relay = feed.run().await?;
    let mut next = 1;
    for _ in 0..3 {
        feed.numbers(next..=next + 499).await?;
        next += 500;
        feed.kill_server();
        feed.start_server().await?;
    }
    feed.shows(next - 1).await?;
    feed.is_settled(&relay).await
}

async fn a_server_that_is_away_at_the_start_is_waited_for(kind: Kind) -> Result<()> {
    let mut feed = Feed::start(kind, "", "").await?;
    feed.numbers(1..=100).await?;
    feed.stop_server().await?;
    let relay = feed.home.run().await?;
    let is_not_ready = |status: &Value| status["ready"] == false && status["obstacles"][0]["text"].is_string();
    relay.status_when(SOON, "an obstacle", is_not_ready).await?;
    feed.start_server().await?;
    relay.ready(SOON).await?;
    feed.shows(100).await
}

async fn a_full_window_waits_and_goes_on(kind: Kind) -> Result<()> {
    let mut feed = Feed::start(kind, "window = 32\n", "").await?;
    let relay = feed.run().await?;
    feed.numbers(1..=10).await?;
    feed.shows(10).await?;
    feed.centrifugo.pause()?;
    feed.numbers(11..=500).await?;
    let is_full = |status: &Value| module(status, "unruly")["window_messages"] == 32;
    relay.status_when(SOON, "a full window", is_full).await?;
    feed.centrifugo.resume()?;
    feed.shows(500).await?;
    feed.is_settled(&relay).await
}

async fn becomes(relay: &Relay, state: &str) -> Result<()> {
    let holds = |status: &Value| module(status, "unruly")["state"] == state;
    let what = format!("{state} relay");
    relay.status_when(SOON, &what, holds).await.map(drop)
}

/// Starts two relays: the first reads and the second stands by.
async fn two(feed: &Feed) -> Result<(Relay, Relay)> {
    feed.numbers(1..=1).await?;
    let first = feed.run().await?;
    becomes(&first, "running").await?;
    feed.shows(1).await?;
    let second = feed.home.run().await?;
    becomes(&second, "standby").await?;
    Ok((first, second))
}

async fn a_relay_that_stops_hands_over_at_once(kind: Kind) -> Result<()> {
    let feed = Feed::start(kind, "", STANDBY).await?;
    let (mut first, second) = two(&feed).await?;
    feed.numbers(2..=1_000).await?;
    let began = Instant::now();
    ensure!(first.stop(SOON).await?.success(), "it stops cleanly");
    // JetStream gives a pin only together with a message.
    feed.numbers(1_001..=1_100).await?;
    becomes(&second, "running").await?;
    let took = began.elapsed();
    ensure!(took < TTL, "it took {took:?}, as if the lease had run out");
    feed.shows(1_100).await
}

/// By its machine, its process and the address of its admin server.
async fn a_relay_that_stands_by_names_the_active_one(kind: Kind) -> Result<()> {
    let names = async |standby: &Relay, active: &Relay| {
        let address = active.url().trim_start_matches("http://");
        let own = format!("(process {}, admin server {address})", active.id());
        let holds = |status: &Value| {
            let reason = module(status, "unruly")["reason"].as_str().unwrap_or_default();
            reason.starts_with("the active relay is ") && reason.ends_with(&own)
        };
        standby.status_when(SOON, &own, holds).await.map(drop)
    };
    let feed = Feed::start(kind, "", STANDBY).await?;
    let (mut first, second) = two(&feed).await?;
    names(&second, &first).await?;
    ensure!(first.stop(SOON).await?.success(), "it stops cleanly");
    feed.numbers(2..=100).await?;
    becomes(&second, "running").await?;
    let third = feed.home.run().await?;
    names(&third, &second).await?;
    feed.shows(100).await
}

async fn a_frozen_relay_overtakes_nobody(kind: Kind) -> Result<()> {
    let feed = Feed::start(kind, "window = 64\n", STANDBY).await?;
    let (mut first, second) = two(&feed).await?;
    let mut next = 2;
    for _ in 0..20 {
        feed.numbers(next..=next + 49).await?;
        next += 50;
    }
    first.pause()?;
    becomes(&second, "running").await?;
    feed.numbers(next..=next + 199).await?;
    next += 200;
    feed.shows(next - 1).await?;
    // It publishes nothing more, settles nothing, and takes nothing.
    first.resume()?;
    becomes(&first, "standby").await?;
    feed.numbers(next..=next + 99).await?;
    next += 100;
    feed.shows(next - 1).await?;
    feed.is_settled(&second).await
}

async fn what_is_rejected_is_a_dead_letter_and_can_be_replayed(kind: Kind) -> Result<()> {
    let feed = Feed::start(kind, "", "").await?;
    let relay = feed.run().await?;
    // It is JSON, but no list of wishes.
    feed.send([b"4711".to_vec()]).await?;
    feed.numbers(1..=10).await?;
    // Centrifugo knows no such namespace.
    feed.send([br#"[{"channels":["nowhere:1"],"data":1}]"#.to_vec()])
        .await?;
    counts(&relay, "unruly", "rejected", 2).await?;
    feed.shows(10).await?;
    feed.is_settled(&relay).await?;

    let list = feed.command(&["dead-letters", "list", "--json"])?;
    let letters: Vec<Value> = list.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    // They are stored side by side.
    let at = |stage: &str| letters.iter().find(|letter| letter["stage"] == stage);
    let (Some(rejected), Some(refused)) = (at("transform"), at("publish")) else {
        bail!("{letters:#?}");
    };
    ensure!(letters.len() == 2 && refused["code"] == "102", "{letters:#?}");
    let number = rejected["number"].to_string();
    let shown = feed.command(&["dead-letters", "show", &number])?;
    ensure!(shown.contains("4711"), "{shown}");

    // A module that publishes the number that it gets.
    let toml = feed.toml("settings.wish = \"ok\"\n");
    feed.home.configure_module("unruly", &toml)?;
    feed.command(&["dead-letters", "replay", &number])?;
    let history = feed.centrifugo.history("unruly:ok").await?;
    ensure!(history.len() == 1, "{history:?}");
    feed.command(&["dead-letters", "remove", "--all", "--yes"])?;
    let left = feed.command(&["dead-letters", "list", "--json"])?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}

async fn any_payload_harms_nobody_else(kind: Kind) -> Result<()> {
    let feed = Feed::start(kind, "", "").await?;
    let relay = feed.run().await?;
    let payloads = [
        Vec::new(),
        b"\xff\0\xfe".to_vec(),
        b"{".to_vec(),
        vec![b'7'; 1_000_000],
        "\u{1F600}".as_bytes().to_vec(),
    ];
    let count = payloads.len() as u64;
    feed.numbers(1..=5).await?;
    feed.send(payloads).await?;
    feed.numbers(6..=100).await?;
    feed.shows(100).await?;
    counts(&relay, "unruly", "rejected", count).await?;
    feed.is_settled(&relay).await
}
