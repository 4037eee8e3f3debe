//! Connections to the Redis or Valkey server that `[redis]` names. Whoever needs one makes its own, so that a lost
//! connection concerns nobody else.

mod error;
mod facts;

pub use self::error::Error;
pub use self::facts::Facts;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, TlsCertificates, TlsMode,
};
use tokio::time::timeout;

use crate::config::{Redis as Config, Secret, Sentinel};

/// How long a connection may take, and how long a reply.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A clone is the same server.
#[derive(Debug, Clone)]
pub struct Server {
    config: Arc<Config>,
    /// For questions beside the reading.
    shared: Arc<Mutex<Option<MultiplexedConnection>>>,
}

impl Server {
    pub fn new(config: Config) -> Self {
        Self {
            config: Arc::new(config),
            shared: Arc::default(),
        }
    }

    /// Returns where the server is, for people.
    pub fn address(&self) -> String {
        match &self.config.sentinel {
            Some(Sentinel { urls, master }) => {
                let urls: Vec<&str> = urls.iter().map(url::Url::as_str).collect();
                format!("{} (the master `{master}`)", urls.join(", "))
            }
            None => {
                let url = &self.config.url;
                let port = url.port().unwrap_or(6379);
                format!("{}:{port}", url.host_str().unwrap_or_default())
            }
        }
    }

    /// Opens a connection whose replies come soon.
    pub async fn connect(&self) -> Result<MultiplexedConnection, Error> {
        self.open(Some(PATIENCE)).await
    }

    /// Opens a connection whose replies may take for ever.
    pub async fn connect_to_wait(&self) -> Result<MultiplexedConnection, Error> {
        self.open(None).await
    }

    /// Returns the connection for questions beside the reading. It is made when it is first needed, and again after an
    /// error: see [`Self::checked`].
    pub async fn shared(&self) -> Result<MultiplexedConnection, Error> {
        let known = self.known().clone();
        if let Some(connection) = known {
            return Ok(connection);
        }
        let connection = self.connect().await?;
        *self.known() = Some(connection.clone());
        Ok(connection)
    }

    /// Puts an error of the shared connection into words. The next question gets another connection.
    pub fn checked<T>(&self, reply: Result<T, RedisError>) -> Result<T, Error> {
        reply.map_err(|error| {
            *self.known() = None;
            self.error("asking Redis", error)
        })
    }

    fn known(&self) -> MutexGuard<'_, Option<MultiplexedConnection>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn error(&self, doing: &str, error: RedisError) -> Error {
        if error.is_timeout() {
            return Error::Late {
                address: self.address(),
                seconds: PATIENCE.as_secs(),
            };
        }
        Error::of(doing, &self.address(), error)
    }

    async fn open(&self, patience: Option<Duration>) -> Result<MultiplexedConnection, Error> {
        // The defaults are 1 s and 0.5 s.
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(patience);
        let opening = async {
            match &self.config.sentinel {
                Some(sentinel) => self.open_master(sentinel, &settings).await,
                None => {
                    let client = self.client(self.config.url.clone())?;
                    client.get_multiplexed_async_connection_with_config(&settings).await
                }
            }
        };
        match timeout(2 * PATIENCE, opening).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(match Error::of("connecting to Redis", &self.address(), error) {
                Error::Request { source, .. } => Error::Unreachable {
                    address: self.address(),
                    reason: format!("{source}; is it running, and is `redis.url` right?"),
                },
                refused => refused,
            }),
            Err(_) => Err(Error::Late {
                address: self.address(),
                seconds: 2 * PATIENCE.as_secs(),
            }),
        }
    }

    async fn open_master(
        &self,
        sentinel: &Sentinel,
        settings: &AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisError> {
        let sentinels: Vec<ConnectionInfo> = sentinel
            .urls
            .iter()
            .map(|url| url.clone().into_connection_info())
            .collect::<Result<_, _>>()?;
        let mut node = SentinelNodeConnectionInfo::default().set_redis_connection_info(self.identity());
        if self.is_encrypted() {
            node = node.set_tls_mode(TlsMode::Secure);
        }
        let mut client = SentinelClient::build(
            sentinels,
            sentinel.master.clone(),
            Some(node),
            SentinelServerType::Master,
        )?;
        client.get_async_connection_with_config(settings).await
    }

    fn client(&self, url: url::Url) -> Result<Client, RedisError> {
        let info = url.into_connection_info()?.set_redis_settings(self.identity());
        if !self.is_encrypted() {
            return Client::open(info);
        }
        let read = |path: &Option<std::path::PathBuf>| path.as_ref().map(std::fs::read).transpose();
        let tls = &self.config.tls;
        let client_tls = match (read(&tls.cert_file)?, read(&tls.key_file)?) {
            (Some(client_cert), Some(client_key)) => Some(ClientTlsConfig {
                client_cert,
                client_key,
            }),
            _ => None,
        };
        let certificates = TlsCertificates {
            client_tls,
            root_cert: read(&tls.ca_file)?,
        };
        Client::build_with_tls(info, certificates)
    }

    fn is_encrypted(&self) -> bool {
        self.config.url.scheme() == "rediss"
    }

    fn identity(&self) -> RedisConnectionInfo {
        let database = self.config.url.path().trim_start_matches('/').parse().unwrap_or(0);
        let mut identity = RedisConnectionInfo::default().set_db(database);
        if let Some(user) = &self.config.user {
            identity = identity.set_username(user);
        }
        if let Some(password) = &self.config.password {
            identity = identity.set_password(Secret::expose(password));
        }
        identity
    }
}
