//! Tests the whole loop with a folder whose `build` is a script.

mod screen;
mod web;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::*;
use crate::cli::project::CASES;
use crate::transform::tests::wat::Guest;

/// Output of one thread that another thread waits for.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A running `slipring dev`, without a terminal.
struct Dev {
    _runtime: Runtime,
    dir: tempfile::TempDir,
    stop: CancellationToken,
    events: SyncSender<Event>,
    said: Said,
    thread: Option<JoinHandle<Result<(), Failure>>>,
}

const BUILD: &str = "#!/bin/sh\ntest -e source.wat || { echo 'no source' >&2; exit 1; }\ncp source.wat shop.wasm\necho x >> builds.log\n";

impl Dev {
    fn start(files: &[(&str, Vec<u8>)]) -> Self {
        Self::start_beside(files, None)
    }

    /// Starts it with the model of a page.
    fn start_beside(files: &[(&str, Vec<u8>)], page: Option<&Shared>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path(CASES)).unwrap();
        fs::write(path("build"), BUILD).unwrap();
        fs::write(path(".gitignore"), "*.log\n").unwrap();
        fs::set_permissions(path("build"), fs::Permissions::from_mode(0o755)).unwrap();
        for (name, content) in files {
            fs::write(path(name), content).unwrap();
        }
        let project = Project::at(dir.path()).unwrap();
        let (sender, events) = sync_channel(WAITING);
        let (stop, said) = (CancellationToken::new(), Said::default());
        let runtime = Runtime::new().unwrap();
        let setup = Setup {
            project,
            runtime: runtime.handle().clone(),
            config_file: ConfigFile::default(),
            live: None,
            units: true,
            only: None,
            until_passed: false,
            redact: Redact::default(),
            words: None,
            events: sender.clone(),
            stop: stop.clone(),
        };
        let thread = {
            let (mut output, page) = (said.clone(), page.cloned());
            thread::spawn(move || {
                let mut notes = output.clone();
                let mut lines = Lines::new(&mut output, &mut notes, Palette::default(), 60);
                match page {
                    Some(shared) => super::web::run(setup, events, &shared, &mut lines),
                    None => session::run(setup, events, &mut lines),
                }
            })
        };
        Self {
            _runtime: runtime,
            dir,
            stop,
            events: sender,
            said,
            thread: Some(thread),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Saves a file in one step. A half-written one would be built, too.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let (file, new) = (self.path(name), self.path(".new"));
        fs::write(&new, content).unwrap();
        if let Ok(metadata) = fs::metadata(&file) {
            fs::set_permissions(&new, metadata.permissions()).unwrap();
        }
        fs::rename(new, file).unwrap();
    }

    /// Waits for `text` and takes all output up to it.
    fn says(&self, text: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            {
                let mut said = self.said.0.lock().unwrap();
                let so_far = String::from_utf8_lossy(&said).into_owned();
                if so_far.contains(text) {
                    said.clear();
                    return so_far;
                }
                assert!(Instant::now() < deadline, "{text:?} is not in {so_far}");
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn builds(&self) -> usize {
        fs::read_to_string(self.path("builds.log"))
            .unwrap_or_default()
            .lines()
            .count()
    }

    fn end(mut self) {
        self.stop.cancel();
        self.events.try_send(Event::Stop).unwrap();
        self.says("stopped");
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

/// A module that publishes to the channel `a`.
fn publishes() -> Vec<u8> {
    Guest::default().wasm()
}

fn drops() -> Vec<u8> {
    let guest = Guest {
        transform: "(call $result (i32.const 0) (i32.const 0) (i32.const 0))",
        ..Guest::default()
    };
    guest.wasm()
}

const CASE: &str = r#"{"message":{"subject":"a","data":1},"expect":{"outcome":"publish","publications":[{"channels":["a"],"data":1}]}}"#;

#[test]
fn what_is_saved_is_built_and_run_and_what_changed_is_shown() {
    let dev = Dev::start(&[("source.wat", publishes()), ("cases/a.json", CASE.into())]);
    let first = dev.says("1 case: 1 passed, 0 failed\n");
    assert!(first.contains("ok      a\n    a  1\n"), "{first}");

    dev.write("source.wat", drops());
    let second = dev.says("1 case: 0 passed, 1 failed, 1 changed\n");
    assert!(
        second.contains("FAILED  a: - before, + now\n") && second.contains("+   \"outcome\": \"drop\"\n"),
        "{second}"
    );
    assert_eq!(dev.builds(), 2);

    dev.write(
        "cases/a.json",
        r#"{"message":{"subject":"a","data":1},"expect":{"outcome":"drop"}}"#,
    );
    dev.says("1 case: 1 passed, 0 failed, 0 changed\n");
    dev.write("cases/b.json", r#"{"message":{"subject":"a","dat":1}}"#);
    let third = dev.says("2 cases: 1 passed, 1 failed, 1 changed\n");
    assert!(
        third.contains("FAILED  b: ") && third.contains("unknown field `dat`"),
        "{third}"
    );
    dev.write("shop.toml", "stream = 'ORDERS'\nsettings.currency = 'EUR'");
    dev.says("loaded");
    dev.write("shop.toml", "stream = 5");
    dev.says("shop.toml:1:10: `stream` is 5");
    assert_eq!(dev.builds(), 2, "neither cases nor the .toml need a build");
    dev.end();
}

#[test]
fn a_build_that_fails_is_waited_out() {
    let dev = Dev::start(&[("cases/a.json", CASE.into())]);
    dev.says("/build failed (exit status: 1): fix the errors above\n");
    dev.write("source.wat", publishes());
    dev.says("1 case: 1 passed, 0 failed\n");
    dev.write("source.wat", "no module");
    let failed = dev.says(" stays in use\nwatching for changes\n");
    assert!(failed.contains("the file is not a WebAssembly binary"), "{failed}");
    dev.write("cases/a.json", CASE.replace("\"data\":1}]", "\"data\":2}]"));
    let failed = dev.says("0 changed\n");
    assert!(failed.contains("FAILED  a: - expected, + actual\n"), "{failed}");
    dev.write("cases/b.json", CASE);
    let added = dev.says("2 cases: 1 passed, 1 failed, 1 changed\n");
    assert!(
        added.contains("FAILED  a: unchanged\n") && added.contains("ok      b\n"),
        "{added}"
    );
    dev.end();
}

#[test]
fn a_build_that_changes_the_folder_is_no_reason_for_the_next() {
    let dev = Dev::start(&[("source.wat", publishes()), ("cases/a.json", CASE.into())]);
    dev.says("1 passed");
    dev.write("build", format!("{BUILD}date +%N > made.txt\n"));
    let said = dev.says("so changes to it do not start a build");
    assert!(said.contains("/made.txt,"), "{said}");
    dev.end();
}
