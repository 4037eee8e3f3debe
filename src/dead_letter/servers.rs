//! Opens the stream of the dead letters, over connections of its own. So whoever looks at letters delays no pipeline
//! with a large one. A permission that NATS denies here is no trouble of the relay's.

use std::time::Duration;

use super::read::{ReadError, Reader};
use super::store::Home;
use crate::config::{self, Config, Store};
use crate::nats::{self, ConnectError, Lazy, Nats};
#[cfg(feature = "redis")]
use crate::redis::{self, Server};

/// How to get to the dead letters.
#[derive(Debug, Clone)]
pub struct Servers {
    nats: config::Nats,
    #[cfg(feature = "redis")]
    redis: Option<Server>,
    config: config::DeadLetters,
}

/// The stream of the dead letters, with the connection to its server.
#[derive(Debug, Clone)]
pub struct Session {
    pub home: Home,
    /// `None` if there is no stream for dead letters.
    pub reader: Option<Reader>,
    /// The connection to NATS, if the stream is there.
    pub nats: Option<Nats>,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Nats(#[from] ConnectError),
    #[cfg(feature = "redis")]
    #[error(transparent)]
    Redis(#[from] redis::Error),
    #[cfg(not(feature = "redis"))]
    #[error("this slipring was built without Redis")]
    NoRedis,
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Servers {
    /// Connects to none of them. Connections to Redis will live in the current tokio runtime.
    pub fn new(config: &Config) -> Self {
        Self {
            nats: config.nats.clone(),
            #[cfg(feature = "redis")]
            redis: config.redis.clone().map(Server::new),
            config: config.dead_letters.clone(),
        }
    }

    /// Returns how the stream is created.
    pub fn config(&self) -> &config::DeadLetters {
        &self.config
    }

    /// Explains why there are no letters if there is no stream.
    pub fn no_stream(&self) -> String {
        format!(
            "there are no dead letters: the stream {} does not exist",
            self.config.stream
        )
    }

    #[cfg(feature = "redis")]
    pub fn redis(&self) -> Option<&Server> {
        self.redis.as_ref()
    }

    /// Connects to NATS, and waits at most `limit`.
    pub async fn nats(&self, limit: Duration) -> Result<Nats, ConnectError> {
        let mut config = self.nats.clone();
        let auth = config.auth.clone();
        // The secret's file may have changed since the configuration was read. A file that cannot be read changes
        // nothing.
        if let Ok(Ok(auth)) = tokio::task::spawn_blocking(move || auth.read_again()).await {
            config.auth = auth;
        }
        nats::connect_within(&config, limit).await
    }

    /// Opens the stream, and waits at most `limit` for a connection to NATS.
    pub async fn open(&self, limit: Duration) -> Result<Session, OpenError> {
        let stream = &self.config.stream;
        match self.config.store {
            #[cfg(feature = "redis")]
            Store::Redis => {
                let server = self.redis.clone().ok_or(redis::Error::NotConfigured)?;
                Ok(Session {
                    reader: Reader::open_redis(&server, stream).await?,
                    home: Home::Redis(server),
                    nats: None,
                })
            }
            #[cfg(not(feature = "redis"))]
            Store::Redis => Err(OpenError::NoRedis),
            Store::JetStream => {
                let nats = self.nats(limit).await?;
                Ok(Session {
                    reader: Reader::open(&nats, stream).await?,
                    home: Home::JetStream(Lazy::of(nats.clone())),
                    nats: Some(nats),
                })
            }
        }
    }
}
