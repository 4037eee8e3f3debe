//! How a well-behaved module is affected by a bad one, or by what somebody else sends: how late its messages are,
//! beside each bad thing in turn. The figures are for people, because a machine that is busy with something else
//! makes them worse.

use std::fmt;
use std::io::PipeReader;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::stream::{FuturesUnordered, StreamExt, TryStreamExt};
use serde_json::json;
use slipring_support::guests;
use slipring_support::proxy::Proxy;
use slipring_support::relay::Relay;
use slipring_support::subscriber::{Received, Subscriber};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::chaos::crafted;
use super::chaos::messages::publish_unreadable;
use super::chaos::number;
use super::world::{SOON, World, module, publish};

/// The pause between the neighbour's messages: 200 a second.
const PACE: Duration = Duration::from_millis(5);

const CHANNEL: &str = "unruly:neighbour";

#[derive(Debug, Clone, Copy)]
enum BadThing {
    Nothing,
    UnreadableMessages,
    ManyChannels,
    /// As `ManyChannels`, but the neighbour's messages go to Centrifugo without NATS and the relay, which shows where
    /// the delay comes from.
    ManyChannelsDirectly,
    LargePublications,
    /// As `ManyChannelsDirectly`.
    LargePublicationsDirectly,
    CraftedFiles,
    AnInitThatLoops,
    ALogThatNobodyReads,
    AFirstEndpointThatAnswers(u16),
    APublicationWithoutAnAnswer,
}

const BAD_THINGS: [BadThing; 13] = [
    BadThing::Nothing,
    BadThing::UnreadableMessages,
    BadThing::ManyChannels,
    BadThing::ManyChannelsDirectly,
    BadThing::LargePublications,
    BadThing::LargePublicationsDirectly,
    BadThing::CraftedFiles,
    BadThing::AnInitThatLoops,
    BadThing::ALogThatNobodyReads,
    BadThing::AFirstEndpointThatAnswers(400),
    BadThing::AFirstEndpointThatAnswers(401),
    BadThing::AFirstEndpointThatAnswers(404),
    BadThing::APublicationWithoutAnAnswer,
];

impl fmt::Display for BadThing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::UnreadableMessages => f.write_str("50 unreadable messages a second"),
            Self::ManyChannels => f.write_str("600 messages, each for 20,000 channels"),
            Self::ManyChannelsDirectly | Self::LargePublicationsDirectly => {
                f.write_str("the same, and the neighbour is published to Centrifugo directly")
            }
            Self::LargePublications => f.write_str("600 messages, each a publication of 15 MB"),
            Self::CraftedFiles => f.write_str("a file nested 100,000 deep every second"),
            Self::AnInitThatLoops => f.write_str("an init that loops, with a timeout of 60 s"),
            Self::ALogThatNobodyReads => f.write_str("a log that nobody reads"),
            Self::AFirstEndpointThatAnswers(status) => write!(f, "a first endpoint that answers {status}"),
            Self::APublicationWithoutAnAnswer => f.write_str("a publication that never gets an answer"),
        }
    }
}

/// `make neighbour SECONDS=10 ROUNDS=3 ONLY=channels`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make neighbour"]
async fn how_late_a_neighbour_is() -> Result<()> {
    let seconds = Duration::from_secs(number("NEIGHBOUR_SECONDS")?.unwrap_or(10));
    let rounds = number("NEIGHBOUR_ROUNDS")?.unwrap_or(3);
    println!(
        "milliseconds from publishing to the subscriber: median, 99 of 100, worst; {rounds} rounds of {seconds:?}"
    );
    let only = std::env::var("NEIGHBOUR_ONLY").unwrap_or_default();
    for bad_thing in BAD_THINGS
        .into_iter()
        .filter(|bad_thing| bad_thing.to_string().contains(&only))
    {
        let mut cells = Vec::new();
        for _ in 0..rounds {
            let lateness = beside(bad_thing, seconds).await;
            cells.push(lateness.with_context(|| bad_thing.to_string())?.to_string());
        }
        println!("| {bad_thing} | {} |", cells.join(" | "));
    }
    Ok(())
}

struct Lateness(Vec<Duration>);

impl fmt::Display for Lateness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        write!(f, "{:.1}, {:.1}, {:.1}", at(0.5), at(0.99), at(1.0))
    }
}

/// Must not be dropped while a round lasts.
#[derive(Default)]
struct Kept {
    _proxy: Option<Proxy>,
    _log: Option<PipeReader>,
}

async fn beside(bad_thing: BadThing, length: Duration) -> Result<Lateness> {
    let mut world = World::start().await?;
    world.stream("NEIGHBOUR", &["neighbour.>"]).await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    let wasm = guests::component("unruly")?;
    world
        .home
        .add_module("neighbour", &wasm, "stream = \"NEIGHBOUR\"\ndeliver = \"all\"\n")?;
    world.add_unruly("")?;
    let (relay, kept) = run(&mut world, bad_thing).await?;
    relay
        .status_when(SOON, "both modules to run", |status| {
            ["neighbour", "unruly"]
                .iter()
                .all(|name| module(status, name)["state"] == "running")
        })
        .await?;
    let mut subscriber = Subscriber::connect(&world.centrifugo.websocket_url(), [CHANNEL]).await?;
    let start = Instant::now();
    let stop = CancellationToken::new();
    let neighbour = publish_at_pace(&world, bad_thing, start, length);
    let lateness = async {
        let sent = neighbour.await?;
        let received = subscriber.take(sent, SOON * 2).await?;
        stop.cancel();
        received
            .iter()
            .map(|received| late(received, start))
            .collect::<Result<Vec<_>>>()
    };
    let (lateness, ()) = tokio::try_join!(lateness, disturb(&world, bad_thing, &stop))?;
    drop((relay, kept));
    Ok(Lateness(lateness))
}

