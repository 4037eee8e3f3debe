//! `.slipring`: the folder in which `up` keeps its configuration and its data. Only one `up` may use it at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tempfile::NamedTempFile;

use super::super::config_file::UP_FOLDER;

#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    /// Locked as long as it is open. The system unlocks it however this process ends.
    _lock: File,
}

impl Folder {
    /// Opens the folder in the working directory, and creates it unless it exists.
    pub fn open() -> anyhow::Result<Self> {
        Self::below(Path::new(""))
    }

    fn below(parent: &Path) -> anyhow::Result<Self> {
        let dir = parent.join(UP_FOLDER);
        let doing = || format!("cannot create {}", dir.display());
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error).with_context(doing),
            _ => {}
        }
        let lock = lock(&dir)?;
        let folder = Self { dir, _lock: lock };
        folder.write(".gitignore", "*\n")?;
        Ok(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Creates a folder in this one unless it exists.
    pub fn create(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// Replaces a file in one step. Only this user can read it.
    pub fn write(&self, name: &str, text: &str) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        let writing = || -> std::io::Result<()> {
            let mut file = NamedTempFile::new_in(&self.dir)?;
            file.write_all(text.as_bytes())?;
            file.persist(&path)?;
            Ok(())
        };
        writing().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Returns the content of a file, or nothing if there is none.
    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Returns the secret in a file, which is created with a random one. It stays the same, so that pages in a browser go
    /// on after a restart.
    pub fn secret(&self, name: &str) -> anyhow::Result<String> {
        let known = self.read(name).trim().to_owned();
        if !known.is_empty() {
            return Ok(known);
        }
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).context("cannot get random numbers for a secret")?;
        let secret = URL_SAFE_NO_PAD.encode(bytes);
        self.write(name, &secret)?;
        Ok(secret)
    }
}

fn lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let doing = || format!("cannot lock {}", path.display());
    let mut file = options.open(&path).with_context(doing)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut id = String::new();
            let _ = file.read_to_string(&mut id);
            bail!(
                "another `slipring up` (process {}) is running with {}: stop it with Ctrl-C, or run this one in another \
                 folder",
                id.trim(),
                dir.display()
            )
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(doing),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .with_context(doing)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_one_has_the_folder_and_only_this_user_reads_its_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::below(dir.path()).unwrap();
        let secret = folder.secret("admin.token").unwrap();
        assert!(secret.len() > 40);
        assert_eq!(folder.secret("admin.token").unwrap(), secret);
        let mode = |name: &str| fs::metadata(folder.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(""), mode("admin.token")), (0o700, 0o600));
        let error = Folder::below(dir.path()).unwrap_err().to_string();
        let own = format!("another `slipring up` (process {}) is running", std::process::id());
        assert!(error.starts_with(&own), "{error}");
        drop(folder);
        Folder::below(dir.path()).unwrap();
    }
}
