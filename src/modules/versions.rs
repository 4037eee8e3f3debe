//! Stores the previous versions of a module on disk by their hashes. They allow a rollback from a bad version, even
//! after a restart.
//!
//! ```text
//! <modules.versions_dir>/orders/record.json    which versions, and which one was rolled back
//!                               <hash>.wasm
//!                               <hash>.toml
//! ```

mod files;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;

use tracing::warn;

use crate::config;
use files::Files;
use record::Record;

pub(super) use record::{Entry, Withdrawn};
pub use record::{Id, Version};

#[derive(Debug)]
pub(super) struct Versions {
    name: String,
    keep: usize,
    record: Record,
    files: Files,
    /// Versions that could not be written to disk.
    held: Vec<Version>,
    /// Set once it was logged that nothing can be written here.
    read_only: bool,
    /// The record on disk is older than the one in memory.
    unsaved: bool,
}

impl Versions {
    /// Opens the versions from earlier runs. A record that cannot be read is left alone, and the next version starts a
    /// new one.
    pub fn open(config: &config::Modules, name: &str) -> Self {
        let files = Files::new(config.versions_dir.join(name), config.strict_permissions);
        let record = files.read_record().unwrap_or_else(|error| {
            warn!(
                module = name,
                error = &error as &dyn std::error::Error,
                "cannot read the record of earlier versions; a rollback to them is not possible"
            );
            Record::default()
        });
        Self {
            name: name.to_owned(),
            keep: config.keep_versions.max(1),
            record,
            files,
            held: Vec::new(),
            read_only: false,
            unsaved: false,
        }
    }

    /// Takes over a record that another relay on the same directory has written. Returns true if there was one.
    pub async fn refresh(&mut self) -> bool {
        if self.unsaved {
            self.save().await;
        }
        if self.read_only || self.unsaved {
            return false;
        }
        let files = self.files.clone();
        match tokio::task::spawn_blocking(move || files.read_record()).await {
            Ok(Ok(record)) if record != self.record => {
                self.record = record;
                true
            }
            // An unreadable record was already logged when it was opened, or it is being removed.
            _ => false,
        }
    }

    /// Returns the running version, or the one that ran when the relay stopped.
    pub fn current(&self) -> Option<&Entry> {
        self.record.versions.last()
    }

    /// Returns the version that ran before the current one.
    pub fn predecessor(&self) -> Option<&Entry> {
        self.record.versions.iter().nth_back(1)
    }

    pub fn withdrawn(&self) -> Option<&Withdrawn> {
        self.record.withdrawn.as_ref()
    }

    /// Stores the version's files for a rollback. An error means that there would be no way back to it. A place that
    /// cannot be written to at all, such as a read-only volume, is no error: versions are then kept as long as the
    /// process lives.
    pub async fn keep(&mut self, version: &Version) -> io::Result<()> {
        if !self.read_only {
            let (files, kept) = (self.files.clone(), version.clone());
            let written = tokio::task::spawn_blocking(move || files.write(&kept));
            match written.await.map_err(io::Error::other)? {
                Ok(()) => return Ok(()),
                Err(error) if !is_read_only(&error) => return Err(error),
                Err(error) => {
                    self.read_only = true;
                    warn!(
                        module = self.name,
                        dir = %self.files.dir().display(),
                        %error,
                        "versions are not saved on disk: a rollback is possible only until the relay stops. Set \
                         `modules.versions_dir` to another directory"
                    );
                }
            }
        }
        if self.held.iter().all(|held| held.id != version.id) {
            self.held.push(version.clone());
        }
        Ok(())
    }

    /// Returns the versions that a rollback can return to, and the current one: the newest first, then those that an
    /// earlier rollback has left behind.
    pub fn all(&self) -> impl Iterator<Item = &Entry> {
        let Record {
            versions, set_aside, ..
        } = &self.record;
        // A version may have run twice.
        let mut seen = BTreeSet::new();
        let all = versions.iter().rev().chain(set_aside.iter().rev());
        all.filter(move |entry| seen.insert((&entry.id.wasm_sha256, &entry.id.toml_sha256)))
    }

    /// The version has taken over. `probe` is what the probe said about it. If it `is_present` in the directory, nothing
    /// there counts as rolled back any more.
    pub async fn began(&mut self, id: &Id, is_present: bool, probe: Option<&str>) {
        let known = self.current().is_some_and(|entry| entry.id == *id);
        if !known {
            self.record.set_aside.retain(|entry| entry.id != *id);
            self.record.versions.push(Entry {
                id: id.clone(),
                since: now(),
                probe: probe.map(str::to_owned),
                passed: None,
            });
        }
        let withdrawn = self.record.withdrawn.take_if(|_| is_present);
        if !known || withdrawn.is_some() {
            self.save().await;
        }
    }

