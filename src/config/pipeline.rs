//! The checked form of a module's own `.toml`: how its pipeline reads, runs and publishes.

use std::time::Duration;

use slipring_core::pipeline::{OnReject, Settings};
use slipring_core::stamp::VersionSource;
use slipring_core::window;

use super::Publish;

/// A module's own `.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleConfig {
    pub stream: String,
    /// Empty for the whole stream.
    pub subjects: Vec<String>,
    pub deliver: Deliver,
    /// The name of the durable consumer.
    pub consumer: String,
    pub on_reject: OnReject,
    /// The limit for one call.
    pub timeout: Duration,
    /// The memory of one instance, in bytes.
    pub memory: usize,
    /// Messages that are older when they would be sent are left out and counted as expired.
    pub max_age: Option<Duration>,
    /// Of the publications that wait for a channel, send only the newest.
    pub conflate: bool,
    pub version: VersionSource,
    /// The pipeline halts after more rejections in a row than this.
    pub max_consecutive_rejects: u32,
    /// Messages in the window, from the ack floor to the newest.
    pub window: usize,
    /// Bytes in the window.
    pub window_bytes: usize,
    /// Reading pauses while the oldest message in the window has waited longer than this.
    pub window_age: Duration,
    /// Threads that run the module.
    pub workers: usize,
    /// The hash, in hexadecimal digits, of the only file that is accepted.
    pub sha256: Option<String>,
    /// A new version takes over only if it handles this many recent messages as well as the old one.
    pub probe: usize,
    /// How long a new version is watched after it has taken over.
    pub watch: Duration,
    /// How many messages the new version may reject during this time that the old one would accept.
    pub watch_max_rejects: u32,
    /// The JSON object for `init`.
    pub settings: String,
}

impl ModuleConfig {
    /// Returns the defaults, for a module that is tried without a `.toml`.
    pub fn new(name: &str, stream: &str) -> Self {
        Self {
            stream: stream.to_owned(),
            subjects: Vec::new(),
            deliver: Deliver::New,
            consumer: format!("slipring-{name}"),
            on_reject: OnReject::DeadLetter,
            timeout: Duration::from_millis(100),
            memory: 64 << 20,
            max_age: None,
            conflate: false,
            version: VersionSource::Module,
            max_consecutive_rejects: 100,
            // Enough to keep a thousand channels busy over a round trip of milliseconds. The window's content is most
            // of the memory of a busy module.
            window: 4_096,
            window_bytes: 32 << 20,
            window_age: Duration::from_secs(300),
            workers: 1,
            sha256: None,
            probe: 256,
            watch: Duration::from_secs(60),
            watch_max_rejects: 4,
            settings: "{}".to_owned(),
        }
    }

    /// Returns true if a pipeline that was started with `other` can continue with this configuration between two
    /// messages. What it reads, its window and its number of threads are fixed at the start. Add every new key to one
    /// side or the other.
    pub fn can_follow(&self, other: &Self) -> bool {
        let Self {
            stream,
            subjects,
            deliver,
            consumer,
            window,
            window_bytes,
            window_age,
            workers,
            on_reject: _,
            timeout: _,
            memory: _,
            max_age: _,
            conflate: _,
            version: _,
            max_consecutive_rejects: _,
            sha256: _,
            probe: _,
            watch: _,
            watch_max_rejects: _,
            settings: _,
        } = self;
        (stream, subjects, deliver, consumer) == (&other.stream, &other.subjects, &other.deliver, &other.consumer)
            && (window, window_bytes, window_age, workers)
                == (&other.window, &other.window_bytes, &other.window_age, &other.workers)
    }
}

impl ModuleConfig {
    /// Returns the settings for the module's pipeline.
    pub fn settings(&self, publish: &Publish) -> Settings {
        Settings {
            window: window::Limits {
                messages: self.window,
                bytes: self.window_bytes,
                age: self.window_age,
            },
            idempotency: publish.idempotency,
            version: self.version,
            conflate: self.conflate,
            max_age: self.max_age,
            on_reject: self.on_reject,
            max_consecutive_rejects: self.max_consecutive_rejects,
        }
    }
}

/// Where a new consumer starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deliver {
    New,
    All,
    Sequence(u64),
    Since(jiff::Timestamp),
}

/// Checks that a module's configuration allows the file with this hash. The error is a sentence.
pub fn check_sha256(name: &str, config: &ModuleConfig, found: &str) -> anyhow::Result<()> {
    match &config.sha256 {
        Some(pinned) if pinned != found => anyhow::bail!(
            "{name}.toml allows only the file with the SHA-256 {pinned}, but that of {name}.wasm is {found}; to allow \
             the new file, put its hash into `sha256`"
        ),
        _ => Ok(()),
    }
}
