//! `slipring dev`: builds the module and runs its cases and unit tests whenever a file is saved.
//!
//! A session does the work and tells what happens. On a terminal a full screen shows it, and elsewhere lines. With `--web`,
//! a page shows the same.

mod cases;
mod draw;
mod editor;
mod event;
mod files;
mod layout;
mod lines;
mod model;
mod news;
mod saving;
mod sending;
mod session;
mod shared;
mod show;
mod tally;
mod tap;
#[cfg(test)]
mod tests;
mod told;
mod units;
mod web;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use self::event::Event;
use self::lines::Lines;
use self::model::Model;
use self::saving::Redact;
use self::session::Setup;
use self::shared::Shared;
use self::web::Web;
use super::config_file::ConfigFile;
use super::failure::Failure;
use super::palette::Palette;
use super::project::Project;
use super::terminal;

/// Build a module and run its cases on every save
///
/// Watches the module's folder. On every save it builds the module, runs the cases in `cases/`, and then the unit tests of a crate or a
/// Go module. If only a case or the .toml changed, the cases run without a build. When a build fails, the compiler's output is shown, and
/// the last module that was built stays in use.
///
/// On a terminal with at least 60 columns it shows a full screen: a list of the cases, and the message and the outcome of the selected
/// one. The message can be edited, saved as a case (--redact replaces values in it, as in `slipring record`), and published. Elsewhere it prints lines: the full outcome of each case at first,
/// then only what the last save changed.
///
/// With --live it also runs the module on messages as they arrive, and shows the outcomes. The module's .toml names the source, and
/// slipring.toml the server. Nothing is taken, acknowledged or published, and no consumer moves. From a list in Redis, it shows what a
/// relay takes or, while no relay reads, what is pushed.
///
/// With --web it also shows all of this as a page in the browser, beside the screen or the lines. There, messages can be edited, pasted,
/// run and saved as cases. The page is only for this machine, and whoever opens it needs the token in its address.
///
/// These are not watched: files that .gitignore names, hidden files, .wasm files, Cargo.lock, and the folders `target`, `node_modules`
/// and `__pycache__`. For a MODULE.wasm, only the file itself, its .toml and `cases/` are watched.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Keys:
  arrows, j, k     select a case
  PgUp, PgDn       scroll
  a                let the case expect its outcome
  e                edit the message in $EDITOR, and run it; a message can also be
                   pasted
  s                save the message as a case
  p                publish the message to its stream in NATS
  r                build and run again
  d                difference, or the outcome as it is
  o                output of the build or of unit tests
  u                unit tests on or off
  Tab, space       with --live: messages or cases, and pause
  ?                help
  q, Ctrl-C        quit

Examples:
  slipring dev
  slipring dev ../shop
  slipring dev --lines | tee dev.log
  slipring dev --web
  slipring dev --web=8090
  slipring dev --live --redact customer.email
  SLIPRING_NATS__SERVERS=nats://10.0.0.7:4222 slipring dev --live")]
pub struct Args {
    /// The module's folder, or a module that something else builds
    #[arg(value_name = "DIR | MODULE.wasm", default_value = ".")]
    module: PathBuf,
    /// Also run the module on messages as they arrive, and show the outcomes
    #[arg(long, alias = "nats")]
    live: bool,
    /// Print lines instead of showing a full screen
    #[arg(long)]
    lines: bool,
    /// Also show a page in the browser, on this port of 127.0.0.1 (default: a free one)
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    web: Option<u16>,
    /// Do not run the unit tests
    #[arg(long)]
    no_unit_tests: bool,
    /// Run only the case of this name
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
    /// End as soon as the cases pass
    #[arg(long)]
    until_passed: bool,
    #[command(flatten)]
    redact: Redact,
    #[command(flatten)]
    config: ConfigFile,
}

/// How many events may wait while a build runs.
const WAITING: usize = 1_000;

/// A full screen needs as many columns and lines.
const LEAST_SIZE: (u16, u16) = (60, 15);

/// The work that a change requires. Each kind includes the kinds before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Run,
    Load,
    Build,
}

pub fn execute(args: &Args, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    let project = Project::at(&args.module)?;
    let live = match args.live {
        true => Some(Arc::new(args.config.load()?)),
        false => None,
    };
    let runtime = Runtime::new().context("starting the tokio runtime failed")?;
    let stop = CancellationToken::new();
    let (sender, events) = sync_channel(WAITING);
    stop_on_signals(&runtime, &stop, sender.clone())?;
    let shared = Shared::new(Model::new(!args.no_unit_tests, args.live));
    let web = match args.web {
        Some(port) => Some(Web::start(runtime.handle(), port, &shared, &sender, &stop)?),
        None => None,
    };
    let setup = Setup {
        project,
        runtime: runtime.handle().clone(),
        config_file: args.config.clone(),
        live,
        units: !args.no_unit_tests,
        only: args.case.clone(),
        until_passed: args.until_passed,
        redact: args.redact.clone(),
        words: None,
        events: sender,
        stop: stop.clone(),
    };
    let done = if !args.lines && has_screen() {
        show::run(setup, events, &shared)
    } else {
        show_lines(setup, events, web.is_some().then_some(&shared), output, notes)
    };
    stop.cancel();
    if let Some(web) = web {
        web.end(runtime.handle())?;
    }
    done
}

/// Shows lines, and the page with this model if there is one.
fn show_lines(
    setup: Setup,
    events: Receiver<Event>,
    page: Option<&Shared>,
    output: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), Failure> {
    let width = match io::stdout().is_terminal() {
        true => terminal::size().map(|(columns, _)| columns),
        false => None,
    };
    if let Some(address) = page.and_then(|shared| shared.look(|model| model.address.clone())) {
        writeln!(notes, "page: {address}")?;
    }
    let mut lines = Lines::new(output, notes, Palette::of_stdout(), width.unwrap_or(u16::MAX));
    match page {
        Some(shared) => web::run(setup, events, shared, &mut lines),
        None => session::run(setup, events, &mut lines),
    }
}

/// Returns true if a person sits at a terminal that is large enough for the screen.
fn has_screen() -> bool {
    let is_dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let (columns, lines) = LEAST_SIZE;
    is_terminal && !is_dumb && terminal::size().is_some_and(|size| size.0 >= columns && size.1 >= lines)
}

/// From here on, Ctrl-C and SIGTERM only send an event.
fn stop_on_signals(runtime: &Runtime, stop: &CancellationToken, events: SyncSender<Event>) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let _context = runtime.enter();
    let doing = "catching signals failed";
    let mut interrupt = signal(SignalKind::interrupt()).context(doing)?;
    let mut terminate = signal(SignalKind::terminate()).context(doing)?;
    let stop = stop.clone();
    runtime.spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
        // A full channel has already woken the receiver, which also checks the token.
        let _ = events.try_send(Event::Stop);
    });
    Ok(())
}
