//! The checked form of a module's own `.toml`: how its pipeline reads, runs and publishes.

use std::time::Duration;

use slipring_core::pipeline::{OnReject, Settings};
use slipring_core::stamp::VersionSource;
use slipring_core::window;

use super::Publish;

/// A module's own `.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleConfig {
    /// The kind of what is read.
    pub source: Source,
    /// Its name: that of a JetStream stream, or the key of a list or stream in Redis.
    pub stream: String,
    /// Empty for the whole stream.
    pub subjects: Vec<String>,
    pub deliver: Deliver,
    /// The name of what keeps the position: a durable consumer, or a consumer group in Redis.
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
            source: Source::JetStream,
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
            source,
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
        (source, stream, subjects) == (&other.source, &other.stream, &other.subjects)
            && (deliver, consumer) == (&other.deliver, &other.consumer)
            && (window, window_bytes, window_age, workers)
                == (&other.window, &other.window_bytes, &other.window_age, &other.workers)
    }
}

impl ModuleConfig {
    /// Returns what is read and by which reader, in words. Two modules must not have the same.
    pub fn reader(&self) -> String {
        let Self { stream, consumer, .. } = self;
        match &self.source {
            Source::JetStream => format!("consumer `{consumer}` of the stream `{stream}`"),
            // Only one relay can take from a list, whatever its module is called.
            Source::Redis(RedisSource::List { .. }) => format!("list `{stream}` in Redis"),
            Source::Redis(RedisSource::Stream { .. }) => {
                format!("group `{consumer}` of the stream `{stream}` in Redis")
            }
        }
    }

    /// Returns the beginning of the relay's own keys in Redis. They have the hash tag of the list or stream, so that a
    /// cluster keeps all of them on one node. If a key has a part in braces, only that part counts:
    /// <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags>.
    pub fn own_keys(source: &RedisSource, key: &str, group: &str) -> String {
        let tag = key
            .split_once('{')
            .and_then(|(_, rest)| rest.split_once('}'))
            .is_some_and(|(tag, _)| !tag.is_empty());
        // Two colons, so that the keys of `{a}` are not those of `a`.
        let tagged = if tag { format!("{key}:") } else { format!("{{{key}}}") };
        match source {
            // Only one relay can take from a list, whatever its module is called.
            RedisSource::List { .. } => format!("{tagged}:slipring"),
            RedisSource::Stream { .. } => format!("{tagged}:slipring:{group}"),
        }
    }

    /// Returns patterns of all keys in Redis that the module needs.
    pub fn redis_keys(&self) -> Vec<String> {
        let Source::Redis(source) = &self.source else {
            return Vec::new();
        };
        let own = Self::own_keys(source, &self.stream, &self.consumer);
        vec![self.stream.clone(), format!("{own}:*")]
    }

    /// Returns what to set for another reader.
    pub fn another_reader(&self) -> &'static str {
        match &self.source {
            Source::JetStream => "set another `consumer`",
            Source::Redis(RedisSource::List { .. }) => "set another `source.key`",
            Source::Redis(RedisSource::Stream { .. }) => "set another `source.group`",
        }
    }

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

/// The kind of what a module reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    JetStream,
    Redis(RedisSource),
}

impl Source {
    /// Returns the name of the server that holds it.
    pub fn server(&self) -> &'static str {
        match self {
            Self::JetStream => "NATS",
            Self::Redis(_) => "Redis",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisSource {
    List {
        /// The end where the oldest message is.
        take: End,
        /// How many settled messages are kept, for commands that read again.
        keep: usize,
    },
    Stream {
        /// The field of an entry that is the payload. The others are headers.
        field: String,
    },
}

/// An end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Producers use RPUSH.
    Left,
    /// Producers use LPUSH.
    Right,
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
