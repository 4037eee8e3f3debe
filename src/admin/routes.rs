//! The routes of the admin server, what each one demands, and the replies.

mod arrivals;
mod attempt;
mod audit;
mod dead_letters;
mod live;
mod modules;
mod openapi;
mod page;
mod tap;
mod upload;

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Extension, Path, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post, put};
use axum::{Json, Router};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;

pub use self::arrivals::Arrivals;
pub use self::dead_letters::Backend as DeadLetters;
use self::openapi::{Api, Reply, TEXT, schema};
pub(super) use self::page::of_dev as page_of_dev;
use super::guard::{self, Demand, Granted, Guard};
use super::tokens::Access;
use crate::json::Sample;
use crate::modules::{Controls, Uploads};
use crate::status::{Finding, Format, History, HistoryReport, LiveSample, Metrics, Status, StatusBoard, Versions};
use crate::tap::{Shown, Taps};

pub(super) struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub demand: Demand,
    /// Completes the list of paths.
    about: &'static str,
    /// `None` for the page, which is for people.
    api: Option<Api>,
    handler: fn() -> MethodRouter<Served>,
}

/// More than any request without a message needs.
const SHORT_BODY: usize = 64 << 10;

/// The page reveals nothing by itself. What it shows, it asks for with the token that somebody gives it.
const PAGE: Demand = Demand {
    access: Access::Open,
    any_host: false,
    command: false,
    body: SHORT_BODY,
    patience: guard::BODY_TIMEOUT,
    place: None,
    off: None,
};

/// A probe reveals nothing without a token, so it may use any name for the relay.
const PROBE: Demand = Demand { any_host: true, ..PAGE };

const READ: Demand = Demand {
    access: Access::Read,
    ..PAGE
};

/// Whatever shows payloads.
const FULL: Demand = Demand {
    access: Access::Full,
    ..PAGE
};

/// Whatever changes something or calls a module.
const COMMAND: Demand = Demand { command: true, ..FULL };

/// A command with a message in its body, which in JSON may be longer than it is.
const COMMAND_WITH_MESSAGE: Demand = Demand {
    body: 16 << 20,
    ..COMMAND
};

/// The path for uploads, whose demand depends on the configuration.
const UPLOAD: &str = "/api/v1/modules/{name}";

