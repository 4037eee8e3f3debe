//! The whole command line and the dispatch of its commands.

mod groups;

use std::env;
use std::io::{self, Write};

use clap::{CommandFactory, Parser, Subcommand};

use super::failure::Failure;
use super::{
    check, completions, dead_letters, deploy, dev, diff, fix, manual_pages, modules, new, publish, record, run, status,
    tap, test_cases, top, try_module, up,
};
use crate::telemetry::{self, DEFAULT_FILTER, Format, Log, Mode, QUIET_FILTER};

/// Carries events from NATS JetStream or Redis to Centrifugo channels, through WebAssembly modules that you can replace while it runs.
///
/// A module is a file NAME.wasm in the modules directory, with NAME.toml beside it. It turns each message of a stream into
/// publications. `slipring try` shows the result without a server.
#[derive(Debug, Parser)]
#[command(name = "slipring", version, after_long_help = HELP)]
#[command(help_template = groups::template(&Command::augment_subcommands(clap::Command::new("slipring"))))]
pub struct Cli {
    /// Format of the log on standard error: text or json [default: text]
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        hide_possible_values = true,
        display_order = 900
    )]
    log_format: Option<Format>,
    #[command(subcommand)]
    command: Command,
}

const HELP: &str = "\
Environment:
  SLIPRING_LOG              The log filter, such as `warn,slipring=debug`
  SLIPRING_LOG_FORMAT       The same as --log-format
  NO_COLOR                  No colours, in the log and in results
  SLIPRING_SECTION__KEY     A key of slipring.toml, like SLIPRING_NATS__SERVERS
  SLIPRING_CONFIG           The same as --config
  SLIPRING_BUILD_CACHE      Where compiled dependencies are kept, or `false`

Exit codes:
  0   success
  1   failure
  2   invalid command line
  78  invalid configuration";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    New(new::Args),
    Up(up::Args),
    Try(try_module::Args),
    Test(test_cases::Args),
    Dev(dev::Args),
    Diff(diff::Args),
    Deploy(deploy::Args),
    Fix(fix::Args),
    Record(record::Args),
    Publish(publish::Args),
    Status(status::Args),
    Top(top::Args),
    Tap(tap::Args),
    Modules(modules::Args),
    DeadLetters(dead_letters::Args),
    Completions(completions::Args),
    ManualPages(manual_pages::Args),
}

impl Cli {
    /// If a shell asks what completes a word, answers and exits.
    pub fn complete() {
        completions::answer(Self::command);
    }

    /// Starts logging to standard error for the rest of the process.
    pub fn start_logging(&self) -> Result<Log, Failure> {
        let filter = telemetry::filter(env::var_os("SLIPRING_LOG"))?;
        let format = telemetry::format(env::var_os("SLIPRING_LOG_FORMAT"))?;
        let format = self.log_format.or(format).unwrap_or(Format::Text);
        let (mode, default) = match self.command {
            Command::Run(_) => (Mode::Queued, DEFAULT_FILTER),
            // A user who asks for a list does not need log lines about the connection.
            Command::Check(_)
            | Command::DeadLetters(_)
            | Command::Deploy(_)
            | Command::Dev(_)
            | Command::Diff(_)
            | Command::Fix(_)
            | Command::Publish(_)
            | Command::Record(_)
            | Command::Tap(_)
            | Command::Top(_)
            | Command::Try(_)
            | Command::Up(_) => (Mode::Direct, QUIET_FILTER),
            _ => (Mode::Direct, DEFAULT_FILTER),
        };
        let started = Log::start(format, mode, filter.as_deref().unwrap_or(default));
        started.map_err(|error| match error.downcast() {
            Ok(problems) => Failure::Config(problems),
            Err(error) => Failure::Failed(error),
        })
    }

    /// Runs the command. Results go to `output`, messages for people to `notes`.
    pub fn execute(&self, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
        // TLS and HTTP need a provider. A second call fails because it is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let done = match &self.command {
            Command::Run(args) => run::execute(args),
            Command::Check(args) => check::execute(args, output),
            Command::New(args) => new::execute(args, output, notes),
            Command::Up(args) => up::execute(args, output, notes),
            Command::Try(args) => try_module::execute(args, output, notes),
            Command::Test(args) => test_cases::execute(args, output, notes),
            Command::Dev(args) => dev::execute(args, output, notes),
            Command::Diff(args) => diff::execute(args, output, notes),
            Command::Deploy(args) => deploy::execute(args, output, notes),
            Command::Fix(args) => fix::execute(args, output, notes),
            Command::Record(args) => record::execute(args, output, notes),
            Command::Publish(args) => publish::execute(args, output, notes),
            Command::Status(args) => status::execute(args, output),
            Command::Top(args) => top::execute(args),
            Command::Tap(args) => tap::execute(args, output, notes),
            Command::Modules(args) => modules::execute(args, output, notes),
            Command::DeadLetters(args) => dead_letters::execute(args, output, notes),
            Command::Completions(args) => completions::execute(args, output),
            Command::ManualPages(args) => manual_pages::execute(args, Self::command()),
        };
        match done {
            // The reader of the output, such as `head`, has seen enough.
            Err(Failure::Failed(error)) if is_broken_pipe(&error) => Ok(()),
            done => done,
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_every_command_has_takes_one_line_in_its_help() {
        assert!(HELP.lines().all(|line| line.len() <= 80), "{HELP}");
        let mut commands = Cli::command();
        commands.build();
        for command in commands.get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            assert!(!help.contains("--version"), "{help}");
            assert_eq!(
                help.matches("log on standard error").count(),
                usize::from(command.get_name() != "help"),
                "{help}"
            );
            assert!(!help.contains("For log collectors"), "{help}");
        }
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
