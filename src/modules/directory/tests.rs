//! Tests with a real file system. Nothing sleeps: each test waits for the change that it expects.

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// No test takes this long, so each change must come from an event.
const NO_POLL: Duration = Duration::from_secs(3_600);

const DEADLINE: Duration = Duration::from_secs(20);

const RULES: Rules = Rules {
    strict: false,
    max_wasm: 1_000_000,
};

struct Test {
    root: TempDir,
    directory: Directory,
}

impl Test {
    /// `modules` is a subdirectory of the temporary directory, in which `prepare` runs.
    fn new(poll: Duration, events: bool, prepare: impl FnOnce(&Path)) -> Self {
        let root = tempfile::tempdir().unwrap();
        prepare(root.path());
        let directory = Directory::build(&root.path().join("modules"), RULES, poll, events);
        Self { root, directory }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        fs::write(self.path(path), content).unwrap();
    }

    async fn next(&mut self) -> Change {
        tokio::time::timeout(DEADLINE, self.directory.next_change())
            .await
            .expect("a change in time")
    }

    async fn expect(&mut self, name: &str, wasm: &str, toml: &str) {
        let change = self.next().await;
        Self::check(change, name, wasm, toml);
    }

    /// Expects this module. A look may or may not have found no directory before.
    async fn expect_besides_trouble(&mut self, name: &str, wasm: &str, toml: &str) {
        loop {
            match self.next().await {
                Change::Directory { .. } => {}
                change => return Self::check(change, name, wasm, toml),
            }
        }
    }

    fn check(change: Change, name: &str, wasm: &str, toml: &str) {
        match change {
            Change::Present {
                name: n,
                wasm: w,
                toml: t,
                ..
            } => {
                assert_eq!((n.as_str(), &*w, t.as_str()), (name, wasm.as_bytes(), toml));
            }
            other => panic!("expected {name} to be present, got {other:?}"),
        }
    }
}

fn orders(root: &Path) {
    make_orders(root, "w1");
}

/// Moves a complete directory into place, so no look sees half of it, however busy the machine is.
fn make_orders(root: &Path, wasm: &str) {
    let new = root.join("new");
    fs::create_dir(&new).unwrap();
    fs::write(new.join("orders.wasm"), wasm).unwrap();
    fs::write(new.join("orders.toml"), "t1").unwrap();
    fs::rename(new, root.join("modules")).unwrap();
}

#[tokio::test]
async fn what_is_there_at_the_start_is_told_and_edits_arrive_by_events() {
    let mut test = Test::new(NO_POLL, true, orders);
    test.expect("orders", "w1", "t1").await;
    test.write("modules/orders.wasm", "w2");
    test.expect("orders", "w2", "t1").await;
    // Editors save a new file beside the old one and then rename it.
    test.write("modules/.orders.toml.swp", "t2");
    fs::rename(test.path("modules/.orders.toml.swp"), test.path("modules/orders.toml")).unwrap();
    test.expect("orders", "w2", "t2").await;
    fs::remove_file(test.path("modules/orders.toml")).unwrap();
    assert_eq!(
        test.next().await,
        Change::Waiting {
            name: "orders".to_owned(),
            missing: Missing::Toml
        }
    );
    fs::remove_file(test.path("modules/orders.wasm")).unwrap();
    assert_eq!(
        test.next().await,
        Change::Gone {
            name: "orders".to_owned()
        }
    );
}

#[tokio::test]
async fn without_events_the_poll_sees_it() {
    let mut test = Test::new(Duration::from_millis(20), false, orders);
    test.expect("orders", "w1", "t1").await;
    test.write("modules/orders.wasm", "w2");
    test.expect("orders", "w2", "t1").await;
}

