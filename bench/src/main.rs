//! Compares the relay with other ways to bring messages from JetStream to Centrifugo, and measures how it grows and
//! catches up, on this machine and in one run. `BENCHMARKS.md` says what is measured and how. `benches/pieces.rs` at
//! the root measures the pieces of the relay.
//!
//! Each benchmark has a file here and a folder of its own. The other files are shared:
//!
//! - [`event`]: the messages. [`fill`]: a stream full of them. [`arrived`]: checks the results.
//! - [`clock`]: the time from the first delivery to the last ack. [`meter`]: what processes use meanwhile.
//! - [`delay`]: a link with a round trip of some milliseconds.
//! - [`paced`]: messages at a steady pace, and when each of them arrived.
//! - [`cores`]: which processes share a processor core.
//! - [`home`]: the relay, as a user would run it. [`centrifugo`]: Centrifugo, as all ways use it. [`own_consumer`]:
//!   Centrifugo's own consumer.
//! - [`machine`], [`report`], [`statistics`], [`table`], [`plot`]: the report.

mod arrived;
mod behind;
mod centrifugo;
mod clock;
mod cores;
mod delay;
mod event;
mod fill;
mod growth;
mod home;
mod latency;
mod machine;
mod meter;
mod options;
mod own_consumer;
mod paced;
mod pairs;
mod plot;
mod redis;
mod report;
mod statistics;
mod swap;
mod table;
mod throughput;
mod tuning;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
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
    /// The same out of a stream with three replicas, on a cluster of three servers
    Cluster,
    /// From a publish in NATS to a subscriber's receipt, at several rates, in each way
    Latency,
    /// What subscribers notice when the module is replaced under load
    Swap,
    /// Throughput, memory and starts by the number of modules, channels, workers and so on
    Growth,
    /// How long a backlog delays new messages, and how much `conflate` and `max_age` help
    Behind,
    /// The processor time of `--slipring` against that of `--against`, in pairs; not part of `all`
    Pairs,
    /// What settings of Centrifugo and of the relay change; not part of `all`
    Tuning,
    /// Messages a second out of a list and a stream in Redis, in each way; not part of `all`
    Redis,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start(arguments.bench.unwrap_or(Bench::All), &arguments.options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(bench: Bench, options: &Options) -> Result<()> {
    if options.own_core {
        ensure!(
            matches!(bench, Bench::Throughput | Bench::Cluster | Bench::Pairs),
            "--own-core is for `throughput`, `cluster` and `pairs`"
        );
        cores::share_first_core()?;
    }
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(run(bench, options))
}

async fn run(bench: Bench, options: &Options) -> Result<()> {
    ensure!(
        options.plot.is_none() || matches!(bench, Bench::All | Bench::Throughput),
        "--plot draws the throughput, which is not measured here"
    );
    let mut report = Report::new(Machine::describe()?);
    println!("{}\n", report.machine);
    if matches!(bench, Bench::All | Bench::Throughput) {
        let results = throughput::run(options).await?;
        println!("{results}");
        report.throughput = Some(results);
    }
    if matches!(bench, Bench::Cluster) || (matches!(bench, Bench::All) && throughput::cluster_is_wanted(options)) {
        let results = throughput::run_cluster(options).await?;
        println!("{results}");
        report.cluster = Some(results);
    }
    if matches!(bench, Bench::Latency) || (matches!(bench, Bench::All) && latency::is_wanted(options)) {
        let results = latency::run(options).await?;
        println!("{results}");
        report.latency = Some(results);
    }
    if matches!(bench, Bench::All | Bench::Swap) {
        let results = swap::run(options).await?;
        println!("{results}");
        report.swap = Some(results);
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
    if matches!(bench, Bench::Tuning) {
        let results = tuning::run(options).await?;
        println!("{results}");
        report.tuning = Some(results);
    }
    if matches!(bench, Bench::Redis) {
        let results = redis::run(options).await?;
        println!("{results}");
        report.redis = Some(results);
    }
    if matches!(bench, Bench::Pairs) {
        let results = pairs::run(options).await?;
        println!("{results}");
        report.pairs = Some(results);
    }
    if let (Some(file), Some(results)) = (&options.plot, &report.throughput) {
        plot::write(results, &report.machine, file)?;
    }
    options.json.as_deref().map_or(Ok(()), |file| report.write(file))
}
