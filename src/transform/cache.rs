//! Stores compiled code in wasmtime's cache, in a directory that only this user can write to.
//!
//! wasmtime writes and reads the entries. The relay decides under which name an entry is found. The relay's engine has
//! no compiler, so it can never compile. For wasmtime, the entries of this engine therefore have other names than those
//! that the compiling process writes. [`Cache::adopt`] renames an entry accordingly.

use std::borrow::Cow;
use std::fs::{self, DirBuilder};
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use wasmtime::CacheConfig;

use super::error::EngineError;

/// The total size of all entries. It is wasmtime's own default, but wasmtime's clean-up does not enforce it here: the
/// clean-up runs where code is written, and the writing process has already ended by then.
const MAX_BYTES: u64 = 512 * 1024 * 1024;

/// Files of a killed process are removed after this time.
const STALE: Duration = Duration::from_secs(60 * 60);

const SCRATCH: &str = ".compiling-";

#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    /// A directory that is deleted with this process. Code is kept there only until it is loaded.
    private: Option<TempDir>,
}

impl Cache {
    /// Creates the directory unless it exists.
    pub fn open(dir: &Path) -> Result<Self, EngineError> {
        let io = |source| EngineError::CacheDirectory {
            path: dir.to_owned(),
            source,
        };
        create_private(dir).map_err(io)?;
        if others_may_write(dir).map_err(io)? {
            return Err(EngineError::CacheNotPrivate(dir.to_owned()));
        }
        let dir = dir.canonicalize().map_err(io)?;
        Ok(Self { dir, private: None })
    }

    /// Uses the first writable location.
    pub fn temporary() -> Result<Self, EngineError> {
        let mut trouble = None;
        for place in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
            match temporary(&place) {
                Ok(private) => {
                    return Ok(Self {
                        dir: private.path().to_owned(),
                        private: Some(private),
                    });
                }
                Err(source) => drop(trouble.get_or_insert((place, source))),
            }
        }
        let (path, source) = trouble.unwrap_or_else(|| (std::env::temp_dir(), io::ErrorKind::NotFound.into()));
        Err(EngineError::NoPlace { path, source })
    }

    pub fn is_temporary(&self) -> bool {
        self.private.is_some()
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the cache in the form that wasmtime uses.
    pub fn wasmtime(&self) -> Result<wasmtime::Cache, EngineError> {
        wasmtime_cache(&self.dir)
    }

    /// Returns a directory for one compilation on the same file system.
    pub fn scratch(&self) -> io::Result<TempDir> {
        tempfile::Builder::new().prefix(SCRATCH).tempdir_in(&self.dir)
    }

    /// Moves the entry that was written into `scratch` to the name under which `engine` looks for `stand_in`.
    pub fn adopt(&self, scratch: &Path, engine: &wasmtime::Engine, stand_in: &[u8]) -> io::Result<()> {
        let written = entry_in(scratch)?.ok_or_else(|| io::Error::other("no code was written there"))?;
        // The directory has the name of wasmtime's version.
        let version = written.parent().and_then(Path::file_name).unwrap_or_default();
        let kept = self.dir.join("modules").join(version);
        fs::create_dir_all(&kept)?;
        fs::rename(&written, kept.join(entry_name(engine, stand_in)))
    }

    /// Removes files left by killed processes, and the least recently used entries until the rest fits. Failed removals
    /// are tried again with the next module.
    pub fn tidy(&self) {
        if self.is_temporary() {
            let _ = fs::remove_dir_all(self.dir.join("modules"));
            return;
        }
        remove_stale(&self.dir);
        let mut entries = Vec::new();
        collect(&self.dir.join("modules"), &mut entries);
        entries.sort_by_key(|(used, ..)| std::cmp::Reverse(*used));
        let mut bytes = 0;
        for (_, size, path) in entries {
            bytes += size;
            if bytes > MAX_BYTES {
                let _ = fs::remove_file(&path);
                let _ = fs::remove_file(path.with_extension("stats"));
            }
        }
    }
}

pub(super) fn wasmtime_cache(dir: &Path) -> Result<wasmtime::Cache, EngineError> {
    let mut config = CacheConfig::new();
    config.with_directory(dir);
    wasmtime::Cache::new(config).map_err(|error| EngineError::Cache {
        path: dir.to_owned(),
        reason: format!("{error:#}"),
    })
}

