//! A connection that is made once somebody needs it. A relay whose modules all read from elsewhere needs none.

use tokio::sync::watch;

use super::Nats;

/// The way to the relay's connection. A clone leads to the same one.
#[derive(Debug, Clone)]
pub struct Lazy {
    wanted: watch::Sender<bool>,
    made: watch::Sender<Option<Nats>>,
}

impl Lazy {
    /// The connection has to be provided once it is wanted.
    pub fn new() -> Self {
        Self {
            wanted: watch::Sender::new(false),
            made: watch::Sender::new(None),
        }
    }

    /// The connection was made already.
    pub fn of(nats: Nats) -> Self {
        let lazy = Self::new();
        lazy.provide(nats);
        lazy
    }

    /// Returns the connection. It says that one is wanted, and waits for it as long as it takes.
    pub async fn get(&self) -> Nats {
        self.wanted.send_replace(true);
        let mut made = self.made.subscribe();
        loop {
            if let Some(nats) = made.borrow_and_update().clone() {
                return nats;
            }
            // The sender is in `self`.
            let _ = made.changed().await;
        }
    }

    /// Returns the connection if it was made.
    pub fn made(&self) -> Option<Nats> {
        self.made.borrow().clone()
    }

    /// Waits until somebody wants a connection.
    pub async fn wanted(&self) {
        // The sender is in `self`.
        let _ = self.wanted.subscribe().wait_for(|wanted| *wanted).await;
    }

    /// Gives the connection to all who wait for it.
    pub fn provide(&self, nats: Nats) {
        self.made.send_replace(Some(nats));
    }
}

impl Default for Lazy {
    fn default() -> Self {
        Self::new()
    }
}
