//! `slipring dev`: builds the module and runs its cases whenever a file is saved.
//!
//! Everything happens on one plain thread, because building and running modules block. Signals, file system events and
//! messages arrive from other threads as [`Event`]s.

mod event;
mod files;
mod screen;
mod tap;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::runtime::{Handle, Runtime};
use tokio_util::sync::CancellationToken;

use self::event::Event;
use self::files::Files;
use self::screen::Screen;
use self::tap::Tap;
use super::case;
use super::config_file::ConfigFile;
use super::failure::Failure;
use super::palette::Palette;
use super::project::{CASES, Project};
use super::runner::Runner;
use super::test_cases::no_cases;
use crate::config::Config;
use crate::message::Message;

/// Build a module and run its cases on every save
///
/// Watches the module's folder. On every save it builds the module and runs the cases in `cases/`. It shows the full outcome of each
/// case at first, then only what the last save changed. If only a case or the .toml changed, the cases run without a build. When a
/// build fails, the compiler's output is shown, and the last module that was built stays in use.
///
/// With --live it also runs the module on messages as they arrive, and shows the outcomes. The module's .toml names the source, and
/// slipring.toml the server. Nothing is taken, acknowledged or published, and no consumer moves. From a list in Redis, it shows what a
/// relay takes or, while no relay reads, what is pushed.
///
/// These are not watched: files that .gitignore names, hidden files, .wasm files, Cargo.lock, and the folders `target`, `node_modules`
/// and `__pycache__`. For a MODULE.wasm, only the file itself, its .toml and `cases/` are watched. Ctrl-C ends the command.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  slipring dev
  slipring dev ../shop
  SLIPRING_NATS__SERVERS=nats://10.0.0.7:4222 slipring dev --live")]
pub struct Args {
    /// The module's folder, or a module that something else builds
    #[arg(value_name = "DIR | MODULE.wasm", default_value = ".")]
    module: PathBuf,
    /// Also run the module on messages as they arrive, and show the outcomes
    #[arg(long, alias = "nats")]
    live: bool,
    #[command(flatten)]
    config: ConfigFile,
}

/// How many events may wait while a build runs.
const WAITING: usize = 1_000;

/// One save causes several events, and an editor may write several files. A single look follows them, this long after
/// the first.
const HINT_DELAY: Duration = Duration::from_millis(100);

/// How often the folder is checked without any event.
const POLL: Duration = Duration::from_secs(2);

/// The work that a change requires. Each kind includes the kinds before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Run,
    Load,
    Build,
}

