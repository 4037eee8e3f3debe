use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;

use super::*;

const MANIFEST: &str = "[package]\nname = 'shop'\nversion = '0.1.0'\nedition = '2024'\n[lib]\ncrate-type = ['cdylib']\n[dependencies]\n\
    serde = { version = '1', features = ['derive'] }\nslipring-sdk = { path = 'vendor/slipring-sdk' }\n[workspace]\n";
const LOCK: &str = "version = 4\n[[package]]\nname = 'serde'\nversion = '1.0.0'\nsource = 'registry'\n[[package]]\nname = 'shop'\nversion = '0.1.0'\n";

/// Crates in folders below one directory, and a cache.
struct Desk {
    dir: tempfile::TempDir,
    cache: BuildCache,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cache = BuildCache {
            dir: dir.path().join("cache/builds"),
        };
        Self { dir, cache }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Creates what the cache looks at.
    fn makes(&self, name: &str, manifest: &str, sdk: &str) -> PathBuf {
        self.write(&format!("{name}/Cargo.toml"), &manifest.replace("shop", name));
        self.write(&format!("{name}/Cargo.lock"), &LOCK.replace("shop", name));
        self.write(&format!("{name}/src/lib.rs"), "");
        self.write(
            &format!("{name}/{SDK}/Cargo.toml"),
            "[package]\nname = 'slipring-sdk'\n",
        );
        self.write(&format!("{name}/{SDK}/src/lib.rs"), sdk);
        self.dir.path().join(name)
    }

    /// Fills the crate's `target`, and returns true if cargo was to compile the dependencies.
    fn compiles(&self, dir: &Path, goal: Goal) -> bool {
        let mut times = 0;
        let mut cargo = |command: &mut Command| {
            times += 1;
            compile(command, goal)
        };
        assert_eq!(self.cache.fill(dir, goal, &mut cargo).unwrap(), Some(()));
        assert!(times < 2);
        times == 1
    }

    fn kept(&self) -> usize {
        fs::read_dir(&self.cache.dir).map_or(0, |entries| entries.count())
    }
}

const SDK: &str = super::super::SDK_FOLDER;

/// Writes what cargo would, into the folder that it is told.
fn compile(command: &mut Command, goal: Goal) -> io::Result<Option<ExitStatus>> {
    let arguments: Vec<PathBuf> = command.get_args().map(PathBuf::from).collect();
    let [.., manifest_path, manifest, target_dir, target] = arguments.as_slice() else {
        panic!("{arguments:?}");
    };
    assert_eq!(
        [manifest_path, target_dir],
        [Path::new("--manifest-path"), Path::new("--target-dir")]
    );
    let manifest = fs::read_to_string(manifest)?;
    assert!(
        manifest.contains("dependencies-of-new-modules") && !manifest.contains("cdylib"),
        "{manifest}"
    );
    for path in ["release/deps", goal.folder()] {
        fs::create_dir_all(target.join(path))?;
        fs::write(target.join(path).join("compiled"), "code")?;
    }
    Ok(Some(ExitStatus::default()))
}

#[test]
fn the_cache_is_where_the_environment_says() {
    let of = |env: &[(&str, &str)]| {
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        BuildCache::of(&env.collect()).map(|cache| cache.dir.display().to_string())
    };
    let some = |path: &str| Some(path.to_owned());
    let home = ("HOME", "/h");
    assert_eq!(of(&[home]), some("/h/.cache/slipring/builds"));
    assert_eq!(of(&[home, ("XDG_CACHE_HOME", "/c")]), some("/c/slipring/builds"));
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[home, (VARIABLE, "false")]), None);
    assert_eq!(of(&[home, (VARIABLE, "/b")]), some("/b"));
    assert_eq!(of(&[home, (VARIABLE, "")]), some("/h/.cache/slipring/builds"));
    for chosen in CHOSEN {
        assert_eq!(of(&[home, (VARIABLE, "/b"), (chosen, "/t")]), None, "{chosen}");
    }
}

#[test]
fn only_a_crate_as_new_makes_it_is_known() {
    let desk = Desk::new();
    let is_known = |manifest: &str| recipe::manifest(&desk.makes("shop", manifest, "")).unwrap().is_some();
    assert!(is_known(MANIFEST));
    assert!(is_known(&MANIFEST.replace("[workspace]\n", "")));
    for (from, to) in [
        ("[workspace]", "[dev-dependencies]\nanyhow = '1'\n[workspace]"),
        ("[workspace]", "[profile.release]\nopt-level = 's'\n[workspace]"),
        (
            "[workspace]",
            "[patch.crates-io]\nserde = { path = 'serde' }\n[workspace]",
        ),
        ("serde = {", "anyhow = '1'\nserde = {"),
        ("version = '1'", "path = 'serde'"),
        ("'vendor/slipring-sdk'", "'/checkout/guest-sdk'"),
        ("-sdk' }", "-sdk', features = ['debezium'] }"),
        ("[dependencies]", "[dependencies-of-nobody]"),
    ] {
        assert!(MANIFEST.contains(from));
        assert!(!is_known(&MANIFEST.replace(from, to)), "{to}");
    }
}

