//! Copies what cargo built into another crate's `target`.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::SystemTime;

/// Copies each file and folder of `from` that `to` does not have, completely or not at all. All copies have the same
/// time: cargo compiles a crate again if one of its dependencies is younger.
pub fn missing(from: &Path, to: &Path, time: SystemTime) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let scratch = tempfile::Builder::new().prefix(".slipring-").tempdir_in(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        if to.join(&name).exists() {
            continue;
        }
        let whole = scratch.path().join(&name);
        tree(&from.join(&name), &whole, time)?;
        // Another cargo may have begun in the meantime. It needs no copy.
        if fs::rename(&whole, to.join(&name)).is_err() && !to.join(&name).exists() {
            return Err(io::Error::other(format!("cannot create {}", to.join(&name).display())));
        }
    }
    Ok(())
}

fn tree(from: &Path, to: &Path, time: SystemTime) -> io::Result<()> {
    if !from.is_dir() {
        fs::copy(from, to)?;
        return File::open(to)?.set_modified(time);
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        tree(&from.join(&name), &to.join(&name), time)?;
    }
    Ok(())
}
