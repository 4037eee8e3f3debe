//! Tells each module's keeper what the directory holds for it.

use std::sync::Arc;

use tracing::info;

use super::context::Context;
use super::directory::{Directory, Rules};
use super::files::{Files, files};
use super::keeper;
use super::keepers::Keepers;

/// Keeps the modules of the directory running until the shutdown, then drains them all.
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
            // The entry is made here, so the relay is not ready before the keeper has started.
            context.board.module(&name);
        }
        keepers.tell(name, files);
    }
    // Each keeper drains its pipeline.
    keepers.end().await;
}
