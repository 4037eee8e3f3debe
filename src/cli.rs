//! The command line: what `slipring` understands, and one file a command in `cli/`. Results go to standard output, words for
//! people to standard error; the exit code says how it ended.

#[cfg(test)]
mod canned;
mod case;
mod check;
mod completions;
mod connection;
mod dead_letters;
mod dev;
mod diff;
mod difference;
mod input;
mod json;
mod modules;
mod new;
mod palette;
mod project;
mod record;
mod relay;
mod report;
mod run;
mod runner;
mod sample;
mod selection;
mod status;
pub mod stored;
mod table;
mod test_cases;
mod timing;
mod try_module;

use std::env;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Bounds, Config, Problems};
use crate::telemetry::{self, DEFAULT_FILTER, Format, Log, Mode, QUIET_FILTER};

/// Carries events from NATS JetStream to Centrifugo channels, through WebAssembly modules that can be exchanged while it runs.
///
/// A module is a file NAME.wasm in the modules directory, with NAME.toml beside it. It turns each message of a stream into
/// publications. What it becomes can be seen with `slipring try`, without a server.
#[derive(Debug, Parser)]
#[command(name = "slipring", version, propagate_version = true, after_long_help = HELP)]
pub struct Cli {
    /// How log lines on standard error look
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: Format,
    #[command(subcommand)]
    command: Command,
}

const HELP: &str = "\
Environment:
  SLIPRING_LOG              What is logged, such as `debug` or `warn,slipring=debug`
  SLIPRING_SECTION__KEY     Any key of slipring.toml, such as SLIPRING_NATS__SERVERS
  SLIPRING_CONFIG           The same as --config

Exit codes:
  0   it worked
  1   it failed
  2   the command line is wrong
  78  the configuration is wrong";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    New(new::Args),
    Try(try_module::Args),
    Test(test_cases::Args),
    Dev(dev::Args),
    Diff(diff::Args),
    Record(record::Args),
    Status(status::Args),
    Modules(modules::Args),
    DeadLetters(dead_letters::Args),
    Completions(completions::Args),
}

/// The file of a module, unless it is larger than it may be.
fn read_wasm(path: &Path, bounds: &Bounds) -> anyhow::Result<Vec<u8>> {
    let max = bounds.file_size as u64;
    let mut wasm = Vec::new();
    // One byte more shows that it is too large, whatever the system says of its size.
    File::open(path)?.take(max + 1).read_to_end(&mut wasm)?;
    anyhow::ensure!(
        wasm.len() as u64 <= max,
        "it has more than {max} bytes; `modules.max_file_size` sets the limit"
    );
    Ok(wasm)
}

/// Which configuration a command reads.
#[derive(Debug, Default, Args)]
struct ConfigFile {
    /// The configuration; ./slipring.toml if that is there and this is not given
    #[arg(long, global = true, value_name = "FILE", env = "SLIPRING_CONFIG")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// Whether none was named, and there is none.
    fn is_absent(&self) -> bool {
        self.config.is_none() && !Path::new(config::DEFAULT_FILE).exists()
    }

    /// For commands that do without a configuration, too.
    fn bounds(&self) -> Bounds {
        self.load()
            .map_or_else(|_| Bounds::default(), |config| config.modules.bounds)
    }

    fn load(&self) -> Result<Config, Failure> {
        let config = config::load(self.config.as_deref(), env::vars_os())?;
        for variable in &config.unknown_variables {
            tracing::warn!(variable, "no key is set by this variable");
        }
        Ok(config)
    }
}

/// Why a command did not work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Config(#[from] Problems),
    /// Of the kind that the command line's parser can't see.
    #[error("{0}")]
    Usage(String),
    // With all its causes: this is the one place where the chain is printed.
    #[error("{}", told_once(.0))]
    Failed(#[from] anyhow::Error),
}

impl Failure {
    pub fn exit_code(&self) -> u8 {
        match self {
            // EX_CONFIG of sysexits.h.
            Self::Config(_) => 78,
            Self::Usage(_) => 2,
            Self::Failed(_) => 1,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl Cli {
    /// Starts logging to standard error, for the rest of the process.
    pub fn start_logging(&self) -> Result<Log, Failure> {
        let filter = telemetry::filter(env::var_os("SLIPRING_LOG"))?;
        let (mode, default) = match self.command {
            Command::Run(_) => (Mode::Queued, DEFAULT_FILTER),
            // Who asks for a list has no use for a line about the connection.
            Command::DeadLetters(_) | Command::Dev(_) | Command::Diff(_) | Command::Record(_) | Command::Try(_) => {
                (Mode::Direct, QUIET_FILTER)
            }
            _ => (Mode::Direct, DEFAULT_FILTER),
        };
        let started = Log::start(self.log_format, mode, filter.as_deref().unwrap_or(default));
        started.map_err(|error| match error.downcast() {
            Ok(problems) => Failure::Config(problems),
            Err(error) => Failure::Failed(error),
        })
    }

    /// Does what the command line asks for. Results go to `output`, words for people to `notes`.
    pub fn execute(&self, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
        // Whoever speaks TLS or HTTP needs one; a second call finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let done = match &self.command {
            Command::Run(args) => run::execute(args),
            Command::Check(args) => check::execute(args, output),
            Command::New(args) => new::execute(args, output, notes),
            Command::Try(args) => try_module::execute(args, output, notes),
            Command::Test(args) => test_cases::execute(args, output, notes),
            Command::Dev(args) => dev::execute(args, output, notes),
            Command::Diff(args) => diff::execute(args, output, notes),
            Command::Record(args) => record::execute(args, output, notes),
            Command::Status(args) => status::execute(args, output),
            Command::Modules(args) => modules::execute(args, output, notes),
            Command::DeadLetters(args) => dead_letters::execute(args, output, notes),
            Command::Completions(args) => completions::execute(args, output),
        };
        match done {
            // Whoever reads the results, such as `head`, has seen enough.
            Err(Failure::Failed(error)) if is_broken_pipe(&error) => Ok(()),
            done => done,
        }
    }
}

/// The error and its causes. A cause that an error tells of itself, as those of async-nats do, is not told again.
fn told_once(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if told.is_empty() {
            told = text;
        } else if !told.ends_with(&text) {
            told = format!("{told}: {text}");
        }
    }
    told
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn exit_codes_tell_a_wrong_configuration_from_a_failure() {
        let problems = config::parse_module(std::path::Path::new("a.toml"), "").unwrap_err();
        assert_eq!(Failure::from(problems).exit_code(), 78);
        assert_eq!(Failure::from(anyhow::anyhow!("no")).exit_code(), 1);
    }

    #[test]
    fn a_cause_is_told_once() {
        let shown = |error: anyhow::Error| Failure::from(error).to_string();
        assert_eq!(
            shown(anyhow::anyhow!("refused").context("connecting")),
            "connecting: refused"
        );
        assert_eq!(
            shown(
                anyhow::anyhow!("refused")
                    .context("IO error: refused")
                    .context("connecting")
            ),
            "connecting: IO error: refused"
        );
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("slipring.toml");
        std::fs::write(&config, "modules.dir = '.'").unwrap();
        std::fs::write(dir.path().join("a.wasm"), "").unwrap();
        let cli = Cli::parse_from(["slipring", "check", "--config", config.to_str().unwrap()]);
        cli.execute(&mut Closed, &mut io::sink()).unwrap();
    }
}
