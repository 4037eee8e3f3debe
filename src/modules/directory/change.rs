//! The possible changes of the directory.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// The current state of one module's files, or a problem with the directory itself.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// Both files exist and are complete. This is sent when either is new or has changed, and when a problem is over.
    /// In the second case the hashes may be the same as before.
    Present {
        name: String,
        wasm: Arc<[u8]>,
        wasm_sha256: String,
        toml: String,
        toml_sha256: String,
    },
    /// Only one of the two files exists.
    Waiting { name: String, missing: Missing },
    /// A file exists but cannot be accepted. `error` gives the reason as a predicate of `path` ("is a directory, …").
    Unreadable { name: String, path: PathBuf, error: String },
    /// Neither file exists any more. This is sent before any `Present` seen at the same time, so the old name of a
    /// renamed module goes first.
    Gone { name: String },
    /// The directory cannot be read (`Some`), or can be read again (`None`). Until then nothing is known about the
    /// modules, so nothing about them changes.
    Directory { trouble: Option<String> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Toml,
    Wasm,
}

impl Missing {
    pub fn extension(self) -> &'static str {
        match self {
            Self::Toml => "toml",
            Self::Wasm => "wasm",
        }
    }
}

impl fmt::Debug for Change {
    /// Shows hashes in place of contents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present {
                name,
                wasm_sha256,
                toml_sha256,
                ..
            } => f
                .debug_struct("Present")
                .field("name", name)
                .field("wasm_sha256", wasm_sha256)
                .field("toml_sha256", toml_sha256)
                .finish_non_exhaustive(),
            Self::Waiting { name, missing } => f
                .debug_struct("Waiting")
                .field("name", name)
                .field("missing", missing)
                .finish(),
            Self::Unreadable { name, path, error } => f
                .debug_struct("Unreadable")
                .field("name", name)
                .field("path", path)
                .field("error", error)
                .finish(),
            Self::Gone { name } => f.debug_struct("Gone").field("name", name).finish(),
            Self::Directory { trouble } => f.debug_struct("Directory").field("trouble", trouble).finish(),
        }
    }
}
