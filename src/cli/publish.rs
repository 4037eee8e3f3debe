//! `slipring publish`: sends a message to the stream of its subject, as an application would.

use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::runtime::Runtime;

use super::config_file::ConfigFile;
use super::connection;
use super::failure::Failure;
use super::project::CASES;
use super::publishing::{self, Outgoing};

/// Publish a message to a stream in NATS
///
/// Sends the message to the stream that stores its subject, waits until JetStream has stored it, and prints the stream and the
/// sequence. The servers are those of slipring.toml, or of the `slipring up` that runs in this folder or the one above.
///
/// With --case it sends the message of a case, with its headers. A message with the header `Nats-Msg-Id` is stored only once, within
/// the time that the stream remembers such IDs (two minutes by default).
#[derive(Debug, clap::Args)]
#[command(override_usage = "\
slipring publish [OPTIONS] SUBJECT [DATA]
       slipring publish [OPTIONS] --case NAME|FILE.json [SUBJECT]")]
#[command(after_long_help = "\
Examples:
  slipring publish orders.7 '{\"id\":7,\"status\":\"paid\"}'
  slipring publish --case paid
  slipring publish --header 'Nats-Msg-Id: 7-paid' orders.7 '{\"id\":7}'
  jq -c .order event.json | slipring publish orders.7

To a list in Redis, push with `redis-cli LPUSH`.")]
pub struct Args {
    /// The subject
    #[arg(value_name = "SUBJECT", required_unless_present = "case")]
    subject: Option<String>,
    /// The data, sent as it is; `-` is standard input [default: -]
    #[arg(value_name = "DATA", conflicts_with = "case", allow_negative_numbers = true)]
    data: Option<String>,
    /// Send the message of the case cases/NAME.json, or of this file; SUBJECT replaces its subject
    #[arg(long, value_name = "NAME | FILE.json")]
    case: Option<PathBuf>,
    /// Add a header; can be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    #[command(flatten)]
    config: ConfigFile,
}

pub fn execute(args: &Args, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    let config = args.config.load()?;
    let outgoing = outgoing(args, notes)?;
    let runtime = Runtime::new().context("starting the tokio runtime failed")?;
    runtime.block_on(async {
        let connected = connection::connect(&config.nats).await;
        let nats = match args.config.is_absent() {
            true => {
                connected.context("there is no slipring.toml, nor a `slipring up`, in this folder or the one above")?
            }
            false => connected?,
        };
        let stored = publishing::publish(&nats, &outgoing, &config.dead_letters.stream).await?;
        let (stream, sequence) = (&stored.stream, stored.sequence);
        match stored.duplicate {
            false => writeln!(output, "stored in {stream} as {sequence}")?,
            true => writeln!(
                output,
                "not stored: {stream} has a message with this Nats-Msg-Id already, as {sequence}"
            )?,
        }
        Ok(())
    })
}

fn outgoing(args: &Args, notes: &mut dyn Write) -> Result<Outgoing, Failure> {
    let mut outgoing = match &args.case {
        Some(case) => Outgoing::of_case(&case_file(case), args.subject.as_deref())?,
        None => {
            let subject = args.subject.clone().unwrap_or_default();
            let subject = publishing::subject(&subject).map_err(Failure::Usage)?.to_owned();
            let payload = match args.data.as_deref() {
                None | Some("-") => read_input(notes)?,
                Some(data) => data.as_bytes().to_vec(),
            };
            Outgoing::new(subject, payload)
        }
    };
    for header in &args.headers {
        outgoing.add_header(header).map_err(Failure::Usage)?;
    }
    Ok(outgoing)
}

/// A name is that of a case here. Anything with a slash or an extension is a file.
fn case_file(case: &Path) -> PathBuf {
    let is_name = case.components().count() == 1 && case.extension().is_none_or(|extension| extension != "json");
    match is_name {
        true => Path::new(CASES).join(format!("{}.json", case.display())),
        false => case.to_owned(),
    }
}

fn read_input(notes: &mut dyn Write) -> anyhow::Result<Vec<u8>> {
    if io::stdin().is_terminal() {
        writeln!(notes, "reading the data from standard input, which Ctrl-D ends")?;
    }
    let mut payload = Vec::new();
    io::stdin()
        .read_to_end(&mut payload)
        .context("cannot read standard input")?;
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_named_or_is_a_file() {
        let file = |case: &str| case_file(Path::new(case)).display().to_string();
        assert_eq!(file("paid"), "cases/paid.json");
        assert_eq!(file("v1.2"), "cases/v1.2.json");
        assert_eq!(file("paid.json"), "paid.json");
        assert_eq!(file("shop/cases/paid.json"), "shop/cases/paid.json");
    }
}