/// Returns the single entry of a cache that was used once.
pub(super) fn entry_in(dir: &Path) -> io::Result<Option<PathBuf>> {
    for version in fs::read_dir(dir.join("modules"))? {
        for file in fs::read_dir(version?.path())? {
            let path = file?.path();
            if path.extension().is_none() {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// Builds the name as wasmtime's `ModuleCacheEntry::get_data_raw` does (wasmtime-internal-cache 48, `src/lib.rs`) from
/// the input of `CodeBuilder::compile_cached`. If another version of wasmtime changes this, no module loads, and every
/// test of loading fails.
fn entry_name(engine: &wasmtime::Engine, wasm: &[u8]) -> String {
    struct Sha256Hasher(Sha256);

    impl Hasher for Sha256Hasher {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            unreachable!("the whole hash is taken")
        }
    }

    let dwarf_package: Option<&[u8]> = None;
    let unsafe_intrinsics_import: Option<&str> = None;
    let mut hasher = Sha256Hasher(Sha256::new());
    (
        engine.precompile_compatibility_hash(),
        Cow::Borrowed(wasm),
        dwarf_package,
        unsafe_intrinsics_import,
    )
        .hash(&mut hasher);
    URL_SAFE_NO_PAD.encode(hasher.0.finalize())
}

fn temporary(place: &Path) -> io::Result<TempDir> {
    let dir = tempfile::Builder::new()
        .prefix("slipring-compiled-")
        .tempdir_in(place)?;
    // The file system may exist and still accept no data.
    fs::write(dir.path().join("probe"), b"1")?;
    fs::remove_file(dir.path().join("probe"))?;
    Ok(dir)
}

fn remove_stale(dir: &Path) {
    let Ok(found) = fs::read_dir(dir) else { return };
    for entry in found.flatten() {
        let is_scratch = entry.file_name().to_string_lossy().starts_with(SCRATCH);
        let modified = entry.metadata().and_then(|metadata| metadata.modified());
        let age = modified
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if is_scratch && age.is_some_and(|age| age > STALE) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Collects each entry with the time of its last use, which wasmtime records in a file beside it.
fn collect(dir: &Path, entries: &mut Vec<(SystemTime, u64, PathBuf)>) {
    let Ok(found) = fs::read_dir(dir) else { return };
    for entry in found.flatten() {
        let path = entry.path();
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            collect(&path, entries);
        } else if path.extension().is_none() {
            let modified = |metadata: fs::Metadata| metadata.modified().ok();
            let used = fs::metadata(path.with_extension("stats")).ok().and_then(modified);
            let size = metadata.len();
            let used = used.max(modified(metadata)).unwrap_or(SystemTime::UNIX_EPOCH);
            entries.push((used, size, path));
        }
    }
}

/// An existing directory keeps its permissions, because others may need it.
fn create_private(dir: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(dir)
}

#[cfg(unix)]
fn others_may_write(dir: &Path) -> io::Result<bool> {
    Ok(std::os::unix::fs::MetadataExt::mode(&dir.metadata()?) & 0o022 != 0)
}

#[cfg(not(unix))]
fn others_may_write(_: &Path) -> io::Result<bool> {
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays_and_what_was_left_behind_goes() {
        let parent = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(&parent.path().join("cache")).expect("a cache");
        let modules = cache.dir().join("modules/wasmtime-1");
        fs::create_dir_all(&modules).expect("a directory");
        let entry = |name: &str, age: u64| {
            let file = fs::File::create(modules.join(name)).expect("a file");
            file.set_len(MAX_BYTES / 2).expect("a sparse file");
            let used = SystemTime::now() - Duration::from_secs(age);
            file.set_modified(used).expect("a time");
        };
        entry("newest", 1);
        entry("oldest", 3);
        entry("middle", 2);
        let fresh = cache.scratch().expect("a directory");
        let stale = cache.dir().join(".compiling-stale");
        fs::create_dir(&stale).expect("a directory");
        let long_ago = SystemTime::now() - 2 * STALE;
        fs::File::open(&stale)
            .and_then(|dir| dir.set_modified(long_ago))
            .expect("a time");
        cache.tidy();
        let exists = |name: &str| modules.join(name).exists();
        assert_eq!(
            [exists("newest"), exists("middle"), exists("oldest")],
            [true, true, false]
        );
        assert!(fresh.path().exists() && !stale.exists());
    }
}
