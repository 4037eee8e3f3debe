use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use super::*;
use crate::hash;

fn version(wasm: &str, toml: &str) -> Version {
    Version {
        id: Id::of(wasm.as_bytes(), toml),
        wasm: wasm.as_bytes().into(),
        toml: toml.to_owned(),
    }
}

fn config(dir: &Path, keep: usize) -> config::Modules {
    config::Modules {
        dir: dir.to_owned(),
        versions_dir: dir.to_owned(),
        keep_versions: keep,
        cache_dir: None,
        strict_permissions: false,
        bounds: config::Bounds::default(),
    }
}

fn open(dir: &Path) -> Versions {
    Versions::open(&config(dir, 2), "orders")
}

async fn work(versions: &mut Versions, version: &Version) {
    versions.keep(version).await.unwrap();
    versions.began(&version.id, true, None).await;
}

fn id(entry: Option<&Entry>) -> Option<Id> {
    entry.map(|entry| entry.id.clone())
}

#[tokio::test]
async fn the_way_back_is_known_after_a_restart_and_no_longer_than_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second, third) = (version("1", "a"), version("1", "b"), version("2", "b"));
    let mut versions = open(dir.path());
    assert_eq!((versions.current(), versions.predecessor()), (None, None));
    work(&mut versions, &first).await;
    work(&mut versions, &second).await;
    work(&mut versions, &second).await;

    let mut versions = open(dir.path());
    assert_eq!(id(versions.current()), Some(second.id.clone()));
    assert_eq!(id(versions.predecessor()), Some(first.id.clone()));
    let read = versions.read(&first.id).await.unwrap();
    assert_eq!((&*read.wasm, read.toml.as_str()), (&b"1"[..], "a"));

    // A long time after the first version was written.
    grow_old(dir.path());
    work(&mut versions, &third).await;
    let files: BTreeSet<_> = fs::read_dir(dir.path().join("orders"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let kept = [
        "record.json".to_owned(),
        format!("{}.wasm", hash::sha256(b"1")),
        format!("{}.wasm", hash::sha256(b"2")),
        format!("{}.toml", hash::sha256(b"b")),
    ];
    assert_eq!(files, BTreeSet::from(kept));
    assert_eq!(
        open(dir.path()).read(&first.id).await.unwrap_err().kind(),
        io::ErrorKind::NotFound
    );
}

fn grow_old(dir: &Path) {
    for entry in fs::read_dir(dir.join("orders")).unwrap() {
        let file = fs::File::options().write(true).open(entry.unwrap().path()).unwrap();
        file.set_modified(SystemTime::now() - files::YOUNG).unwrap();
    }
}

#[tokio::test]
async fn what_is_about_to_be_put_to_work_again_is_not_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let (old, bad, other) = (version("1", "a"), version("2", "b"), version("3", "c"));
    let mut versions = open(dir.path());
    work(&mut versions, &old).await;
    work(&mut versions, &bad).await;
    versions.rolled_back(&old.id, bad.id.clone(), "it is bad").await;
    grow_old(dir.path());
    versions.keep(&bad).await.unwrap();
    // Another relay writes something else.
    work(&mut open(dir.path()), &other).await;
    versions.began(&bad.id, true, None).await;
    versions.read(&bad.id).await.unwrap();
}

#[tokio::test]
async fn what_came_between_goes_with_what_is_withdrawn() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second, third) = (version("1", "a"), version("2", "a"), version("3", "a"));
    let mut versions = Versions::open(&config(dir.path(), 5), "orders");
    for version in [&first, &second, &third] {
        work(&mut versions, version).await;
    }
    versions.rolled_back(&first.id, third.id.clone(), "it is bad").await;
    assert_eq!(id(versions.current()), Some(first.id.clone()));
    assert!(versions.knows(&first.id) && !versions.knows(&second.id) && !versions.knows(&third.id));
}

