//! An answer that lasts until its client leaves: server-sent events. It must neither keep the relay from exiting nor take
//! the seat of a probe.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::Response;
use hyper::body::Frame;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::seats::{Lasting, Seat};

/// Nobody keeps them, and nginx does not collect them until its buffer is full.
const HEADERS: [(HeaderName, HeaderValue); 2] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    ),
];

/// Lets an answer with events end when `cancel` says so, and marks the seat until then. Another answer remains as it is.
pub(super) fn bounded(mut response: Response, seat: &Arc<Seat>, cancel: &CancellationToken) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE);
    if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
        return response;
    }
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, value);
    }
    response.map(|body| {
        Body::new(Events {
            body,
            end: Box::pin(cancel.clone().cancelled_owned()),
            _lasting: Seat::lasting(seat),
        })
    })
}

struct Events {
    body: Body,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
    _lasting: Lasting,
}

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }
}
