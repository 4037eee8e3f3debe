//! Why a request is not carried out.

use std::error::Error;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::dead_letter::{OpenError, ReadError};

/// A status and a sentence.
#[derive(Debug)]
pub(in crate::admin::routes) struct Refused {
    pub status: StatusCode,
    pub text: String,
}

impl Refused {
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }

    /// A server does not do what it should, at least not now.
    pub fn unavailable(error: impl Into<anyhow::Error>) -> Self {
        let error: anyhow::Error = error.into();
        Self::new(StatusCode::SERVICE_UNAVAILABLE, told(error.as_ref()))
    }
}

impl From<ReadError> for Refused {
    fn from(error: ReadError) -> Self {
        Self::unavailable(error)
    }
}

impl From<OpenError> for Refused {
    fn from(error: OpenError) -> Self {
        Self::unavailable(error)
    }
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self::unavailable(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, format!("{}\n", self.text)).into_response()
    }
}

/// Formats the error and its causes. Some errors, such as those of async-nats, already contain their cause.
pub(super) fn told(error: &(dyn Error + 'static)) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !told.ends_with(&text) {
            told = format!("{told}: {text}");
        }
        cause = error.source();
    }
    told
}
