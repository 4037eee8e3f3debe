use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            let mode = if *name == "build" { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Returns the error text, with the folder shown as DIR.
    fn error<T: std::fmt::Debug>(&self, result: anyhow::Result<T>) -> String {
        let error = format!("{:#}", result.unwrap_err());
        error.replace(&self.path().display().to_string(), "DIR")
    }
}

const MANIFEST: &str = "[package]\nname = 'my-shop'\nedition = '2024'\n[lib]\ncrate-type = ['cdylib']\n[workspace]\n";

#[test]
fn a_crate_s_module_lies_where_cargo_says() {
    let folder = Folder::with(&[("Cargo.toml", MANIFEST), ("src/lib.rs", "")]);
    let project = Project::at(folder.path()).unwrap();
    let error = folder.error(project.built());
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or(fs::canonicalize(folder.path()).unwrap().join("target"), PathBuf::from);
    let wasm = target.join("wasm32-wasip2/release/my_shop.wasm");
    assert!(error.contains("does not exist: build the crate with"), "{error}");
    if env::var_os("CARGO_TARGET_DIR").is_none() {
        fs::create_dir_all(wasm.parent().unwrap()).unwrap();
        fs::write(&wasm, "").unwrap();
        let built = project.built().unwrap();
        let toml = folder.path().join("my-shop.toml");
        assert_eq!((built.name.as_str(), built.wasm, built.toml), ("my-shop", wasm, toml));
    }
}

#[test]
fn a_crate_that_makes_no_module_says_what_it_lacks() {
    let check = |manifest: &str, expected: &str| {
        let folder = Folder::with(&[("Cargo.toml", manifest), ("src/lib.rs", "")]);
        let error = folder.error(Project::at(folder.path()).unwrap().built());
        assert!(error.contains(expected), "{error}");
    };
    check(
        "[package]\nname = 'shop'\n[workspace]\n",
        "the crate shop does not build a module: add `[lib]` with `crate-type = [\"cdylib\", \"rlib\"]` to DIR/Cargo.toml",
    );
    check(
        "[workspace]\n",
        "DIR/Cargo.toml is a workspace without a crate of its own",
    );
    check("[packag]\n", "cargo cannot read DIR/Cargo.toml: error: ");
}

#[test]
fn a_script_builds_what_it_likes_and_leaves_a_module() {
    let script = "#!/bin/sh\necho building\ncp source other.wasm\n";
    let folder = Folder::with(&[("build", script), ("source", "wasm"), ("Cargo.toml", MANIFEST)]);
    let project = Project::at(folder.path()).unwrap();
    assert_eq!(
        folder.error(project.built()),
        "there is no .wasm file in DIR: its `build` must leave the module there, as NAME.wasm"
    );
    assert_eq!(project.build().unwrap(), ());
    let path = |name: &str| folder.path().join(name);
    let built = project.built().unwrap();
    assert_eq!(
        (built.name.as_str(), &built.wasm, &built.toml),
        ("other", &path("other.wasm"), &path("other.toml"))
    );

    fs::write(path("more.wasm"), "").unwrap();
    assert_eq!(
        folder.error(project.built()),
        "cannot tell which of these is the module: DIR/more.wasm, DIR/other.wasm. Put a .toml beside one of them, or name it on the command line"
    );
    fs::write(path("other.toml"), "stream = 'S'").unwrap();
    assert_eq!(project.built().unwrap(), built);
}

#[test]
fn a_build_that_fails_is_told() {
    let folder = Folder::with(&[("build", "#!/bin/sh\nexit 3\n")]);
    let project = Project::at(folder.path()).unwrap();
    assert_eq!(
        folder.error(project.build()),
        "DIR/build failed (exit status: 3): fix the errors above"
    );
    assert_eq!(
        folder.error(project.build_until(|| false)),
        folder.error(project.build())
    );
}

/// The script is usually a shell, and the compiler is a process that it started.
#[test]
fn a_build_that_is_given_up_ends_with_all_that_it_started() {
    let script = "#!/bin/sh\nexec 3> alive\n(sleep 20; echo survived >&3) &\nwait\n";
    let folder = Folder::with(&[("build", script)]);
    let alive = folder.path().join("alive");
    assert!(Command::new("mkfifo").arg(&alive).status().unwrap().success());
    let started = AtomicBool::new(false);
    thread::scope(|scope| {
        let words = scope.spawn(|| {
            // The pipe opens once a process has it open for writing, and ends once none has.
            let mut alive = fs::File::open(&alive).unwrap();
            started.store(true, Ordering::Relaxed);
            io::read_to_string(&mut alive).unwrap()
        });
        let project = Project::at(folder.path()).unwrap();
        let given_up = project.build_until(|| started.load(Ordering::Relaxed)).unwrap();
        assert_eq!(given_up, None);
        assert_eq!(words.join().unwrap(), "");
    });
}

#[test]
fn what_is_no_module_s_folder_is_refused() {
    let folder = Folder::with(&[("shop.wasm", ""), ("shop.txt", "")]);
    let at = |name: &str| Project::at(&folder.path().join(name));
    assert!(
        folder
            .error(at(""))
            .starts_with("there is no module in DIR/: it has neither a Cargo.toml nor")
    );
    assert!(
        folder
            .error(at("none"))
            .starts_with("cannot access DIR/none: No such file")
    );
    assert!(
        folder
            .error(at("shop.txt"))
            .starts_with("DIR/shop.txt is neither a folder nor a module")
    );
    let several = Folder::with(&[
        ("b/Cargo.toml", ""),
        ("a/Cargo.toml", ""),
        (".c/Cargo.toml", ""),
        ("d/x", ""),
    ]);
    let error = Project::at(several.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("Name the folder of one of those in it: a, b"),
        "{error}"
    );
    let built = at("shop.wasm").unwrap().built().unwrap();
    assert_eq!(
        (built.name.as_str(), built.toml),
        ("shop", folder.path().join("shop.toml"))
    );
}
