//! The configuration as checked: what every other part of the relay sees. How it is written, and all that can be wrong with
//! it, is in `config/`.

mod environment;
mod module;
mod problem;
mod relay;
mod secret;
mod section;
mod settings;
mod subject;
mod value;

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

pub use self::module::{name as module_name, parse as parse_module};
pub use self::problem::{Place, Problem, Problems};
pub use self::relay::parse as parse_config;
pub use self::subject::covers;

/// The file that is read if no other is named.
pub const DEFAULT_FILE: &str = "slipring.toml";

/// Reads `slipring.toml`, with `env` on top of it. `None`: the one in the working directory, which need not be there.
pub fn load<N: Into<OsString>, V: Into<OsString>>(
    path: Option<&Path>,
    env: impl IntoIterator<Item = (N, V)>,
) -> Result<Config, Problems> {
    let file = path.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_none() => String::new(),
        other => other.map_err(|error| unreadable(file, &error))?,
    };
    parse_config(file, &text, env)
}

/// Reads a module's own `.toml`.
pub fn load_module(path: &Path) -> Result<ModuleConfig, Problems> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    parse_module(path, &text)
}

fn unreadable(path: &Path, error: &io::Error) -> Problems {
    Problems::one(Place::file(path), format!("the configuration can't be read: {error}"))
}

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// One publication a channel a request.
    Strict,
    /// Many publications of one channel, in order, in one request.
    Batched,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReject {
    DeadLetter,
    Drop,
    Halt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionSource {
    /// The module's own, if it sets one.
    Module,
    /// The stream's sequence; the epoch is the stream's creation.
    Sequence,
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
