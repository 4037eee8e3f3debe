//! Uses file system events as hints to look at the directory. The events carry no data. Everything works without them,
//! only slower, so a problem with them is a warning.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::{ErrorKind, Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tracing::warn;

/// Watches the directory for changes to its files, and its parent in case the directory is created or replaced.
#[derive(Debug)]
pub struct Hints {
    dir: PathBuf,
    wake: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    /// The device and inode of the watched directory, or `None` while there is none.
    attached_to: Option<(u64, u64)>,
    /// Set when something happened to the directory itself. Its inode is not sufficient: a new directory may get the
    /// number of the removed one.
    moved: Arc<AtomicBool>,
    warned: bool,
}

impl Hints {
    pub fn new(dir: &Path, wake: Arc<Notify>) -> Self {
        Self {
            dir: dir.to_owned(),
            wake,
            watcher: None,
            attached_to: None,
            moved: Arc::default(),
            warned: false,
        }
    }

    /// Watches the directory that exists now. A watch follows an inode and not a path, so this has to be called before
    /// each scan.
    pub fn attach(&mut self) {
        let identity = fs::metadata(&self.dir)
            .ok()
            .map(|metadata| (metadata.dev(), metadata.ino()));
        let moved = self.moved.swap(false, Ordering::Relaxed);
        if self.watcher.is_some() && !moved && identity == self.attached_to {
            return;
        }
        match self.watcher() {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                self.attached_to = identity;
                self.warned = false;
            }
            Err(error) => {
                self.watcher = None;
                if !self.warned {
                    self.warned = true;
                    let poll_ms = super::POLL.as_millis() as u64;
                    warn!(dir = %self.dir.display(), %error, poll_ms,
                        "cannot watch the modules directory, polling it instead; on Linux, check `sysctl fs.inotify`");
                }
            }
        }
    }

    fn watcher(&self) -> notify::Result<RecommendedWatcher> {
        let (dir, wake, moved) = (self.dir.clone(), self.wake.clone(), self.moved.clone());
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| match event {
            // Opening and reading are also reported, including this program's own.
            Ok(event) if event.kind.is_access() => {}
            Ok(event) => {
                let of_dir = event.paths.contains(&dir);
                if of_dir {
                    moved.store(true, Ordering::Relaxed);
                }
                // Ignore other changes in the parent. An event without a path means that events were lost.
                if of_dir || event.paths.is_empty() || event.paths.iter().any(|path| path.parent() == Some(&dir)) {
                    wake.notify_one();
                }
            }
            Err(_) => wake.notify_one(),
        })?;
        if let Some(parent) = self.dir.parent() {
            // The parent may be missing or unreadable. The poll then notices a new directory.
            let _ = watcher.watch(parent, RecursiveMode::NonRecursive);
        }
        match watcher.watch(&self.dir, RecursiveMode::NonRecursive) {
            Err(error) if !matches!(error.kind, ErrorKind::PathNotFound) => Err(error),
            _ => Ok(watcher),
        }
    }
}
