//! `slipring try`: what does a module make of these messages? JSON lines in, publications out, no server.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};

use super::Failure;
use super::report::{self, Source};
use super::sample;
use crate::config::{self, ModuleConfig, VersionSource};
use crate::message::{Message, Outcome};
use crate::transform::{Engine, Instance, Limits, Module};

/// Show what a module makes of messages, without a server
///
/// Reads messages as JSON, one a line, runs the module on each, and prints one line of JSON a message: what Centrifugo would be
/// sent, or that the message was dropped, or rejected and why. If the module's .toml is beside it, its settings and limits
/// apply; there is no need for one.
///
/// A rejected message is a result: the exit code is 0. A line that is not a message is named, the others go on, and the exit
/// code is 1. Whatever the module prints appears on standard error.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A message has a `subject` and one of
  data            any JSON, which becomes the payload
  payload         the payload as text
  payload_base64  the payload as bytes
and may have
  headers         an object; a value is a text or a list of texts
  sequence        in the stream; default: the number of the line
  timestamp       RFC 3339, or nanoseconds since 1970; default: 0, so that
                  the same input gives the same output
  stream          default: the .toml's, or TRY
  deliveries      default: 1

Examples:
  slipring try modules/orders.wasm samples.jsonl
  echo '{\"subject\":\"orders.7\",\"data\":{\"id\":7}}' | slipring try orders.wasm | jq .publications")]
pub struct Args {
    /// The module
    #[arg(value_name = "MODULE.wasm")]
    module: PathBuf,
    /// The messages; standard input if this is not given or `-`
    #[arg(value_name = "FILE")]
    messages: Option<PathBuf>,
}

/// The stream of messages that do not name theirs.
pub const STREAM: &str = "TRY";

/// How many lines ended how.
#[derive(Debug, Default)]
struct Summary {
    messages: u64,
    published: u64,
    publications: usize,
    dropped: u64,
    rejected: u64,
    unreadable: u64,
}

pub fn execute(args: &Args, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    let name = args.module.file_stem().unwrap_or_default().to_string_lossy();
    let config_file = args.module.with_extension("toml");
    let config = match config_file.exists() {
        true => config::load_module(&config_file)?,
        false => ModuleConfig::new(&name, STREAM),
    };
    let module = load(&args.module, &name, &config)?;
    let input: Box<dyn BufRead> = match &args.messages {
        Some(path) if path.as_os_str() != "-" => {
            let doing = || format!("cannot read messages from {}", path.display());
            Box::new(BufReader::new(File::open(path).with_context(doing)?))
        }
        _ => Box::new(io::stdin().lock()),
    };
    let mut output = BufWriter::new(output);
    let summary = run(&mut module.instance(), &config, input, &mut output, notes)?;
    output.flush()?;
    writeln!(notes, "{summary}")?;
    match summary.unreadable {
        0 => Ok(()),
        1 => Err(anyhow!("1 line is not a message").into()),
        lines => Err(anyhow!("{lines} lines are not messages").into()),
    }
}

pub fn load(path: &Path, name: &str, config: &ModuleConfig) -> anyhow::Result<Arc<Module>> {
    let doing = || format!("cannot load the module {}", path.display());
    let wasm = fs::read(path).with_context(doing)?;
    let engine = Engine::new(None).with_context(doing)?;
    let limits = Limits::new(config.timeout, config.memory);
    Module::load(&engine, name, &wasm, &config.settings, limits).with_context(doing)
}

fn run(
    instance: &mut Instance,
    config: &ModuleConfig,
    input: impl BufRead,
    output: &mut dyn Write,
    notes: &mut dyn Write,
) -> io::Result<Summary> {
    let mut summary = Summary::default();
    for (number, line) in (1..).zip(input.split(b'\n')) {
        let line = line?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let message = match sample::parse(&line, number, &config.stream) {
            Ok(message) => message,
            Err(error) => {
                summary.unreadable += 1;
                writeln!(notes, "line {number}: {error:#}")?;
                continue;
            }
        };
        let outcome = with_version(config.version, &message, instance.call(&message));
        summary.count(&outcome);
        report::write(output, Source::Line(number), &message, &outcome)?;
    }
    Ok(summary)
}

/// The version as the relay sets it. Its epoch is when the stream was created, and there is none.
pub fn with_version(source: VersionSource, message: &Message, outcome: Outcome) -> Outcome {
    match (source, outcome) {
        (VersionSource::Sequence, Outcome::Publish(mut publications)) => {
            for publication in &mut publications {
                publication.version = Some(message.sequence);
                publication.version_epoch = None;
            }
            Outcome::Publish(publications)
        }
        (_, outcome) => outcome,
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
            ..
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

    use super::*;
    use crate::transform::tests::wat::Guest;

    /// Publishes; drops the second message of the stream and rejects the third.
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

    /// Standard output, standard error, and how it ends.
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
        line 2: a message must have one of `data`, `payload` and `payload_base64`
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
        {"line":1,"subject":"a","outcome":"reject","code":"timeout","reason":"did not return within its time-out of 7ms"}
        ---
        1 read: 0 published (publications: 0), 0 dropped, 1 rejected
        exit code 0
        "#);
        assert_snapshot!(run(&guest(), Some("stream = 5"), message), @r#"
        ---
        modules/orders.toml:1:10: `stream` is 5; it must be a text that is not empty
        exit code 78
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
        cannot load the module modules/orders.wasm: the module failed when it was tried: `init` refused its settings: a
        exit code 1
        "#);
    }
}
