//! The checked form of `slipring.toml`.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use slipring_core::publish::{Order, RequestLimits};
use url::Url;

use super::tls::Tls;

/// `slipring.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The bound on the memory of everything that passes through the modules, in bytes. `None` means a default for the
    /// machine.
    pub memory_limit: Option<usize>,
    pub nats: Nats,
    /// `None` if nothing of it is set.
    pub redis: Option<Redis>,
    pub centrifugo: Centrifugo,
    pub modules: Modules,
    pub publish: Publish,
    pub admin: Admin,
    pub dead_letters: DeadLetters,
    /// `None` if this relay is the only one.
    pub standby: Option<Standby>,
    pub shutdown: Shutdown,
    /// Variables that are named like the relay's but set nothing.
    pub unknown_variables: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nats {
    /// `nats://host:port` or `tls://host:port`, at least one.
    pub servers: Vec<String>,
    pub auth: NatsAuth,
    pub tls: Tls,
    /// The server speaks TLS from the first byte on (`handshake_first`).
    pub tls_first: bool,
    /// The beginning of the subjects of JetStream's API.
    pub api_prefix: String,
    /// The beginning of the subjects for replies and deliveries.
    pub inbox_prefix: String,
    /// `slipring up` has written these addresses, and its servers end with it.
    pub from_up: bool,
}

impl Nats {
    pub const API_PREFIX: &str = "$JS.API";
    pub const INBOX_PREFIX: &str = "_INBOX";

    /// Returns the defaults for these servers.
    pub fn at(servers: impl IntoIterator<Item = String>) -> Self {
        Self {
            servers: servers.into_iter().collect(),
            auth: NatsAuth::None,
            tls: Tls::default(),
            tls_first: false,
            api_prefix: Self::API_PREFIX.to_owned(),
            inbox_prefix: Self::INBOX_PREFIX.to_owned(),
            from_up: false,
        }
    }
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

/// The Redis or Valkey server that modules may read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// `redis://host:port/db` or `rediss://host:port/db`. With Sentinel only the scheme and the database count.
    pub url: Url,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// Who knows which server is the master.
    pub sentinel: Option<Sentinel>,
    pub tls: Tls,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentinel {
    /// At least one.
    pub urls: Vec<Url>,
    /// The name that the sentinels give to the master.
    pub master: String,
    /// The user of the sentinels themselves.
    pub user: Option<String>,
    pub password: Option<Secret>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Centrifugo {
    /// At least one. After a failure they are tried in this order.
    pub endpoints: Vec<Url>,
    pub api_key: Option<Secret>,
    /// The limit for one request.
    pub timeout: Duration,
    pub tls: Tls,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modules {
    pub dir: PathBuf,
    /// Where wasmtime keeps compiled code, to make restarts quick. Private to this user.
    pub cache_dir: Option<PathBuf>,
    /// Where previous versions of modules are kept for a rollback.
    pub versions_dir: PathBuf,
    /// How many versions of each module are kept, including the running one.
    pub keep_versions: usize,
    /// Refuse files that other users than this one and root may change.
    pub strict_permissions: bool,
    pub bounds: Bounds,
}

/// Limits on loading a file, before any of it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The size of the file in bytes.
    pub file_size: usize,
    /// Processor time for compiling the file. A started second counts as a whole one.
    pub cpu: Duration,
    /// Memory for compiling the file, in bytes.
    pub memory: usize,
    /// How deep components and modules may be nested in the file. Blocks in a function may be nested 500 times as deep.
    /// Compilers and wit-component produce a depth of three.
    pub nesting: usize,
}

impl Bounds {
    pub fn cpu_seconds(&self) -> u64 {
        self.cpu.as_secs() + u64::from(self.cpu.subsec_nanos() > 0)
    }

    /// Returns the limit in wall-clock time. Even a process that gets only a tenth of a core can use its processor
    /// time within it.
    pub fn clock(&self) -> Duration {
        self.cpu * 10
    }
}

impl Default for Bounds {
    /// CPython in a file of 18 to 38 MB is the largest guest of the examples. Compiling it took from 15 to over 30 s of processor
    /// time, depending on the machine and on what else ran there.
    fn default() -> Self {
        Self {
            file_size: 200 << 20,
            cpu: Duration::from_secs(120),
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
    /// Publications per request.
    pub max_batch: usize,
    /// Requests in flight per pipeline.
    pub max_in_flight: usize,
}

impl Publish {
    /// Returns the scheduler's limits.
    pub fn limits(&self) -> RequestLimits {
        RequestLimits::new(self.order, self.max_batch, self.max_in_flight)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    pub listen: SocketAddr,
    /// Names by which clients may reach the relay, in lower case. It answers to `localhost` and to addresses anyway.
    pub hosts: Vec<String>,
    /// Allows everything. If there is none, the relay creates one when it starts.
    pub token: Option<Secret>,
    /// Allows reading: the status, the metrics, the reasons why the relay is not ready.
    pub read_token: Option<Secret>,
    /// `None` if the admin server speaks plain HTTP.
    pub tls: Option<AdminTls>,
    /// Centrifugo's WebSocket as browsers reach it, where the page shows what arrives at subscribers.
    pub centrifugo_websocket: Option<Url>,
    /// Whether clients with the token may put modules into the directory.
    pub uploads: bool,
    /// Where the relay may save the token that it creates. The first usable one is taken.
    pub token_dirs: Vec<PathBuf>,
    /// `slipring up` has written this address, and its relay ends with it.
    pub from_up: bool,
}

/// The certificate of the admin server. `server` in `relay/admin.rs` turns it into a TLS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminTls {
    /// The server's own certificate comes first.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The text of the PEM file.
    pub key: Secret,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetters {
    pub store: Store,
    /// The name of a stream in NATS, or a key in Redis.
    pub stream: String,
    /// How the stream is created. An existing one keeps its settings.
    pub replicas: usize,
    /// `None` keeps dead letters for ever.
    pub max_age: Option<Duration>,
    /// `None` means no limit.
    pub max_bytes: Option<usize>,
}

/// What keeps the dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    JetStream,
    Redis,
}

/// Several relays share the same consumers, and one of them works at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standby {
    /// How long the others wait for a relay that falls silent.
    pub ttl: Duration,
    /// What the others call this relay. If it is not set, the relay finds a name when it starts.
    pub name: Option<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shutdown {
    /// How long messages in flight may take after SIGTERM.
    pub grace: Duration,
}

/// A text that must not be shown. It prints as `***`.
#[derive(Clone)]
pub struct Secret {
    text: String,
    file: Option<Arc<Path>>,
}

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            file: None,
        }
    }

    pub(super) fn from_file(text: impl Into<String>, file: &Path) -> Self {
        Self {
            text: text.into(),
            file: Some(file.into()),
        }
    }

    /// Returns the text itself, for code that has to send it.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Returns the file that holds the secret, if it is not from the environment.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

/// The same text is the same secret, wherever it is from.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
