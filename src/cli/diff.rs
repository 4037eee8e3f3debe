//! `slipring diff`: compares the outcomes of two modules for the same messages. Both run over the messages one by one, and
//! nothing is published.

mod compare;
mod show;
mod speed;
mod tally;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use slipring_core::read::Incarnation;
use tokio::runtime::Runtime;

use self::tally::Tally;
use super::config_file::ConfigFile;
use super::failure::Failure;
use super::held::Held;
use super::input::Lines;
use super::palette::Palette;
use super::printable::printable_json;
use super::report::Source;
use super::selection::Selection;
use super::timing::timed;
use super::try_module;
use crate::config::{self, ModuleConfig};
use crate::message::Message;
use crate::pipeline::Stamp;
use crate::transform::Instance;

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

/// One of the two modules.
struct Side {
    instance: Instance,
    config: ModuleConfig,
}

struct Comparison {
    old: Side,
    new: Side,
    /// The configuration of the old module, or else of the new one.
    named: Option<ModuleConfig>,
    /// That of the stream. `None` if the messages are from a file.
    incarnation: Option<Incarnation>,
    tally: Tally,
}

pub fn execute(args: &Args, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    let mut comparison = load(args, notes)?;
    let unreadable = match &args.cases {
        Some(file) => comparison.run_file(file, notes)?,
        None => {
            comparison.run_stream(args, notes)?;
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

/// Both modules get the name of the old one, because a module's random numbers depend on its name.
fn load(args: &Args, notes: &mut dyn Write) -> Result<Comparison, Failure> {
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
        let module = try_module::load(path, &name, &config, args.config.bounds())?;
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
    Ok(Comparison {
        old,
        new,
        named,
        incarnation: None,
        tally: Tally::new(args.examples),
    })
}

fn configuration(module: &Path) -> Result<Option<ModuleConfig>, Failure> {
    let file = module.with_extension("toml");
    Ok(file.exists().then(|| config::load_module(&file)).transpose()?)
}

impl Comparison {
    /// Returns an error as the inner result if some lines were not messages.
    fn run_file(&mut self, file: &Path, notes: &mut dyn Write) -> anyhow::Result<anyhow::Result<()>> {
        let mut lines = Lines::open(Some(file), &self.old.config.stream)?;
        while let Some((number, message)) = lines.next(notes)? {
            self.add(Source::Line(number), &message);
        }
        Ok(lines.verdict())
    }

    fn run_stream(&mut self, args: &Args, notes: &mut dyn Write) -> Result<(), Failure> {
        let named = self.named.as_ref();
        let Some(selection) = Selection::new(args.stream.as_deref(), &args.subject, named) else {
            let wrong = "there are no messages to compare: neither module has a .toml that names a stream. \
                     Name a stream with --stream, or a file with --cases";
            return Err(Failure::Usage(wrong.to_owned()));
        };
        let relay = args.config.load()?;
        let runtime = Runtime::new().context("starting the tokio runtime failed")?;
        let (stored, mut messages) = runtime.block_on(async {
            let stored = Held::open(&relay, selection, named).await?;
            let messages = stored.last(args.last, selection.subjects).await?;
            anyhow::Ok((stored, messages))
        })?;
        self.incarnation = Some(stored.incarnation());
        let nothing = stored.holds_nothing(selection.subjects);
        // Calls block, so they are made here and not in a task.
        while let Some(message) = runtime.block_on(messages.next())? {
            self.add(message.place.into(), &message);
        }
        if self.tally.messages == 0 {
            writeln!(notes, "{nothing}")?;
        }
        Ok(())
    }

    fn add(&mut self, source: Source, message: &Message) {
        let Self { old, new, tally, .. } = self;
        if tally.messages == 0 {
            // The first call also starts the instance.
            old.instance.call(message);
            new.instance.call(message);
        }
        // Each module goes first equally often, because the second one finds the message in the processor's cache.
        let ((old_outcome, old_took), (new_outcome, new_took)) = match tally.messages % 2 {
            0 => {
                let first = timed(&mut old.instance, message);
                (first, timed(&mut new.instance, message))
            }
            _ => {
                let first = timed(&mut new.instance, message);
                (timed(&mut old.instance, message), first)
            }
        };
        if let (Some(old), Some(new)) = (old_took, new_took) {
            tally.speed.add(old, new);
        }
        tally.old_memory = tally.old_memory.max(old.instance.memory());
        tally.new_memory = tally.new_memory.max(new.instance.memory());
        let old_outcome = old.stamp(self.incarnation).outcome(message, old_outcome);
        let new_outcome = new.stamp(self.incarnation).outcome(message, new_outcome);
        tally.add(source, message, &old_outcome, &new_outcome);
    }
}

impl Side {
    fn stamp(&self, incarnation: Option<Incarnation>) -> Stamp<'_> {
        try_module::stamp(self.instance.module().name(), incarnation, self.config.version)
    }
}
