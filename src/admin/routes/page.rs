//! The page, and that of `slipring dev --web`: files that are built from `ui/` and embedded, so that they work without a
//! network.

use axum::Router;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_http::compression::CompressionLayer;

use super::Served;
use super::arrivals::Arrivals;

/// A file of the page.
struct File {
    name: &'static str,
    media_type: &'static str,
    content: &'static [u8],
}

const INDEX: File = File {
    name: "index.html",
    media_type: "text/html; charset=utf-8",
    content: include_bytes!("../page/index.html"),
};

const FILES: [File; 6] = [
    File {
        name: "page.js",
        media_type: "text/javascript; charset=utf-8",
        content: include_bytes!("../page/page.js"),
    },
    File {
        name: "page.css",
        media_type: "text/css; charset=utf-8",
        content: include_bytes!("../page/page.css"),
    },
    File {
        name: "icon.svg",
        media_type: "image/svg+xml",
        content: include_bytes!("../page/icon.svg"),
    },
    File {
        name: "licenses.txt",
        media_type: "text/plain; charset=utf-8",
        content: include_bytes!("../page/licenses.txt"),
    },
    File {
        name: "arrivals.js",
        media_type: "text/javascript; charset=utf-8",
        content: include_bytes!("../page/arrivals.js"),
    },
    File {
        name: "arrivals-licenses.txt",
        media_type: "text/plain; charset=utf-8",
        content: include_bytes!("../page/arrivals-licenses.txt"),
    },
];

const DEV_INDEX: File = File {
    name: "dev.html",
    media_type: "text/html; charset=utf-8",
    content: include_bytes!("../page/dev.html"),
};

/// What the page of `slipring dev --web` has of its own. The rest is in [`FILES`].
const DEV_FILES: [File; 2] = [
    File {
        name: "dev.js",
        media_type: "text/javascript; charset=utf-8",
        content: include_bytes!("../page/dev.js"),
    },
    File {
        name: "dev.css",
        media_type: "text/css; charset=utf-8",
        content: include_bytes!("../page/dev.css"),
    },
];

const NO_REFERRER: (HeaderName, HeaderValue) = (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));

pub(super) fn index(arrivals: &Arrivals) -> Response {
    INDEX.answer(arrivals)
}

pub(super) async fn file(Shared(served): Shared<Served>, Path(name): Path<String>) -> Response {
    answer(FILES.iter().find(|file| file.name == name), &served.arrivals)
}

/// Returns the routes of the page of `slipring dev --web`.
pub(in crate::admin) fn of_dev() -> Router {
    let file = async |Path(name): Path<String>| {
        let mut files = DEV_FILES.iter().chain(&FILES);
        answer(files.find(|file| file.name == name), &Arrivals::default())
    };
    Router::new()
        .route("/", get(async || DEV_INDEX.answer(&Arrivals::default())))
        .route("/page/{file}", get(file))
        .layer(CompressionLayer::new())
}

fn answer(file: Option<&File>, arrivals: &Arrivals) -> Response {
    match file {
        Some(file) => file.answer(arrivals),
        None => (StatusCode::NOT_FOUND, "The page has no such file.\n").into_response(),
    }
}

impl File {
    fn answer(&self, arrivals: &Arrivals) -> Response {
        let media_type = (header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        let policy = (header::CONTENT_SECURITY_POLICY, arrivals.policy());
        ([media_type, policy, NO_REFERRER], self.content).into_response()
    }
}