/// Every route. The router has no other.
pub(super) const ROUTES: &[Route] = &[
    Route {
        method: "GET",
        path: "/",
        demand: PAGE,
        about: "the web page for browsers, or this list for other clients",
        api: None,
        handler: || get(index).layer(CompressionLayer::new()),
    },
    Route {
        method: "GET",
        path: "/page/{file}",
        demand: PAGE,
        about: "the files of the page",
        api: None,
        handler: || get(page::file).layer(CompressionLayer::new()),
    },
    Route {
        method: "GET",
        path: "/healthz",
        demand: PROBE,
        about: "200 while the process is alive",
        api: Some(TEXT),
        handler: || get("ok\n"),
    },
    Route {
        method: "GET",
        path: "/readyz",
        demand: PROBE,
        about: "200 when the relay is ready, else 503, with the reasons and warnings if the request may read them",
        api: Some(TEXT),
        handler: || get(ready),
    },
    Route {
        method: "GET",
        path: "/readyz/{name}",
        demand: PROBE,
        about: "200 when a module is ready, else 503",
        api: Some(TEXT),
        handler: || get(ready_module),
    },
    Route {
        method: "GET",
        path: "/metrics",
        demand: READ,
        about: "metrics for Prometheus, as OpenMetrics or plain text, compressed if the client accepts gzip",
        api: Some(TEXT),
        handler: || get(metrics).layer(CompressionLayer::new()),
    },
    Route {
        method: "GET",
        path: "/api/v1/status",
        demand: READ,
        about: "what `slipring status` shows, as JSON",
        api: Some(Api {
            reply: Reply::Json(schema::<Status>),
            ..TEXT
        }),
        handler: || get(status),
    },
    Route {
        method: "GET",
        path: "/api/v1/history",
        demand: READ,
        about: "the last 15 minutes of each module, as JSON (`?step=5&module=NAME`)",
        api: Some(Api {
            query: Some(schema::<live::Asked>),
            reply: Reply::Json(schema::<HistoryReport>),
            ..TEXT
        }),
        handler: || get(live::history).layer(CompressionLayer::new().quality(CompressionLevel::Fastest)),
    },
    Route {
        method: "GET",
        path: "/api/v1/events",
        demand: READ,
        about: "the status and a sample of each module, immediately and then every second",
        api: Some(Api {
            reply: Reply::Events(&[("sample", schema::<LiveSample>)]),
            ..TEXT
        }),
        handler: || get(live::events),
    },
    Route {
        method: "GET",
        path: "/api/v1/modules/{name}/versions",
        demand: READ,
        about: "the versions of a module that a rollback can return to, as JSON",
        api: Some(Api {
            reply: Reply::Json(schema::<Versions>),
            ..TEXT
        }),
        handler: || get(modules::versions),
    },
    Route {
        method: "PUT",
        path: UPLOAD,
        demand: COMMAND,
        about: "put a version into the modules directory, like `slipring deploy --to`, if `admin.uploads` allows it: the .toml and the .wasm in one body (`?toml_bytes=`)",
        api: Some(Api {
            query: Some(schema::<upload::Parts>),
            bytes: Some("The bytes of the `.toml`, and then those of the `.wasm`."),
            reply: Reply::Json(schema::<upload::Uploaded>),
            ..TEXT
        }),
        handler: || put(upload::upload),
    },
    Route {
        method: "POST",
        path: "/api/v1/modules/{name}/rollback",
        demand: COMMAND,
        about: "roll back to the previous version, or to `?version=`, like `slipring modules rollback NAME`",
        api: Some(Api {
            query: Some(schema::<modules::To>),
            ..TEXT
        }),
        handler: || post(modules::rollback),
    },
    Route {
        method: "POST",
        path: "/api/v1/modules/{name}/retry",
        demand: COMMAND,
        about: "load the files in the modules directory again, or resume a halted module, like `slipring modules retry NAME`",
        api: Some(TEXT),
        handler: || post(modules::retry),
    },
    Route {
        method: "GET",
        path: "/api/v1/modules/{name}/messages",
        demand: FULL,
        about: "the last messages of a module, as JSON (`?last=20`)",
        api: Some(Api {
            query: Some(schema::<modules::Last>),
            reply: Reply::Json(schema::<Vec<Sample>>),
            ..TEXT
        }),
        handler: || get(modules::messages).layer(CompressionLayer::new()),
    },
    Route {
        method: "POST",
        path: "/api/v1/modules/{name}/try",
        demand: COMMAND_WITH_MESSAGE,
        about: "the outcome of a message with a version of a module, like `slipring try`; nothing is published",
        api: Some(Api {
            body: Some(schema::<modules::Try>),
            reply: Reply::Json(schema::<attempt::Attempt>),
            ..TEXT
        }),
        handler: || post(modules::attempt),
    },
    Route {
        method: "GET",
        path: "/api/v1/modules/{name}/diff",
        demand: FULL,
        about: "the outcomes of the last messages with two versions (`?from=VERSION&to=VERSION`)",
        api: Some(Api {
            query: Some(schema::<modules::Between>),
            reply: Reply::Json(schema::<modules::Diff>),
            ..TEXT
        }),
        handler: || get(modules::diff).layer(CompressionLayer::new()),
    },
    Route {
        method: "GET",
        path: "/api/v1/dead-letters",
        demand: FULL,
        about: "the groups of dead letters and the newest ones (`?module=&stage=&code=&reason=&after=NUMBER&limit=50`)",
        api: Some(Api {
            query: Some(schema::<dead_letters::Asked>),
            reply: Reply::Json(schema::<dead_letters::DeadLetters>),
            ..TEXT
        }),
        handler: || get(dead_letters::list).layer(CompressionLayer::new()),
    },
    Route {
        method: "GET",
        path: "/api/v1/dead-letters/{number}",
        demand: FULL,
        about: "a dead letter with its message, and its outcome with the running version; nothing is published",
        api: Some(Api {
            reply: Reply::Json(schema::<dead_letters::Whole>),
            ..TEXT
        }),
        handler: || get(dead_letters::show).layer(CompressionLayer::new()),
    },
    Route {
        method: "POST",
        path: "/api/v1/dead-letters/replay",
        demand: COMMAND,
        about: "publish dead letters through the running versions, like `slipring dead-letters replay`",
        api: Some(dead_letters::CHANGE),
        handler: || post(dead_letters::replay),
    },
    Route {
        method: "POST",
        path: "/api/v1/dead-letters/remove",
        demand: COMMAND,
        about: "remove dead letters for good, like `slipring dead-letters remove`",
        api: Some(dead_letters::CHANGE),
        handler: || post(dead_letters::remove),
    },
    Route {
        method: "GET",
        path: "/api/v1/tap",
        demand: FULL,
        about: "a live sample of messages and their outcomes (`?module=NAME&channel=CHANNEL&rate=10`)",
        api: Some(Api {
            query: Some(schema::<tap::Asked>),
            reply: Reply::Events(&[("message", schema::<Shown>)]),
            ..TEXT
        }),
        handler: || get(tap::tap),
    },
    Route {
        method: "GET",
        path: "/api/v1/arrivals",
        demand: READ,
        about: "where the page connects to show what arrives at subscribers: `admin.centrifugo_websocket`",
        api: Some(Api {
            reply: Reply::Json(schema::<arrivals::Address>),
            ..TEXT
        }),
        handler: || get(arrivals::arrivals),
    },
    Route {
        method: "GET",
        path: "/api/v1/openapi.json",
        demand: READ,
        about: "the description of this API, in OpenAPI 3.1",
        api: Some(Api {
            reply: Reply::Json(schema::<serde_json::Value>),
            ..TEXT
        }),
        handler: || get(openapi::serve).layer(CompressionLayer::new()),
    },
];

