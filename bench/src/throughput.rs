//! How many messages a second come out of a full stream: each way drains the same one, in turn, in several rounds.

mod measured;
mod results;
mod way;
mod world;

mod bento;
mod ceiling;
mod own_consumer;
mod relay;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::centrifugo::Api;
use crate::options::Options;
use crate::statistics::in_turn;

pub use results::Results;
pub use world::World;

use measured::Measured;
use results::Run;
use way::{WAYS, Way};

pub async fn run(options: &Options) -> Result<Results> {
    let ways: Vec<Way> = WAYS
        .into_iter()
        .filter(|way| options.wants(way.name) && (!options.smoke || way.in_smoke || !options.only.is_empty()))
        .collect();
    ensure!(
        !ways.is_empty(),
        "there is no way whose name begins with {}; there are {}",
        options.only.join(" or "),
        WAYS.map(|way| way.name).join(", ")
    );
    let messages = options.messages(400_000, 4_000);
    println!("Filling two streams with {messages} messages …");
    let world = World::start(options, messages).await?;
    let mut results = Results::new(&world);
    let rounds = options.rounds(5, 1);
    for round in 1..=rounds {
        for &delay_ms in &options.delays {
            for &way in in_turn(round, &ways) {
                let title = format!("round {round} of {rounds}, {}, {delay_ms} ms", way.title);
                let measured = one(&world, way, Duration::from_millis(delay_ms))
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
    let measured = way.run(world, delay).await;
    // A leftover consumer would keep costing the server something.
    world.forget_consumers().await?;
    measured
}
