//! `GET /api/v1/tap`: messages as they pass through the modules, and what the modules make of them.

use std::time::Duration;

use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Served;
use crate::tap::Filter;

/// More than people can follow. It keeps an open tap cheap.
const MOST: usize = 50;

/// After this time without a message a comment is sent, because clients take a connection that is silent for 20 s for a
/// dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Only messages of this module.
    module: Option<String>,
    /// Only messages that are published to this channel.
    channel: Option<String>,
    /// The most messages in a second, from 1 to 50.
    #[serde(default = "ten")]
    rate: usize,
}

fn ten() -> usize {
    10
}

/// Opens a tap. It is closed when the connection ends.
pub(super) async fn tap(Shared(served): Shared<Served>, Query(asked): Query<Asked>) -> Response {
    let refused = |status: StatusCode, text: String| (status, format!("{text}\n")).into_response();
    let Asked { module, channel, rate } = asked;
    if rate == 0 || rate > MOST {
        let text = format!("`rate` is {rate}; it must be from 1 to {MOST} messages a second.");
        return refused(StatusCode::BAD_REQUEST, text);
    }
    // A form with an empty field sends it.
    let named = |text: Option<String>| text.filter(|text| !text.is_empty());
    let filter = Filter {
        module: named(module),
        channel: named(channel),
    };
    if let Some(name) = &filter.module {
        let modules = served.board.status().modules;
        if modules.iter().all(|module| module.name != *name) {
            let names: Vec<_> = modules.into_iter().map(|module| module.name).collect();
            let text = format!("There is no module `{name}`. The modules are: {}", names.join(", "));
            return refused(StatusCode::NOT_FOUND, text);
        }
    }
    let view = match served.taps.open(filter, rate) {
        Ok(view) => view,
        Err(error) => return refused(StatusCode::SERVICE_UNAVAILABLE, format!("{error}.")),
    };
    let events = stream::unfold(view, async |mut view| {
        let shown = view.next().await?;
        Some((Event::default().event("message").json_data(&shown), view))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Sse::new(events).keep_alive(keep_alive).into_response()
}
