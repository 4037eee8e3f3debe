//! Ends a test binary if one of its tests hangs, and says which. Without this, nobody would know until CI gives up.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Much longer than any test of `make test` takes on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// The variable with another timeout, in seconds. Targets such as `make chaos` set it.
const VARIABLE: &str = "TEST_TIMEOUT_SECONDS";

/// How often to look.
const PERIOD: Duration = Duration::from_millis(500);

static RUNNING: Mutex<BTreeMap<String, Running>> = Mutex::new(BTreeMap::new());

struct Running {
    since: Instant,
    /// Exists as long as the test's thread does.
    thread: PathBuf,
}

/// Watches the test that calls this, if a test does: libtest names a test's thread after it.
pub(crate) fn watch() {
    static STARTED: Once = Once::new();
    let current = thread::current();
    let Some(name) = current.name().filter(|name| name.contains("::")) else {
        return;
    };
    // A link to `PID/task/TID`.
    let Ok(thread) = std::fs::read_link("/proc/thread-self") else {
        return;
    };
    let thread = Path::new("/proc").join(thread);
    let since = Instant::now();
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.entry(name.to_owned()).or_insert(Running { since, thread });
    STARTED.call_once(|| drop(thread::spawn(look)));
}

fn look() {
    let seconds = std::env::var(VARIABLE).ok().and_then(|seconds| seconds.parse().ok());
    let timeout = seconds.map_or(TIMEOUT, Duration::from_secs);
    loop {
        thread::sleep(PERIOD);
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, test| test.thread.exists());
        if let Some((name, _)) = running.iter().find(|(_, test)| test.since.elapsed() > timeout) {
            // libtest keeps back what `eprintln` prints, and throws it away when the process aborts.
            let _ = writeln!(
                io::stderr(),
                "the test {name} has run for more than {} s, so all tests of this binary end here; set {VARIABLE} if it \
                 needs longer",
                timeout.as_secs()
            );
            // The processes that tests have started end with this one.
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    #[ignore = "for a process of its own, which the test below starts"]
    fn hangs() {
        watch();
        thread::sleep(Duration::from_secs(600));
    }

    #[test]
    fn a_test_that_hangs_is_named_and_ended() {
        let run = |seconds: &str| {
            let mut tests = Command::new(std::env::current_exe().unwrap());
            tests
                .args(["--ignored", "--exact", "test_timeout::tests::hangs"])
                .env(VARIABLE, seconds)
                .output()
                .unwrap()
        };
        let output = run("1");
        assert!(!output.status.success());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            told.contains("the test test_timeout::tests::hangs has run for more than 1 s"),
            "{told}"
        );
    }

    #[test]
    fn a_test_that_ends_is_forgotten() {
        let name = "test_timeout::tests::it_ends".to_owned();
        thread::Builder::new()
            .name(name.clone())
            .spawn(watch)
            .unwrap()
            .join()
            .unwrap();
        let known = || {
            RUNNING
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains_key(&name)
        };
        let until = Instant::now() + Duration::from_secs(60);
        while known() {
            assert!(Instant::now() < until, "it is still watched");
            thread::sleep(Duration::from_millis(10));
        }
    }
}
