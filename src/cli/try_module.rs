//! `slipring try`: shows what a module returns for messages, which come as lines of JSON or from a stream.

mod requests;
mod stored;

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use slipring_core::place::Place;
use slipring_core::read::Incarnation;

use super::config_file::ConfigFile;
use super::failure::Failure;
use super::input::Lines;
use super::project::TARGET;
use super::report::{self, Source};
use super::selection::Selection;
use super::wasm_file::read_wasm;
use crate::config::{self, Bounds, ModuleConfig, VersionSource};
use crate::message::Outcome;
use crate::pipeline::Stamp;
use crate::transform::{Engine, Limits, Module};

/// Show what a module returns for messages from a file or a stream
///
/// Reads messages as JSON, one per line, runs the module on each, and prints one line of JSON per message: the publications for
/// Centrifugo, a drop, or a rejection with its reason. If the module has a .toml beside it, its settings and limits apply, but it is
/// optional. With a file, no server is needed.
///
/// With --seq or --last the messages come from what the module reads, or from a JetStream stream, and nothing there changes: no
/// message is taken or acknowledged, and no consumer moves. Each line then has further fields, which are listed below. The server's
/// address and the keys of `[publish]` come from slipring.toml. `max_age` is ignored.
///
/// The exit code is 0 even if messages are rejected. If a line is not a message, it is reported, the other lines are run, and the exit
/// code is 1. The module's own output appears on standard error.
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
  slipring try modules/orders.wasm samples.jsonl
  echo '{\"subject\":\"orders.7\",\"data\":{\"id\":7}}' |
    slipring try orders.wasm | jq .publications
  slipring try --stream ORDERS --seq 42 modules/orders.wasm | jq .
  slipring try --last 1000 modules/orders.wasm |
    jq -c 'select(.outcome == \"reject\")'")]
pub struct Args {
    /// The module
    #[arg(value_name = "MODULE.wasm")]
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
    let name = args.module.file_stem().unwrap_or_default().to_string_lossy();
    let config_file = args.module.with_extension("toml");
    let is_stored = args.seq.is_some() || args.last.is_some();
    let named = config_file
        .exists()
        .then(|| config::load_module(&config_file))
        .transpose()?;
    let selection = is_stored.then(|| {
        let selection = Selection::new(args.stream.as_deref(), &args.subject, named.as_ref());
        let file = config_file.display();
        selection.ok_or_else(|| Failure::Usage(format!("no stream is named: use --stream, or set `stream` in {file}")))
    });
    let selection = selection.transpose()?;
    let config = named.clone().unwrap_or_else(|| ModuleConfig::new(&name, STREAM));
    let module = load(&args.module, &name, &config, args.config.bounds())?;
    if let Some(selection) = selection {
        return stored::execute(args, selection, &module, &config, output, notes);
    }
    let mut lines = Lines::open(args.messages.as_deref(), &config.stream)?;
    let mut instance = module.instance();
    let stamp = stamp(&name, None, config.version);
    let mut output = BufWriter::new(output);
    let mut summary = Summary::default();
    while let Some((number, message)) = lines.next(notes)? {
        let outcome = stamp.outcome(&message, instance.call(&message));
        summary.count(&outcome);
        report::write(&mut output, Source::Line(number), &message, &outcome)?;
    }
    output.flush()?;
    writeln!(notes, "{summary}")?;
    Ok(lines.verdict()?)
}

