//! The files of one module's versions. A file is written completely or not at all. This is blocking I/O.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, DirEntry, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::record::{Id, Record, Version};
use crate::hash;
use crate::modules::permissions;

const RECORD: &str = "record.json";

/// A younger file may belong to a version that another relay on the same directory is about to run.
pub(super) const YOUNG: Duration = Duration::from_secs(600);

#[derive(Debug, Clone)]
pub(super) struct Files {
    dir: PathBuf,
    /// Refuse files that others can change, because they are executed.
    strict: bool,
    /// The suffix of temporary files. Another relay on this directory may write the same file at the same time, and
    /// process ids are not unique across containers.
    pub(super) temporary: String,
}

impl Files {
    pub fn new(dir: PathBuf, strict: bool) -> Self {
        Self {
            dir,
            strict,
            temporary: format!(".{:016x}.tmp", fastrand::u64(..)),
        }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn read_record(&self) -> io::Result<Record> {
        match fs::read(self.dir.join(RECORD)) {
            Ok(json) => {
                serde_json::from_slice(&json).map_err(|error| invalid(&self.dir.join(RECORD), &error.to_string()))
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Ok(Record::default())
            }
            Err(error) => Err(error),
        }
    }

    /// Also removes the files of versions that are not `named`.
    pub fn write_record(&self, record: &Record, named: &BTreeSet<String>) -> io::Result<()> {
        self.put(RECORD, &serde_json::to_vec_pretty(record)?)?;
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == RECORD || named.contains(&name) || is_young(&entry) {
                continue;
            }
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the files of the version that are missing.
    pub fn write(&self, version: &Version) -> io::Result<()> {
        // The content may be secret and is executed, so only this user has access.
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let Id {
            wasm_sha256,
            toml_sha256,
        } = &version.id;
        for (name, content) in [
            (format!("{wasm_sha256}.wasm"), &*version.wasm),
            (format!("{toml_sha256}.toml"), version.toml.as_bytes()),
        ] {
            if !self.renew(&name, content.len() as u64) {
                self.put(&name, content)?;
            }
        }
        Ok(())
    }

    pub fn read(&self, id: Id) -> io::Result<Version> {
        if self.strict {
            self.check_permissions(&self.dir)?;
            self.check_permissions(&self.dir.join(RECORD))?;
        }
        let wasm = self.get(&format!("{}.wasm", id.wasm_sha256), &id.wasm_sha256)?;
        let path = self.dir.join(format!("{}.toml", id.toml_sha256));
        let toml = self.get(&format!("{}.toml", id.toml_sha256), &id.toml_sha256)?;
        let toml = String::from_utf8(toml).map_err(|error| invalid(&path, &error.to_string()))?;
        Ok(Version {
            id,
            wasm: wasm.into(),
            toml,
        })
    }

    fn get(&self, name: &str, sha256: &str) -> io::Result<Vec<u8>> {
        let path = self.dir.join(name);
        if self.strict {
            self.check_permissions(&path)?;
        }
        let bytes =
            fs::read(&path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        let found = hash::sha256(&bytes);
        if found != sha256 {
            return Err(invalid(&path, &format!("its SHA-256 is {found}: it was changed")));
        }
        Ok(bytes)
    }

    fn check_permissions(&self, path: &Path) -> io::Result<()> {
        permissions::check(&fs::metadata(path)?)
            .map_err(|why| io::Error::new(ErrorKind::PermissionDenied, format!("{} {why}", path.display())))
    }

    /// Returns true if the file exists, and marks it as young again. Nothing names it before its version runs.
    fn renew(&self, name: &str, len: u64) -> bool {
        let renew = || {
            let file = OpenOptions::new().write(true).open(self.dir.join(name))?;
            file.set_modified(SystemTime::now())?;
            Ok::<_, io::Error>(file.metadata()?.len() == len)
        };
        renew().unwrap_or(false)
    }

    fn put(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let temporary = self.dir.join(format!("{name}{}", self.temporary));
        let written = File::create(&temporary).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
        written
            .and_then(|()| fs::rename(&temporary, self.dir.join(name)))
            .inspect_err(|_| {
                // The file takes up the space that is missing.
                let _ = fs::remove_file(&temporary);
            })
    }
}

/// A file without a time, or with one in the future, counts as young.
fn is_young(entry: &DirEntry) -> bool {
    let modified = entry.metadata().and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|modified| modified.elapsed().ok());
    age.is_none_or(|age| age < YOUNG)
}

fn invalid(path: &Path, why: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{}: {why}", path.display()))
}