impl Route {
    /// Returns the method, unless it is the usual one, and the path as people write it.
    pub fn shown(&self) -> String {
        let method = match self.method {
            "GET" => String::new(),
            method => format!("{method} "),
        };
        format!(
            "{method}{}",
            self.path
                .replace("{name}", "NAME")
                .replace("{file}", "FILE")
                .replace("{number}", "NUMBER")
        )
    }
}

/// The parts of the relay that the server shows or commands.
#[derive(Debug, Clone)]
pub struct Served {
    pub board: StatusBoard,
    pub metrics: Metrics,
    pub controls: Controls,
    pub taps: Taps,
    pub history: History,
    pub dead_letters: DeadLetters,
    pub arrivals: Arrivals,
    pub uploads: Uploads,
}

pub(super) fn router(served: Served, guard: &Arc<Guard>) -> Router {
    let guarded = |demand| middleware::from_fn_with_state((Arc::clone(guard), demand), guard::check);
    let mut router = Router::new();
    for route in ROUTES {
        let demand = match route.path {
            UPLOAD => upload::demand(route.demand, &served.uploads),
            _ => route.demand,
        };
        // axum has a limit of its own for a body that is read whole; the guard has read it by then.
        let handler = (route.handler)().layer(DefaultBodyLimit::disable());
        router = router.route(route.path, handler.layer(guarded(demand)));
    }
    let unknown = get(unknown).fallback(unknown).layer(guarded(READ));
    router.fallback_service(unknown.with_state(())).with_state(served)
}

/// Returns one line for each path.
pub(super) fn paths() -> String {
    let shown: Vec<String> = ROUTES.iter().map(Route::shown).collect();
    let width = shown.iter().map(String::len).max().unwrap_or_default();
    let lines = ROUTES.iter().zip(&shown);
    lines
        .map(|(route, shown)| format!("{shown:width$}  {}\n", route.about))
        .collect()
}

/// A browser asks for HTML, other programs for anything.
async fn index(Shared(served): Shared<Served>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    match accept.is_some_and(|accept| accept.contains("text/html")) {
        true => page::index(&served.arrivals),
        false => paths().into_response(),
    }
}

async fn unknown() -> Response {
    let text = format!("There is no such path. The paths are:\n{}", paths());
    (StatusCode::NOT_FOUND, text).into_response()
}

async fn ready(Shared(served): Shared<Served>, Extension(granted): Extension<Granted>) -> Response {
    readiness(served.board.findings(), &served.board.standing_by(), &granted)
}

async fn ready_module(
    Shared(served): Shared<Served>,
    Path(name): Path<String>,
    Extension(granted): Extension<Granted>,
) -> Response {
    match served.board.findings_of(&name) {
        Some(findings) => {
            let mut standing_by = served.board.standing_by();
            standing_by.retain(|(module, _)| *module == name);
            readiness(findings, &standing_by, &granted)
        }
        // Only those who may read learn which modules there are.
        None if granted.access < Access::Read => (StatusCode::SERVICE_UNAVAILABLE, NOT_READY).into_response(),
        None => (StatusCode::NOT_FOUND, format!("There is no module `{name}`.\n")).into_response(),
    }
}

const NOT_READY: &str = "not ready; a request with a token shows the reasons\n";

/// `standing_by` has the modules that stand by, each with the reason.
fn readiness(findings: Vec<Finding>, standing_by: &[(String, String)], granted: &Granted) -> Response {
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
    if !standing_by.is_empty() {
        text.push_str("standing by:\n");
        for (module, reason) in standing_by {
            let _ = writeln!(text, "- {module}: {reason}");
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

async fn status(Shared(served): Shared<Served>) -> Json<Status> {
    Json(served.board.status())
}
