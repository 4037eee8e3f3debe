//! Finds files whose names differ only in `-` and `_`. Cargo builds `my_shop.wasm` from the crate `my-shop`, whose settings
//! are in `my-shop.toml`.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::modules::names::same;

/// Returns the `.toml` of this path, or else the only one whose name is another spelling of it. The path need not exist.
pub fn toml(path: PathBuf) -> PathBuf {
    if path.exists() {
        return path;
    }
    let is_toml = |other: &Path| other.extension() == Some(OsStr::new("toml")) && other.is_file();
    others(&path, is_toml).unwrap_or(path)
}

/// Returns the folder of this path, or else the only one whose name is another spelling of it.
pub fn folder(path: PathBuf) -> PathBuf {
    if path.exists() {
        return path;
    }
    others(&path, Path::is_dir).unwrap_or(path)
}

/// Returns the only file beside this one that has another spelling of its name.
fn others(path: &Path, counts: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let stem = path.file_stem()?.to_str()?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let entries = fs::read_dir(dir.unwrap_or(Path::new("."))).ok()?;
    let names = entries.filter_map(|entry| Some(PathBuf::from(entry.ok()?.file_name())));
    let same_name = |name: &PathBuf| {
        let other = name.file_stem().and_then(OsStr::to_str);
        other.is_some_and(|other| same(other, stem))
    };
    let found = names.filter(same_name).map(|name| path.with_file_name(name));
    let mut found = found.filter(|path| counts(path));
    match (found.next(), found.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_spelling_is_found_if_it_is_the_only_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        assert_eq!(
            toml(path("my_shop.toml")),
            path("my_shop.toml"),
            "as it should be called"
        );
        fs::write(path("my-shop.toml"), "").unwrap();
        fs::write(path("my-shop.wasm"), "").unwrap();
        assert_eq!(toml(path("my_shop.toml")), path("my-shop.toml"));
        assert_eq!(folder(path("my_shop")), path("my_shop"), "a file is no folder");
        fs::write(path("my_shop.toml"), "").unwrap();
        assert_eq!(toml(path("my_shop.toml")), path("my_shop.toml"), "the exact name first");
        fs::write(path("a-b_c.toml"), "").unwrap();
        fs::write(path("a_b-c.toml"), "").unwrap();
        assert_eq!(toml(path("a_b_c.toml")), path("a_b_c.toml"), "nobody knows which");
        fs::create_dir(path("other-shop")).unwrap();
        assert_eq!(folder(path("other_shop")), path("other-shop"));
    }
}
