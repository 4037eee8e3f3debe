//! Measures the relay beside other ways to bring messages from JetStream to Centrifugo, and how it grows and catches up, on this
//! machine and in one run. What is measured and how is in `BENCHMARKS.md`. The pieces of the relay are measured in
//! `benches/pieces.rs`, at the root.
//!
//! A benchmark is a file here with a folder of its own; the others are what benchmarks share:
//!
//! - [`event`]: the messages; [`fill`]: a stream full of them; [`arrived`]: whether what came out is right.
//! - [`clock`]: from the first delivery to the last ack; [`meter`]: what processes use meanwhile.
//! - [`delay`]: a link with a round trip of some milliseconds.
//! - [`home`]: the relay, as a user would run it; [`centrifugo`]: Centrifugo, as all ways use it.
//! - [`machine`], [`report`], [`statistics`], [`table`]: what is said about it in the end.

mod arrived;
mod behind;
mod centrifugo;
mod clock;
mod delay;
mod event;
mod fill;
mod growth;
mod home;
mod machine;
mod meter;
mod options;
mod report;
mod statistics;
mod table;
mod throughput;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use machine::Machine;
use options::Options;
use report::Report;

#[derive(Parser)]
#[command(about, version)]
struct Arguments {
    #[command(subcommand)]
    bench: Option<Bench>,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand, Clone, Copy)]
enum Bench {
    /// Everything; the default
    All,
    /// Messages a second out of a full stream, in each way
    Throughput,
    /// Throughput, memory and starts by the number of modules, channels, workers and so on
    Growth,
    /// How long a backlog keeps subscribers from what is new, and what `conflate` and `max_age` do about it
    Behind,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments.bench.unwrap_or(Bench::All), &arguments.options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(bench: Bench, options: &Options) -> Result<()> {
    let mut report = Report::new(Machine::describe()?);
    println!("{}\n", report.machine);
    if matches!(bench, Bench::All | Bench::Throughput) {
        let results = throughput::run(options).await?;
        println!("{results}");
        report.throughput = Some(results);
    }
    if matches!(bench, Bench::All | Bench::Growth) {
        let results = growth::run(options).await?;
        println!("{results}");
        report.growth = Some(results);
    }
    if matches!(bench, Bench::All | Bench::Behind) {
        let results = behind::run(options).await?;
        println!("{results}");
        report.behind = Some(results);
    }
    options.json.as_deref().map_or(Ok(()), |file| report.write(file))
}
