//! A module's own `.toml`, checked: how its pipeline reads, runs and publishes.

use std::time::Duration;

use slipring_core::pipeline::{OnReject, Settings};
use slipring_core::stamp::VersionSource;
use slipring_core::window;

use super::Publish;

/// A module's own `.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleConfig {
    pub stream: String,
    /// Empty: all of the stream.
    pub subjects: Vec<String>,
    pub deliver: Deliver,
    /// The durable's name.
    pub consumer: String,
    pub on_reject: OnReject,
    /// Of one call.
    pub timeout: Duration,
    /// Of one instance, in bytes.
    pub memory: usize,
    /// What is older when it would be sent is left out, and counted as expired.
    pub max_age: Option<Duration>,
    /// Of what waits for a channel only the newest goes out.
    pub conflate: bool,
    pub version: VersionSource,
    /// More rejections than this in a row halt the pipeline.
    pub max_consecutive_rejects: u32,
    /// Messages in the window, from the ack floor to the newest.
    pub window: usize,
    /// Bytes in the window.
    pub window_bytes: usize,
    /// Nothing more is read while the oldest message in the window has waited for longer.
    pub window_age: Duration,
    /// Threads that run the module.
    pub workers: usize,
    /// The only file that is taken, in hexadecimal digits.
    pub sha256: Option<String>,
    /// Messages that a new version must treat as well as the old one before it takes over.
    pub probe: usize,
    /// How long a new version is watched once it has taken over.
    pub watch: Duration,
    /// Messages of this time that it may reject although the old one would not.
    pub watch_max_rejects: u32,
    /// The JSON object that `init` gets.
    pub settings: String,
}

impl ModuleConfig {
    /// The defaults, for a module that is tried without a file of its own.
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
            // Enough to keep a thousand channels busy over a round trip of milliseconds; what it holds is most of what a busy module
            // takes in memory.
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

    /// Whether a pipeline that was started with `other` can go on with this configuration, between two messages. What it reads from, and
    /// with how many threads, is settled when it starts. A new key must be put on one side or the other.
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
    /// What the module's pipeline is told of it.
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

/// Where a consumer starts that does not exist yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deliver {
    New,
    All,
    Sequence(u64),
    Since(jiff::Timestamp),
}

/// Whether a module's configuration allows the file with this hash. The error is a sentence.
pub fn check_sha256(name: &str, config: &ModuleConfig, found: &str) -> anyhow::Result<()> {
    match &config.sha256 {
        Some(pinned) if pinned != found => anyhow::bail!(
            "{name}.toml allows only the file with the SHA-256 {pinned}, and that of {name}.wasm is {found}; if the new file is meant, \
             put its hash into `sha256`"
        ),
        _ => Ok(()),
    }
}
