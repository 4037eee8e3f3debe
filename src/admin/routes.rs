//! The routes of the admin server, what each one demands, and the replies.

mod audit;

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::{Extension, Path, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use tower_http::compression::CompressionLayer;

use self::audit::Audit;
use super::guard::{self, Client, Demand, Granted, Guard};
use super::tokens::Access;
use crate::modules::{Controls, Unheard, Verb};
use crate::status::{Finding, Format, Metrics, Status, StatusBoard};

/// A web page can make a browser send a request here, but not one with a custom header.
pub(super) const COMMAND_HEADER: &str = "slipring-command";

pub(super) struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub demand: Demand,
    /// Completes the list of paths.
    about: &'static str,
    handler: fn() -> MethodRouter<Served>,
}

/// A probe reveals nothing without a token, so it may use any name for the relay.
const PROBE: Demand = Demand {
    access: Access::Open,
    any_host: true,
};

const READ: Demand = Demand {
    access: Access::Read,
    any_host: false,
};

/// Whatever changes something or shows payloads.
const FULL: Demand = Demand {
    access: Access::Full,
    any_host: false,
};

/// Every route. The router has no other.
pub(super) const ROUTES: [Route; 8] = [
    Route {
        method: "GET",
        path: "/",
        demand: READ,
        about: "this list",
        handler: || get(index),
    },
    Route {
        method: "GET",
        path: "/healthz",
        demand: PROBE,
        about: "200 while the process is alive",
        handler: || get("ok\n"),
    },
    Route {
        method: "GET",
        path: "/readyz",
        demand: PROBE,
        about: "200 when the relay is ready, else 503, with the reasons and warnings if the request may read them",
        handler: || get(ready),
    },
    Route {
        method: "GET",
        path: "/readyz/{name}",
        demand: PROBE,
        about: "the same for one module",
        handler: || get(ready_module),
    },
    Route {
        method: "GET",
        path: "/metrics",
        demand: READ,
        about: "metrics for Prometheus, as OpenMetrics or plain text, compressed if the client accepts gzip",
        handler: || get(metrics).layer(CompressionLayer::new()),
    },
    Route {
        method: "GET",
        path: "/api/status",
        demand: READ,
        about: "what `slipring status` shows, as JSON",
        handler: || get(status),
    },
    Route {
        method: "POST",
        path: "/api/modules/{name}/rollback",
        demand: FULL,
        about: "roll back to the previous version, like `slipring modules rollback NAME`",
        handler: || post(rollback),
    },
    Route {
        method: "POST",
        path: "/api/modules/{name}/retry",
        demand: FULL,
        about: "load the files in the modules directory again, or resume a halted module, like `slipring modules retry NAME`",
        handler: || post(retry),
    },
];

impl Route {
    /// Returns the method, unless it is the usual one, and the path as people write it.
    pub fn shown(&self) -> String {
        let method = if self.method == "GET" { "" } else { "POST " };
        format!("{method}{}", self.path.replace("{name}", "NAME"))
    }
}

#[derive(Clone)]
pub(super) struct Served {
    pub board: StatusBoard,
    pub metrics: Metrics,
    pub controls: Controls,
}

pub(super) fn router(served: Served, guard: &Arc<Guard>) -> Router {
    let guarded = |demand| middleware::from_fn_with_state((Arc::clone(guard), demand), guard::check);
    let mut router = Router::new();
    for route in &ROUTES {
        router = router.route(route.path, (route.handler)().layer(guarded(route.demand)));
    }
    let unknown = get(unknown).fallback(unknown).layer(guarded(READ));
    router.fallback_service(unknown.with_state(())).with_state(served)
}

/// Returns one line for each path.
pub(super) fn paths() -> String {
    let shown = ROUTES.each_ref().map(Route::shown);
    let width = shown.iter().map(String::len).max().unwrap_or_default();
    let lines = ROUTES.iter().zip(&shown);
    lines
        .map(|(route, shown)| format!("{shown:width$}  {}\n", route.about))
        .collect()
}

async fn index() -> String {
    paths()
}

async fn unknown() -> Response {
    let text = format!("There is no such path. The paths are:\n{}", paths());
    (StatusCode::NOT_FOUND, text).into_response()
}

async fn ready(Shared(served): Shared<Served>, Extension(granted): Extension<Granted>) -> Response {
    readiness(served.board.findings(), &granted)
}

async fn ready_module(
    Shared(served): Shared<Served>,
    Path(name): Path<String>,
    Extension(granted): Extension<Granted>,
) -> Response {
    match served.board.findings_of(&name) {
        Some(findings) => readiness(findings, &granted),
        // Only those who may read learn which modules there are.
        None if granted.access < Access::Read => (StatusCode::SERVICE_UNAVAILABLE, NOT_READY).into_response(),
        None => (StatusCode::NOT_FOUND, format!("There is no module `{name}`.\n")).into_response(),
    }
}

const NOT_READY: &str = "not ready; a request with a token shows the reasons\n";

fn readiness(findings: Vec<Finding>, granted: &Granted) -> Response {
    let (obstacles, warnings): (Vec<_>, Vec<_>) = findings.into_iter().partition(Finding::is_obstacle);
    let status = match obstacles.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    if granted.access < Access::Read {
        let text = match obstacles.is_empty() {
            true => "ready\n",
            false => NOT_READY,
        };
        return (status, text).into_response();
    }
    let mut text = match obstacles.is_empty() {
        true => String::from("ready\n"),
        false => String::from("not ready:\n"),
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

type Asked = (Extension<Client>, Extension<Granted>);

async fn rollback(shared: Shared<Served>, name: Path<String>, asked: Asked, headers: HeaderMap) -> Response {
    command(shared, name, asked, Verb::Rollback, &headers).await
}

async fn retry(shared: Shared<Served>, name: Path<String>, asked: Asked, headers: HeaderMap) -> Response {
    command(shared, name, asked, Verb::Retry, &headers).await
}

async fn command(
    Shared(served): Shared<Served>,
    Path(name): Path<String>,
    (Extension(client), Extension(granted)): Asked,
    verb: Verb,
    headers: &HeaderMap,
) -> Response {
    if !headers.contains_key(COMMAND_HEADER) {
        let text = format!(
            "The header `{COMMAND_HEADER}: 1` is missing. It shows that the request does not come from a web page.\n"
        );
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let audit = Audit::begin(verb, &name, client, granted);
    let (status, text) = match served.controls.ask(&name, verb).await {
        Ok(Ok(done)) => (StatusCode::OK, done),
        Ok(Err(reason)) => (StatusCode::CONFLICT, reason),
        Err(Unheard::Unknown(names)) => {
            let text = format!("There is no module `{name}`. The modules are: {}", names.join(", "));
            (StatusCode::NOT_FOUND, text)
        }
        Err(Unheard::Busy) => {
            let text = format!("The module `{name}` is busy with another change, or is being removed; try again.");
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    };
    audit.end(status == StatusCode::OK, &text);
    (status, format!("{text}\n")).into_response()
}

async fn status(Shared(served): Shared<Served>) -> Json<Status> {
    Json(served.board.status())
}