    /// The current version has passed its trial.
    pub async fn passed(&mut self) {
        if let Some(current) = self.record.versions.last_mut() {
            current.passed = Some(now());
            self.save().await;
        }
    }

    /// Returns true if this version is the current one, or was before.
    pub fn knows(&self, id: &Id) -> bool {
        self.record.versions.iter().any(|entry| entry.id == *id)
    }

    /// Records that the current version, and everything after the version `to`, was rolled back. `to` takes over. The
    /// directory holds these `files`.
    pub async fn rolled_back(&mut self, to: &Id, files: Id, reason: &str) {
        let Record {
            versions, set_aside, ..
        } = &mut self.record;
        let left = match versions.iter().rposition(|entry| entry.id == *to) {
            Some(index) => versions.split_off(index + 1),
            None => {
                let left = versions.pop();
                // Other relays on this directory must not follow to another version in between.
                if let Some(index) = set_aside.iter().position(|entry| entry.id == *to) {
                    let entry = set_aside.remove(index);
                    versions.push(Entry { since: now(), ..entry });
                }
                left.into_iter().collect()
            }
        };
        // A version may have run twice. What is left behind is not known as one that ran any more.
        let is_left = |entry: &Entry| left.iter().any(|gone| gone.id == entry.id);
        versions.retain(|entry| !is_left(entry));
        set_aside.retain(|entry| !is_left(entry));
        set_aside.extend(left);
        self.record.withdrawn = Some(Withdrawn {
            id: files,
            at: now(),
            reason: reason.to_owned(),
        });
        self.save().await;
    }

    /// Allows a version that was rolled back to take over again.
    pub async fn forgive(&mut self) {
        if self.record.withdrawn.take().is_some() {
            self.save().await;
        }
    }

    /// Returns the files of a version. Files on disk are unchanged, or there is an error.
    pub async fn read(&self, id: &Id) -> io::Result<Version> {
        if let Some(held) = self.held.iter().find(|held| held.id == *id) {
            return Ok(held.clone());
        }
        let (files, id) = (self.files.clone(), id.clone());
        tokio::task::spawn_blocking(move || files.read(id))
            .await
            .map_err(io::Error::other)?
    }

    /// Writes the record to disk and removes old versions.
    async fn save(&mut self) {
        let Record {
            versions, set_aside, ..
        } = &mut self.record;
        versions.drain(..versions.len().saturating_sub(self.keep));
        // Together they are no more than that.
        let room = self.keep.saturating_sub(versions.len());
        set_aside.drain(..set_aside.len().saturating_sub(room));
        let kept = || versions.iter().chain(&*set_aside).map(|entry| &entry.id);
        let named: BTreeSet<String> = kept()
            .flat_map(|id| [format!("{}.wasm", id.wasm_sha256), format!("{}.toml", id.toml_sha256)])
            .collect();
        self.held.retain(|held| kept().any(|id| *id == held.id));
        if self.read_only {
            return;
        }
        let (files, record) = (self.files.clone(), self.record.clone());
        let written = tokio::task::spawn_blocking(move || files.write_record(&record, &named)).await;
        let written = written.unwrap_or_else(|broken| Err(io::Error::other(broken)));
        self.unsaved = written.is_err();
        if let Err(error) = written {
            warn!(
                module = self.name,
                dir = %self.files.dir().display(),
                %error,
                "failed to save which versions have been running; after a restart the relay cannot roll back to this one"
            );
        }
    }
}

/// Returns the running version if the modules directory holds another one. Returns `None` if the directory's version
/// runs or would run. Commands use this to do the same as a relay would.
pub fn instead_of(config: &config::Modules, name: &str, present: &Id) -> io::Result<Option<Version>> {
    let files = Files::new(config.versions_dir.join(name), config.strict_permissions);
    let record = files.read_record()?;
    let is_withdrawn = record.withdrawn.is_some_and(|withdrawn| withdrawn.id == *present);
    let running_version = record.versions.last().filter(|_| is_withdrawn);
    running_version.map(|entry| files.read(entry.id.clone())).transpose()
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}

fn now() -> String {
    let now = jiff::Timestamp::now();
    now.round(jiff::Unit::Millisecond).unwrap_or(now).to_string()
}
