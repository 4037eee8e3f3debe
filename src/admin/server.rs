//! Listens, and serves until it is cancelled.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::routes::{Served, router};
use crate::config::{self, Secret};
use crate::modules::Controls;
use crate::status::{Metrics, StatusBoard};

/// Enough to finish a scrape. A client that reads nothing does not delay the exit.
const GRACE: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the admin server cannot listen on {address}: the address is already in use. Stop the other process or change \
         `admin.listen`"
    )]
    Taken { address: SocketAddr },
    #[error("the admin server cannot listen on {address}, which is set in admin.listen")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the admin server on {address} stopped")]
    Serve { address: SocketAddr, source: io::Error },
}

/// Listens at once, but answers only when told to serve.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<Secret>,
}

impl Admin {
    pub async fn bind(config: &config::Admin) -> Result<Self, Error> {
        let address = config.listen;
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => Error::Taken { address },
            _ => Error::Listen { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        info!(%address, "admin server listening");
        Ok(Self {
            listener,
            address,
            token: config.token.clone(),
        })
    }

    /// Returns the address, with the actual port if port 0 was requested.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is cancelled. Cancel it last, so that a drain can be watched.
    pub async fn serve(
        self,
        board: StatusBoard,
        metrics: Metrics,
        controls: Controls,
        cancel: CancellationToken,
    ) -> Result<(), Error> {
        let served = Served {
            board,
            metrics,
            controls,
        };
        let router = router(served, self.token.as_ref());
        let serving = axum::serve(self.listener, router).with_graceful_shutdown(cancel.clone().cancelled_owned());
        let patience_ends = async {
            cancel.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            result = serving => result.map_err(|source| Error::Serve { address: self.address, source }),
            () = patience_ends => Ok(()),
        }
    }
}
