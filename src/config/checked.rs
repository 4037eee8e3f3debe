//! `slipring.toml`, checked.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use slipring_core::publish::{Limits, Order};
use url::Url;

/// `slipring.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What all that passes through the modules may take, in bytes. `None`: as much as suits the machine.
    pub memory_limit: Option<usize>,
    pub nats: Nats,
    pub centrifugo: Centrifugo,
    pub modules: Modules,
    pub publish: Publish,
    pub admin: Admin,
    pub dead_letters: DeadLetters,
    /// `None`: this relay is the only one.
    pub standby: Option<Standby>,
    pub shutdown: Shutdown,
    /// Variables that are named like the relay's and set nothing.
    pub unknown_variables: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nats {
    /// `nats://host:port` or `tls://host:port`, at least one.
    pub servers: Vec<String>,
    pub auth: NatsAuth,
    pub tls: NatsTls,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NatsAuth {
    None,
    /// The text of a `.creds` file.
    Credentials(Secret),
    /// The seed.
    NKey(Secret),
    Token(Secret),
    User {
        user: String,
        password: Secret,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsTls {
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Centrifugo {
    /// At least one; tried in this order after a failure.
    pub endpoints: Vec<Url>,
    pub api_key: Option<Secret>,
    /// Of one request.
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modules {
    pub dir: PathBuf,
    /// Where wasmtime keeps compiled code, so that a restart is quick. Private to this user.
    pub cache_dir: Option<PathBuf>,
    /// Where the versions of modules that were at work are kept, for a rollback.
    pub versions_dir: PathBuf,
    /// How many of each module, the one at work among them.
    pub keep_versions: usize,
    /// Files that others than this user and root may change are not taken.
    pub strict_permissions: bool,
    pub bounds: Bounds,
}

/// What a file may take before anything of it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the file.
    pub file_size: usize,
    /// Processor time of compiling it. Begun seconds count as whole ones.
    pub cpu: Duration,
    /// Bytes of memory that compiling it takes.
    pub memory: usize,
    /// How deep components and modules in it may be nested, and blocks in a function 500 times as deep. What compilers and wit-component
    /// make has a depth of three.
    pub nesting: usize,
}

impl Bounds {
    pub fn cpu_seconds(&self) -> u64 {
        self.cpu.as_secs() + u64::from(self.cpu.subsec_nanos() > 0)
    }

    /// By the clock: what gets a tenth of a core is still given its processor time.
    pub fn clock(&self) -> Duration {
        self.cpu * 10
    }
}

impl Default for Bounds {
    /// CPython in a file of 18 to 38 MB is the largest guest of the examples, and stays well below.
    fn default() -> Self {
        Self {
            file_size: 200 << 20,
            cpu: Duration::from_secs(30),
            memory: 1 << 30,
            nesting: 100,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    pub order: Order,
    /// Whether publications carry an idempotency key.
    pub idempotency: bool,
    /// Publications a request.
    pub max_batch: usize,
    /// Requests a pipeline.
    pub max_in_flight: usize,
}

impl Publish {
    /// What the scheduler keeps to.
    pub fn limits(&self) -> Limits {
        Limits::new(self.order, self.max_batch, self.max_in_flight)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    pub listen: SocketAddr,
    /// Needed from everyone when `listen` is not a loopback address.
    pub token: Option<Secret>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetters {
    pub stream: String,
}

/// Several relays on the same consumers, of which one works at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standby {
    /// How long a relay that falls silent keeps the others waiting.
    pub ttl: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shutdown {
    /// How long what is in flight may take after SIGTERM.
    pub grace: Duration,
}

/// A text that must not be shown: it prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for whoever has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
