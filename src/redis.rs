//! Connections to the Redis or Valkey server that `[redis]` names. Each epoch has its own, so that losing one ends no
//! other. Commands, inspections and dead letters share one.

mod cluster;
mod error;
mod facts;
mod reason;

pub use self::error::Error;
pub use self::facts::Facts;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;

use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, TlsCertificates, TlsMode,
};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::{info, warn};
use url::Url;

use crate::config::{Redis as Config, Secret, Sentinel};

/// How long a connection may take, and how long a reply.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The scheme of a URL whose server speaks TLS.
const TLS: &str = "rediss";

/// A clone is the same server.
#[derive(Debug, Clone)]
pub struct Server {
    config: Arc<Config>,
    password: Password,
    /// The password of the sentinels.
    sentinel_password: Password,
    /// For questions beside the reading.
    shared: Arc<Mutex<Shared>>,
    /// The nodes of a cluster, in case the one at `redis.url` is down.
    nodes: Arc<Mutex<Vec<Url>>>,
    /// Where shared connections live, because a pipeline ends with its runtime.
    runtime: Option<Handle>,
}

/// A connection to each node that has a key which somebody asked about.
#[derive(Debug, Default)]
struct Shared {
    nodes: HashMap<String, Url>,
    connections: HashMap<Url, MultiplexedConnection>,
}

impl Server {
    pub fn new(config: Config) -> Self {
        Self {
            password: Password::new(config.password.clone()),
            sentinel_password: Password::new(config.sentinel.as_ref().and_then(|sentinel| sentinel.password.clone())),
            config: Arc::new(config),
            shared: Arc::default(),
            nodes: Arc::default(),
            runtime: Handle::try_current().ok(),
        }
    }

    /// Returns where the server is, for people.
    pub fn address(&self) -> String {
        match &self.config.sentinel {
            Some(Sentinel { urls, master, .. }) => {
                let urls: Vec<&str> = urls.iter().map(Url::as_str).collect();
                format!("{} (the master `{master}`)", urls.join(", "))
            }
            None => {
                let url = &self.config.url;
                let port = url.port().unwrap_or(6379);
                format!("{}:{port}", url.host_str().unwrap_or_default())
            }
        }
    }

    /// Opens a connection to the node that has this key, whose replies come soon.
    pub async fn connect(&self, key: &str) -> Result<MultiplexedConnection, Error> {
        Ok(self.open(key, PATIENCE).await?.1)
    }

    /// Opens one for requests that the server may think about for this long.
    pub async fn connect_to_wait(&self, key: &str, wait: Duration) -> Result<MultiplexedConnection, Error> {
        Ok(self.open(key, wait + PATIENCE).await?.1)
    }

    /// Returns the connection for questions about this key, beside the reading. It is made when it is first needed, and
    /// again after an error: see [`Self::checked`]. It lives in the runtime in which the server was created.
    pub async fn shared(&self, key: &str) -> Result<MultiplexedConnection, Error> {
        {
            let known = self.known();
            let node = known.nodes.get(key);
            if let Some(connection) = node.and_then(|node| known.connections.get(node)) {
                return Ok(connection.clone());
            }
        }
        let (node, connection) = match &self.runtime {
            Some(runtime) => {
                let (server, key) = (self.clone(), key.to_owned());
                let opening = runtime.spawn(async move { server.open(&key, PATIENCE).await });
                // It neither panics nor is it aborted, unless the process is ending.
                opening.await.unwrap_or_else(|_| {
                    Err(Error::Late {
                        address: self.address(),
                    })
                })?
            }
            None => self.open(key, PATIENCE).await?,
        };
        let mut known = self.known();
        known.nodes.insert(key.to_owned(), node.clone());
        Ok(known.connections.entry(node).or_insert(connection).clone())
    }

    /// Puts an error of the shared connection into words: `doing` completes "… failed". The next question gets another
    /// connection.
    pub fn checked<T>(&self, doing: &str, reply: Result<T, RedisError>) -> Result<T, Error> {
        reply.map_err(|error| {
            self.forget();
            self.error(doing, error)
        })
    }

    /// Makes the next question open another connection.
    pub fn forget(&self) {
        *self.known() = Shared::default();
    }

