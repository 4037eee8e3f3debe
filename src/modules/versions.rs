//! The versions of one module that were at work, on disk by their hashes, so that there is a way back: from a version that turns
//! out to be bad, and after a restart as well.
//!
//! ```text
//! <modules.versions_dir>/orders/record.json    which versions, and which one was withdrawn
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
    /// Those that could not be put on disk.
    held: Vec<Version>,
    /// There is no writing here, which was said.
    read_only: bool,
    /// The record on disk is older than ours.
    unsaved: bool,
}

impl Versions {
    /// What is known from earlier runs. A record that can't be read is left alone, and begun anew with the next version.
    pub fn open(config: &config::Modules, name: &str) -> Self {
        let files = Files::new(config.versions_dir.join(name), config.strict_permissions);
        let record = files.read_record().unwrap_or_else(|error| {
            warn!(
                module = name,
                error = &error as &dyn std::error::Error,
                "what is known of earlier versions cannot be read; there is no rollback to them"
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

    /// Looks whether another relay on the same directory has put down something else, and takes that over. Answers whether it has.
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
            // What can't be read was complained of when it was opened, or is in the middle of going.
            _ => false,
        }
    }

    /// The version at work, or that was when the relay stopped.
    pub fn current(&self) -> Option<&Entry> {
        self.record.versions.last()
    }

    /// The one that was at work before it.
    pub fn predecessor(&self) -> Option<&Entry> {
        self.record.versions.iter().nth_back(1)
    }

    pub fn withdrawn(&self) -> Option<&Withdrawn> {
        self.record.withdrawn.as_ref()
    }

    /// Puts the version's files where a rollback finds them. An error means that there would be no way back to it. A place that
    /// can't be written to at all, such as a read-only volume, is none: then versions are kept as long as the process lives.
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
                        "versions are not kept on disk: a rollback is possible until the relay stops. `modules.versions_dir` names another place"
                    );
                }
            }
        }
        if self.held.iter().all(|held| held.id != version.id) {
            self.held.push(version.clone());
        }
        Ok(())
    }

    /// The version has taken over. If it `is_present` in the directory, nothing there is withdrawn any more.
    pub async fn began(&mut self, id: &Id, is_present: bool) {
        let known = self.current().is_some_and(|entry| entry.id == *id);
        if !known {
            self.record.versions.push(Entry {
                id: id.clone(),
                since: now(),
            });
        }
        let withdrawn = self.record.withdrawn.take_if(|_| is_present);
        if !known || withdrawn.is_some() {
            self.save().await;
        }
    }

    /// Whether this version is, or was before the one at work.
    pub fn knows(&self, id: &Id) -> bool {
        self.record.versions.iter().any(|entry| entry.id == *id)
    }

    /// The version at work was withdrawn, and what came after the version `to` with it, which takes over. The directory holds these
    /// `files`.
    pub async fn rolled_back(&mut self, to: &Id, files: Id, reason: &str) {
        let versions = &mut self.record.versions;
        match versions.iter().rposition(|entry| entry.id == *to) {
            Some(index) => versions.truncate(index + 1),
            None => drop(versions.pop()),
        }
        self.record.withdrawn = Some(Withdrawn {
            id: files,
            at: now(),
            reason: reason.to_owned(),
        });
        self.save().await;
    }

    /// What was withdrawn may take over again.
    pub async fn forgive(&mut self) {
        if self.record.withdrawn.take().is_some() {
            self.save().await;
        }
    }

    /// The files of a version. Those on disk are what they were, or an error.
    pub async fn read(&self, id: &Id) -> io::Result<Version> {
        if let Some(held) = self.held.iter().find(|held| held.id == *id) {
            return Ok(held.clone());
        }
        let (files, id) = (self.files.clone(), id.clone());
        tokio::task::spawn_blocking(move || files.read(id))
            .await
            .map_err(io::Error::other)?
    }

    /// Puts the record on disk and removes what is too old.
    async fn save(&mut self) {
        let versions = &mut self.record.versions;
        versions.drain(..versions.len().saturating_sub(self.keep));
        let listed = self.record.versions.iter().map(|entry| &entry.id);
        let named: BTreeSet<String> = listed
            .flat_map(|id| [format!("{}.wasm", id.wasm_sha256), format!("{}.toml", id.toml_sha256)])
            .collect();
        let versions = &self.record.versions;
        self.held
            .retain(|held| versions.iter().any(|entry| entry.id == held.id));
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
                "which versions were at work could not be put down; after a restart the relay does not know of this one"
            );
        }
    }
}

/// The version at work instead of this one, which is what the modules directory holds; `None`: this one is, or would be. For whoever
/// does what a relay would, beside it.
pub fn instead_of(config: &config::Modules, name: &str, present: &Id) -> io::Result<Option<Version>> {
    let files = Files::new(config.versions_dir.join(name), config.strict_permissions);
    let record = files.read_record()?;
    let is_withdrawn = record.withdrawn.is_some_and(|withdrawn| withdrawn.id == *present);
    let at_work = record.versions.last().filter(|_| is_withdrawn);
    at_work.map(|entry| files.read(entry.id.clone())).transpose()
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
