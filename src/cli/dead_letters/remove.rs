//! `slipring dead-letters remove`: removes dead letters that nobody needs any more.

use std::future::pending;
use std::io::Write;

use anyhow::anyhow;

use super::super::config_file::ConfigFile;
use super::super::failure::Failure;
use super::select::Selection;
use super::{Session, count, show};
use crate::dead_letter::{ReadError, remove_all};

/// Remove dead letters for good
///
/// Select the dead letters by number, by filters, or with --all: one of the three is required. Those with the given numbers are
/// removed at once. With filters or --all, the command prints how many would be removed, and removes them only with --yes.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  slipring dead-letters remove 17 18
  slipring dead-letters remove --module orders --until 30d --yes
  slipring dead-letters remove --all --yes")]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    selection: Selection,
    /// Confirm the removal; required with filters or --all
    #[arg(long)]
    yes: bool,
}

pub fn execute(args: &Args, notes: &mut dyn Write) -> Result<(), Failure> {
    let selection = args.selection.chosen()?;
    let session = Session::open(&args.config)?;
    let Some(reader) = &session.letters.reader else {
        // No letter was found. That is an error only for numbers.
        return match args.selection.numbers.is_empty() {
            true => Ok(writeln!(notes, "{}", session.no_stream())?),
            false => Err(anyhow!(session.no_stream()).into()),
        };
    };
    let mut chosen: Vec<Vec<u64>> = Vec::new();
    let choose = selection.scan(reader, |letter| {
        chosen.push(letter.numbers().to_vec());
        Ok::<_, ReadError>(())
    });
    let found = session.runtime.block_on(choose).map_err(anyhow::Error::from)?;
    if args.selection.numbers.is_empty() && !args.yes && !chosen.is_empty() {
        let letters = count(chosen.len());
        return Err(Failure::Usage(format!(
            "this would remove {letters} from {}; nothing was removed. Use --yes to remove them",
            reader.name()
        )));
    }
    let mut removed = 0;
    let remove = remove_all(reader, chosen, pending(), |found| removed += usize::from(found));
    let ended = session.runtime.block_on(remove);
    writeln!(notes, "removed {} from {}", count(removed), reader.name())?;
    ended.map_err(anyhow::Error::from)?;
    show::no_such(&found.absent, reader)
}
