//! The time, as an argument: what decides asks no clock, so that hours can be simulated in a moment.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::message::Message;

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Never goes back: for everything that lasts or waits.
    pub instant: Instant,
    /// Since 1970, on this machine's wall clock: only for the age of what another machine stored.
    pub unix: Duration,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Self {
        Self {
            instant: Instant::now(),
            unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    /// How long ago JetStream stored the message; zero if the two clocks differ so much that it seems to come from the future.
    pub fn age_of(&self, message: &Message) -> Duration {
        self.unix.saturating_sub(Duration::from_nanos(message.timestamp))
    }
}
