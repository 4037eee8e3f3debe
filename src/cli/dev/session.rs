//! The session: builds on every save, runs the cases, then the unit tests, and meanwhile does what is asked for. It tells
//! what happens to a [`Front`], and knows nothing about screens and pages.

mod changes;
mod orders;

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anstream::adapter::strip_str;
use anyhow::Context;
use jiff::ZonedDateTime;
use jiff::tz::TimeZone;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use self::changes::Repeated;
use super::super::case;
use super::super::config_file::ConfigFile;
use super::super::failure::Failure;
use super::super::project::{CASES, Project};
use super::super::runner::Runner;
use super::super::test_cases::no_cases;
use super::super::time_of_day::time_of_day;
use super::Work;
use super::cases;
use super::event::{Event, Order};
use super::files::Files;
use super::layout::compact;
use super::news::{Front, Live, Loaded, News};
use super::saving::Redact;
use super::tap::Tap;
use super::units::{Suite, Units};
use crate::config::Config;
use crate::message::Message;

/// One save causes several events, and an editor may write several files. A single look follows them, this long after
/// the first.
const HINT_DELAY: Duration = Duration::from_millis(100);

/// How often the folder is checked without any event.
const POLL: Duration = Duration::from_secs(2);

/// All that a session needs.
#[derive(Debug)]
pub struct Setup {
    pub project: Project,
    pub runtime: Handle,
    /// Where messages are published to.
    pub config_file: ConfigFile,
    /// Set if the messages of the source are shown.
    pub live: Option<Arc<Config>>,
    pub units: bool,
    /// The name of the only case that is run.
    pub only: Option<String>,
    /// Whether the session ends when the cases pass.
    pub until_passed: bool,
    pub redact: Redact,
    /// Where the compiler's lines go. Without it they go to standard error.
    pub words: Option<Sender<News>>,
    pub events: SyncSender<Event>,
    pub stop: CancellationToken,
}

/// Runs until it is stopped.
pub fn run(setup: Setup, events: Receiver<Event>, front: &mut dyn Front) -> Result<(), Failure> {
    let hints = setup.events.clone();
    let wake = move || drop(hints.try_send(Event::Hint));
    let mut files = Files::new(&setup.project.dir, setup.project.file(), wake);
    let suite = Suite::of(&setup.project.dir).filter(|_| setup.project.is_built_here());
    let setup = Arc::new(setup);
    let mut session = Session {
        units_wanted: setup.units,
        setup: Arc::clone(&setup),
        front,
        runner: None,
        tap: None,
        suite,
        units: None,
        round: 0,
        building: None,
        has_new_cases: false,
        made_by_builds: Repeated::default(),
    };
    let done = session.follow(&mut files, &events);
    // Everything that was started ends before this does. Nobody is kept waiting for room in the channel.
    setup.stop.cancel();
    drop(events);
    session.building.take().map(JoinHandle::join);
    session.units = None;
    session.tap = None;
    done?;
    session.front.tell(News::Stopped)?;
    Ok(())
}

struct Session<'a> {
    setup: Arc<Setup>,
    front: &'a mut dyn Front,
    /// The last module that was built and loaded.
    runner: Option<Runner>,
    /// `None` while no source is configured.
    tap: Option<Tap>,
    suite: Option<Suite>,
    units_wanted: bool,
    units: Option<Units>,
    /// Counts the builds.
    round: u64,
    building: Option<JoinHandle<()>>,
    /// A case has changed since the cases ran.
    has_new_cases: bool,
    made_by_builds: Repeated,
}

