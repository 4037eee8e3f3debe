//! The modules directory at work: each module in it has a keeper, which loads what appears, starts its pipeline, exchanges its
//! module and stops it again. What one keeper goes through does not touch another.

mod claims;
mod directory;
mod keeper;
mod keepers;
mod loading;
pub mod permissions;
mod probe;
pub mod versions;

use std::sync::Arc;

use tracing::{info, warn};

use crate::admin::Controls;
use crate::config;
use crate::pipeline::Shared;
use crate::shutdown::Shutdown;
use crate::status::StatusBoard;
use crate::transform::Engine;
pub use claims::Claims;
use directory::{Change, Directory, Rules};
use keeper::Files;
use keepers::Keepers;
pub use loading::Loading;
use versions::{Id, Version};

/// What every keeper needs.
#[derive(Debug)]
pub struct Context {
    pub engine: Engine,
    pub shared: Arc<Shared>,
    pub board: StatusBoard,
    pub controls: Controls,
    pub shutdown: Shutdown,
    pub loading: Loading,
    /// One module reads from a consumer at a time.
    pub claims: Arc<Claims>,
    pub config: config::Modules,
}

/// Keeps the modules of the directory until the shutdown, then drains them all.
pub async fn run(context: Context) {
    let context = Arc::new(context);
    let dir = &context.config.dir;
    let rules = Rules {
        strict: context.config.strict_permissions,
        max_wasm: context.config.bounds.file_size as u64,
    };
    let mut directory = Directory::new(dir, rules);
    let complete = directory.complete();
    let mut known = false;
    let mut keepers = Keepers::new(|name, files| keeper::keep(Arc::clone(&context), name, files));
    info!(dir = %dir.display(), "watching the modules directory");
    loop {
        let change = tokio::select! {
            biased;
            () = context.shutdown.drain.cancelled() => break,
            () = complete.cancelled(), if !known => {
                known = true;
                context.board.modules_known();
                continue;
            }
            () = keepers.look_after() => continue,
            change = directory.next_change() => change,
        };
        let Some((name, files)) = files(change) else { continue };
        if !matches!(files, Files::Gone) {
            // Here already, so that the relay is not ready before its keeper has begun.
            context.board.module(&name);
        }
        keepers.tell(name, files);
    }
    // Each drains its pipeline.
    keepers.end().await;
}

/// For which module it is, and what there is of it. What concerns the directory as a whole is only said.
fn files(change: Change) -> Option<(String, Files)> {
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
