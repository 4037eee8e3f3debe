//! What the page asks for, and what it has done. Whatever runs or changes something goes through the session, in the same
//! order as the keys of the screen.

use std::convert::Infallible;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use axum::extract::{Query, State as Served};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::super::event::{Event, Order};
use super::super::shared::Shared;
use super::state::{Detail, State};

/// A compiler prints many lines in a second. They are sent together.
const PAUSE: Duration = Duration::from_millis(100);

/// What the routes need.
#[derive(Clone)]
struct Page {
    shared: Shared,
    events: SyncSender<Event>,
}

pub fn router(shared: Shared, events: SyncSender<Event>) -> Router {
    Router::new()
        .route("/api/v1/state", get(state))
        .route("/api/v1/events", get(follow))
        .route("/api/v1/entry", get(entry))
        .route("/api/v1/try", post(attempt))
        .route("/api/v1/save", post(save))
        .route("/api/v1/accept", post(accept))
        .route("/api/v1/run", post(run))
        .with_state(Page { shared, events })
}

async fn state(Served(page): Served<Page>) -> Response {
    json(state_of(&page.shared))
}

/// Sends the state at once, and whenever it has changed.
async fn follow(Served(page): Served<Page>) -> Sse<impl Stream<Item = Result<Sent, Infallible>>> {
    let begin = (page.shared.follow(), true);
    let states = stream::unfold(begin, move |(mut changes, is_first)| {
        let shared = page.shared.clone();
        async move {
            if !is_first {
                changes.changed().await.ok()?;
                tokio::time::sleep(PAUSE).await;
            }
            changes.borrow_and_update();
            let event = Sent::default().event("state").data(state_of(&shared));
            Some((Ok(event), (changes, false)))
        }
    });
    Sse::new(states).keep_alive(KeepAlive::default())
}

fn state_of(shared: &Shared) -> String {
    shared
        .look(|model| serde_json::to_string(&State::of(model)))
        .expect(TEXTS)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

async fn entry(Served(page): Served<Page>, Query(named): Query<Named>) -> Response {
    let found = page.shared.look(|model| {
        let entry = model.entries.iter().find(|entry| entry.name == named.name);
        entry.map(|entry| serde_json::to_string(&Detail::of(entry)).expect(TEXTS))
    });
    match found {
        Some(text) => json(text),
        None => (StatusCode::NOT_FOUND, format!("There is no case `{}`.\n", named.name)).into_response(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attempt {
    /// The message that was edited, unless that is a case, which stays as it is.
    name: Option<String>,
    text: String,
}

/// Where the outcome will be in the list.
#[derive(Serialize)]
struct Listed {
    name: String,
}

async fn attempt(Served(page): Served<Page>, Json(Attempt { name, text }): Json<Attempt>) -> Response {
    let name = page.shared.look(|model| model.name_for(name.as_deref()));
    let order = Order::Try {
        name: name.clone(),
        text,
    };
    match page.ask(order).await {
        Ok(()) => Json(Listed { name }).into_response(),
        Err(refused) => refused.into_response(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    name: String,
    text: String,
}

async fn save(Served(page): Served<Page>, Json(Saved { name, text }): Json<Saved>) -> Response {
    done(page.ask(Order::Save { name, text }).await)
}

async fn accept(Served(page): Served<Page>, Json(Named { name }): Json<Named>) -> Response {
    done(page.ask(Order::Accept { name }).await)
}

/// Builds and runs again. The page sees how that goes on.
async fn run(Served(page): Served<Page>) -> Response {
    page.shared.order(Order::Run, &page.events);
    StatusCode::NO_CONTENT.into_response()
}

impl Page {
    /// Has the session follow an order, and waits until it is done.
    async fn ask(&self, order: Order) -> Result<(), Refused> {
        let (answer, answered) = oneshot::channel();
        let asked = self.events.try_send(Event::Asked { order, answer });
        asked.map_err(|_| Refused::Busy)?;
        answered.await.map_err(|_| Refused::Ended)?.map_err(Refused::Because)
    }
}

/// Why something was not done.
enum Refused {
    Busy,
    Ended,
    Because(String),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too much is waiting: try again".to_owned(),
            ),
            Self::Ended => (StatusCode::SERVICE_UNAVAILABLE, "`slipring dev` is ending".to_owned()),
            Self::Because(text) => (StatusCode::UNPROCESSABLE_ENTITY, text),
        };
        (status, text + "\n").into_response()
    }
}

fn done(result: Result<(), Refused>) -> Response {
    match result {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refused) => refused.into_response(),
    }
}

fn json(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// The reason why writing JSON cannot fail here.
const TEXTS: &str = "texts, numbers and what was JSON before are JSON";
