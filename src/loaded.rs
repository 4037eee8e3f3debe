//! Which load of a module. The hash of the file does not say it: the same file is loaded again with other settings.

use std::sync::Arc;

/// The number of a load. No two loads in a process have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LoadId(u64);

/// A module that was loaded: by which load, and from which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub id: LoadId,
    /// The file's, in hexadecimal digits.
    pub sha256: Arc<str>,
}

impl LoadId {
    pub fn new(number: u64) -> Self {
        Self(number)
    }
}

impl Loaded {
    pub fn new(id: LoadId, sha256: impl Into<Arc<str>>) -> Self {
        Self {
            id,
            sha256: sha256.into(),
        }
    }
}
