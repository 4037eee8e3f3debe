//! Listens, and serves until it is cancelled.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::connection::Service;
use super::guard::Guard;
use super::routes::{Served, router};
use super::seats::Seats;
use super::token_file::TokenFile;
use super::tokens::Tokens;
use crate::config;
#[cfg(any(test, fuzzing))]
use crate::modules::Controls;
#[cfg(any(test, fuzzing))]
use crate::status::{Metrics, StatusBoard};

/// Enough to finish a scrape. A client that reads nothing does not delay the exit.
const GRACE: Duration = Duration::from_secs(1);

/// A bound, so that clients cannot use up the relay's descriptors.
const MOST_CONNECTIONS: usize = 128;

/// How long nothing is accepted after a failure, which usually is a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the admin server cannot listen on {address}: the address is already in use. Stop the other process or change \
         `admin.listen`"
    )]
    Taken { address: SocketAddr },
    #[error("the admin server cannot listen on {address}; correct `admin.listen`")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the certificate in `admin.tls.cert_file` cannot be used with the key in `admin.tls.key_file`")]
    Tls(#[from] rustls::Error),
}

/// Listens at once, but answers only when told to serve.
#[derive(Debug)]
pub struct Admin {
    /// Declared before the listener, because it must be removed while no other relay can have the address.
    token_file: Option<TokenFile>,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
    guard: Arc<Guard>,
}

impl Admin {
    pub async fn bind(config: &config::Admin) -> Result<Self, Error> {
        let address = config.listen;
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => Error::Taken { address },
            _ => Error::Listen { address, source },
        };
        let tls = config.tls.as_ref().map(config::AdminTls::server).transpose()?;
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let token_file = match config.token {
            Some(_) => None,
            None => create_token(config, address),
        };
        info!(%address, "admin server listening");
        Ok(Self {
            listener,
            address,
            tls: tls.map(Arc::new),
            guard: Arc::new(Guard {
                hosts: config.hosts.clone(),
                tokens: Tokens::new(config, token_file.as_ref().map(TokenFile::token)),
            }),
            token_file,
        })
    }

    /// Returns the address, with the actual port if port 0 was requested.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is cancelled. Cancel it last, so that a drain can be watched.
    pub async fn serve(self, served: Served, cancel: CancellationToken) {
        let metrics = served.metrics.clone();
        let service = Service {
            router: router(served, &self.guard),
            tls: self.tls.map(TlsAcceptor::from),
            metrics,
            cancel,
        };
        let connections = accept_all(&self.listener, &service).await;
        drop(self.token_file);
        drop(self.listener);
        finish(connections).await;
    }
}

/// Accepts connections until the service is cancelled, and returns those that are open then.
pub(super) async fn accept_all(listener: &TcpListener, service: &Service) -> JoinSet<()> {
    let cancel = &service.cancel;
    let mut seats = Seats::new(MOST_CONNECTIONS);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            (stream, client) = accept(listener) => {
                let taken = tokio::select! {
                    taken = seats.take() => taken,
                    () = cancel.cancelled() => return connections,
                };
                connections.spawn(service.clone().connection(stream, client, taken));
            }
            Some(ended) = connections.join_next() => report(ended),
            () = cancel.cancelled() => return connections,
        }
    }
}

/// Gives the connections a moment to finish what they have begun.
pub(super) async fn finish(mut connections: JoinSet<()>) {
    let finishing = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    // What remains is aborted when the set is dropped.
    let _ = tokio::time::timeout(GRACE, finishing).await;
}

/// Without a token nobody can send commands, but the relay does its work.
fn create_token(config: &config::Admin, address: SocketAddr) -> Option<TokenFile> {
    match TokenFile::create(&config.token_dirs, address) {
        Ok(file) => {
            info!(path = %file.path().display(), "created a token for rollback and retry; only this user can read the file");
            Some(file)
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            warn!(
                error,
                "cannot save a token for rollback and retry, so the relay refuses both; set `admin.token_file`"
            );
            None
        }
    }
}

/// Waits for a connection.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The client has gone before it was accepted.
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    "the admin server cannot accept a connection, retrying"
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        let error = &error as &dyn std::error::Error;
        error!(
            error,
            "a connection to the admin server ended unexpectedly, which is a bug in Slipring"
        );
    }
}

/// For a fuzzer: a service that knows no tokens, and the commands that it would send.
#[cfg(any(test, fuzzing))]
pub(super) fn without_tokens() -> (Service, Controls) {
    let (metrics, controls) = (Metrics::new(), Controls::default());
    let config = config::Admin {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        hosts: vec!["relay.example".to_owned()],
        token: None,
        read_token: None,
        tls: None,
        centrifugo_websocket: None,
        uploads: false,
        token_dirs: Vec::new(),
        from_up: false,
    };
    let guard = Guard {
        hosts: config.hosts.clone(),
        tokens: Tokens::new(&config, None),
    };
    let served = Served {
        board: StatusBoard::new(metrics.clone()),
        metrics: metrics.clone(),
        controls: controls.clone(),
        taps: crate::tap::Taps::default(),
        history: crate::status::History::default(),
        dead_letters: super::DeadLetters::without_servers(),
        arrivals: super::Arrivals::default(),
        uploads: crate::modules::Uploads::default(),
    };
    let service = Service {
        router: router(served, &Arc::new(guard)),
        tls: None,
        metrics,
        cancel: CancellationToken::new(),
    };
    (service, controls)
}
