//! Which load of a module it was: the same file with other settings is another one.

use std::fmt;
use std::sync::Arc;

/// Names one load of a module. No two loads of a process have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoadId(pub u64);

impl fmt::Display for LoadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One load of a module, with the hash of its file for people to read.
#[derive(Debug, Clone)]
pub struct Load {
    pub id: LoadId,
    pub sha256: Arc<str>,
}

impl PartialEq for Load {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Load {}
