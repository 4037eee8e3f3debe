//! The processor time of two builds of the relay, in pairs: the same work by one and then by the other, many times.
//!
//! The speed of a shared machine drifts by more than a change of the code makes. So each run's processor time is also
//! divided by that of Centrifugo and nats-server in the same run, which do the same work for both builds.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use slipring_support::guests;

use crate::home;
use crate::options::Options;
use crate::statistics::{deviation, in_turn, ratios};
use crate::table::table;
use crate::throughput::{self, World};

/// What is measured in each round. The first build comes twice, to show the noise.
const BUILDS: [&str; 3] = ["first", "second", "first again"];

#[derive(Debug, Serialize, Deserialize)]
pub struct Results {
    pub messages: usize,
    pub runs: Vec<Run>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    pub way: String,
    pub build: String,
    /// From 1.
    pub round: usize,
    /// Processor time of the relay.
    pub relay_seconds: f64,
    /// Processor time of nats-server and Centrifugo together.
    pub servers_seconds: f64,
}

pub async fn run(options: &Options) -> Result<Results> {
    let first = options.against.as_deref();
    let first =
        first.context("`pairs` compares `--slipring` with another build: name that with `--against PROGRAM`")?;
    let module = guests::component("bench-guest")?;
    let first_module = options.against_module.as_ref().unwrap_or(&module);
    let builds: [(PathBuf, &PathBuf); 2] = [
        (home::slipring(Some(first))?, first_module),
        (home::slipring(options.slipring.as_deref())?, &module),
    ];
    let ways = throughput::relays(options);
    ensure!(
        !ways.is_empty(),
        "`pairs` measures the relay alone, so `--only` must begin the name of a way of the relay, such as slipring-http"
    );
    let messages = options.messages(300_000, 4_000);
    println!("Filling two streams with {messages} messages …");
    let mut world = World::start(options, messages).await?;
    let mut results = Results {
        messages,
        runs: Vec::new(),
    };
    let rounds = options.rounds(12, 1);
    for way in ways {
        for round in 1..=rounds {
            for &build in in_turn(round, &BUILDS) {
                let (program, module) = &builds[usize::from(build == BUILDS[1])];
                world.slipring.clone_from(program);
                world.module.clone_from(module);
                world.watched = options.watched && build == BUILDS[1];
                let title = format!("round {round} of {rounds}, {}, {build}", way.title);
                let measured = throughput::one(&world, way, Duration::ZERO)
                    .await
                    .with_context(|| title.clone())?;
                let seconds = |process: &str| measured.used.get(process).map_or(0.0, |used| used.cpu_seconds);
                let run = Run {
                    way: way.title.to_owned(),
                    build: build.to_owned(),
                    round,
                    relay_seconds: seconds("slipring"),
                    servers_seconds: seconds("nats-server") + seconds("centrifugo"),
                };
                println!(
                    "{title}: relay {:.2} s, servers {:.2} s",
                    run.relay_seconds, run.servers_seconds
                );
                results.runs.push(run);
            }
        }
    }
    Ok(results)
}

impl Results {
    fn by_round(&self, way: &str, build: &str, number: impl Fn(&Run) -> f64) -> Vec<(usize, f64)> {
        let runs = self.runs.iter().filter(|run| run.way == way && run.build == build);
        runs.map(|run| (run.round, number(run))).collect()
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ways: Vec<&str> = self.runs.iter().map(|run| run.way.as_str()).collect();
        ways.dedup();
        let mut rows = Vec::new();
        for way in ways {
            for build in &BUILDS[1..] {
                let ratio = |number: fn(&Run) -> f64| {
                    let (first, other) = (self.by_round(way, BUILDS[0], number), self.by_round(way, build, number));
                    ratios(&other, &first).zip(deviation(&other, &first))
                };
                let cell = |number| {
                    ratio(number).map_or_else(
                        || "–".to_owned(),
                        |(spread, deviation)| format!("{:.3} ± {deviation:.3}", spread.median),
                    )
                };
                rows.push([
                    way.to_owned(),
                    format!("{build} : first"),
                    cell(|run| run.relay_seconds),
                    cell(|run| run.relay_seconds / run.servers_seconds),
                ]);
            }
        }
        let head = ["relay", "builds", "processor time", "the same, relative to the servers"];
        writeln!(
            f,
            "\n## Pairs\n\nRatios of each round: median and standard deviation. {} messages a run.\n\n{}",
            self.messages,
            table(head, &rows)
        )
    }
}
