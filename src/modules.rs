//! The modules directory at work: each module in it has a keeper, which loads what appears, starts its pipeline, exchanges its
//! module and stops it again. What one keeper goes through does not touch another.

mod keeper;
mod lease;
pub mod permissions;
mod probe;
pub mod versions;
pub mod watch;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, watch as tokio_watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::admin::{Controls, StatusBoard};
use crate::config;
use crate::pipeline::Shared;
use crate::shutdown::Shutdown;
use crate::transform::Engine;
use keeper::Files;
pub use lease::Leases;
use versions::{Id, Version};
use watch::{Change, Missing, Watch};

/// What every keeper needs.
#[derive(Debug)]
pub struct Context {
    pub engine: Engine,
    pub shared: Arc<Shared>,
    pub board: StatusBoard,
    pub controls: Controls,
    pub shutdown: Shutdown,
    /// One module is compiled at a time, so that a directory full of new ones leaves a core to those that run.
    pub compiling: Semaphore,
    /// One module reads from a consumer at a time.
    pub leases: Arc<Leases>,
    pub config: config::Modules,
}

/// Keeps the modules of the directory until the shutdown, then drains them all.
pub async fn run(context: Context) {
    let context = Arc::new(context);
    let dir = &context.config.dir;
    let mut watch = Watch::new(dir, context.config.strict_permissions);
    let complete = watch.complete();
    let mut known = false;
    let mut keepers: HashMap<String, tokio_watch::Sender<Files>> = HashMap::new();
    let mut tasks = JoinSet::new();
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
            change = watch.next_change() => change,
        };
        let Some((name, files)) = files(change) else { continue };
        if let Some(keeper) = keepers.get(&name) {
            keeper.send_replace(files);
        } else {
            // Here already, so that the relay is not ready before its keeper has begun.
            context.board.module(&name);
            let (sender, receiver) = tokio_watch::channel(files);
            tasks.spawn(keeper::keep(Arc::clone(&context), name.clone(), receiver));
            keepers.insert(name, sender);
        }
    }
    // Their watches close, and each keeper drains its pipeline.
    drop(keepers);
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            error!(%error, "the keeper of a module broke, which is a bug in Slipring");
        }
    }
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

impl Missing {
    fn extension(self) -> &'static str {
        match self {
            Self::Toml => "toml",
            Self::Wasm => "wasm",
        }
    }
}
