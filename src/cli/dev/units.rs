//! Runs the unit tests of a module's folder, natively, while the cases have run already.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::super::project::build_cache::{self, Goal};
use super::super::project::{cargo, run_until};
use super::event::Event;

/// How unit tests ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tested {
    Passed(usize),
    /// Some failed. The text is what they printed.
    Failed {
        passed: usize,
        failed: usize,
        output: String,
    },
    /// They could not be run: they do not compile, for example.
    Broken {
        output: String,
    },
}

/// The language that knows the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rust,
    Go,
}

/// Unit tests that are running. They are stopped when this is dropped.
#[derive(Debug)]
pub struct Units {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// The unit tests of a folder.
#[derive(Debug, Clone)]
pub struct Suite {
    dir: PathBuf,
    kind: Kind,
}

impl Suite {
    /// Returns `None` for a folder in a language whose tests nobody knows how to run.
    pub fn of(dir: &Path) -> Option<Self> {
        let kind = match () {
            () if dir.join("Cargo.toml").is_file() => Kind::Rust,
            () if dir.join("go.mod").is_file() => Kind::Go,
            () => return None,
        };
        let dir = dir.to_owned();
        Some(Self { dir, kind })
    }

    fn command(&self) -> Command {
        let mut command = match self.kind {
            Kind::Rust => {
                let mut command = Command::new(cargo());
                command.args(["test", "--color", "never"]);
                command
            }
            Kind::Go => {
                let mut command = Command::new("go");
                command.args(["test", "-json", "./..."]);
                command
            }
        };
        command.current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    /// Returns `None` if they were stopped.
    fn run(&self, stop: &CancellationToken) -> Option<Tested> {
        if self.kind == Kind::Rust {
            build_cache::fill(&self.dir, Goal::Tests, &mut |command| {
                command.stdout(Stdio::null()).stderr(Stdio::null());
                run_until(command, || stop.is_cancelled())
            })?;
        }
        let mut command = self.command();
        let program = command.get_program().display().to_string();
        let done = (|| -> io::Result<_> {
            let (mut reader, writer) = io::pipe()?;
            command.stdout(writer.try_clone()?).stderr(writer);
            let reading = thread::spawn(move || {
                let mut output = Vec::new();
                let _ = reader.read_to_end(&mut output);
                String::from_utf8_lossy(&output).into_owned()
            });
            let status = run_until(&mut command, || stop.is_cancelled())?;
            // The pipe ends once nobody holds it.
            drop(command);
            Ok(status.map(|status| (status.success(), reading.join().unwrap_or_default())))
        })();
        match done {
            Ok(None) => None,
            Ok(Some((is_success, output))) => Some(match self.kind {
                Kind::Rust => of_rust(&output, is_success),
                Kind::Go => of_go(&output, is_success),
            }),
            Err(error) => Some(Tested::Broken {
                output: format!("cannot start {program}: {error}"),
            }),
        }
    }

    /// Runs them on a thread of their own, which tells their end as an event.
    pub fn start(&self, round: u64, events: SyncSender<Event>) -> Units {
        let stop = CancellationToken::new();
        let thread = {
            let (suite, stop) = (self.clone(), stop.clone());
            thread::spawn(move || {
                if let Some(tested) = suite.run(&stop) {
                    tell(&events, Event::Tested { round, tested }, &stop);
                }
            })
        };
        Units {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        self.stop.cancel();
        // What it has started is killed by then.
        self.thread.take().map(JoinHandle::join);
    }
}

/// How often a full channel is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// Waits for room in the channel, unless it is stopped. Whoever stops it makes no room.
fn tell(events: &SyncSender<Event>, event: Event, stop: &CancellationToken) {
    let mut event = event;
    while !stop.is_cancelled() {
        match events.try_send(event) {
            Err(TrySendError::Full(back)) => event = back,
            Ok(()) | Err(TrySendError::Disconnected(_)) => return,
        }
        thread::sleep(RETRY);
    }
}

impl Tested {
    /// Says it in one line.
    pub fn line(&self) -> String {
        match self {
            Self::Passed(0) => "unit tests: none".to_owned(),
            Self::Passed(passed) => format!("unit tests: {passed} passed"),
            Self::Failed { passed, failed, .. } => format!("unit tests: {passed} passed, {failed} failed"),
            Self::Broken { .. } => "unit tests: they do not run".to_owned(),
        }
    }

    pub fn is_good(&self) -> bool {
        matches!(self, Self::Passed(_))
    }

    /// Returns what failed tests printed.
    pub fn output(&self) -> Option<&str> {
        match self {
            Self::Passed(_) => None,
            Self::Failed { output, .. } | Self::Broken { output } => Some(output),
        }
    }
}

/// Reads the output of `cargo test`, which has a line with the result of each test binary.
fn of_rust(output: &str, is_success: bool) -> Tested {
    let (mut passed, mut failed) = (0, 0);
    for line in output.lines() {
        let Some((_, counts)) = line
            .strip_prefix("test result: ")
            .and_then(|line| line.split_once(". "))
        else {
            continue;
        };
        for count in counts.split("; ") {
            match count.split_once(' ') {
                Some((number, "passed")) => passed += number.parse().unwrap_or(0),
                Some((number, "failed")) => failed += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    match (is_success, failed) {
        (true, _) => Tested::Passed(passed),
        (false, 0) => Tested::Broken {
            output: output.trim().to_owned(),
        },
        (false, failed) => Tested::Failed {
            passed,
            failed,
            output: failures(output),
        },
    }
}

/// Returns what the failed tests printed: the part between the first `failures:` and the list of their names.
fn failures(output: &str) -> String {
    let mut parts = output.split("\nfailures:\n");
    let first = parts.nth(1).unwrap_or(output);
    first.trim().to_owned()
}

/// A line of `go test -json`: see `go doc test2json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GoEvent {
    action: String,
    #[serde(default)]
    package: String,
    test: Option<String>,
    #[serde(default)]
    output: String,
}

fn of_go(output: &str, is_success: bool) -> Tested {
    let (mut passed, mut failed) = (0, 0);
    let mut printed: BTreeMap<(String, String), String> = BTreeMap::new();
    let (mut of_failed, mut of_others) = (String::new(), String::new());
    for line in output.lines() {
        let Ok(event) = serde_json::from_str::<GoEvent>(line) else {
            of_others.push_str(line);
            of_others.push('\n');
            continue;
        };
        let Some(test) = event.test else {
            of_others.push_str(&event.output);
            continue;
        };
        let of_test = printed.entry((event.package, test)).or_default();
        match event.action.as_str() {
            "output" => of_test.push_str(&event.output),
            "pass" => passed += 1,
            "fail" => {
                failed += 1;
                of_failed.push_str(of_test);
            }
            _ => {}
        }
    }
    match (is_success, failed) {
        (true, _) => Tested::Passed(passed),
        (false, 0) => Tested::Broken {
            output: of_others.trim().to_owned(),
        },
        (false, failed) => Tested::Failed {
            passed,
            failed,
            output: of_failed.trim().to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc::sync_channel;

    use super::*;

    /// What cargo prints for a crate with a library and a documentation test.
    const RUST: &str = "   Compiling shop v0.1.0\n\nrunning 2 tests\ntest tests::one ... ok\ntest tests::two ... FAILED\n\nfailures:\n\n\
        ---- tests::two stdout ----\n\nthread 'tests::two' (7) panicked at src/lib.rs:3:5:\nboom\n\n\nfailures:\n    tests::two\n\n\
        test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\nerror: test failed\n";

    #[test]
    fn the_results_of_all_binaries_count() {
        let good = "running 3 tests\n\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
            \n   Doc-tests shop\n\ntest result: ok. 2 passed; 0 failed; 0 ignored\n";
        assert_eq!(of_rust(good, true), Tested::Passed(5));
        assert_eq!(of_rust(good, true).line(), "unit tests: 5 passed");
        let bad = of_rust(RUST, false);
        assert_eq!(bad.line(), "unit tests: 1 passed, 1 failed");
        assert_eq!(
            bad.output().unwrap(),
            "---- tests::two stdout ----\n\nthread 'tests::two' (7) panicked at src/lib.rs:3:5:\nboom"
        );
        let broken = of_rust("error[E0425]: cannot find value\nerror: could not compile", false);
        assert_eq!(broken.line(), "unit tests: they do not run");
        assert!(broken.output().unwrap().starts_with("error[E0425]"));
    }

    #[test]
    fn the_events_of_go_are_counted() {
        let line = |text: &str| format!("{{{text},\"Package\":\"example.com/shop\"}}\n");
        let events = line(r#""Action":"start""#)
            + &line(r#""Action":"output","Test":"TestOne","Output":"=== RUN   TestOne\n""#)
            + &line(r#""Action":"pass","Test":"TestOne""#)
            + &line(r#""Action":"output","Test":"TestTwo","Output":"    shop_test.go:7: no\n""#);
        let good = of_go(&events, true);
        assert_eq!(good, Tested::Passed(1));
        let bad =
            events + &line(r#""Action":"fail","Test":"TestTwo""#) + &line(r#""Action":"output","Output":"FAIL\n""#);
        assert_eq!(
            of_go(&bad, false),
            Tested::Failed {
                passed: 1,
                failed: 1,
                output: "shop_test.go:7: no".to_owned(),
            }
        );
        let broken = "# example.com/shop\n./shop.go:3:1: syntax error\n";
        let broken = broken.to_owned() + &line(r#""Action":"output","Output":"FAIL [build failed]\n""#);
        assert_eq!(
            of_go(&broken, false).output().unwrap(),
            "# example.com/shop\n./shop.go:3:1: syntax error\nFAIL [build failed]"
        );
    }

    #[test]
    fn real_tests_run_on_their_own_thread() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Suite::of(dir.path()).is_none());
        fs::create_dir(dir.path().join("src")).unwrap();
        let manifest = "[package]\nname = 'shop'\nedition = '2024'\n[lib]\ndoctest = false\n[workspace]\n";
        fs::write(dir.path().join("Cargo.toml"), manifest).unwrap();
        let source = dir.path().join("src/lib.rs");
        let run = |round| {
            let (sender, events) = sync_channel(1);
            let _units = Suite::of(dir.path()).unwrap().start(round, sender);
            match events.recv_timeout(Duration::from_secs(60)).unwrap() {
                Event::Tested { round: told, tested } if told == round => tested,
                other => panic!("{other:?}"),
            }
        };
        fs::write(&source, "#[test] fn one() {}\n#[test] fn two() {}").unwrap();
        assert_eq!(run(1), Tested::Passed(2));
        fs::write(&source, "#[test] fn one() {}\n#[test] fn two() { panic!(\"boom\") }").unwrap();
        let tested = run(2);
        assert_eq!(tested.line(), "unit tests: 1 passed, 1 failed");
        assert!(tested.output().unwrap().contains("boom"), "{tested:?}");
        fs::write(&source, "#[test] fn one() {").unwrap();
        let tested = run(3);
        assert!(
            matches!(&tested, Tested::Broken { output } if output.contains("unclosed delimiter")),
            "{tested:?}"
        );
    }
}
