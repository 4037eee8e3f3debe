//! `slipring try`: shows what a module returns for messages, which come as lines of JSON or from a stream.

mod online;
mod requests;
mod setting;
mod stored;
#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use slipring_core::place::Place;
use slipring_core::read::Incarnation;

use self::setting::Setting;
use super::config_file::{Compiling, ConfigFile};
use super::failure::{Failure, told_once};
use super::input::Lines;
use super::project::{Built, Project};
use super::report::{self, Source};
use super::selection::Selection;
use super::wasm_file::read_wasm;
use crate::config::{self, ModuleConfig, VersionSource};
use crate::message::Outcome;
use crate::pipeline::Stamp;
use crate::publish::Namespaces;
use crate::transform::{Limits, LoadError, Module};

/// Show what a module returns for messages from a file or a stream
///
/// Reads messages as JSON, one per line, runs the module on each, and prints one line of JSON per message: the publications for
/// Centrifugo, a drop, or a rejection with its reason. With a file, no server is needed.
///
/// The module is built first, if its folder is named. The settings and limits of its .toml apply: NAME.toml in the folder, or beside
/// NAME.wasm. Without one, the defaults apply.
///
/// With --seq or --last the messages come from what the module reads, or from a JetStream stream, and nothing there changes: no
/// message is taken or acknowledged, and no consumer moves. Each line then has further fields, which are listed below. The server's
/// address and the keys of `[publish]` come from slipring.toml. `max_age` is ignored.
///
/// The exit code is 0 even if messages are rejected. If a line is not a message, it is reported, the other lines are run, and the exit
/// code is 1. The module's own output appears on standard error. With --online, the exit code is also 1 if Centrifugo's configuration
/// lacks a namespace that the module publishes to.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("stored").args(["seq", "last"]))]
#[command(after_long_help = "\
A message has a `subject` and one of
  data            any JSON, which becomes the payload
  payload         the payload as text
  payload_base64  the payload as bytes
and may have
  headers         an object; a value is a string or a list of strings
  headers_base64  instead of headers: the header block as bytes
  subject_base64  the subject as bytes, if it is not UTF-8
  sequence        in the stream; default: the line number
  timestamp       RFC 3339, or nanoseconds since 1970; default: 0, so that
                  the same input gives the same output
  stream          default: the one in the .toml, or TRY
  deliveries      default: 1

With --seq or --last, each line of the output also has
  requests        the bodies that the relay would send to Centrifugo's
                  /api/batch, with its idempotency keys; over GRPC it sends
                  the same content as protobuf
  call_us         the time of the call; with --seq the median of many calls
  memory_bytes    the module's memory

Examples:
  slipring try . samples.jsonl
  slipring try modules/orders.wasm samples.jsonl --set currency=EUR
  echo '{\"subject\":\"orders.7\",\"data\":{\"id\":7}}' |
    slipring try orders.wasm --toml test.toml | jq .publications
  slipring try --stream ORDERS --seq 42 modules/orders.wasm | jq .
  slipring try --last 1000 modules/orders.wasm |
    jq -c 'select(.outcome == \"reject\")'
  slipring try --last 20 --online")]
pub struct Args {
    /// The module's folder, or a module that is already built
    #[arg(value_name = "DIR | MODULE.wasm", default_value = ".")]
    module: PathBuf,
    /// The file with the messages; `-` is standard input [default: -]
    #[arg(value_name = "FILE", conflicts_with = "stored")]
    messages: Option<PathBuf>,
    /// Run the stream's message with this sequence, or with this ID in Redis
    #[arg(long, value_name = "SEQUENCE", value_parser = super::held::place)]
    seq: Option<Place>,
    /// Run this many of the stream's last messages, oldest first
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    last: Option<u64>,
    /// The stream [default: the one in the module's .toml]
    #[arg(long, value_name = "STREAM", requires = "stored")]
    stream: Option<String>,
    /// Only messages of this subject; wildcards are allowed, and the option can be repeated [default: the subjects in
    /// the .toml, or all if --stream names another stream]
    #[arg(long, value_name = "SUBJECT", requires = "last")]
    subject: Vec<String>,
    /// The module's .toml, instead of the one beside it
    #[arg(long, value_name = "FILE")]
    toml: Option<PathBuf>,
    /// Set a key of [settings] for this run; the value is TOML, or else a text; can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = Setting::parse)]
    set: Vec<Setting>,
    /// Run the last build without building again
    #[arg(long)]
    no_build: bool,
    /// Ask Centrifugo whether it has the namespaces that the module publishes to
    #[arg(long)]
    online: bool,
    #[command(flatten)]
    config: ConfigFile,
}

/// The stream of messages that do not name theirs.
pub const STREAM: &str = "TRY";

/// The number of messages with each outcome.
#[derive(Debug, Default)]
struct Summary {
    messages: u64,
    published: u64,
    publications: usize,
    dropped: u64,
    rejected: u64,
}

