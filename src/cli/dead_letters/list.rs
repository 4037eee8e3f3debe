//! `slipring dead-letters list`: prints a line for each dead letter.

use std::collections::VecDeque;
use std::io::{BufWriter, Write};

use anyhow::anyhow;

use super::super::config_file::ConfigFile;
use super::super::failure::Failure;
use super::super::printable::printable_json;
use super::super::table::align;
use super::Session;
use super::select::Filter;
use super::text::{Facts, missing, shortened};
use crate::dead_letter::Letter;

/// List dead letters, the newest last
///
/// Prints one line per dead letter: its number, when it was stored, its module, the stage that rejected it and the code, the channel,
/// the stream and sequence of its message, and the beginning of the reason.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  slipring dead-letters list
  slipring dead-letters list --module orders --since 2h --limit 20
  slipring dead-letters list --stage publish --code 102
  slipring dead-letters list --json | jq -r .reason | sort | uniq -c")]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    filter: Filter,
    /// List at most this many, the newest ones
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// Print one line of JSON per dead letter, for programs
    #[arg(long)]
    json: bool,
}

/// The most characters of a reason.
const LONGEST_REASON: usize = 72;
const LONGEST_CHANNEL: usize = 40;

pub fn execute(args: &Args, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    let session = Session::open(&args.config)?;
    let Some(reader) = &session.letters.reader else {
        writeln!(notes, "{}", session.no_stream())?;
        return Ok(());
    };
    let mut output = BufWriter::new(output);
    let limit = args.limit.unwrap_or(usize::MAX);
    let mut found = 0_usize;
    let mut lines = VecDeque::new();
    let filter = args.filter.chosen();
    let scan = filter.scan(reader, |letter| {
        found += 1;
        let line = match args.json {
            true => vec![printable_json(
                &serde_json::to_string(&Facts::of(&letter)).map_err(|error| anyhow!(error))?,
            )],
            false => row(&letter),
        };
        if args.json && args.limit.is_none() {
            // Lines are printed as they come, because nothing depends on the others, however many there are.
            writeln!(output, "{}", line[0]).map_err(|error| anyhow!(error))?;
            return Ok::<_, anyhow::Error>(());
        }
        lines.push_back(line);
        if lines.len() > limit {
            lines.pop_front();
        }
        Ok(())
    });
    session.runtime.block_on(scan)?;
    if args.json {
        for line in &lines {
            writeln!(output, "{}", line[0])?;
        }
    } else if !lines.is_empty() {
        lines.push_front(HEAD.map(str::to_owned).to_vec());
        write!(output, "{}", align(lines.make_contiguous()))?;
    }
    output.flush()?;
    if found == 0 {
        match args.filter == Filter::default() {
            true => writeln!(notes, "there are no dead letters in {}", reader.name())?,
            false => writeln!(notes, "no dead letter in {} matches", reader.name())?,
        }
    }
    Ok(())
}

const HEAD: [&str; 8] = [
    "NUMBER", "STORED", "MODULE", "STAGE", "CODE", "CHANNEL", "ORIGIN", "REASON",
];

pub(super) fn row(letter: &Letter) -> Vec<String> {
    let origin = letter.origin.as_ref();
    let origin = origin.map_or("-".to_owned(), |origin| format!("{}:{}", origin.stream, origin.place));
    let channel = letter.channel.as_deref().unwrap_or("-");
    let reason = match missing(letter) {
        None => letter.reason.clone(),
        Some(missing) => format!("({missing}) {}", letter.reason),
    };
    vec![
        letter.number().to_string(),
        // Seconds are precise enough, because the number shows the order.
        format!("{:.0}", letter.stored),
        letter.module.clone(),
        letter.stage.clone(),
        letter.code.clone(),
        shortened(channel, LONGEST_CHANNEL),
        origin,
        shortened(&reason, LONGEST_REASON),
    ]
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::super::text::tests::letter;
    use super::*;

    #[test]
    fn a_row_says_which_why_and_from_where() {
        let mut long = letter();
        long.channel = Some("orders:7".to_owned());
        long.reason = "x".repeat(100);
        long.origin = None;
        let rows = [HEAD.map(str::to_owned).to_vec(), row(&letter()), row(&long)];
        assert_snapshot!(align(&rows), @r#"
        NUMBER  STORED                MODULE  STAGE      CODE      CHANNEL   ORIGIN     REASON
        17      2026-11-01T08:00:00Z  orders  transform  rejected  -         ORDERS:42  missing field `id` at line 1 column 2
        17      2026-11-01T08:00:00Z  orders  transform  rejected  orders:7  -          xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
        "#);
    }
}