pub fn load(path: &Path, name: &str, config: &ModuleConfig, bounds: Bounds) -> anyhow::Result<Arc<Module>> {
    let doing = || format!("cannot load the module {}", path.display());
    ensure!(
        !path.is_dir(),
        "{} is a folder: name the module in it, such as {}",
        path.display(),
        path.join(format!("target/{TARGET}/release/{name}.wasm")).display()
    );
    let wasm = read_wasm(path, &bounds).with_context(doing)?;
    let engine = Engine::bounded(None, bounds).with_context(doing)?;
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

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use std::fs;

    use super::*;
    use crate::transform::tests::wat::{Guest, TWICE};

    /// A guest that publishes, but drops the second message of the stream and rejects the third.
    fn guest() -> Guest<'static> {
        let transform = "(if (i64.eq (local.get $sequence) (i64.const 2))
                (then (return (call $result (i32.const 0) (i32.const 0) (i32.const 0)))))
            (if (i64.eq (local.get $sequence) (i64.const 3))
                (then (return (call $result (i32.const 1) (i32.const 16) (i32.const 1)))))
            (call $result (i32.const 0) (call $publication) (i32.const 1))";
        Guest {
            transform,
            ..Guest::default()
        }
    }

    /// Returns standard output, standard error, and how the command ended.
    fn run(guest: &Guest<'_>, config: Option<&str>, messages: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("orders.wasm"), guest.wasm()).unwrap();
        fs::write(path("samples.jsonl"), messages).unwrap();
        if let Some(config) = config {
            fs::write(path("orders.toml"), config).unwrap();
        }
        let args = Args {
            module: path("orders.wasm"),
            messages: Some(path("samples.jsonl")),
            seq: None,
            last: None,
            stream: None,
            subject: Vec::new(),
            config: ConfigFile { config: None },
        };
        let (mut output, mut notes) = (Vec::new(), Vec::new());
        let end = match execute(&args, &mut output, &mut notes) {
            Ok(()) => "exit code 0".to_owned(),
            Err(failure) => format!("{failure}\nexit code {}", failure.exit_code()),
        };
        let text = [output, notes]
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .join("---\n")
            + &end;
        text.replace(&dir.path().display().to_string(), "modules")
    }

    #[test]
    fn each_message_becomes_a_line() {
        let messages = "{\"subject\":\"a\",\"payload\":\"\"}\n{\"subject\":\"b\",\"payload\":\"\"}\n\n\
                        {\"subject\":\"c\",\"payload\":\"\",\"sequence\":3}\r\n";
        assert_snapshot!(run(&guest(), None, messages), @r#"
        {"line":1,"subject":"a","outcome":"publish","publications":[{"channels":["a"],"data":1}]}
        {"line":2,"subject":"b","outcome":"drop"}
        {"line":4,"subject":"c","outcome":"reject","code":"rejected","reason":"a"}
        ---
        3 read: 1 published (publications: 1), 1 dropped, 1 rejected
        exit code 0
        "#);
    }

    #[test]
    fn a_line_that_is_no_message_is_named_and_the_others_go_on() {
        let messages = "nonsense\n{\"subject\":\"a\"}\n{\"subject\":\"a\",\"data\":[1, 2],\"sequence\":1}";
        assert_snapshot!(run(&guest(), None, messages), @r#"
        {"line":3,"subject":"a","outcome":"publish","publications":[{"channels":["a"],"data":1}]}
        ---
        line 1: this is not a message: expected ident at line 1 column 2
        line 2: a message must have exactly one of `data`, `payload` and `payload_base64`
        1 read: 1 published (publications: 1), 0 dropped, 0 rejected
        2 lines are not messages
        exit code 1
        "#);
    }

    #[test]
    fn the_file_beside_the_module_applies() {
        let message = "{\"subject\":\"a\",\"data\":{},\"sequence\":42}";
        let endless = Guest {
            transform: "(loop (br 0)) (i32.const 0)",
            ..Guest::default()
        };
        assert_snapshot!(run(&guest(), Some("stream = 'ORDERS'\nversion = 'sequence'"), message), @r#"
        {"line":1,"subject":"a","outcome":"publish","publications":[{"channels":["a"],"data":1,"version":42}]}
        ---
        1 read: 1 published (publications: 1), 0 dropped, 0 rejected
        exit code 0
        "#);
        assert_snapshot!(run(&endless, Some("stream = 'ORDERS'\ntimeout = '7ms'"), message), @r#"
        {"line":1,"subject":"a","outcome":"reject","code":"timeout","reason":"did not return within its timeout of 7ms"}
        ---
        1 read: 0 published (publications: 0), 0 dropped, 1 rejected
        exit code 0
        "#);
        assert_snapshot!(run(&guest(), Some("stream = 5"), message), @r#"
        ---
        modules/orders.toml:1:10: `stream` is 5; it must be a string that is not empty
        exit code 78
        "#);
    }

    #[test]
    fn what_the_relay_would_reject_is_rejected() {
        let twice = Guest {
            transform: TWICE,
            ..Guest::default()
        };
        let message = "{\"subject\":\"a\",\"data\":{},\"sequence\":42}";
        assert_snapshot!(run(&twice, Some("stream = 'ORDERS'\nversion = 'sequence'"), message), @r#"
        {"line":1,"subject":"a","outcome":"reject","code":"version","channel":"a","reason":"the module returned two publications on the channel `a` for one message, but with `version = \"sequence\"` both would have the same version, and Centrifugo would show only the first"}
        ---
        1 read: 0 published (publications: 0), 0 dropped, 1 rejected
        exit code 0
        "#);
    }

    #[test]
    fn a_module_that_will_not_start_is_told() {
        let refuses = Guest {
            init: "(call $result (i32.const 1) (i32.const 16) (i32.const 1))",
            ..Guest::default()
        };
        assert_snapshot!(run(&refuses, None, ""), @r#"
        ---
        cannot load the module modules/orders.wasm: the module failed in a test call: `init` refused its settings: a
        exit code 1
        "#);
    }
}