#[test]
fn the_second_crate_gets_a_copy() {
    if CHOSEN.iter().any(|name| env::var_os(name).is_some()) {
        return;
    }
    let desk = Desk::new();
    let first = desk.makes("first", MANIFEST, "");
    assert!(desk.compiles(&first, Goal::Module));
    let second = desk.makes("second", MANIFEST, "");
    let begun = SystemTime::now();
    assert!(!desk.compiles(&second, Goal::Module));
    let copies = ["release/deps/compiled", "wasm32-wasip2/compiled"].map(|path| second.join("target").join(path));
    let times = copies.map(|path| fs::metadata(path).unwrap().modified().unwrap());
    assert!(times[0] == times[1] && times[0] >= begun, "{times:?}");
    assert_eq!(fs::read_dir(second.join("target")).unwrap().count(), 2);

    // What was built already stays as it is.
    desk.write("second/target/wasm32-wasip2/compiled", "my own");
    fs::remove_dir_all(second.join("target/release")).unwrap();
    assert!(!desk.compiles(&second, Goal::Module));
    assert!(!second.join("target/release").exists());
    // The unit tests need others.
    desk.write("second/target/release/deps/compiled", "my own");
    assert!(desk.compiles(&second, Goal::Tests));
    assert!(second.join("target/debug/compiled").exists());
    assert_eq!(
        fs::read_to_string(second.join("target/release/deps/compiled")).unwrap(),
        "my own"
    );

    let other_sdk = desk.makes("third", MANIFEST, "// changed");
    assert!(desk.compiles(&other_sdk, Goal::Module));
    let other_version = desk.makes("fourth", MANIFEST, "");
    desk.write("fourth/Cargo.lock", &LOCK.replace("1.0.0", "1.0.1"));
    assert!(desk.compiles(&other_version, Goal::Module));
    let other_place = desk.makes("fifth", MANIFEST, "");
    desk.write("fifth/.cargo/config.toml", "[build]\ntarget-dir = 'elsewhere'\n");
    assert!(!desk.compiles(&other_place, Goal::Module));
    assert!(!other_place.join("target").exists() && !other_place.join("elsewhere").exists());

    assert_eq!(desk.kept(), KEPT);
    let sixth = desk.makes("sixth", MANIFEST, "// changed again");
    assert!(desk.compiles(&sixth, Goal::Module));
    assert_eq!(desk.kept(), KEPT, "the oldest is gone");
    let again = desk.makes("seventh", MANIFEST, "");
    assert!(desk.compiles(&again, Goal::Module), "it was the oldest");
}

#[test]
fn a_build_that_fails_or_is_stopped_leaves_nothing() {
    if CHOSEN.iter().any(|name| env::var_os(name).is_some()) {
        return;
    }
    let desk = Desk::new();
    let dir = desk.makes("shop", MANIFEST, "");
    let stopped = desk.cache.fill(&dir, Goal::Module, &mut |_| Ok(None));
    assert_eq!(stopped.unwrap(), None);
    let failed = desk
        .cache
        .fill(&dir, Goal::Module, &mut |_| Ok(Some(ExitStatus::from_raw(256))));
    assert_eq!(failed.unwrap_err().to_string(), "the dependencies do not build");
    assert!(!dir.join("target").exists());
    assert_eq!(desk.kept(), 0);

    fs::set_permissions(&desk.cache.dir, PermissionsExt::from_mode(0o777)).unwrap();
    let open = desk.cache.fill(&dir, Goal::Module, &mut |_| panic!("cargo runs"));
    assert!(open.unwrap_err().to_string().starts_with("others may write to "));
}

#[test]
fn what_killed_processes_left_goes_after_a_day() {
    let desk = Desk::new();
    let now = SystemTime::now();
    for (name, age) in [("fresh", STALE / 2), ("stale", STALE * 2)] {
        let path = desk.cache.dir.join(format!("{UNFINISHED}{name}"));
        fs::create_dir_all(&path).unwrap();
        File::open(&path).unwrap().set_modified(now - age).unwrap();
    }
    for name in [
        "photos",
        "release",
        "wasm32-wasip2",
        "debug",
        "letters",
        "0123456789ABCDEF",
    ] {
        fs::create_dir_all(desk.cache.dir.join(name)).unwrap();
    }
    desk.cache.tidy(now).unwrap();
    assert_eq!(desk.kept(), 7, "what is not of the cache stays");
}
