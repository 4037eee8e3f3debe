//! Catching up: a backlog waits when the relay starts, as after an outage. Measures how long it takes until the
//! subscribers see the newest state of each channel, and until a message that is published meanwhile comes through.

mod newest;
mod probe;
mod results;
mod run;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use async_nats::jetstream::stream::Stream;
use slipring_support::servers::NatsServer;
use tokio::time::sleep;

use crate::clock;
use crate::event::{self, Event};
use crate::fill::{Headers, fill};
use crate::home;
use crate::options::Options;
use crate::statistics::in_turn;

pub use results::Results;

use results::Run;

/// Bytes of a message.
const SIZE: usize = 200;
const STREAM: &str = "BEHIND";

/// One more line of the module's configuration, or none.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// For `--only` and for files.
    name: &'static str,
    title: &'static str,
    line: &'static str,
    /// Whether the newest state of each channel is shown in the end, however old it is.
    shows_all: bool,
}

const WAYS: [Way; 3] = [
    Way {
        name: "every",
        title: "every message",
        line: "",
        shows_all: true,
    },
    Way {
        name: "conflate",
        title: "conflate = true",
        line: "conflate = true",
        shows_all: true,
    },
    Way {
        name: "max-age",
        title: "max_age = \"1s\"",
        line: "max_age = \"1s\"",
        shows_all: false,
    },
];

/// What the ways share.
#[derive(Debug)]
struct World {
    nats: NatsServer,
    jetstream: jetstream::Context,
    stream: Stream,
    /// The size of the backlog. The later messages in the stream are probes.
    messages: usize,
    /// How many revisions each channel has.
    revisions: Vec<u32>,
    slipring: PathBuf,
}

pub async fn run(options: &Options) -> Result<Results> {
    let ways: Vec<Way> = WAYS.into_iter().filter(|way| options.wants(way.name)).collect();
    ensure!(
        !ways.is_empty(),
        "there is no way whose name begins with {}; there are {}",
        options.only.join(" or "),
        WAYS.map(|way| way.name).join(", ")
    );
    let messages = options.messages(1_000_000, 4_000);
    let keys = if options.smoke { 100 } else { 1_000 };
    println!("Filling a stream with {messages} messages …");
    let world = World::start(options, messages, keys).await?;
    let mut results = Results::new(messages, keys);
    let rounds = options.rounds(3, 1);
    let mut runs = 0;
    for round in 1..=rounds {
        for &way in in_turn(round, &ways) {
            // Each run has its own channel for probes.
            let probe = keys + runs;
            runs += 1;
            let title = format!("round {round} of {rounds}, {}", way.title);
            let outcome = run::run(&world, way, probe).await;
            clock::forget_consumers(&world.stream).await?;
            let run = Run::new(way, round, &outcome.with_context(|| title.clone())?);
            println!("{title}: {run}");
            results.runs.push(run);
        }
    }
    Ok(results)
}

impl World {
    async fn start(options: &Options, messages: usize, keys: u32) -> Result<Self> {
        let nats = NatsServer::start().await?;
        let jetstream = nats.jetstream().await?;
        let events = event::shuffled(messages, keys);
        let stream = fill(&jetstream, STREAM, &events, SIZE, Headers::None).await?;
        // After this pause, all of the backlog is too old for `max_age`.
        sleep(Duration::from_millis(1_100)).await;
        let mut revisions = vec![0; keys as usize];
        for Event { key, revision } in events {
            revisions[key as usize] = revision;
        }
        Ok(Self {
            nats,
            jetstream,
            stream,
            messages,
            revisions,
            slipring: home::slipring(options.slipring.as_deref())?,
        })
    }
}
