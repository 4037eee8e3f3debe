//! What the directory holds, module by module.

use tracing::{info, warn};

use super::directory::{Change, Missing};
use super::versions::{Id, Version};

/// What the directory holds of one module.
#[derive(Debug, Clone)]
pub(super) enum Files {
    Present(Version),
    Missing(Missing),
    Unreadable(String),
    Gone,
}

/// For which module it is, and what there is of it. What concerns the directory as a whole is only said.
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
            warn!(trouble, "cannot look at the modules directory; what runs goes on");
            return None;
        }
        Change::Directory { trouble: None } => {
            info!("the modules directory can be looked at again");
            return None;
        }
    })
}
