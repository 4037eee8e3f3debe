//! `slipring record`: writes cases from messages that a source holds, with the module's current outcomes.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use slipring_core::place::Place;
use tokio::runtime::Runtime;

use super::case;
use super::config_file::ConfigFile;
use super::failure::Failure;
use super::held::Held;
use super::project::{CASES, Project};
use super::redact::{Redacted, Redaction, Tally, field};
use super::runner::Runner;
use super::selection::Selection;
use super::test_cases::cases;
use crate::config::Config;
use crate::json::Sample;
use crate::message::Message;

/// Record real messages as cases
///
/// Reads messages from what the module reads, from a JetStream stream, or dead letters, and writes a case for each. The module's
/// current outcome becomes the case's `expect`: review it before you commit. Without a module, the cases have no `expect`. Nothing
/// changes there: no message is taken or acknowledged, and no consumer moves.
///
/// Cases end up in Git, where many people read them. --redact replaces sensitive values: a string becomes "redacted", a number 0, true
/// becomes false, and an object {}, because its keys can be as revealing as its values. In a list, each element is replaced the same
/// way. Other fields do not change. The module runs on the redacted message. If none of the messages has the field, nothing is written.
///
/// --redact searches headers and payloads. It also looks inside JSON that is stored as a string or as base64, at any depth. A text
/// that is not JSON and names the field, such as `email=…` or `<email>…`, is replaced as a whole. With --redact, a message that
/// cannot be searched is not recorded: for example, if its payload is not a JSON object or list.
///
/// Subjects are not redacted, and neither are other fields that contain the same value. The command lists both: check them yourself.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").args(["last", "seq", "dead_letter"]).required(true))]
#[command(after_long_help = "\
A field to redact is the name of a header, or of a key anywhere in the payload,
in upper or lower case. `customer.email` is the key `email` inside `customer`,
also inside lists.

Examples:
  slipring record --last 50
  slipring record --stream ORDERS --last 50 --subject 'orders.*.paid'
  slipring record --last 50 --redact customer.email --redact Authorization
  slipring record --seq 42
  slipring record --dead-letter 17
  slipring record ../shop --last 10 --into ../shop/more-cases")]
pub struct Args {
    /// The module's folder, or a module that is already built
    #[arg(value_name = "DIR | MODULE.wasm", default_value = ".")]
    module: PathBuf,
    /// The stream [default: the one in the module's .toml]
    #[arg(long, value_name = "STREAM", conflicts_with = "dead_letter")]
    stream: Option<String>,
    /// Record this many of the stream's last messages
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    last: Option<u64>,
    /// Record the stream's message with this sequence, or with this ID in Redis; can be repeated
    #[arg(long, value_name = "SEQUENCE", value_parser = super::held::place)]
    seq: Vec<Place>,
    /// Record the dead letter with this number, as shown by `slipring dead-letters list`; can be repeated
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    dead_letter: Vec<u64>,
    /// Only messages of this subject; wildcards are allowed, and the option can be repeated [default: the subjects in
    /// the .toml, or all if --stream names another stream]
    #[arg(long, value_name = "SUBJECT", requires = "last")]
    subject: Vec<String>,
    /// A field to redact; can be repeated
    #[arg(long, value_name = "FIELD", value_parser = field)]
    redact: Vec<String>,
    /// Like --redact, but without an error if no message has the field; can be repeated
    #[arg(long, value_name = "FIELD", value_parser = field)]
    redact_if_there: Vec<String>,
    /// Overwrite existing cases
    #[arg(long)]
    overwrite: bool,
    /// The folder for the cases [default: `cases` in the module's folder]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Run the last build without building again
    #[arg(long)]
    no_build: bool,
    #[command(flatten)]
    config: ConfigFile,
}

/// Counts the results.
#[derive(Debug, Default)]
struct Summary {
    written: usize,
    there_already: usize,
    /// The part of these cases that still holds a field to redact.
    still_holding: usize,
    left_out: usize,
}

pub fn execute(args: &Args, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    let config = args.config.load()?;
    let project = Project::find(&args.module)?;
    let mut runner = match &project {
        Some(project) => Some(runner(project, args.no_build)?),
        None => {
            let dir = args.module.display();
            writeln!(notes, "there is no module in {dir}, so the cases have no `expect`")?;
            None
        }
    };
    let runtime = Runtime::new().context("starting the tokio runtime failed")?;
    let found = runtime.block_on(find(args, &config, runner.as_ref(), notes))?;
    let default = project.map_or_else(|| args.module.join(CASES), |project| project.path(CASES));
    let into = args.into.clone().unwrap_or(default);
    let mut redaction = Redaction::new(&args.redact, &args.redact_if_there);
    let mut redacted = Vec::new();
    let mut summary = Summary::default();
    for found in &found {
        let file = into.join(format!("{}.json", found.name));
        match redaction.apply(&found.message) {
            Ok(message) => redacted.push((file, message)),
            Err(why) => {
                let name = &found.name;
                writeln!(
                    notes,
                    "{name}: not recorded, because the message cannot be searched for fields to redact: {why}"
                )?;
                summary.left_out += 1;
            }
        }
    }
    redaction.check()?;

    fs::create_dir_all(&into).with_context(|| format!("cannot create the folder {}", into.display()))?;
    let stream = runner.as_ref().map_or("", |runner| runner.stream()).to_owned();
    let mut tally = Tally::default();
    for (file, redacted) in &redacted {
        if file.exists() && !args.overwrite {
            summary.there_already += 1;
            summary.still_holding += usize::from(stays(file, redacted, &redaction, notes)?);
            continue;
        }
        let sample = Sample::of(&redacted.message, &stream);
        let expect = match &mut runner {
            // The case is read again later, and a redacted message differs from the stored one.
            Some(runner) => Some(runner.make(&sample.clone().message(1, &stream)?)?),
            None => None,
        };
        case::create(file, &sample, expect.as_ref())?;
        writeln!(output, "{}", file.display())?;
        for line in redaction.elsewhere(redacted) {
            writeln!(notes, "warning: {}: {line}", file.display())?;
        }
        tally.add(redacted);
        summary.written += 1;
    }
    output.flush()?;
    for line in redaction.tell(&tally, summary.written) {
        writeln!(notes, "{line}")?;
    }
    let those: BTreeSet<&Path> = redacted.iter().map(|(file, _)| file.as_path()).collect();
    tell_of_others(&into, &those, &redaction, notes)?;
    writeln!(notes, "{summary}")?;
    match summary.still_holding {
        0 => Ok(()),
        count => Err(anyhow!(
            "{} values to redact: delete the cases named above, or use --overwrite",
            holds(count)
        )
        .into()),
    }
}