#[tokio::test]
async fn a_config_map_is_swapped_by_one_link() {
    let mut test = Test::new(NO_POLL, true, |root| {
        fs::create_dir_all(root.join("modules/..1")).unwrap();
        fs::write(root.join("modules/..1/orders.wasm"), "w1").unwrap();
        fs::write(root.join("modules/..1/orders.toml"), "t1").unwrap();
        symlink("..1", root.join("modules/..data")).unwrap();
        symlink("..data/orders.wasm", root.join("modules/orders.wasm")).unwrap();
        symlink("..data/orders.toml", root.join("modules/orders.toml")).unwrap();
    });
    test.expect("orders", "w1", "t1").await;
    fs::create_dir(test.path("modules/..2")).unwrap();
    test.write("modules/..2/orders.wasm", "w2");
    test.write("modules/..2/orders.toml", "t2");
    symlink("..2", test.path("modules/..data_tmp")).unwrap();
    fs::rename(test.path("modules/..data_tmp"), test.path("modules/..data")).unwrap();
    test.expect("orders", "w2", "t2").await;
}

#[tokio::test]
async fn a_directory_may_come_late_go_and_come_back() {
    let mut test = Test::new(NO_POLL, true, |_| {});
    let path = test.path("modules");
    let trouble = Some(format!("the modules directory {} does not exist", path.display()));
    assert_eq!(
        test.next().await,
        Change::Directory {
            trouble: trouble.clone()
        }
    );
    orders(test.root.path());
    assert_eq!(test.next().await, Change::Directory { trouble: None });
    test.expect("orders", "w1", "t1").await;

    fs::rename(&path, test.path("old")).unwrap();
    assert_eq!(test.next().await, Change::Directory { trouble });
    make_orders(test.root.path(), "w2");
    assert_eq!(test.next().await, Change::Directory { trouble: None });
    test.expect("orders", "w2", "t1").await;
    // The new directory is watched, not the removed one.
    test.write("modules/orders.wasm", "w3");
    test.expect("orders", "w3", "t1").await;
}

/// On many file systems the new directory gets the inode of the old one, so only events reveal that it is another one.
#[tokio::test]
async fn a_directory_that_is_made_anew_between_two_looks_is_watched_again() {
    let mut test = Test::new(NO_POLL, true, orders);
    test.expect("orders", "w1", "t1").await;
    fs::remove_dir_all(test.path("modules")).unwrap();
    make_orders(test.root.path(), "w2");
    test.expect_besides_trouble("orders", "w2", "t1").await;
    test.write("modules/orders.wasm", "w3");
    test.expect("orders", "w3", "t1").await;
}

#[tokio::test]
async fn the_directory_may_be_a_link_that_is_exchanged() {
    let mut test = Test::new(NO_POLL, true, |root| {
        for (release, wasm) in [("r1", "w1"), ("r2", "w2")] {
            fs::create_dir(root.join(release)).unwrap();
            fs::write(root.join(release).join("orders.wasm"), wasm).unwrap();
            fs::write(root.join(release).join("orders.toml"), "t").unwrap();
        }
        symlink("r1", root.join("modules")).unwrap();
    });
    test.expect("orders", "w1", "t").await;
    symlink("r2", test.path("modules_tmp")).unwrap();
    fs::rename(test.path("modules_tmp"), test.path("modules")).unwrap();
    test.expect("orders", "w2", "t").await;
    test.write("r2/orders.toml", "t2");
    test.expect("orders", "w2", "t2").await;
}

#[tokio::test]
async fn a_cancelled_call_loses_nothing() {
    let mut test = Test::new(NO_POLL, true, orders);
    // Each call is dropped after one poll, at whatever point it has reached.
    let started = Instant::now();
    let change = loop {
        assert!(started.elapsed() < DEADLINE, "no change in time");
        tokio::select! {
            biased;
            change = test.directory.next_change() => break change,
            () = tokio::task::yield_now() => {}
        }
    };
    assert!(matches!(change, Change::Present { .. }), "{change:?}");
}

#[tokio::test]
async fn it_is_complete_once_all_that_was_there_has_been_told() {
    let mut test = Test::new(NO_POLL, true, |root| {
        orders(root);
        fs::write(root.join("modules/lonely.toml"), "t1").unwrap();
    });
    let complete = test.directory.complete();
    let mut told = 0;
    loop {
        let change = tokio::select! {
            change = test.next() => change,
            () = complete.cancelled() => break,
        };
        assert!(!complete.is_cancelled(), "{change:?} was still to come");
        told += 1;
    }
    assert_eq!(told, 2);
}