async fn run(world: &mut World, bad_thing: BadThing) -> Result<(Relay, Kept)> {
    let centrifugo = world.centrifugo.url();
    match bad_thing {
        BadThing::ALogThatNobodyReads => {
            world.home.env("SLIPRING_LOG", "debug");
            let (reader, writer) = std::io::pipe()?;
            let relay = world.home.run_with_stderr(writer.into()).await?;
            let kept = Kept {
                _log: Some(reader),
                ..Kept::default()
            };
            return Ok((relay, kept));
        }
        BadThing::AFirstEndpointThatAnswers(_) | BadThing::APublicationWithoutAnAnswer => {
            let proxy = Proxy::start(&centrifugo).await?;
            let first = format!("http://{}", proxy.address());
            let endpoints = match bad_thing {
                BadThing::AFirstEndpointThatAnswers(status) => {
                    proxy.change(|faults| faults.status = Some(status));
                    format!("{first},{centrifugo}")
                }
                _ => {
                    proxy.change(|faults| faults.poison = Some("poison"));
                    first
                }
            };
            world.home.env("SLIPRING_CENTRIFUGO__ENDPOINTS", endpoints);
            let kept = Kept {
                _proxy: Some(proxy),
                ..Kept::default()
            };
            return Ok((world.run().await?, kept));
        }
        _ => {}
    }
    Ok((world.run().await?, Kept::default()))
}

/// Returns how many there were. A message that could not be sent in time is late as well.
async fn publish_at_pace(world: &World, bad_thing: BadThing, start: Instant, length: Duration) -> Result<usize> {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut sent = 0;
    let mut answers = FuturesUnordered::new();
    while start.elapsed() < length {
        let due = tokio::select! {
            due = pace.tick() => due,
            Some(answer) = answers.next() => {
                answer?;
                continue;
            }
        };
        let due = u64::try_from(due.saturating_duration_since(start).as_micros())?;
        if let BadThing::ManyChannelsDirectly | BadThing::LargePublicationsDirectly = bad_thing {
            answers.push(world.centrifugo.publish(CHANNEL, json!(due)));
        } else {
            let wish = json!([{ "channels": [CHANNEL], "data": due }]).to_string();
            publish(&world.jetstream, [("neighbour.publish", wish)]).await?;
        }
        sent += 1;
    }
    answers.try_collect::<()>().await?;
    Ok(sent)
}

fn late(received: &Received, start: Instant) -> Result<Duration> {
    let due = start.into_std() + Duration::from_micros(received.publication.json()?);
    Ok(received.at.saturating_duration_since(due))
}

/// Does the bad thing until told to stop.
async fn disturb(world: &World, bad_thing: BadThing, stop: &CancellationToken) -> Result<()> {
    let bad = async |messages: Vec<(&'static str, String)>| publish(&world.jetstream, messages).await;
    let again = async |pause: Duration, thing: &mut dyn FnMut() -> Result<()>| -> Result<()> {
        let mut pace = interval(pause);
        while stop.run_until_cancelled(pace.tick()).await.is_some() {
            thing()?;
        }
        Ok(())
    };
    match bad_thing {
        BadThing::Nothing => {}
        BadThing::UnreadableMessages => {
            let mut pace = interval(Duration::from_millis(20));
            while stop.run_until_cancelled(pace.tick()).await.is_some() {
                publish_unreadable(world.nats.address()).await?;
            }
        }
        BadThing::ManyChannels | BadThing::ManyChannelsDirectly => {
            bad(vec![("unruly.broadcast", "20000".to_owned()); 600]).await?
        }
        BadThing::LargePublications | BadThing::LargePublicationsDirectly => {
            bad(vec![("unruly.large", "15000000".to_owned()); 600]).await?
        }
        BadThing::CraftedFiles => {
            let file = world.home.path().join("crafted.wasm");
            let mut depth = 100_000;
            again(Duration::from_secs(1), &mut || {
                // The relay would ignore a file that it has already seen.
                depth += 1;
                std::fs::write(&file, crafted::nested_components(depth))?;
                world.home.add_module("crafted", &file, "stream = \"UNRULY\"\n")
            })
            .await?;
        }
        BadThing::AnInitThatLoops => {
            let toml = "stream = \"UNRULY\"\ntimeout = \"60s\"\nsettings.loop = true\n";
            world.home.add_module("looping", &guests::component("unruly")?, toml)?;
        }
        BadThing::ALogThatNobodyReads | BadThing::AFirstEndpointThatAnswers(_) => {
            let mut pace = interval(PACE);
            while stop.run_until_cancelled(pace.tick()).await.is_some() {
                bad(vec![("unruly.ok", "1".to_owned())]).await?;
            }
        }
        BadThing::APublicationWithoutAnAnswer => {
            bad(vec![("unruly.ok", "\"poison\"".to_owned())]).await?;
        }
    }
    ensure!(
        stop.run_until_cancelled(tokio::time::sleep(SOON * 3)).await.is_none(),
        "nobody said stop"
    );
    Ok(())
}
