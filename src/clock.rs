//! Reads the clocks for code that decides by the time but does no I/O itself.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use slipring_core::now::Now;

/// Reads both clocks.
pub fn now() -> Now {
    Now {
        instant: Instant::now(),
        unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
    }
}