    fn known(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn error(&self, doing: &str, error: RedisError) -> Error {
        if error.is_timeout() {
            return Error::Late {
                address: self.address(),
            };
        }
        Error::of(doing, &self.address(), error)
    }

    async fn open(&self, key: &str, patience: Duration) -> Result<(Url, MultiplexedConnection), Error> {
        // The defaults are 1 s and 0.5 s.
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(patience));
        let opening = async {
            match &self.config.sentinel {
                Some(sentinel) => {
                    let connection = self.open_master(sentinel, &settings).await?;
                    Ok((self.config.url.clone(), connection))
                }
                None => self.open_node_of(key, &settings).await,
            }
        };
        match timeout(2 * PATIENCE, opening).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(reason::explain(error, &self.address(), &self.config)),
            Err(_) => Err(Error::Late {
                address: self.address(),
            }),
        }
    }

    async fn open_master(
        &self,
        sentinel: &Sentinel,
        settings: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        let sentinels: Vec<ConnectionAddr> = sentinel
            .urls
            .iter()
            .map(|url| Ok(url.clone().into_connection_info()?.addr().clone()))
            .collect::<Result<_, RedisError>>()?;
        let (identity, certificates) = (self.identity(), self.certificates()?);
        let mut builder = SentinelClientBuilder::new(sentinels, sentinel.master.clone(), SentinelServerType::Master)?
            .set_client_to_redis_db(identity.db())
            .set_client_to_redis_tcp_settings(tcp());
        if let Some(user) = identity.username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = identity.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(user) = &sentinel.user {
            builder = builder.set_client_to_sentinel_username(user);
        }
        if let Some(password) = self.sentinel_password.now("the sentinels") {
            builder = builder.set_client_to_sentinel_password(password.expose());
        }
        if is_encrypted(&self.config.url) {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(certificates.clone());
        }
        if sentinel.urls.iter().any(is_encrypted) {
            builder = builder
                .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_certificates(certificates);
        }
        builder.build()?.get_async_connection_with_config(settings).await
    }

    fn client(&self, url: Url) -> Result<Client, RedisError> {
        let info = url
            .into_connection_info()?
            .set_redis_settings(self.identity())
            .set_tcp_settings(tcp());
        match is_encrypted(&self.config.url) {
            true => Client::build_with_tls(info, self.certificates()?),
            false => Client::open(info),
        }
    }

    fn certificates(&self) -> Result<TlsCertificates, RedisError> {
        let read = |path: &Option<PathBuf>| path.as_ref().map(std::fs::read).transpose();
        let tls = &self.config.tls;
        let client_tls = match (read(&tls.cert_file)?, read(&tls.key_file)?) {
            (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig {
                client_cert,
                client_key,
            }),
            _ => None,
        };
        Ok(TlsCertificates {
            client_tls,
            root_cert: read(&tls.ca_file)?,
        })
    }

    fn identity(&self) -> RedisConnectionInfo {
        let database = self.config.url.path().trim_start_matches('/').parse().unwrap_or(0);
        let mut identity = RedisConnectionInfo::default().set_db(database);
        if let Some(user) = &self.config.user {
            identity = identity.set_username(user);
        }
        if let Some(password) = self.password.now("Redis") {
            identity = identity.set_password(password.expose());
        }
        identity
    }
}

/// A password, whose file may change. It keeps the last valid one.
#[derive(Debug, Clone)]
struct Password(Arc<Mutex<Option<Secret>>>);

impl Password {
    fn new(password: Option<Secret>) -> Self {
        Self(Arc::new(Mutex::new(password)))
    }

    /// Reads its file again. `whose` completes "the password of …".
    fn now(&self, whose: &str) -> Option<Secret> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.as_ref().map(Secret::read_again)? {
            Ok(password) => {
                if known.as_ref() != Some(&password) {
                    info!("using the new password of {whose}");
                }
                *known = Some(password);
            }
            Err(error) => warn!(
                error,
                "cannot read the password of {whose} again; still using the previous one"
            ),
        }
        known.clone()
    }
}

/// Returns true if the server at this URL speaks TLS.
fn is_encrypted(url: &Url) -> bool {
    url.scheme() == TLS
}

/// Requests are small, and each waits for its reply.
fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}
