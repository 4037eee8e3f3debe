//! Puts a version into the modules directory in one step. Whatever interrupts it, the relay runs the old version or the new
//! one, and never the new file of one with the old file of the other.
//!
//! A file is replaced by a rename, so nobody sees half of one. Two files need two renames. In between, the new `.toml` allows
//! only the new `.wasm`, with `sha256`, so no relay runs the old `.wasm` with it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::directory::Kind;
use super::versions::Id;
use crate::config;

/// Only the owner may write, as `modules.strict_permissions` demands.
const MODE: u32 = 0o644;

/// The files of a version.
#[derive(Debug, Clone, Copy)]
pub struct New<'a> {
    pub wasm: &'a [u8],
    pub toml: &'a str,
}

/// What [`install`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    pub id: Id,
    /// The names of the files that changed. Empty if the directory has had the version already.
    pub changed: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the modules directory {0} does not exist; create it, or name another one")]
    NoDirectory(PathBuf),
    #[error("another deployment is writing to the modules directory {0}; try again when it has ended")]
    Busy(PathBuf),
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "cannot write {path}: the modules directory is read-only for this user. Deploy as its owner, or in the way in which \
         its files get there"
    )]
    ReadOnly { path: PathBuf },
}

/// A rename that is prepared.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    kind: Kind,
    content: Vec<u8>,
}

/// Puts the files of a version into the directory. Blocks while they are written.
pub fn install(dir: &Path, name: &str, new: &New<'_>) -> Result<Installed, Error> {
    let _lock = lock(dir)?;
    let steps = steps(dir, name, new)?;
    let mut changed: Vec<String> = steps.iter().map(|step| step.kind.file(name)).collect();
    changed.sort_unstable();
    changed.dedup();
    // All of them are written before the first one takes effect, because the disk may be full.
    let written: Vec<Temporary> = (0_u8..)
        .zip(&steps)
        .map(|(number, step)| Temporary::write(dir, name, number, step))
        .collect::<Result<_, _>>()?;
    for temporary in written {
        temporary.take_effect(dir)?;
    }
    Ok(Installed {
        id: Id::of(new.wasm, new.toml),
        changed,
    })
}

/// Keeps other processes from writing at the same time. They give way instead of waiting.
fn lock(dir: &Path) -> Result<File, Error> {
    let opened = File::open(dir).map_err(|source| match source.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Error::NoDirectory(dir.to_owned()),
        _ => failed(dir, source),
    })?;
    match opened.try_lock() {
        Err(fs::TryLockError::WouldBlock) => Err(Error::Busy(dir.to_owned())),
        // A file system without locks has at most one writer in practice.
        Ok(()) | Err(fs::TryLockError::Error(_)) => Ok(opened),
    }
}

/// Returns the renames that lead from what the directory has to the new version.
fn steps(dir: &Path, name: &str, new: &New<'_>) -> Result<Vec<Step>, Error> {
    let wasm = content(&dir.join(Kind::Wasm.file(name)))?;
    let toml = content(&dir.join(Kind::Toml.file(name)))?;
    let step = |kind, content: &[u8]| Step {
        kind,
        content: content.to_owned(),
    };
    let has_wasm = wasm.as_deref() == Some(new.wasm);
    let has_toml = toml.as_deref() == Some(new.toml.as_bytes());
    let to_wasm = (!has_wasm).then(|| step(Kind::Wasm, new.wasm));
    let to_toml = (!has_toml).then(|| step(Kind::Toml, new.toml.as_bytes()));
    Ok(match (to_wasm, to_toml) {
        // Without the old .wasm there is nothing that could run with the new .toml.
        (Some(to_wasm), Some(to_toml)) if wasm.is_some() => {
            let id = Id::of(new.wasm, new.toml);
            match pinned(name, new.toml, &id.wasm_sha256) {
                Some(pinned) => vec![step(Kind::Toml, pinned.as_bytes()), to_wasm, to_toml],
                None => vec![to_toml, to_wasm],
            }
        }
        (to_wasm, to_toml) => to_toml.into_iter().chain(to_wasm).collect(),
    })
}

fn content(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, error)),
    }
}

