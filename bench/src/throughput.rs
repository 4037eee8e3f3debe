//! How many messages a second come out of a full stream: each way drains the same one, in turn, in several rounds.

mod measured;
mod results;
mod way;
mod world;

mod bento;
mod ceiling;
mod onlookers;
mod own_consumer;
mod relay;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::centrifugo::Api;
use crate::options::Options;
use crate::statistics::in_turn;

pub use relay::Setup;
pub use results::{Results, Run};
pub use world::{KEYS, SIZE, World};

use measured::Measured;
use way::{WAYS, Way};

pub use way::AGAIN;

pub async fn run(options: &Options) -> Result<Results> {
    let ways = wanted(options, &WAYS)?;
    let messages = options.messages(400_000, 4_000);
    println!("Filling two streams with {messages} messages …");
    let world = World::start(options, messages).await?;
    measure(&world, &ways, &options.delays, options.rounds(5, 1)).await
}

/// The same out of a cluster of three nodes, with three replicas of the stream and no delay.
pub async fn run_cluster(options: &Options) -> Result<Results> {
    let in_cluster: Vec<Way> = WAYS.into_iter().filter(|way| way.in_cluster()).collect();
    let ways = wanted(options, &in_cluster)?;
    let messages = options.messages(400_000, 4_000);
    println!("Filling two streams of three nodes with {messages} messages …");
    let world = World::start_cluster(options, messages).await?;
    measure(&world, &ways, &[0], options.rounds(5, 1)).await
}

/// Returns true if any way of [`run_cluster`] was asked for.
pub fn cluster_is_wanted(options: &Options) -> bool {
    WAYS.iter().any(|way| way.in_cluster() && options.wants(way.name))
}

fn wanted(options: &Options, ways: &[Way]) -> Result<Vec<Way>> {
    let is_wanted =
        |way: &&Way| options.wants(way.name) && (!options.smoke || way.in_smoke || !options.only.is_empty());
    let wanted: Vec<Way> = ways.iter().filter(is_wanted).copied().collect();
    let names = || ways.iter().map(|way| way.name).collect::<Vec<_>>().join(", ");
    ensure!(
        !wanted.is_empty(),
        "there is no way whose name begins with {}; there are {}",
        options.only.join(" or "),
        names()
    );
    Ok(wanted)
}

async fn measure(world: &World, ways: &[Way], delays: &[u64], rounds: usize) -> Result<Results> {
    let mut results = Results::new(world);
    for round in 1..=rounds {
        for &delay_ms in delays {
            for &way in in_turn(round, ways) {
                let title = format!("round {round} of {rounds}, {}, {delay_ms} ms", way.title);
                let measured = one(world, way, Duration::from_millis(delay_ms))
                    .await
                    .with_context(|| title.clone())?;
                let run = Run::new(way.name, delay_ms, round, measured);
                println!("{title}: {run}");
                results.runs.push(run);
            }
        }
    }
    Ok(results)
}

/// Returns the ways that are the relay's and wanted.
pub fn relays(options: &Options) -> Vec<Way> {
    let relays = WAYS.into_iter().filter(|way| way.is_relay() && options.wants(way.name));
    relays
        .filter(|way| !options.only.is_empty() || !way.name.contains("keys"))
        .collect()
}

/// Returns the relay's way over this API, without keys.
pub fn relay_over(api: Api) -> Way {
    let name = match api {
        Api::Http => "slipring-http",
        Api::Grpc => "slipring-grpc",
    };
    let way = WAYS.into_iter().find(|way| way.name == name);
    way.expect("it is among them")
}

/// Runs one way once.
pub async fn one(world: &World, way: Way, delay: Duration) -> Result<Measured> {
    finish(world, way.run(world, delay).await).await
}

/// Runs the relay once, set up like this.
pub async fn one_as(world: &World, setup: Setup, delay: Duration) -> Result<Measured> {
    finish(world, relay::run_as(world, delay, setup).await).await
}

async fn finish(world: &World, measured: Result<Measured>) -> Result<Measured> {
    // A leftover consumer would keep costing the server something.
    world.forget_consumers().await?;
    measured
}
