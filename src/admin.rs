//! The HTTP side door, for people, probes and Prometheus. It only reads: nothing that can be asked here changes anything.

mod board;
mod status;

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::{self, Secret};
use crate::metrics::{CONTENT_TYPE, Metrics};

pub use board::{ModuleBoard, StatusBoard};
pub use status::{CentrifugoStatus, ModuleStatus, NatsStatus, State, Status};

/// A scrape that is being answered may end; a client that reads nothing does not hold up the exit.
const GRACE: Duration = Duration::from_secs(1);

const PATHS: &str = "\
/healthz     200 while the process lives
/readyz      200 when every pipeline runs, else 503 and why
/metrics     OpenMetrics text, for Prometheus
/api/status  what `slipring status` shows, as JSON
";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the admin server cannot listen on {address}: another process does already; stop it, or set another port in admin.listen"
    )]
    Taken { address: SocketAddr },
    #[error("the admin server cannot listen on {address}, which is set in admin.listen")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the admin server on {address} stopped")]
    Serve { address: SocketAddr, source: io::Error },
}

/// Listens, and answers once it is told to serve.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<Secret>,
}

#[derive(Clone)]
struct Served {
    board: StatusBoard,
    metrics: Metrics,
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
        info!(%address, "admin listening");
        Ok(Self {
            listener,
            address,
            token: config.token.clone(),
        })
    }

    /// With the port that was given if port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Until it is cancelled. Cancel it last, so that a drain can be watched.
    pub async fn serve(self, board: StatusBoard, metrics: Metrics, cancel: CancellationToken) -> Result<(), Error> {
        let router = router(Served { board, metrics }, self.token.as_ref());
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

fn router(served: Served, token: Option<&Secret>) -> Router {
    let router = Router::new()
        .route("/", get(PATHS))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/status", get(status))
        .fallback((
            StatusCode::NOT_FOUND,
            format!("There is no such path; there are:\n{PATHS}"),
        ))
        .with_state(served);
    let router = match token {
        Some(token) => {
            let expected: Arc<[u8]> = Sha256::digest(token.expose()).as_slice().into();
            router.layer(middleware::from_fn_with_state(expected, authorize))
        }
        None => router,
    };
    // After the layer, which is for what is already there: a probe of life needs no secret.
    router.route("/healthz", get("ok\n"))
}

/// Digests are compared, so the time taken says nothing about the token: nobody can choose a digest's first bytes.
async fn authorize(Shared(expected): Shared<Arc<[u8]>>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION);
    let given = header
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '));
    match given {
        Some((scheme, token))
            if scheme.eq_ignore_ascii_case("bearer") && Sha256::digest(token).as_slice() == &*expected =>
        {
            next.run(request).await
        }
        _ => {
            let found = if header.is_some() {
                "is not the right one"
            } else {
                "is missing"
            };
            let text = format!(
                "The header `Authorization: Bearer TOKEN` {found}; it takes the token that admin.token_file names.\n"
            );
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], text).into_response()
        }
    }
}

async fn ready(Shared(served): Shared<Served>) -> Response {
    let obstacles = served.board.obstacles();
    if obstacles.is_empty() {
        return "ready\n".into_response();
    }
    let mut text = String::from("not ready:\n");
    for obstacle in obstacles {
        // Writing to a string does not fail.
        let _ = writeln!(text, "- {obstacle}");
    }
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn metrics(Shared(served): Shared<Served>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], served.metrics.encode()).into_response()
}

async fn status(Shared(served): Shared<Served>) -> Json<Status> {
    Json(served.board.status())
}

#[cfg(test)]
mod tests;
