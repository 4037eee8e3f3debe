//! What can be said of the directory.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// What the directory now holds for one module, or what is wrong with the directory itself.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// Both files are there, whole. It is sent when either is new or changed, and when a trouble is over; then the hashes
    /// may be those of before.
    Present {
        name: String,
        wasm: Arc<[u8]>,
        wasm_sha256: String,
        toml: String,
        toml_sha256: String,
    },
    /// One of the two files is there.
    Waiting { name: String, missing: Missing },
    /// A file is there and cannot be taken: `error` says why, as a predicate of `path` ("is a directory, …").
    Unreadable { name: String, path: PathBuf, error: String },
    /// Neither file is there any more. Sent before a `Present` that was seen at the same time, so that a renamed module's old
    /// name goes first.
    Gone { name: String },
    /// The directory cannot be read (`Some`), or can be again (`None`). Until then nothing is known about the modules, so
    /// nothing about them changes.
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
    /// Hashes stand for contents.
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