pub fn execute(args: &Args, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    let project = Project::at(&args.module)?;
    let config = match args.live {
        true => Some(Arc::new(args.config.load()?)),
        false => None,
    };
    let runtime = Runtime::new().context("starting the tokio runtime failed")?;
    let stop = CancellationToken::new();
    let (sender, events) = sync_channel(WAITING);
    stop_on_signals(&runtime, &stop, sender.clone())?;
    let live = config.map(|config| Live {
        runtime: runtime.handle().clone(),
        config,
        events: sender.clone(),
        tap: None,
    });
    run(&project, live, sender, &events, &stop, output, notes)
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

fn run(
    project: &Project,
    live: Option<Live>,
    hints: SyncSender<Event>,
    events: &Receiver<Event>,
    stop: &CancellationToken,
    output: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), Failure> {
    let wake = move || drop(hints.try_send(Event::Hint));
    let mut files = Files::new(&project.dir, project.file(), wake);
    let mut session = Session {
        project,
        screen: Screen::new(Palette::of_stdout()),
        runner: None,
        live,
        made_by_builds: Repeated::default(),
    };
    let mut work = Some(Work::Build);
    let mut look_at = Instant::now() + POLL;
    while !stop.is_cancelled() {
        if let Some(todo) = work.take() {
            session.round(todo, stop, output, notes)?;
            if todo == Work::Build {
                work = session.after_build(&files.look(), notes)?;
            }
        } else if Instant::now() >= look_at {
            work = session.work(&files.look());
            look_at = Instant::now() + POLL;
        } else {
            match events.recv_timeout(look_at.saturating_duration_since(Instant::now())) {
                Ok(Event::Hint) => look_at = look_at.min(Instant::now() + HINT_DELAY),
                Ok(Event::Tapped) => session.tapped(notes)?,
                Ok(Event::Message { message, skipped }) => session.show(&message, skipped, output, notes)?,
                Ok(Event::Trouble(trouble)) => writeln!(notes, "{trouble}")?,
                Ok(Event::Stop) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }
    writeln!(notes, "stopped")?;
    Ok(())
}

struct Session<'a> {
    project: &'a Project,
    screen: Screen,
    /// The last module that was built and loaded.
    runner: Option<Runner>,
    live: Option<Live>,
    made_by_builds: Repeated,
}

/// What is needed to read the module's source.
struct Live {
    runtime: Handle,
    config: Arc<Config>,
    events: SyncSender<Event>,
    /// `None` while no source is configured.
    tap: Option<Tap>,
}

/// What changed during builds, build after build.
#[derive(Debug, Default)]
struct Repeated {
    files: BTreeSet<PathBuf>,
    times: u32,
}

/// A person may save a file during one build and the next, but not during this many.
const SAVES_DURING_BUILDS: u32 = 3;

impl Session<'_> {
    fn round(
        &mut self,
        work: Work,
        stop: &CancellationToken,
        output: &mut dyn Write,
        notes: &mut dyn Write,
    ) -> io::Result<()> {
        let now = jiff::ZonedDateTime::now().strftime("%H:%M:%S");
        let begun = Instant::now();
        let mut how = "loaded".to_owned();
        if work == Work::Build && self.project.is_built_here() {
            writeln!(notes, "{now} building")?;
            match self.project.build_until(|| stop.is_cancelled()) {
                Ok(Some(())) => how = format!("built in {:.1} s", begun.elapsed().as_secs_f64()),
                Ok(None) => return Ok(()),
                Err(error) => return writeln!(notes, "{error:#}"),
            }
        }
        if work >= Work::Load {
            match load(self.project) {
                Ok(runner) => {
                    let wasm = &runner.built().wasm;
                    let kib = fs::metadata(wasm).map_or(0, |metadata| metadata.len() / 1024);
                    writeln!(notes, "{now} {}: {how}, {kib} KiB", wasm.display())?;
                    if let Some(live) = &mut self.live {
                        live.follow(&runner, notes)?;
                    }
                    self.runner = Some(runner);
                }
                Err(failure) => return writeln!(notes, "{failure}"),
            }
        }
        let Some(runner) = &mut self.runner else { return Ok(()) };
        let dir = self.project.path(CASES);
        match case::list(&dir) {
            Ok(files) if files.is_empty() => writeln!(notes, "{}", no_cases(&dir)),
            Ok(files) => {
                output.write_all(self.screen.show(&files, runner).as_bytes())?;
                output.flush()
            }
            Err(error) => writeln!(notes, "{error:#}"),
        }
    }

    fn tapped(&self, notes: &mut dyn Write) -> io::Result<()> {
        let Some(runner) = &self.runner else { return Ok(()) };
        let (stream, subjects) = (&runner.config().stream, &runner.config().subjects);
        let of = if subjects.is_empty() {
            String::new()
        } else {
            format!(" ({})", subjects.join(", "))
        };
        writeln!(notes, "showing messages of {stream}{of} as they arrive")
    }

    fn show(
        &mut self,
        message: &Message,
        skipped: u64,
        output: &mut dyn Write,
        notes: &mut dyn Write,
    ) -> io::Result<()> {
        if skipped > 0 {
            writeln!(notes, "messages that came too fast to be shown: {skipped}")?;
        }
        let Some(runner) = &mut self.runner else { return Ok(()) };
        match runner.make(message) {
            Ok(made) => {
                output.write_all(screen::live(message, &made).as_bytes())?;
                output.flush()
            }
            Err(error) => writeln!(notes, "{error:#}"),
        }
    }

    /// Returns the work that these changed files require.
    fn work(&self, changed: &BTreeSet<PathBuf>) -> Option<Work> {
        let toml = self.runner.as_ref().and_then(|runner| runner.built().toml.file_name());
        changed
            .iter()
            .map(|path| {
                let path = path.strip_prefix(&self.project.dir).unwrap_or(path);
                if path.starts_with(CASES) {
                    Work::Run
                } else if toml.is_some_and(|toml| path == Path::new(toml)) {
                    Work::Load
                } else {
                    Work::Build
                }
            })
            .max()
    }

    /// A file that changed during a build was either saved in the meantime or made by the build. The build must not run
    /// for ever because of its own files.
    fn after_build(&mut self, changed: &BTreeSet<PathBuf>, notes: &mut dyn Write) -> io::Result<Option<Work>> {
        let repeated = &mut self.made_by_builds;
        if changed.is_empty() || *changed != repeated.files {
            repeated.times = 0;
            repeated.files.clone_from(changed);
        }
        repeated.times += 1;
        if changed.is_empty() || repeated.times < SAVES_DURING_BUILDS {
            return Ok(self.work(changed));
        }
        let names: Vec<String> = changed.iter().map(|path| path.display().to_string()).collect();
        let them = if names.len() == 1 { "it" } else { "them" };
        writeln!(
            notes,
            "each build changes {}, so changes to {them} do not start a build. To stop watching {them}, add {them} to .gitignore",
            names.join(", ")
        )?;
        Ok(None)
    }
}

impl Live {
    /// Reads the source that the module's `.toml` names.
    fn follow(&mut self, runner: &Runner, notes: &mut dyn Write) -> io::Result<()> {
        if !runner.built().toml.exists() {
            self.tap = None;
            return writeln!(
                notes,
                "--live shows nothing yet: {} does not exist. Create it and name the source",
                runner.built().toml.display()
            );
        }
        let module = runner.config();
        if !self.tap.as_ref().is_some_and(|tap| tap.fits(module)) {
            let config = Arc::clone(&self.config);
            self.tap = Some(Tap::open(&self.runtime, config, module, self.events.clone()));
        }
        Ok(())
    }
}

fn load(project: &Project) -> Result<Runner, Failure> {
    let mut runner = Runner::new(project.built()?)?;
    runner.module()?;
    Ok(runner)
}
