//! What a pipeline is told of its module's configuration.

use std::time::Duration;

use crate::stamp::VersionSource;
use crate::window::Limits;

/// They may change while the pipeline runs, all but `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    pub window: Limits,
    /// Whether publications get an idempotency key.
    pub idempotency: bool,
    pub version: VersionSource,
    /// Of what waits for a channel only the newest goes out.
    pub conflate: bool,
    /// What is older when it would be sent is left out.
    pub max_age: Option<Duration>,
    pub on_reject: OnReject,
    /// More rejections than this in a row halt the pipeline.
    pub max_consecutive_rejects: u32,
}

/// What becomes of a message that is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReject {
    DeadLetter,
    Drop,
    Halt,
}

#[cfg(test)]
impl Settings {
    /// Those of a module that sets nothing.
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
