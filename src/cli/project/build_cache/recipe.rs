//! What the compiled dependencies of a crate depend on, and the crate without code that compiles them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};
use toml::{Table, Value};

use super::super::SDK_FOLDER;
use super::Goal;

/// Cargo shows it while it compiles.
const NAME: &str = "dependencies-of-new-modules";

/// In digits.
const KEY_LENGTH: usize = 16;

#[derive(Debug)]
pub struct Recipe {
    goal: Goal,
    manifest: String,
    lock: String,
    /// The files of the SDK, below its folder.
    sdk: Vec<(PathBuf, Vec<u8>)>,
    /// The version of Rust.
    rust: Vec<u8>,
}

/// Returns true if a name could be a key.
pub fn is_key(name: &str) -> bool {
    name.len() == KEY_LENGTH && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns the crate's manifest in a form that does not depend on its name. Returns `None` if it has other dependencies
/// than `slipring new` gives it: it is compiled once, so nothing would be won.
pub fn manifest(dir: &Path) -> anyhow::Result<Option<Table>> {
    let mut manifest: Table = fs::read_to_string(dir.join("Cargo.toml"))?.parse()?;
    let known = ["package", "lib", "dependencies", "workspace"];
    let dependencies = manifest.get("dependencies").and_then(Value::as_table);
    let sdk = Table::from_iter([("path".to_owned(), Value::from(SDK_FOLDER))]);
    let is_new = dependencies.is_some_and(|dependencies| {
        let serde = dependencies.get("serde").and_then(Value::as_table);
        dependencies.len() == 2
            && dependencies.get("slipring-sdk") == Some(&Value::Table(sdk))
            && serde.is_some_and(|serde| serde.contains_key("version") && !serde.contains_key("path"))
    });
    if !is_new || !manifest.keys().all(|key| known.contains(&key.as_str())) {
        return Ok(None);
    }
    let edition = manifest.get("package").and_then(|package| package.get("edition"));
    let edition = edition.cloned().context("the crate has no edition")?;
    let package = [("name", NAME.into()), ("version", "0.0.0".into()), ("edition", edition)];
    // No folder above claims it.
    let workspace = [("exclude", Value::Array(vec!["vendor".into()]))];
    let table =
        |keys: Vec<(&str, Value)>| Value::Table(keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
    // A plain library leaves no module behind.
    manifest.remove("lib");
    manifest.insert("package".to_owned(), table(package.into()));
    manifest.insert("workspace".to_owned(), table(workspace.into()));
    Ok(Some(manifest))
}

impl Recipe {
    pub fn of(dir: &Path, manifest: &Table, goal: Goal) -> anyhow::Result<Self> {
        let rust = Command::new("rustc").arg("-vV").current_dir(dir).output()?;
        ensure!(rust.status.success(), "rustc does not tell its version");
        let mut sdk = Vec::new();
        read(&dir.join(SDK_FOLDER), Path::new(""), &mut sdk)?;
        sdk.sort();
        Ok(Self {
            goal,
            manifest: toml::to_string(&manifest)?,
            lock: versions(&fs::read_to_string(dir.join("Cargo.lock"))?)?,
            sdk,
            rust: rust.stdout,
        })
    }

    pub fn goal(&self) -> Goal {
        self.goal
    }

    /// Returns a name for what this compiles to.
    pub fn key(&self) -> String {
        let goal = self.goal.arguments().join(" ");
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update(bytes.len().to_le_bytes());
            hash.update(bytes);
        };
        for text in [&goal, &self.manifest, &self.lock] {
            add(text.as_bytes());
        }
        add(&self.rust);
        for (path, bytes) in &self.sdk {
            add(path.as_os_str().as_encoded_bytes());
            add(bytes);
        }
        let digits = hash.finalize();
        let digits = digits.iter().take(KEY_LENGTH / 2);
        digits.map(|byte| format!("{byte:02x}")).collect()
    }

    /// Writes the crate without code.
    pub fn write(&self, dir: &Path) -> anyhow::Result<()> {
        fs::write(dir.join("Cargo.toml"), &self.manifest)?;
        fs::write(dir.join("Cargo.lock"), &self.lock)?;
        fs::create_dir(dir.join("src"))?;
        fs::write(dir.join("src/lib.rs"), "")?;
        for (path, bytes) in &self.sdk {
            let path = dir.join(SDK_FOLDER).join(path);
            fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
            fs::write(path, bytes)?;
        }
        Ok(())
    }
}

/// Returns the lock file without the crate itself, whose name differs.
fn versions(lock: &str) -> anyhow::Result<String> {
    let mut lock: Table = lock.parse()?;
    let packages = lock.get_mut("package").and_then(Value::as_array_mut);
    let is_sdk = |name: &str| name.starts_with("slipring-sdk");
    packages.context("Cargo.lock has no packages")?.retain(|package| {
        package.get("source").is_some() || package.get("name").and_then(Value::as_str).is_some_and(is_sdk)
    });
    Ok(toml::to_string(&lock)?)
}

fn read(dir: &Path, below: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) -> anyhow::Result<()> {
    for entry in fs::read_dir(dir.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => read(dir, &path, files)?,
            false => files.push((path, fs::read(entry.path())?)),
        }
    }
    Ok(())
}
