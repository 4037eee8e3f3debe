//! SIGTERM and SIGINT as cancellation tokens: the first signal asks for a drain, the second asks to leave at once. The
//! holders of the tokens decide what draining means and how long it may take.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

/// Keep this until the process ends: it catches signals from its creation on, and nothing acts on them once it is
/// dropped.
#[derive(Debug)]
#[must_use = "without it, signals are caught and ignored"]
pub struct Shutdown {
    /// Stop taking in messages, and finish what is in flight.
    pub drain: CancellationToken,
    /// Leave without finishing. JetStream delivers again what was not acked. Always cancelled after `drain`.
    pub now: CancellationToken,
    _signals: Option<AbortOnDropHandle<()>>,
}

impl Shutdown {
    /// Must be called within a tokio runtime.
    pub fn on_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut shutdown = Self::manual();
        // If the task breaks, the process leaves: a process that reacts to no signal could only be killed.
        let (drain, now) = (shutdown.drain.clone().drop_guard(), shutdown.now.clone().drop_guard());
        let mut next = async move || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        shutdown._signals = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let signal = next().await;
            // Before anything is logged, because logging may take time.
            drop(drain);
            info!(
                signal,
                "shutting down: finishing what is in flight; a second signal exits at once"
            );
            let signal = next().await;
            drop(now);
            warn!(signal, "exiting at once; unfinished messages will be delivered again");
        })));
        Ok(shutdown)
    }

    /// Creates tokens without signals, for tests and callers that cancel `drain` themselves.
    pub fn manual() -> Self {
        Self {
            drain: CancellationToken::new(),
            now: CancellationToken::new(),
            _signals: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn kill(signal: &str) {
        let command = format!("kill -{signal} {}", std::process::id());
        assert!(
            Command::new("sh")
                .args(["-c", &command])
                .status()
                .expect("a shell")
                .success()
        );
    }

    #[tokio::test]
    async fn the_first_signal_drains_and_the_second_leaves() {
        let shutdown = Shutdown::on_signals().unwrap();
        assert!(!shutdown.drain.is_cancelled());
        kill("TERM");
        timeout(Duration::from_secs(10), shutdown.drain.cancelled())
            .await
            .expect("a drain");
        assert!(!shutdown.now.is_cancelled());
        kill("INT");
        timeout(Duration::from_secs(10), shutdown.now.cancelled())
            .await
            .expect("an immediate end");
    }
}
