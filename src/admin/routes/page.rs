//! The page: files that are built from `ui/` and embedded, so that it works without a network.

use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

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

const FILES: [File; 4] = [
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
];

/// Only the relay's own files are run and shown, and only the relay is asked.
const POLICY: (HeaderName, HeaderValue) = (
    header::CONTENT_SECURITY_POLICY,
    HeaderValue::from_static(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    ),
);

const NO_REFERRER: (HeaderName, HeaderValue) = (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));

pub(super) fn index() -> Response {
    INDEX.answer()
}

pub(super) async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|file| file.name == name) {
        Some(file) => file.answer(),
        None => (StatusCode::NOT_FOUND, "The page has no such file.\n").into_response(),
    }
}

impl File {
    fn answer(&self) -> Response {
        let media_type = (header::CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        ([media_type, POLICY, NO_REFERRER], self.content).into_response()
    }
}