/// Returns the text with a first line that allows only this `.wasm`, or `None` if its author has written one.
fn pinned(name: &str, toml: &str, wasm_sha256: &str) -> Option<String> {
    let parsed = config::parse_module(Path::new(&Kind::Toml.file(name)), toml);
    if parsed.is_ok_and(|config| config.sha256.is_some()) {
        return None;
    }
    let (mark, text) = match toml.strip_prefix('\u{feff}') {
        Some(text) => ("\u{feff}", text),
        None => ("", toml),
    };
    Some(format!("{mark}sha256 = \"{wasm_sha256}\"\n{text}"))
}

/// A complete file with a hidden name, which no relay looks at. It is removed unless it takes effect.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    target: PathBuf,
}

impl Temporary {
    fn write(dir: &Path, name: &str, number: u8, step: &Step) -> Result<Self, Error> {
        let file = step.kind.file(name);
        let temporary = Self {
            path: dir.join(format!(".{file}.{number}.deploying")),
            target: dir.join(file),
        };
        // Left by a deployment that was killed.
        match fs::remove_file(&temporary.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&temporary.path, error)),
            _ => {}
        }
        let mode = fs::metadata(&temporary.target).map_or(MODE, |metadata| metadata.permissions().mode() & 0o777);
        let write = || {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(mode).open(&temporary.path)?;
            // Whatever the umask says.
            file.set_permissions(Permissions::from_mode(mode))?;
            file.write_all(&step.content)?;
            file.sync_all()
        };
        write().map_err(|error| failed(&temporary.target, error))?;
        Ok(temporary)
    }

    fn take_effect(self, dir: &Path) -> Result<(), Error> {
        fs::rename(&self.path, &self.target).map_err(|error| failed(&self.target, error))?;
        // The next rename must not survive a power failure without this one.
        let synced = File::open(dir).and_then(|dir| dir.sync_all());
        synced.map_err(|error| failed(&self.target, error))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn failed(path: &Path, source: io::Error) -> Error {
    let path = path.to_owned();
    match source.kind() {
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => Error::ReadOnly { path },
        _ => Error::Write { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: New<'_> = New {
        wasm: b"old",
        toml: "stream = \"ORDERS\"\n",
    };
    const NEW: New<'_> = New {
        wasm: b"new",
        toml: "stream = \"ORDERS\"\n[settings]\na = 1\n",
    };

    fn read(dir: &Path, file: &str) -> Option<String> {
        fs::read_to_string(dir.join(file)).ok()
    }

    /// Returns what a relay would do with the files: `old`, `new`, or why it would not run them.
    fn version(dir: &Path) -> String {
        let (Some(wasm), Some(toml)) = (read(dir, "shop.wasm"), read(dir, "shop.toml")) else {
            return "incomplete".to_owned();
        };
        let config = config::parse_module(Path::new("shop.toml"), &toml).unwrap();
        let id = Id::of(wasm.as_bytes(), &toml);
        if config::check_sha256("shop", &config, &id.wasm_sha256).is_err() {
            return "refused".to_owned();
        }
        match (wasm.as_str(), config.settings.contains('a')) {
            ("old", false) => "old",
            ("new", true) => "new",
            _ => "mixed",
        }
        .to_owned()
    }

    /// Carries out only the first steps, as when the process is killed.
    fn begin(dir: &Path, new: &New<'_>, count: usize) -> usize {
        let steps = steps(dir, "shop", new).unwrap();
        let all = steps.len();
        for (number, step) in (0_u8..).zip(steps.into_iter().take(count)) {
            Temporary::write(dir, "shop", number, &step)
                .unwrap()
                .take_effect(dir)
                .unwrap();
        }
        all
    }

    #[test]
    fn whatever_interrupts_it_no_mixture_runs_and_the_next_one_finishes() {
        // Which files are there before, and what is seen after each step.
        type Case<'a> = (Option<&'a [u8]>, Option<&'a str>, &'a [&'a str]);
        let cases: [Case<'_>; 6] = [
            (None, None, &["incomplete", "incomplete", "new"]),
            (Some(OLD.wasm), Some(OLD.toml), &["old", "refused", "new", "new"]),
            (Some(OLD.wasm), None, &["incomplete", "refused", "new", "new"]),
            (None, Some(OLD.toml), &["incomplete", "incomplete", "new"]),
            (Some(NEW.wasm), Some(NEW.toml), &["new"]),
            (Some(NEW.wasm), None, &["incomplete", "new"]),
        ];
        for (wasm, toml, expected) in cases {
            for (count, expected_now) in expected.iter().enumerate() {
                let dir = tempfile::tempdir().unwrap();
                let dir = dir.path();
                wasm.iter()
                    .for_each(|wasm| fs::write(dir.join("shop.wasm"), wasm).unwrap());
                toml.iter()
                    .for_each(|toml| fs::write(dir.join("shop.toml"), toml).unwrap());
                let all = begin(dir, &NEW, count);
                assert_eq!(all, expected.len() - 1, "{wasm:?} {toml:?}");
                assert_eq!(version(dir), *expected_now, "{wasm:?} {toml:?} after {count}");
                let installed = install(dir, "shop", &NEW).unwrap();
                assert_eq!(version(dir), "new");
                assert_eq!(installed.id, Id::of(NEW.wasm, NEW.toml));
                assert_eq!(read(dir, "shop.toml").unwrap(), NEW.toml, "no line is left in it");
                assert!(install(dir, "shop", &NEW).unwrap().changed.is_empty());
                assert_eq!(fs::read_dir(dir).unwrap().count(), 2, "nothing else is left");
            }
        }
    }

    #[test]
    fn one_file_takes_one_step() {
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), "shop", &OLD).unwrap();
        let settings = New { wasm: b"old", ..NEW };
        assert_eq!(install(dir.path(), "shop", &settings).unwrap().changed, ["shop.toml"]);
        assert_eq!(install(dir.path(), "shop", &NEW).unwrap().changed, ["shop.wasm"]);
        assert_eq!(
            install(dir.path(), "shop", &OLD).unwrap().changed,
            ["shop.toml", "shop.wasm"]
        );
    }

    #[test]
    fn what_its_author_pins_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), "shop", &OLD).unwrap();
        let id = Id::of(b"new", "");
        let toml = format!("stream = \"ORDERS\"\nsha256 = \"{}\"\n", id.wasm_sha256);
        let pinned = New {
            wasm: b"new",
            toml: &toml,
        };
        assert_eq!(begin(dir.path(), &pinned, 1), 2);
        assert_eq!(version(dir.path()), "refused");
        install(dir.path(), "shop", &pinned).unwrap();
        assert_eq!(read(dir.path(), "shop.toml").unwrap(), toml);
    }

    #[test]
    fn a_line_that_allows_one_file_is_toml_wherever_it_comes() {
        for toml in [
            "stream = \"A\"",
            "\u{feff}stream = \"A\"\n",
            "stream = \"A\"\n[settings]\nsha256 = 1\n",
        ] {
            let text = pinned("shop", toml, &"0".repeat(64)).unwrap();
            let config = config::parse_module(Path::new("shop.toml"), &text).unwrap();
            assert_eq!(config.sha256, Some("0".repeat(64)), "{text}");
        }
    }

    #[test]
    fn modes_stay_and_others_may_not_write() {
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), "shop", &OLD).unwrap();
        let mode = |file: &str| fs::metadata(dir.path().join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("shop.wasm"), mode("shop.toml")), (0o644, 0o644));
        fs::set_permissions(dir.path().join("shop.toml"), Permissions::from_mode(0o600)).unwrap();
        install(dir.path(), "shop", &NEW).unwrap();
        assert_eq!((mode("shop.wasm"), mode("shop.toml")), (0o644, 0o600));
    }

    #[test]
    fn what_is_in_the_way_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = dir.path().join("nowhere");
        let error = install(&nowhere, "shop", &NEW).unwrap_err().to_string();
        assert!(error.contains("does not exist; create it"), "{error}");

        let _other = lock(dir.path()).unwrap();
        let error = install(dir.path(), "shop", &NEW).unwrap_err().to_string();
        assert!(error.contains("another deployment is writing"), "{error}");
    }
}
