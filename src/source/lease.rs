//! The right to publish, which expires by itself.

use std::time::Instant;

use slipring_core::read;
use tokio::sync::watch;

/// The right to publish, which expires by itself. The task that renews it has the sender. A clone is the same lease.
#[derive(Debug, Clone)]
pub struct Lease {
    shared: watch::Receiver<read::Lease>,
}

impl Lease {
    pub(super) fn new(lease: read::Lease) -> (watch::Sender<read::Lease>, Self) {
        let (sender, shared) = watch::channel(lease);
        (sender, Self { shared })
    }

    /// Returns true if no other relay can be reading at this time.
    pub fn is_valid(&self, now: Instant) -> bool {
        self.shared.borrow().is_valid(now)
    }

    /// Returns the current lease.
    pub fn current(&self) -> read::Lease {
        *self.shared.borrow()
    }
}
