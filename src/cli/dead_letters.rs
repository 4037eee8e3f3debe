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
use super::connection::TIMEOUT;
use super::failure::Failure;
use crate::config::Config;
use crate::dead_letter::{self, Reader, Servers, count};

/// List, show, replay or remove messages that were not published
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

/// What every verb needs.
struct Session {
    runtime: Runtime,
    config: Config,
    servers: Servers,
    letters: dead_letter::Session,
}

impl Session {
    fn open(config: &ConfigFile) -> Result<Self, Failure> {
        let config = config.load()?;
        let runtime = Runtime::new().context("starting the tokio runtime failed")?;
        let entered = runtime.enter();
        let servers = Servers::new(&config);
        drop(entered);
        let letters = runtime.block_on(servers.open(TIMEOUT)).map_err(anyhow::Error::from)?;
        Ok(Self {
            runtime,
            config,
            servers,
            letters,
        })
    }

    /// Explains why nothing can be found.
    fn no_stream(&self) -> String {
        self.servers.no_stream()
    }
}

/// Opens what keeps the dead letters, without a session.
pub async fn reader(config: &Config) -> anyhow::Result<Option<Reader>> {
    Ok(Servers::new(config).open(TIMEOUT).await?.reader)
}

/// Shows a letter in each way, for a fuzzer.
#[cfg(any(test, fuzzing))]
pub fn fuzz(opened: &crate::dead_letter::Opened) {
    let shown = super::table::align(&[list::row(&opened.letter).into()]) + &show::render(opened);
    for shown in [shown, show::json(opened)] {
        assert_eq!(super::printable::printable(&shown), shown);
    }
}
