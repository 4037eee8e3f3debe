//! The record of a module's versions.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::hash;

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
    pub withdrawn: Option<Withdrawn>,
}

impl Id {
    pub fn of(wasm: &[u8], toml: &str) -> Self {
        Self {
            wasm_sha256: hash::sha256(wasm),
            toml_sha256: hash::sha256(toml.as_bytes()),
        }
    }
}
