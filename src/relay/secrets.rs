//! Reads secrets again, so that replacing a file is enough to replace a key.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info};

/// How often to look whether a file holds another secret. Its times say nothing: a `ConfigMap` replaces a link.
const PERIOD: Duration = Duration::from_secs(2);

/// Signals that must not end the relay. Without a handler they would, without a drain.
#[derive(Debug)]
pub(super) struct Signals {
    hangup: Signal,
    user: Signal,
}

impl Signals {
    /// Must be called within a tokio runtime.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            user: signal(SignalKind::user_defined1())?,
        })
    }
}

/// Calls `read` on SIGHUP, and every few seconds, on a thread that may block. Never ends.
pub(super) async fn keep(mut signals: Signals, read: impl Fn() + Send + Sync + 'static) {
    let read = Arc::new(read);
    loop {
        tokio::select! {
            _ = signals.hangup.recv() => info!("SIGHUP: reading the secrets again; changed modules need no signal"),
            _ = signals.user.recv() => info!("SIGUSR1 is ignored"),
            () = tokio::time::sleep(PERIOD) => {}
        }
        let read = Arc::clone(&read);
        if let Err(error) = tokio::task::spawn_blocking(move || read()).await {
            error!(error = %error, "cannot read the secrets again");
        }
    }
}
