//! How throughput and memory grow: each series varies one thing and leaves all others at their defaults. It also
//! measures the cost of modules that have nothing to do, and how long a relay takes to start with many of them.

mod idle;
mod module;
mod results;
mod run;
mod series;
mod start;
mod world;

use anyhow::{Context, Result, ensure};

use crate::options::Options;
use crate::statistics::in_turn;

pub use results::Results;

use series::Series;
use world::World;

/// The names that `--only` accepts, beside those of the series.
const IDLE: &str = "idle";
const START: &str = "start";

pub async fn run(options: &Options) -> Result<Results> {
    let all = series::all(options);
    let names: Vec<&str> = all.iter().map(|series| series.name).chain([IDLE, START]).collect();
    ensure!(
        names.iter().any(|name| options.wants(name)),
        "there is no series whose name begins with {}; there are {}",
        options.only.join(" or "),
        names.join(", ")
    );
    let mut results = Results::default();
    for series in all.iter().filter(|series| options.wants(series.name)) {
        measure(options, series, &mut results)
            .await
            .with_context(|| format!("measuring {}", series.title))?;
    }
    if options.wants(IDLE) {
        results.idle = idle::run(options).await.context("measuring modules at rest")?;
    }
    if options.wants(START) {
        results.start = start::run(options).await.context("measuring starts")?;
    }
    Ok(results)
}

async fn measure(options: &Options, series: &Series, results: &mut Results) -> Result<()> {
    println!("{}: filling streams …", series.title);
    let world = World::start(options, &series.cases).await?;
    let rounds = options.rounds(3, 1);
    for round in 1..=rounds {
        for case in in_turn(round, &series.cases) {
            let title = format!("round {round} of {rounds}, {}: {}", series.title, case.label);
            let measured = run::run(&world, case, options.limit)
                .await
                .with_context(|| title.clone())?;
            let run = results::Run::new(series, case, round, measured);
            println!("{title}: {run}");
            results.runs.push(run);
        }
    }
    Ok(())
}
