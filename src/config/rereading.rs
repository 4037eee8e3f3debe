//! Reads the file of a secret again without holding up anybody.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::warn;

/// How long to wait for a file. One on a network may not answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// One reader at a time: an older read never replaces what a newer one has found, and a file that does not answer holds
/// one thread.
#[derive(Debug, Clone, Default)]
pub struct Rereading(Arc<Mutex<()>>);

impl Rereading {
    /// Calls `read` on a thread that may block, and goes on without it if it takes long.
    pub async fn run(&self, read: impl FnOnce() + Send + 'static) {
        let lock = Arc::clone(&self.0);
        let reading = async move {
            let guard = lock.lock_owned().await;
            let read = move || {
                read();
                drop(guard);
            };
            // It fails only if the process is ending.
            let _ = spawn_blocking(read).await;
        };
        if timeout(TIMEOUT, reading).await.is_err() {
            warn!("reading the file of a secret takes too long, keeping the old secret");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_file_that_does_not_answer_holds_up_nobody_and_one_thread() {
        let rereading = Rereading::default();
        let started = Arc::new(AtomicU32::new(0));
        let (answer, answers) = mpsc::channel();
        let read = |wait: Option<mpsc::Receiver<()>>| {
            let started = Arc::clone(&started);
            move || {
                started.fetch_add(1, Ordering::Relaxed);
                // Ends when the sender is gone.
                wait.map(|wait| wait.recv());
            }
        };
        rereading.run(read(Some(answers))).await;
        rereading.run(read(None)).await;
        assert_eq!(started.load(Ordering::Relaxed), 1, "the second one waits");
        drop(answer);
        rereading.run(read(None)).await;
        assert_eq!(started.load(Ordering::Relaxed), 2);
    }
}