/// Keeps an existing case as it is. Returns true if it holds something that should be redacted.
fn stays(file: &Path, redacted: &Redacted, redaction: &Redaction, notes: &mut dyn Write) -> anyhow::Result<bool> {
    let name = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("cannot read the case {name}"))?;
    let left = match redaction.left_in(&text, Some(redacted)) {
        Ok(left) => quoted(&left),
        Err(error) => format!("data that cannot be searched ({error:#})"),
    };
    if left.is_empty() {
        writeln!(notes, "{name} already exists and was not changed")?;
    } else {
        writeln!(
            notes,
            "{name} already exists and still holds {left}: remove it, or use --overwrite"
        )?;
    }
    Ok(!left.is_empty())
}

/// Reports other cases that hold a redacted field. Their values may be invented or real.
fn tell_of_others(
    into: &Path,
    those: &BTreeSet<&Path>,
    redaction: &Redaction,
    notes: &mut dyn Write,
) -> anyhow::Result<()> {
    for file in case::list(into)? {
        if those.contains(file.as_path()) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap_or_default();
        // `slipring test` reports files that are no cases.
        let left = redaction.left_in(&text, None).unwrap_or_default();
        if !left.is_empty() {
            writeln!(
                notes,
                "{}, which was not changed, holds {}",
                file.display(),
                quoted(&left)
            )?;
        }
    }
    Ok(())
}

fn quoted(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(" and ")
}

fn holds(count: usize) -> String {
    match count {
        1 => "an existing case still holds".to_owned(),
        count => format!("{count} existing cases still hold"),
    }
}

fn runner(project: &Project, no_build: bool) -> Result<Runner, Failure> {
    if !no_build {
        project.build()?;
    }
    let mut runner = Runner::new(project.built()?)?;
    runner.module()?;
    Ok(runner)
}

/// A message and the name of its case.
struct Found {
    name: String,
    message: Arc<Message>,
}

async fn find(
    args: &Args,
    config: &Config,
    runner: Option<&Runner>,
    notes: &mut dyn Write,
) -> Result<Vec<Found>, Failure> {
    if !args.dead_letter.is_empty() {
        return dead_letters(args, config, notes).await;
    }
    let of_module = runner.filter(|runner| runner.built().toml.exists()).map(Runner::config);
    let selection = Selection::new(args.stream.as_deref(), &args.subject, of_module);
    let selection = selection.ok_or_else(|| {
        Failure::Usage("no stream is named: use --stream, or set `stream` in the module's .toml".to_owned())
    })?;
    let subjects = selection.subjects;
    let stored = Held::open(config, selection, of_module).await?;
    let mut messages = Vec::new();
    for &place in &args.seq {
        messages.push(Arc::new(stored.message(place).await?));
    }
    if let Some(count) = args.last {
        let mut last = stored.last(count, subjects).await?;
        while let Some(message) = last.next().await? {
            messages.push(message);
        }
        if messages.is_empty() {
            return Err(anyhow!(stored.holds_nothing(subjects)).into());
        }
    }
    let found = |message: Arc<Message>| Found {
        name: format!("{}-{}", message.stream, message.place),
        message,
    };
    Ok(messages.into_iter().map(found).collect())
}

async fn dead_letters(args: &Args, config: &Config, notes: &mut dyn Write) -> Result<Vec<Found>, Failure> {
    let stream = &config.dead_letters.stream;
    let reader = super::dead_letters::reader(config).await?;
    let reader = reader.with_context(|| format!("there are no dead letters: the stream {stream} does not exist"))?;
    let mut found = Vec::new();
    for &number in &args.dead_letter {
        let letter = reader.find(number).await.map_err(anyhow::Error::from)?;
        let opened = match letter {
            Some(letter) => reader.fetch(letter.numbers()).await.map_err(anyhow::Error::from)?,
            None => None,
        };
        let opened = opened.with_context(|| format!("there is no dead letter {number} in {stream}"))?;
        let message = opened
            .message()
            .with_context(|| format!("the message of the dead letter {number} cannot be read"))?;
        let letter = &opened.letter;
        writeln!(
            notes,
            "dead letter {number} of {}: {} ({})",
            letter.module, letter.reason, letter.code
        )?;
        found.push(Found {
            name: format!("dead-letter-{number}"),
            message: Arc::new(message),
        });
    }
    Ok(found)
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} written", cases(self.written))?;
        if self.there_already > 0 {
            write!(f, ", {} already there", self.there_already)?;
        }
        if self.left_out > 0 {
            write!(f, ", {} not recorded", self.left_out)?;
        }
        Ok(())
    }
}
