//! The record of a module's versions.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::hash;
use crate::status::version_name;

/// Identifies a module and its settings by their hashes, in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Id {
    pub wasm_sha256: String,
    pub toml_sha256: String,
}

/// A version with the content of both files.
#[derive(Debug, Clone)]
pub struct Version {
    pub id: Id,
    pub wasm: Arc<[u8]>,
    pub toml: String,
}

/// A version that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    #[serde(flatten)]
    pub id: Id,
    /// When it took over, in RFC 3339.
    pub since: String,
    /// What the probe said about it. `None` if there was none, or if an earlier release wrote the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// When it passed its trial, in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<String>,
}

/// A version that was rolled back while its files are still in the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    #[serde(flatten)]
    pub id: Id,
    /// In RFC 3339.
    pub at: String,
    pub reason: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// The last one is the current version.
    pub versions: Vec<Entry>,
    /// Versions that a rollback has left behind, oldest first. Only a rollback that names one returns to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set_aside: Vec<Entry>,
    pub withdrawn: Option<Withdrawn>,
}

impl Id {
    pub fn of(wasm: &[u8], toml: &str) -> Self {
        Self {
            wasm_sha256: hash::sha256(wasm),
            toml_sha256: hash::sha256(toml.as_bytes()),
        }
    }

    /// Returns the name by which people know the version.
    pub fn name(&self) -> String {
        version_name(&self.wasm_sha256, &self.toml_sha256)
    }

    /// Returns true if `text` is the name of the version or of its module, or the beginning of one.
    pub fn is_meant_by(&self, text: &str) -> bool {
        !text.is_empty() && (self.name().starts_with(text) || self.wasm_sha256.starts_with(text))
    }
}
