//! The last 15 minutes, and each second as it comes.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt as _};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::watch;

use super::Served;
use crate::status::{History, LiveSample};

/// How many seconds a step of the history may have.
const STEPS: RangeInclusive<u32> = 1..=60;

/// After this time without an event a comment is sent, because clients take a connection that is silent for 20 s for a dead
/// one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// How many seconds a step has, from 1 to 60.
    #[serde(default = "five")]
    step: u32,
    /// Only this module.
    module: Option<String>,
}

fn five() -> u32 {
    5
}

pub(super) async fn history(Shared(served): Shared<Served>, Query(Asked { step, module }): Query<Asked>) -> Response {
    if !STEPS.contains(&step) {
        let (least, most) = STEPS.into_inner();
        let text = format!("`step` is {step}; it must be from {least} to {most} seconds.\n");
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let report = served.history.read(step, module.as_deref());
    if let Some(name) = module
        && report.modules.is_empty()
        // A new module may have no sample yet.
        && served.board.versions(&name).is_none()
    {
        return (StatusCode::NOT_FOUND, format!("There is no module `{name}`.\n")).into_response();
    }
    Json(report).into_response()
}

pub(super) async fn events(Shared(served): Shared<Served>) -> Response {
    let following = Following {
        samples: served.history.samples(),
        history: served.history,
        last_mark: 0,
    };
    send(stream::unfold(following, async |mut following| {
        let event = following.next().await?;
        Some((event, following))
    }))
}

/// Returns an answer that lasts until the client leaves or the stream ends.
pub(super) fn send(events: impl Stream<Item = Event> + Send + 'static) -> Response {
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Sse::new(events.map(Ok::<_, Infallible>))
        .keep_alive(keep_alive)
        .into_response()
}

/// What one client is sent. A client that reads too slowly misses samples, but no mark.
struct Following {
    samples: watch::Receiver<Option<Arc<LiveSample>>>,
    history: History,
    /// The newest mark that was sent.
    last_mark: u64,
}

impl Following {
    async fn next(&mut self) -> Option<Event> {
        loop {
            self.samples.changed().await.ok()?;
            let newest = self.samples.borrow_and_update().clone();
            let Some(sample) = newest else { continue };
            let marks = self.history.marks_after(self.last_mark);
            if let Some(newest) = marks.last() {
                self.last_mark = newest.id;
            }
            return Some(Event::default().event("sample").data(sample.with_marks(&marks)));
        }
    }
}
