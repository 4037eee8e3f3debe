//! Identifies a load of a module. Loading the same file with other settings counts as a new load.

use std::fmt;
use std::sync::Arc;

/// Identifies one load of a module. It is unique within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoadId(pub u64);

impl fmt::Display for LoadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One load of a module, with the hash of its file for logs and reports.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_of_one_file_differ_by_their_number() {
        let load = |id: u64, sha256: &str| Load {
            id: LoadId(id),
            sha256: sha256.into(),
        };
        assert_eq!(load(1, "a"), load(1, "b"));
        assert_ne!(load(1, "a"), load(2, "a"));
        assert_eq!(LoadId(17).to_string(), "17");
    }
}
