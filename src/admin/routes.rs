//! The routes of the admin server, who may use them, and the replies.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::{Path, Request, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use sha2::{Digest, Sha256};

use crate::config::Secret;
use crate::modules::{Controls, Unheard, Verb};
use crate::status::{Finding, Format, Metrics, Status, StatusBoard};

/// A web page can make a browser send a request here, but not one with a custom header.
pub(super) const COMMAND_HEADER: &str = "slipring-command";

pub(super) const PATHS: &str = "\
/healthz     200 while the process is alive
/readyz      200 when the relay is ready, else 503 and the reasons; with warnings
/readyz/NAME  the same for one module
/metrics     metrics for Prometheus, as OpenMetrics or plain text
/api/status  what `slipring status` shows, as JSON
POST /api/modules/NAME/rollback  roll back to the previous version, like `slipring modules rollback NAME`
POST /api/modules/NAME/retry     load the files in the modules directory again, or resume a halted module, like `slipring modules retry NAME`
";

#[derive(Clone)]
pub(super) struct Served {
    pub board: StatusBoard,
    pub metrics: Metrics,
    pub controls: Controls,
}

pub(super) fn router(served: Served, token: Option<&Secret>) -> Router {
    let router = Router::new()
        .route("/", get(PATHS))
        .route("/readyz", get(ready))
        .route("/readyz/{name}", get(ready_module))
        .route("/metrics", get(metrics))
        .route("/api/status", get(status))
        .route("/api/modules/{name}/rollback", post(rollback))
        .route("/api/modules/{name}/retry", post(retry))
        .fallback((
            StatusCode::NOT_FOUND,
            format!("There is no such path. The paths are:\n{PATHS}"),
        ))
        .with_state(served);
    let router = match token {
        Some(token) => {
            let expected: Arc<[u8]> = Sha256::digest(token.expose()).as_slice().into();
            router.layer(middleware::from_fn_with_state(expected, authorize))
        }
        None => router,
    };
    // Added after the layer, which only applies to the routes before it: a liveness probe needs no token.
    router.route("/healthz", get("ok\n"))
}

/// Compares digests, so the time it takes reveals nothing about the token: nobody can choose the first bytes of a
/// digest.
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
                "has the wrong token"
            } else {
                "is missing"
            };
            let text = format!(
                "The header `Authorization: Bearer TOKEN` {found}; send the token from the file that admin.token_file \
                 names.\n"
            );
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], text).into_response()
        }
    }
}

async fn ready(Shared(served): Shared<Served>) -> Response {
    readiness(served.board.findings())
}

async fn ready_module(Shared(served): Shared<Served>, Path(name): Path<String>) -> Response {
    match served.board.findings_of(&name) {
        Some(findings) => readiness(findings),
        None => (StatusCode::NOT_FOUND, format!("There is no module `{name}`.\n")).into_response(),
    }
}

fn readiness(findings: Vec<Finding>) -> Response {
    let (obstacles, warnings): (Vec<_>, Vec<_>) = findings.into_iter().partition(Finding::is_obstacle);
    let (status, mut text) = match obstacles.is_empty() {
        true => (StatusCode::OK, String::from("ready\n")),
        false => (StatusCode::SERVICE_UNAVAILABLE, String::from("not ready:\n")),
    };
    for obstacle in obstacles {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "- {obstacle}");
    }
    if !warnings.is_empty() {
        text.push_str("warnings:\n");
        for warning in warnings {
            let _ = writeln!(text, "- {warning}");
        }
    }
    (status, text).into_response()
}

async fn metrics(Shared(served): Shared<Served>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    served.board.measure();
    (
        [(header::CONTENT_TYPE, format.content_type())],
        served.metrics.encode(format),
    )
        .into_response()
}

async fn rollback(Shared(served): Shared<Served>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    command(&served.controls, &name, Verb::Rollback, &headers).await
}

async fn retry(Shared(served): Shared<Served>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    command(&served.controls, &name, Verb::Retry, &headers).await
}

async fn command(controls: &Controls, name: &str, verb: Verb, headers: &HeaderMap) -> Response {
    if !headers.contains_key(COMMAND_HEADER) {
        let text = format!(
            "The header `{COMMAND_HEADER}: 1` is missing. It shows that the request does not come from a web page.\n"
        );
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    match controls.ask(name, verb).await {
        Ok(Ok(done)) => format!("{done}\n").into_response(),
        Ok(Err(reason)) => (StatusCode::CONFLICT, format!("{reason}\n")).into_response(),
        Err(Unheard::Unknown(names)) => {
            let text = format!("There is no module `{name}`. The modules are: {}\n", names.join(", "));
            (StatusCode::NOT_FOUND, text).into_response()
        }
        Err(Unheard::Busy) => {
            let text = format!("The module `{name}` is busy with another change, or is being removed; try again.\n");
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

async fn status(Shared(served): Shared<Served>) -> Json<Status> {
    Json(served.board.status())
}