#[tokio::test]
async fn what_was_withdrawn_stays_so_until_something_else_comes() {
    let dir = tempfile::tempdir().unwrap();
    let (old, bad, mended) = (version("1", "a"), version("2", "a"), version("3", "a"));
    let mut versions = open(dir.path());
    work(&mut versions, &old).await;
    work(&mut versions, &bad).await;
    versions.rolled_back(&old.id, bad.id.clone(), "it is bad").await;
    versions.began(&old.id, false, None).await;
    assert_eq!(id(versions.current()), Some(old.id.clone()));
    assert_eq!(versions.predecessor(), None);

    let mut versions = open(dir.path());
    let withdrawn = versions.withdrawn().unwrap();
    assert_eq!((&withdrawn.id, withdrawn.reason.as_str()), (&bad.id, "it is bad"));
    let running_version = |present: &Version| instead_of(&config(dir.path(), 2), "orders", &present.id).unwrap();
    assert_eq!(running_version(&bad).map(|version| version.id), Some(old.id.clone()));
    assert!(running_version(&mended).is_none() && running_version(&old).is_none());

    work(&mut versions, &mended).await;
    assert_eq!(open(dir.path()).withdrawn(), None);
    assert_eq!(id(open(dir.path()).predecessor()), Some(old.id));
}

#[tokio::test]
async fn what_another_relay_puts_down_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (version("1", "a"), version("2", "a"));
    let (mut one, mut other) = (open(dir.path()), open(dir.path()));
    work(&mut one, &old).await;
    assert!(other.refresh().await && !other.refresh().await && !one.refresh().await);
    work(&mut one, &new).await;
    other.refresh().await;
    one.rolled_back(&old.id, new.id.clone(), "it is bad").await;
    assert!(other.refresh().await);
    assert_eq!(id(other.current()), Some(old.id));
    assert_eq!(other.withdrawn().map(|withdrawn| &withdrawn.id), Some(&new.id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn relays_on_one_directory_do_not_get_in_each_other_s_way() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (version("1", "a"), version("2", "a"));
    let relays = (0..4).map(|_| {
        let (mut versions, both) = (open(dir.path()), [old.clone(), new.clone()]);
        tokio::spawn(async move {
            for version in both.iter().cycle().take(100) {
                work(&mut versions, version).await;
                assert!(!versions.unsaved);
            }
        })
    });
    for relay in relays.collect::<Vec<_>>() {
        relay.await.unwrap();
    }
    let versions = open(dir.path());
    for entry in [versions.current(), versions.predecessor()] {
        versions.read(&entry.unwrap().id).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_changed_on_disk_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let version = version("1", "a");
    let mut versions = open(dir.path());
    work(&mut versions, &version).await;
    let file = dir.path().join(format!("orders/{}.wasm", version.id.wasm_sha256));
    fs::write(&file, "2").unwrap();
    let error = versions.read(&version.id).await.unwrap_err().to_string();
    assert!(error.contains("it was changed"), "{error}");

    fs::write(dir.path().join("orders/record.json"), "{").unwrap();
    assert_eq!(open(dir.path()).current(), None);
}

#[tokio::test]
async fn what_others_may_change_is_not_taken_if_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let version = version("1", "a");
    let strict = config::Modules {
        strict_permissions: true,
        ..config(dir.path(), 2)
    };
    let mut versions = Versions::open(&strict, "orders");
    work(&mut versions, &version).await;
    versions.read(&version.id).await.unwrap();
    for name in [".", "record.json", &format!("{}.wasm", version.id.wasm_sha256)] {
        let path = dir.path().join("orders").join(name);
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let error = versions.read(&version.id).await.unwrap_err().to_string();
        assert!(error.contains("is writable by other users (mode 0777)"), "{error}");
        assert!(open(dir.path()).read(&version.id).await.is_ok());
        fs::set_permissions(&path, before).unwrap();
    }
}

#[tokio::test]
async fn without_a_place_to_write_to_a_rollback_is_possible_until_the_end() {
    // A system directory in which not even root can create a directory.
    let dir = Path::new("/proc/self");
    let mut versions = open(dir);
    let (first, second) = (version("1", "a"), version("2", "a"));
    let kept = versions.keep(&first).await;
    if let Err(error) = kept {
        assert!(!is_read_only(&error), "{error}");
    }
    versions.read_only = true;
    work(&mut versions, &first).await;
    work(&mut versions, &second).await;
    let predecessor = id(versions.predecessor()).unwrap();
    assert_eq!(versions.read(&predecessor).await.unwrap().toml, "a");
    versions.rolled_back(&first.id, second.id.clone(), "it is bad").await;
    assert!(versions.read(&second.id).await.is_ok(), "it can be named");
    for wasm in ["3", "4"] {
        work(&mut versions, &version(wasm, "a")).await;
    }
    assert!(versions.read(&second.id).await.is_err(), "it is not kept for nothing");
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_leaves_nothing_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let version = version("1", "a");
    let mut versions = open(dir.path());
    let kept = dir.path().join("orders");
    fs::create_dir(&kept).unwrap();
    let name = format!("{}.wasm{}", version.id.wasm_sha256, versions.files.temporary);
    std::os::unix::fs::symlink("/dev/full", kept.join(name)).unwrap();
    let error = versions.keep(&version).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 0);
    versions.keep(&version).await.unwrap();
}

