//! Reads secrets again, so that replacing a file is enough to replace a key.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

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

    /// Returns on SIGHUP, and every few seconds.
    pub(super) async fn time_to_read(&mut self) {
        tokio::select! {
            _ = self.hangup.recv() => info!("SIGHUP: reading the secrets again; changed modules need no signal"),
            _ = self.user.recv() => info!("SIGUSR1 is ignored"),
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}
