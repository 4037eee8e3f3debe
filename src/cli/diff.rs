//! `slipring diff`: compares the outcomes of two modules for the same messages. Both run over the messages one by one, and
//! nothing is published.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{anyhow, ensure};

use super::comparison::{Comparison, Side, Tally, show};
use super::config_file::ConfigFile;
use super::failure::Failure;
use super::palette::Palette;
use super::printable::printable_json;
use super::selection::Selection;
use super::try_module;
use crate::config::{self, ModuleConfig};

/// Compare the outcomes of two modules for the same messages
///
/// Runs both modules over the last messages of a stream or a list, or over the messages in a file. Reports how many outcomes are the
/// same, and what changed in the others: the channels, the data, the version, the tags, the options (`delta`, `skip_history`, the
/// module's own idempotency key), the number of publications, or their order on a channel. It also reports which messages are newly
/// dropped, published or rejected, and which are no longer rejected. A rejection may come from the module itself, from a trap such as
/// a panic or too much memory, or from a timeout. A message may count under several kinds of change. JSON is compared by value: spaces
/// and the order of keys make no difference. If the new module is clearly slower or faster, that is reported too.
///
/// Nothing is published, and nothing in the stream changes: no message is acknowledged and no consumer moves. Each module has the
/// settings and limits of the .toml beside it; a module without a .toml uses the other's. `max_age` is ignored. The NATS
/// address comes from slipring.toml.
///
/// Exits with 0 even if the modules differ. With --exit-code, for scripts, exits with 1 if they differ or if no message was compared.
/// Always exits with 1 if a line of the file is not a message: that line is reported, and the other lines are compared.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  slipring diff modules/orders.wasm target/wasm32-wasip2/release/orders.wasm
  slipring diff orders-1.wasm orders-2.wasm --last 10000 --examples 1
  slipring diff orders-1.wasm orders-2.wasm --cases samples.jsonl --exit-code
  slipring diff orders-1.wasm orders-2.wasm --json | jq .changed

Each line of the file is a message in the format that `slipring try --help`
describes.")]
pub struct Args {
    /// The current module
    #[arg(value_name = "OLD.wasm")]
    old: PathBuf,
    /// The new module
    #[arg(value_name = "NEW.wasm")]
    new: PathBuf,
    /// The stream [default: the one in the old module's .toml]
    #[arg(long, value_name = "STREAM")]
    stream: Option<String>,
    /// How many of the stream's last messages to compare
    #[arg(long, value_name = "COUNT", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    last: u64,
    /// Only messages of this subject; wildcards are allowed, and the option can be repeated [default: the subjects in
    /// the .toml, or all if --stream names another stream]
    #[arg(long, value_name = "SUBJECT")]
    subject: Vec<String>,
    /// Read the messages from this file instead of a stream, one per line; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stream", "last", "subject"])]
    cases: Option<PathBuf>,
    /// Show at most this many messages per kind of change
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    examples: usize,
    /// Print one JSON object, for programs
    #[arg(long)]
    json: bool,
    /// Exit with 1 if the modules differ, or if nothing was compared
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    config: ConfigFile,
}

pub fn execute(args: &Args, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    let (mut comparison, named) = load(args, notes)?;
    let unreadable = match &args.cases {
        Some(file) => comparison.run_file(file, notes)?,
        None => {
            run_stream(&mut comparison, args, named.as_ref(), notes)?;
            Ok(())
        }
    };
    let tally = &comparison.tally;
    let mut output = BufWriter::new(output);
    match args.json {
        true => writeln!(
            output,
            "{}",
            printable_json(&show::json(tally).map_err(|error| anyhow!(error))?)
        )?,
        false => write!(output, "{}", show::text(tally, &Palette::of_stdout()))?,
    }
    output.flush()?;
    unreadable?;
    match args.exit_code {
        true => Ok(verdict(tally)?),
        false => Ok(()),
    }
}

/// Decides the exit code for scripts. A comparison of nothing is a failure, because it points to a wrong subject or an
/// empty file.
fn verdict(tally: &Tally) -> anyhow::Result<()> {
    ensure!(
        tally.messages > 0,
        "nothing was compared, so --exit-code cannot tell whether the modules differ"
    );
    let changed = tally.changed();
    ensure!(
        changed == 0,
        "the outcomes of {changed} of {} messages changed",
        tally.messages
    );
    Ok(())
}

/// Returns the comparison, and the configuration of the old module, or else of the new one. Both modules get the name of the
/// old one, because a module's random numbers depend on its name.
fn load(args: &Args, notes: &mut dyn Write) -> Result<(Comparison, Option<ModuleConfig>), Failure> {
    let name = args.old.file_stem().unwrap_or_default().to_string_lossy();
    let (old, new) = (configuration(&args.old)?, configuration(&args.new)?);
    let applies_to_both = match (&old, &new) {
        (Some(_), None) => Some((&args.old, &args.new)),
        (None, Some(_)) => Some((&args.new, &args.old)),
        _ => None,
    };
    let named = old.as_ref().or(new.as_ref()).cloned();
    let default = || ModuleConfig::new(&name, try_module::STREAM);
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (Some(one), None) | (None, Some(one)) => (one.clone(), one),
        (None, None) => (default(), default()),
    };
    let side = |path: &Path, config: ModuleConfig| {
        let module = try_module::load(path, &name, &config, args.config.compiling())?;
        Ok::<_, Failure>(Side {
            instance: module.instance(),
            config,
        })
    };
    let (old, new) = (side(&args.old, old)?, side(&args.new, new)?);
    if let Some((with, without)) = applies_to_both {
        let (with, without) = (with.with_extension("toml"), without.display());
        writeln!(
            notes,
            "{without} has no .toml beside it: {} applies to both",
            with.display()
        )?;
    }
    if old.instance.module().sha256() == new.instance.module().sha256() {
        writeln!(
            notes,
            "{} and {} are the same module",
            args.old.display(),
            args.new.display()
        )?;
    }
    Ok((Comparison::new(old, new, args.examples), named))
}

fn configuration(module: &Path) -> Result<Option<ModuleConfig>, Failure> {
    let file = module.with_extension("toml");
    Ok(file.exists().then(|| config::load_module(&file)).transpose()?)
}

fn run_stream(
    comparison: &mut Comparison,
    args: &Args,
    named: Option<&ModuleConfig>,
    notes: &mut dyn Write,
) -> Result<(), Failure> {
    let Some(selection) = Selection::new(args.stream.as_deref(), &args.subject, named) else {
        let wrong = "there are no messages to compare: neither module has a .toml that names a stream. \
                     Name a stream with --stream, or a file with --cases";
        return Err(Failure::Usage(wrong.to_owned()));
    };
    if let Some(nothing) = comparison.run_stream(&args.config.load()?, selection, named, args.last)? {
        writeln!(notes, "{nothing}")?;
    }
    Ok(())
}
