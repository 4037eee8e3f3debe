//! The signals that end `up`: the first one asks for an orderly end, the second one for an end at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

#[derive(Debug)]
pub struct Stop {
    pub asked: CancellationToken,
    /// Always cancelled after `asked`.
    pub hurry: CancellationToken,
    _signals: AbortOnDropHandle<()>,
}

impl Stop {
    /// Must be called within a tokio runtime.
    pub fn on_signals() -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        // The terminal was closed.
        let mut hangup = signal(SignalKind::hangup())?;
        let (asked, hurry) = (CancellationToken::new(), CancellationToken::new());
        let tokens = [asked.clone(), hurry.clone()];
        let signals = tokio::spawn(async move {
            for token in tokens {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(Self {
            asked,
            hurry,
            _signals: AbortOnDropHandle::new(signals),
        })
    }
}
