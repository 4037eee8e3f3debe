//! Tracks what the directory holds for each module.

use tracing::{info, warn};

use super::directory::{Change, Missing};
use super::versions::{Id, Version};

/// What the directory holds for one module.
#[derive(Debug, Clone)]
pub(super) enum Files {
    Present(Version),
    Missing(Missing),
    Unreadable(String),
    Gone,
}

/// Returns the module of a change and what it has. A change of the directory as a whole is only logged.
pub(super) fn files(change: Change) -> Option<(String, Files)> {
    Some(match change {
        Change::Present {
            name,
            wasm,
            wasm_sha256,
            toml,
            toml_sha256,
        } => {
            let id = Id {
                wasm_sha256,
                toml_sha256,
            };
            (name, Files::Present(Version { id, wasm, toml }))
        }
        Change::Waiting { name, missing } => (name, Files::Missing(missing)),
        Change::Unreadable { name, path, error } => (name, Files::Unreadable(format!("{} {error}", path.display()))),
        Change::Gone { name } => (name, Files::Gone),
        Change::Directory { trouble: Some(trouble) } => {
            warn!(trouble, "cannot read the modules directory; running modules continue");
            return None;
        }
        Change::Directory { trouble: None } => {
            info!("the modules directory is readable again");
            return None;
        }
    })
}