impl Session<'_> {
    fn follow(&mut self, files: &mut Files, events: &Receiver<Event>) -> Result<(), Failure> {
        let mut work = Some(Work::Build);
        let mut look_at = Instant::now() + POLL;
        while !self.setup.stop.is_cancelled() {
            if self.building.is_none() {
                if let Some(todo) = work.take() {
                    self.begin(todo)?;
                    if todo == Work::Build && self.building.is_none() {
                        work = self.after_build(&files.look())?;
                    }
                    continue;
                }
                if Instant::now() >= look_at {
                    work = self.work(&files.look());
                    look_at = Instant::now() + POLL;
                    continue;
                }
            }
            let patience = match self.building.is_some() {
                true => POLL,
                false => look_at.saturating_duration_since(Instant::now()),
            };
            match events.recv_timeout(patience) {
                Ok(Event::Hint) => look_at = look_at.min(Instant::now() + HINT_DELAY),
                Ok(Event::Built { result, took }) => {
                    self.building = None;
                    self.built(result, took)?;
                    work = work.max(self.after_build(&files.look())?);
                }
                Ok(Event::Order(Order::Run)) => work = Some(Work::Build),
                Ok(event) => self.handle(event)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        Ok(())
    }

    fn begin(&mut self, work: Work) -> io::Result<()> {
        let setup = Arc::clone(&self.setup);
        let is_build = work == Work::Build && setup.project.is_built_here();
        // What has nothing to build is only loaded.
        let work_told = if is_build { work } else { work.min(Work::Load) };
        self.front.tell(News::Begun {
            at: now(),
            work: work_told,
        })?;
        if !is_build {
            return match work {
                Work::Run => self.run_cases(),
                Work::Load | Work::Build => self.load(None),
            };
        }
        self.units = None;
        self.round += 1;
        self.building = Some(thread::spawn(move || {
            let begun = Instant::now();
            let result = build(&setup);
            let took = begun.elapsed();
            // The session reads, or is gone.
            let _ = setup.events.send(Event::Built { result, took });
        }));
        Ok(())
    }

    fn built(&mut self, result: anyhow::Result<Option<()>>, took: Duration) -> io::Result<()> {
        match result {
            Ok(Some(())) => {
                self.load(Some(took))?;
                self.test()
            }
            Ok(None) => Ok(()),
            Err(error) => self.failed(format!("{error:#}")),
        }
    }

    fn failed(&mut self, error: String) -> io::Result<()> {
        self.front.tell(News::Failed { at: now(), error })?;
        match self.has_new_cases {
            // They need not wait for the next module.
            true => self.run_cases(),
            false => self.front.tell(News::Watching),
        }
    }

    fn load(&mut self, built_in: Option<Duration>) -> io::Result<()> {
        match load(&self.setup.project) {
            Ok(runner) => {
                let wasm = &runner.built().wasm;
                let kib = fs::metadata(wasm).map_or(0, |metadata| metadata.len().div_ceil(1024));
                self.front.tell(News::Loaded(Loaded {
                    name: runner.built().name.clone(),
                    wasm: wasm.display().to_string(),
                    kib,
                    at: now(),
                    built_in,
                }))?;
                self.tap(&runner)?;
                self.runner = Some(runner);
            }
            Err(failure) => return self.failed(failure.to_string()),
        }
        self.run_cases()
    }

    fn run_cases(&mut self) -> io::Result<()> {
        let Some(runner) = &mut self.runner else {
            return self.front.tell(News::Watching);
        };
        self.has_new_cases = false;
        let dir = self.setup.project.path(CASES);
        let is_wanted = |file: &PathBuf| self.setup.only.as_ref().is_none_or(|only| case::name(file) == *only);
        let files = case::list(&dir).map(|files| files.into_iter().filter(is_wanted).collect::<Vec<_>>());
        let mut passed = false;
        let news = match files {
            Ok(files) if files.is_empty() => News::NoCases(match &self.setup.only {
                Some(only) => format!("there is no case {}", dir.join(format!("{only}.json")).display()),
                None => no_cases(&dir).to_string(),
            }),
            Ok(files) => {
                let cases = cases::run(&files, runner);
                passed = cases.values().all(cases::Shown::passed);
                News::Cases(cases)
            }
            Err(error) => News::Trouble(format!("{error:#}")),
        };
        self.front.tell(news)?;
        if passed && self.setup.until_passed {
            self.setup.stop.cancel();
            return Ok(());
        }
        self.front.tell(News::Watching)
    }

    /// Starts the unit tests of the source that was just built.
    fn test(&mut self) -> io::Result<()> {
        self.units = None;
        let suite = self
            .suite
            .as_ref()
            .filter(|_| self.units_wanted && self.building.is_none() && !self.setup.stop.is_cancelled());
        let Some(suite) = suite else { return Ok(()) };
        self.units = Some(suite.start(self.round, self.setup.events.clone()));
        self.front.tell(News::Testing)
    }

    /// Reads the source that the module's `.toml` names.
    fn tap(&mut self, runner: &Runner) -> io::Result<()> {
        let Some(config) = &self.setup.live else { return Ok(()) };
        if !runner.built().toml.exists() {
            self.tap = None;
            return self.front.tell(News::Trouble(format!(
                "--live shows nothing yet: {} does not exist. Create it and name the source",
                runner.built().toml.display()
            )));
        }
        let module = runner.config();
        if !self.tap.as_ref().is_some_and(|tap| tap.fits(module)) {
            let (runtime, events) = (&self.setup.runtime, self.setup.events.clone());
            self.tap = Some(Tap::open(runtime, Arc::clone(config), module, events));
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Tested { round, tested } if round == self.round => self.front.tell(News::Tested(tested)),
            Event::Tapped => self.tapped(),
            Event::Message { message, skipped } => self.live(&message, skipped),
            Event::Trouble(trouble) => self.front.tell(News::Trouble(trouble)),
            Event::Published(Ok(done)) => self.front.tell(News::Done(done)),
            Event::Published(Err(error)) => self.front.tell(News::Trouble(format!("not published: {error:#}"))),
            Event::Order(order) => self.order(order).map(drop),
            Event::Asked { order, answer } => {
                // Who does not wait any more sees what is told.
                let _ = answer.send(self.order(order)?);
                Ok(())
            }
            Event::Hint | Event::Built { .. } | Event::Tested { .. } | Event::Stop => Ok(()),
        }
    }

    /// Follows an order. Returns and tells why it could not.
    fn order(&mut self, order: Order) -> io::Result<Result<(), String>> {
        let done = self.obey(order).map_err(|error| format!("{error:#}"));
        if let Err(error) = &done {
            self.front.tell(News::Trouble(error.clone()))?;
        }
        Ok(done)
    }

    fn tapped(&mut self) -> io::Result<()> {
        let Some(runner) = &self.runner else { return Ok(()) };
        let (stream, subjects) = (&runner.config().stream, &runner.config().subjects);
        let of = if subjects.is_empty() {
            String::new()
        } else {
            format!(" ({})", subjects.join(", "))
        };
        self.front.tell(News::Tapped(format!("{stream}{of}")))
    }

    fn live(&mut self, message: &Message, skipped: u64) -> io::Result<()> {
        let Some(runner) = &mut self.runner else { return Ok(()) };
        let news = match cases::live(message, runner) {
            Ok(made) => News::Live(Box::new(Live {
                time: time_of_day(message.timestamp as f64 / 1e9, &TimeZone::system(), "%H:%M:%S%.3f"),
                place: format!("{}:{}", message.stream, message.place),
                payload: match std::str::from_utf8(&message.payload) {
                    Ok(text) => compact(text),
                    Err(_) => format!("{} bytes", message.payload.len()),
                },
                made,
                skipped,
            })),
            Err(error) => News::Trouble(format!("{error:#}")),
        };
        self.front.tell(news)
    }
}

/// Builds the module. The compiler's lines go where the session says.
fn build(setup: &Setup) -> anyhow::Result<Option<()>> {
    let stopped = || setup.stop.is_cancelled();
    let Some(words) = &setup.words else {
        return setup.project.build_until(stopped);
    };
    let (reader, writer) = io::pipe().context("reading the compiler's output failed")?;
    let words = words.clone();
    let reading = thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            let line = strip_str(line.trim_end()).to_string();
            if words.send(News::Words(line)).is_err() {
                break;
            }
        }
    });
    let built = setup.project.build_into(&writer, stopped);
    drop(writer);
    // All its lines are told before its end, unless something that was stopped still holds the pipe.
    if !setup.stop.is_cancelled() {
        let _ = reading.join();
    }
    built
}

fn load(project: &Project) -> Result<Runner, Failure> {
    let mut runner = Runner::new(project.built()?)?;
    runner.module()?;
    Ok(runner)
}

fn now() -> String {
    ZonedDateTime::now().strftime("%H:%M:%S").to_string()
}
