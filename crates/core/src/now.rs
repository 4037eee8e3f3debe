//! The time, as an argument: what decides asks no clock, so that hours can be simulated in a moment.

use std::time::{Duration, Instant};

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
    /// How long ago JetStream stored the message; zero if the two clocks differ so much that it seems to come from the future.
    pub fn age_of(&self, message: &Message) -> Duration {
        self.unix.saturating_sub(Duration::from_nanos(message.timestamp))
    }

    #[cfg(test)]
    pub(crate) fn read() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            instant: Instant::now(),
            unix: since.unwrap_or_default(),
        }
    }
}
