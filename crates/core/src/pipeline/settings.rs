//! The part of a module's configuration that its pipeline needs.

use std::time::Duration;

use crate::stamp::VersionSource;
use crate::window::Limits;

/// All of them but `window` may change while the pipeline runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub window: Limits,
    /// Adds an idempotency key to each publication.
    pub idempotency: bool,
    pub version: VersionSource,
    /// Sends only the newest of the publications that wait for a channel.
    pub conflate: bool,
    /// Leaves out publications whose message is older than this when they would be sent.
    pub max_age: Option<Duration>,
    pub on_reject: OnReject,
    /// More consecutive rejections than this halt the pipeline.
    pub max_consecutive_rejects: u32,
}

/// How to handle a rejected message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReject {
    DeadLetter,
    Drop,
    Halt,
}

#[cfg(test)]
impl Settings {
    /// The settings of a module that configures nothing.
    pub(crate) fn plain() -> Self {
        Self {
            window: Limits {
                messages: 10_000,
                bytes: 64 << 20,
                age: Duration::from_secs(300),
            },
            idempotency: true,
            version: VersionSource::Module,
            conflate: false,
            max_age: None,
            on_reject: OnReject::DeadLetter,
            max_consecutive_rejects: 100,
        }
    }
}
