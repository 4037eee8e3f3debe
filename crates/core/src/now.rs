//! The current time as an argument. The core reads no clock, so a test can simulate hours in a moment.

use std::time::{Duration, Instant};

use crate::message::Message;

/// The same moment on two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// A clock that never goes back, for durations and timers.
    pub instant: Instant,
    /// Time since 1970 on this machine's wall clock. Used only for the age of messages that another machine stored.
    pub unix: Duration,
}

impl Now {
    /// Returns the time since JetStream stored the message. The result is zero if the clocks differ so much that the
    /// message seems to come from the future.
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
