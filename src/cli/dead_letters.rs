//! `slipring dead-letters`: shows, replays and removes dead letters. Each verb has its own file.

mod list;
mod remove;
mod replay;
mod select;
mod show;
pub mod text;

use std::io::Write;

use anyhow::Context;
use clap::Subcommand;
use tokio::runtime::Runtime;

use super::config_file::ConfigFile;
use super::connection::connect;
use super::failure::Failure;
use crate::config::Config;
use crate::config::Store;
use crate::dead_letter::{Home, Reader};
use crate::nats::{Lazy, Nats};
#[cfg(feature = "redis")]
use crate::redis;

/// List, show, replay or remove messages that could not be published
///
/// A message that a module rejects, or that Centrifugo refuses for good, is stored with the reason in the stream that
/// `dead_letters.stream` in the configuration names, in NATS or in Redis (`dead_letters.store`). Its number is its sequence in that
/// stream. These commands need no relay, but a relay may be running.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  slipring dead-letters list --module orders --since 2h
  slipring dead-letters show 17
  slipring dead-letters replay --module orders --dry-run
  slipring dead-letters replay --module orders
  slipring dead-letters remove 17 18")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::Args),
    Show(show::Args),
    Replay(replay::Args),
    Remove(remove::Args),
}

pub fn execute(args: &Args, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    match &args.verb {
        Verb::List(args) => list::execute(args, output, notes),
        Verb::Show(args) => show::execute(args, output),
        Verb::Replay(args) => replay::execute(args, output, notes),
        Verb::Remove(args) => remove::execute(args, notes),
    }
}

/// The connections of a command.
#[derive(Debug, Default)]
struct Made {
    nats: Option<Nats>,
    #[cfg(feature = "redis")]
    redis: Option<redis::Server>,
}

/// What every verb needs.
struct Session {
    runtime: Runtime,
    config: Config,
    /// Where the letters are.
    home: Home,
    /// The connections that the command has made.
    connections: Made,
    /// `None` if there is no stream for dead letters.
    reader: Option<Reader>,
}

impl Session {
    fn open(config: &ConfigFile) -> Result<Self, Failure> {
        let config = config.load()?;
        let runtime = Runtime::new().context("starting the tokio runtime failed")?;
        let mut connections = Made::default();
        #[cfg(feature = "redis")]
        {
            connections.redis = config.redis.clone().map(redis::Server::new);
        }
        let (home, reader) = runtime.block_on(open(&config, &mut connections))?;
        Ok(Self {
            runtime,
            config,
            home,
            connections,
            reader,
        })
    }

    /// Explains why nothing can be found.
    fn no_stream(&self) -> String {
        let stream = &self.config.dead_letters.stream;
        format!("there are no dead letters: the stream {stream} does not exist")
    }
}

/// Opens what keeps the dead letters, without a session.
pub async fn reader(config: &Config) -> anyhow::Result<Option<Reader>> {
    let mut connections = Made::default();
    #[cfg(feature = "redis")]
    {
        connections.redis = config.redis.clone().map(redis::Server::new);
    }
    open(config, &mut connections).await.map(|(_, reader)| reader)
}

async fn open(config: &Config, connections: &mut Made) -> anyhow::Result<(Home, Option<Reader>)> {
    let stream = &config.dead_letters.stream;
    match config.dead_letters.store {
        #[cfg(feature = "redis")]
        Store::Redis => {
            let server = connections.redis.clone().ok_or(redis::Error::NotConfigured)?;
            let reader = Reader::open_redis(&server, stream).await?;
            Ok((Home::Redis(server), reader))
        }
        #[cfg(not(feature = "redis"))]
        Store::Redis => anyhow::bail!("this slipring was built without Redis"),
        Store::JetStream => {
            let nats = connect(&config.nats).await?;
            let reader = Reader::open(&nats, stream).await?;
            connections.nats = Some(nats.clone());
            Ok((Home::JetStream(Lazy::of(nats)), reader))
        }
    }
}

/// Formats a count: `1 dead letter`, `2 dead letters`.
fn count(letters: usize) -> String {
    match letters {
        1 => "1 dead letter".to_owned(),
        _ => format!("{letters} dead letters"),
    }
}

/// Shows a letter in each way, for a fuzzer.
#[cfg(any(test, fuzzing))]
pub fn fuzz(opened: &crate::dead_letter::Opened) {
    let shown = super::table::align(&[list::row(&opened.letter)]) + &show::render(opened);
    for shown in [shown, show::json(opened)] {
        assert_eq!(super::printable::printable(&shown), shown);
    }
}
