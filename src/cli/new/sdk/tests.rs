use super::*;

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guest-sdk")
}

/// Returns the files below `dir` with their relative paths, without tests and manifests.
fn sources(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in ignore::Walk::new(dir) {
        let path = entry.unwrap().into_path();
        let name = path.strip_prefix(dir).unwrap().display().to_string();
        if path.is_file() && !name.ends_with(".toml") && !name.starts_with("tests/") {
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn a_copy_has_every_source() {
    let dir = tempfile::tempdir().unwrap();
    Sdk::Vendored.write(dir.path()).unwrap();
    assert_eq!(sources(&dir.path().join(SDK_FOLDER)), sources(&checkout()));
}

#[test]
fn a_copy_needs_no_workspace() {
    let dir = tempfile::tempdir().unwrap();
    Sdk::Vendored.write(dir.path()).unwrap();
    let copy = dir.path().join(SDK_FOLDER);
    assert!(is_sdk(&copy));
    for (path, _) in MANIFESTS {
        let manifest = fs::read_to_string(copy.join(path)).unwrap();
        assert!(!manifest.contains("workspace"), "{path}: {manifest}");
        let manifest: Table = manifest.parse().unwrap();
        assert_eq!(
            manifest["package"]["version"].as_str(),
            Some(env!("CARGO_PKG_VERSION")),
            "{path}"
        );
    }
}

#[test]
fn a_checkout_is_as_good_as_the_crate_in_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crate_itself = Sdk::find(Some(&checkout())).unwrap();
    assert_eq!(Sdk::find(Some(root)).unwrap(), crate_itself);
    assert_eq!(crate_itself, Sdk::At(fs::canonicalize(checkout()).unwrap()));
}