pub fn execute(args: &Args, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    let Built { name, wasm, toml } = build(args)?;
    let is_stored = args.seq.is_some() || args.last.is_some();
    // A file that was named has to exist.
    let named = (args.toml.is_some() || toml.exists())
        .then(|| config::load_module(&toml))
        .transpose()?;
    let selection = is_stored.then(|| {
        let selection = Selection::new(args.stream.as_deref(), &args.subject, named.as_ref());
        let file = toml.display();
        selection.ok_or_else(|| Failure::Usage(format!("no stream is named: use --stream, or set `stream` in {file}")))
    });
    let selection = selection.transpose()?;
    let mut config = named.clone().unwrap_or_else(|| ModuleConfig::new(&name, STREAM));
    config.settings = setting::apply(&config.settings, &args.set)?;
    let loaded = load(&wasm, &name, &config, args.config.compiling());
    let module = match (loaded, &named) {
        (Err(error), None) if is_refusal(&error) => return Err(without_settings(&error, &toml).into()),
        (loaded, _) => loaded?,
    };
    if let Some(selection) = selection {
        let namespaces = stored::execute(args, selection, &module, &config, output, notes)?;
        return online::ask_if(args, &namespaces, notes);
    }
    tell_of_terminal(args, notes)?;
    let mut lines = Lines::open(args.messages.as_deref(), &config.stream)?;
    let mut instance = module.instance();
    let stamp = stamp(&name, None, config.version);
    let mut output = BufWriter::new(output);
    let (mut summary, mut namespaces) = (Summary::default(), Namespaces::default());
    while let Some((number, message)) = lines.next(notes)? {
        let outcome = stamp.outcome(&message, instance.call(&message));
        summary.count(&outcome);
        namespaces.extend(Namespaces::of(&outcome));
        report::write(&mut output, Source::Line(number), &message, &outcome)?;
    }
    output.flush()?;
    writeln!(notes, "{summary}")?;
    lines.verdict()?;
    online::ask_if(args, &namespaces, notes)
}

/// Builds a folder's module. Returns it with the `.toml` that applies.
fn build(args: &Args) -> Result<Built, Failure> {
    let path = &args.module;
    if path.is_file() && path.extension().is_none_or(|extension| extension != "wasm") {
        return Err(Failure::Usage(format!(
            "{file} is neither a module's folder nor a MODULE.wasm; to run the module of this folder on it: slipring try . {file}",
            file = path.display()
        )));
    }
    let project = Project::at(path)?;
    if !args.no_build {
        project.build()?;
    }
    let built = project.built()?;
    Ok(Built {
        toml: args.toml.clone().unwrap_or(built.toml),
        ..built
    })
}

/// Returns true if the module itself refused to start.
fn is_refusal(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<LoadError>(), Some(LoadError::Tried(_)))
}

fn without_settings(error: &anyhow::Error, toml: &Path) -> anyhow::Error {
    anyhow!(
        "{}\nThere is no {}, so the module ran without settings. Name its folder, or its file with --toml, or use --set KEY=VALUE",
        told_once(error),
        toml.display()
    )
}

/// Somebody who sees nothing happen may not know that the command waits for them.
fn tell_of_terminal(args: &Args, notes: &mut dyn Write) -> io::Result<()> {
    let is_stdin = args.messages.as_ref().is_none_or(|path| path.as_os_str() == "-");
    if is_stdin && io::stdin().is_terminal() {
        writeln!(
            notes,
            "reading messages from the terminal, one per line, such as {{\"subject\":\"orders.7\",\"data\":{{\"id\":7}}}}; Ctrl-D ends \
             the input"
        )?;
    }
    Ok(())
}

pub fn load(
    path: &Path,
    name: &str,
    config: &ModuleConfig,
    compiling: impl Into<Compiling>,
) -> anyhow::Result<Arc<Module>> {
    let compiling = compiling.into();
    let doing = || format!("cannot load the module {}", path.display());
    let wasm = read_wasm(path, &compiling.bounds).with_context(doing)?;
    let engine = compiling.engine().with_context(doing)?;
    let limits = Limits::from(config);
    Module::load(&engine, name, &wasm, &config.settings, limits).with_context(doing)
}

/// Returns the stamp of the relay without its idempotency keys, because the module did not set them.
pub fn stamp(name: &str, incarnation: Option<Incarnation>, version: VersionSource) -> Stamp<'_> {
    Stamp {
        module: name,
        incarnation,
        idempotency: false,
        version,
    }
}

impl Summary {
    fn count(&mut self, outcome: &Outcome) {
        self.messages += 1;
        match outcome {
            Outcome::Publish(publications) => {
                self.published += 1;
                self.publications += publications.len();
            }
            Outcome::Drop => self.dropped += 1,
            Outcome::Reject(_) => self.rejected += 1,
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            messages,
            published,
            publications,
            dropped,
            rejected,
        } = self;
        write!(
            f,
            "{messages} read: {published} published (publications: {publications}), {dropped} dropped, {rejected} rejected"
        )
    }
}
