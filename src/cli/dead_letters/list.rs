//! `slipring dead-letters list`: prints a line for each dead letter.

use std::collections::VecDeque;
use std::io::{BufWriter, Write};

use anyhow::anyhow;

use super::super::config_file::ConfigFile;
use super::super::failure::Failure;
use super::super::printable::printable_json;
use super::super::table::{Cell, Column, Table, View};
use super::Session;
use super::select::Filter;
use super::text::{Facts, missing};
use crate::dead_letter::Letter;

/// List dead letters, the newest last
///
/// Prints one line per dead letter: its number, when it was stored, its module, the stage that rejected it and the code, the channel,
/// the stream and sequence of its message, and the reason. On a terminal, a reason takes one line; `show` has all of it.
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

/// How many characters of these a terminal shows at least.
const REASON: usize = 24;
const CHANNEL: usize = 12;

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
            false => row(&letter).into(),
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
        let mut table = Table::new(COLUMNS);
        for line in lines {
            table.row(line.into_iter().map(Cell::from));
        }
        write!(output, "{}", table.render(&View::of_stdout()))?;
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

const COLUMNS: [Column; 8] = [
    Column::new("NUMBER"),
    Column::new("STORED").left_out(2),
    Column::new("MODULE").shrinks_to(12),
    Column::new("STAGE").left_out(1),
    Column::new("CODE"),
    Column::new("CHANNEL").shrinks_to(CHANNEL).left_out(4),
    Column::new("ORIGIN").shrinks_to(12).left_out(3),
    Column::new("REASON").shrinks_to(REASON),
];

pub(super) fn row(letter: &Letter) -> [String; 8] {
    let origin = letter.origin.as_ref();
    let origin = origin.map_or("-".to_owned(), |origin| format!("{}:{}", origin.stream, origin.place));
    let reason = reason(letter);
    let reason = match missing(letter) {
        None => reason,
        Some(missing) => format!("({missing}) {reason}"),
    };
    [
        letter.number().to_string(),
        // Seconds are precise enough, because the number shows the order.
        format!("{:.0}", letter.stored),
        letter.module.clone(),
        letter.stage.clone(),
        letter.code.clone(),
        letter.channel.clone().unwrap_or_else(|| "-".to_owned()),
        origin,
        reason,
    ]
}

/// Returns the reason without what is in other columns: that Centrifugo refused the publication, on which channel, and the
/// code.
fn reason(letter: &Letter) -> String {
    let channel = letter.channel.as_deref().unwrap_or_default();
    let refused = format!("Centrifugo refused the publication on `{channel}`");
    let Some(rest) = letter.reason.strip_prefix(&refused) else {
        return letter.reason.clone();
    };
    let with_code = format!(" with error {} (", letter.code);
    match (rest.strip_prefix(&with_code), rest.strip_prefix(": ")) {
        (Some(rest), _) => rest.replacen(')', "", 1),
        (None, Some(rest)) => rest.to_owned(),
        (None, None) => letter.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::super::text::tests::letter;
    use super::*;

    fn table(letters: &[Letter]) -> Table {
        let mut table = Table::new(COLUMNS);
        for letter in letters {
            table.row(row(letter).map(Cell::from));
        }
        table
    }

    fn letters() -> [Letter; 3] {
        let mut refused = letter();
        refused.channel = Some("orders:7".to_owned());
        (refused.stage, refused.code) = ("publish".to_owned(), "102".to_owned());
        refused.reason =
            "Centrifugo refused the publication on `orders:7` with error 102 (unknown channel): does the namespace \
                          before `:` exist in Centrifugo's configuration?"
                .to_owned();
        let mut long = letter();
        long.reason = "x".repeat(100);
        long.origin = None;
        [letter(), refused, long]
    }

    #[test]
    fn a_row_says_which_why_and_from_where() {
        assert_snapshot!(table(&letters()).render(&View::default()), @r#"
        NUMBER  STORED                MODULE  STAGE      CODE      CHANNEL   ORIGIN     REASON
        17      2026-11-01T08:00:00Z  orders  transform  rejected  -         ORDERS:42  missing field `id` at line 1 column 2
        17      2026-11-01T08:00:00Z  orders  publish    102       orders:7  ORDERS:42  unknown channel: does the namespace before `:` exist in Centrifugo's configuration?
        17      2026-11-01T08:00:00Z  orders  transform  rejected  -         -          xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
        "#);
    }

    #[test]
    fn no_row_is_wider_than_the_terminal() {
        let view = View {
            width: Some(80),
            ..View::default()
        };
        assert_snapshot!(table(&letters()).render(&view), @r#"
        NUMBER  MODULE  CODE      CHANNEL   ORIGIN     REASON
        17      orders  rejected  -         ORDERS:42  missing field `id` at line 1 col…
        17      orders  102       orders:7  ORDERS:42  unknown channel: does the namesp…
        17      orders  rejected  -         -          xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
        (left out: STORED, STAGE; shortened: REASON; a wider terminal or a pipe shows
        all)
        "#);
    }

    #[test]
    fn what_other_columns_say_is_not_in_the_reason() {
        let mut letter = letter();
        letter.channel = Some("orders:7".to_owned());
        let mut told = |whole: &str| {
            whole.clone_into(&mut letter.reason);
            reason(&letter)
        };
        assert_eq!(
            told("Centrifugo refused the publication on `orders:7`: HTTP 413: too large"),
            "HTTP 413: too large"
        );
        for whole in [
            "no such order",
            "Centrifugo refused the publication on `other:1`: HTTP 413",
            "Centrifugo refused the publication on `orders:7` with error 9 (no)",
        ] {
            assert_eq!(told(whole), whole);
        }
    }
}
