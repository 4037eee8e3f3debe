//! The HTTP side door, for people, probes and Prometheus. All that it can change is which version of a module is at work.

mod controls;

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::{self, Secret};
use crate::status::{CONTENT_TYPE, Metrics, Status, StatusBoard};

pub use controls::{Command, Controls, Verb};

use controls::Unheard;

/// A web page can make a browser send a request here, but not one with a header of its own.
pub const COMMAND_HEADER: &str = "slipring-command";

/// A scrape that is being answered may end; a client that reads nothing does not hold up the exit.
const GRACE: Duration = Duration::from_secs(1);

const PATHS: &str = "\
/healthz     200 while the process lives
/readyz      200 when every pipeline runs, else 503 and why
/metrics     OpenMetrics text, for Prometheus
/api/status  what `slipring status` shows, as JSON
POST /api/modules/NAME/rollback  back to the version before, as `slipring modules rollback NAME`
POST /api/modules/NAME/retry     what the directory holds is tried again, or a halted module resumed, as `slipring modules retry NAME`
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
    controls: Controls,
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

fn router(served: Served, token: Option<&Secret>) -> Router {
    let router = Router::new()
        .route("/", get(PATHS))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/status", get(status))
        .route("/api/modules/{name}/rollback", post(rollback))
        .route("/api/modules/{name}/retry", post(retry))
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

async fn rollback(Shared(served): Shared<Served>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    command(&served.controls, &name, Verb::Rollback, &headers).await
}

async fn retry(Shared(served): Shared<Served>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    command(&served.controls, &name, Verb::Retry, &headers).await
}

async fn command(controls: &Controls, name: &str, verb: Verb, headers: &HeaderMap) -> Response {
    if !headers.contains_key(COMMAND_HEADER) {
        let text = format!("The header `{COMMAND_HEADER}: 1` is missing, which says that no web page sent this.\n");
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    match controls.ask(name, verb).await {
        Ok(Ok(done)) => format!("{done}\n").into_response(),
        Ok(Err(reason)) => (StatusCode::CONFLICT, format!("{reason}\n")).into_response(),
        Err(Unheard::Unknown(names)) => {
            let text = format!("There is no module `{name}`; there are: {}\n", names.join(", "));
            (StatusCode::NOT_FOUND, text).into_response()
        }
        Err(Unheard::Busy) => {
            let text = format!("The module `{name}` is busy with another change, or is going; try again.\n");
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

async fn status(Shared(served): Shared<Served>) -> Json<Status> {
    Json(served.board.status())
}

#[cfg(test)]
mod tests;
