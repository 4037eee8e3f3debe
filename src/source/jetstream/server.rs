//! How an epoch begins on a NATS server, by its version.

use async_nats::Client;

/// The first version whose consumers may have several filter subjects.
pub const OLDEST: &str = "2.10";

/// The first version that can reset a consumer.
pub const FIRST_WITH_RESET: &str = "2.14";

/// How an epoch begins on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// With a reset of the consumer, which takes a millisecond.
    Resets,
    /// By holding new messages back until all pending ones have come again.
    HoldsBack,
    /// Not at all.
    TooOld,
}

impl Server {
    /// Returns how an epoch begins on the server that `client` is connected to.
    pub fn of(client: &Client) -> Self {
        if client.is_server_compatible(2, 14, 0) {
            Self::Resets
        } else if client.is_server_compatible(2, 10, 0) {
            Self::HoldsBack
        } else {
            Self::TooOld
        }
    }
}