#[tokio::test]
async fn a_version_that_ran_twice_is_left_behind_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let [old, new] = ["1", "2"].map(|wasm| version(wasm, "a"));
    let mut versions = Versions::open(&config(dir.path(), 5), "orders");
    for version in [&old, &new, &old] {
        work(&mut versions, version).await;
    }
    versions.rolled_back(&new.id, old.id.clone(), "it is bad").await;
    assert_eq!(id(versions.current()), Some(new.id.clone()));
    // Other relays that run it follow, and the next rollback does not return to it.
    assert!(!versions.knows(&old.id) && versions.predecessor().is_none());
    assert_eq!(versions.all().count(), 2);
}

#[tokio::test]
async fn what_a_rollback_leaves_behind_can_be_named() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second, third] = ["1", "2", "3"].map(|wasm| version(wasm, "a"));
    let open = || Versions::open(&config(dir.path(), 3), "orders");
    let all = |versions: &Versions| versions.all().map(|entry| entry.id.clone()).collect::<Vec<_>>();
    let mut versions = open();
    for version in [&first, &second, &third] {
        work(&mut versions, version).await;
    }
    versions.rolled_back(&first.id, third.id.clone(), "it is bad").await;
    versions.began(&first.id, false, None).await;
    let known = [first.id.clone(), third.id.clone(), second.id.clone()];
    assert_eq!(all(&versions), known);
    assert!(
        versions.predecessor().is_none() && !versions.knows(&second.id),
        "only by name"
    );

    // Other relays see no moment in which another version is the current one.
    versions
        .rolled_back(&second.id, third.id.clone(), "a rollback was requested")
        .await;
    assert_eq!(id(open().current()), Some(second.id.clone()));
    versions.began(&second.id, false, None).await;
    let known = [second.id.clone(), third.id.clone(), first.id.clone()];
    let mut others = all(&open());
    others.sort_by(|one, other| one.wasm_sha256.cmp(&other.wasm_sha256));
    let mut expected = known.to_vec();
    expected.sort_by(|one, other| one.wasm_sha256.cmp(&other.wasm_sha256));
    assert_eq!(others, expected);
    for id in &known {
        open().read(id).await.unwrap();
    }

    // They give way to new versions.
    grow_old(dir.path());
    for wasm in ["4", "5"] {
        work(&mut versions, &version(wasm, "a")).await;
    }
    assert_eq!(all(&versions).len(), 3);
    assert!(open().read(&first.id).await.is_err() || open().read(&third.id).await.is_err());
}
