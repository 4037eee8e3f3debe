//! What the API says about a module and its versions, and the commands for it.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::Served;
use super::attempt::{self, Attempt};
use super::audit::Audit;
use crate::admin::guard::{Client, Granted};
use crate::json::{Report, Sample, is_same};
use crate::message::{Message, Outcome};
use crate::modules::{Loaded, Unheard, Verb};

/// How long each of two versions may take for the last messages.
const PATIENCE: Duration = Duration::from_secs(5);

/// One at a time: a comparison holds the outcomes of both versions.
static DIFFS: Semaphore = Semaphore::const_new(1);

/// How many messages with different outcomes are shown.
const MOST_DIFFERENT: usize = 50;

/// The stream of messages that do not name theirs, and their place.
const NOWHERE: (u64, &str) = (1, "TRY");

type Asked = (Extension<Client>, Extension<Granted>);

pub(super) async fn versions(Shared(served): Shared<Served>, Path(name): Path<String>) -> Response {
    match served.board.versions(&name) {
        Some(versions) => Json(versions).into_response(),
        None => (StatusCode::NOT_FOUND, format!("There is no module `{name}`.\n")).into_response(),
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct To {
    version: Option<String>,
}

pub(super) async fn rollback(
    shared: Shared<Served>,
    name: Path<String>,
    Query(To { version }): Query<To>,
    asked: Asked,
) -> Response {
    command(shared, name, asked, Verb::Rollback(version)).await
}

pub(super) async fn retry(shared: Shared<Served>, name: Path<String>, asked: Asked) -> Response {
    command(shared, name, asked, Verb::Retry).await
}

async fn command(
    Shared(served): Shared<Served>,
    Path(name): Path<String>,
    (Extension(client), Extension(granted)): Asked,
    verb: Verb,
) -> Response {
    let word = match verb {
        Verb::Rollback(_) => "rollback",
        Verb::Retry => "retry",
    };
    let audit = Audit::begin(word, &name, client, granted);
    let (status, text) = match served.controls.command(&name, verb).await {
        Ok(Ok(done)) => (StatusCode::OK, done),
        Ok(Err(reason)) => (StatusCode::CONFLICT, reason),
        Err(unheard) => unheard_of(&served, &name, unheard),
    };
    audit.end(status == StatusCode::OK, &text);
    (status, format!("{text}\n")).into_response()
}

/// Says why no keeper took the request.
pub(super) fn unheard_of(served: &Served, name: &str, unheard: Unheard) -> (StatusCode, String) {
    match unheard {
        Unheard::Unknown(mut names) => {
            // The keeper of a module that was removed remembers it for a while, but people do not count it.
            names.retain(|name| served.board.versions(name).is_some());
            let text = match names.is_empty() {
                true => format!("There is no module `{name}`, nor any other."),
                false => format!("There is no module `{name}`. The modules are: {}", names.join(", ")),
            };
            (StatusCode::NOT_FOUND, text)
        }
        Unheard::Busy => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("The module `{name}` is busy with another change, or is being removed; try again."),
        ),
    }
}

/// Returns a version that can be called, or the reply that says why there is none.
async fn loaded(served: &Served, name: &str, version: Option<String>) -> Result<Loaded, Response> {
    let refused = |(status, text): (StatusCode, String)| (status, format!("{text}\n")).into_response();
    match served.controls.version(name, version).await {
        Ok(Ok(loaded)) => Ok(loaded),
        Ok(Err(reason)) => Err(refused((StatusCode::CONFLICT, reason))),
        Err(unheard) => Err(refused(unheard_of(served, name, unheard))),
    }
}

async fn recent(served: &Served, name: &str) -> Result<Vec<Arc<Message>>, Response> {
    let recent = served.controls.recent(name).await;
    recent.map_err(|unheard| {
        let (status, text) = unheard_of(served, name, unheard);
        (status, format!("{text}\n")).into_response()
    })
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Last {
    #[serde(default = "twenty")]
    last: usize,
}

fn twenty() -> usize {
    20
}

/// Returns the last messages of the module, the newest first.
pub(super) async fn messages(
    Shared(served): Shared<Served>,
    Path(name): Path<String>,
    Query(Last { last }): Query<Last>,
) -> Response {
    match recent(&served, &name).await {
        Ok(messages) => {
            let newest = messages.iter().rev().take(last);
            Json(newest.map(|message| Sample::of(message, "")).collect::<Vec<_>>()).into_response()
        }
        Err(refused) => refused,
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Try {
    /// The name of a version, or the beginning of one. `None` means the one in use.
    #[serde(default)]
    version: Option<String>,
    message: Sample,
}

pub(super) async fn attempt(Shared(served): Shared<Served>, Path(name): Path<String>, body: Bytes) -> Response {
    let read = || -> anyhow::Result<(Option<String>, Message)> {
        let Try { version, message } = serde_json::from_slice(&body)?;
        let (place, stream) = NOWHERE;
        Ok((version, message.message(place, stream)?))
    };
    let (version, message) = match read() {
        Ok(read) => read,
        Err(error) => {
            let text = format!(
                "The body must be JSON such as {{\"message\": {{\"subject\": \"orders.7\", \"data\": {{}}}}}}: {error:#}\n"
            );
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    match loaded(&served, &name, version).await {
        Ok(loaded) => Json(attempt::attempt(&loaded, Arc::new(message)).await).into_response(),
        Err(refused) => refused,
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Between {
    from: String,
    to: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Diff {
    module: String,
    from: String,
    to: String,
    /// How many messages both versions were called with.
    messages: usize,
    same: usize,
    /// Some of the others, the newest last.
    different: Vec<Different>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Different {
    message: Sample,
    from: Attempt,
    to: Attempt,
}

/// Calls two versions with the last messages.
pub(super) async fn diff(
    Shared(served): Shared<Served>,
    Path(name): Path<String>,
    Query(Between { from, to }): Query<Between>,
) -> Response {
    let compare = async {
        let _one = DIFFS.acquire().await.expect("nobody closes the semaphore");
        let from = loaded(&served, &name, Some(from)).await?;
        let to = loaded(&served, &name, Some(to)).await?;
        let messages = recent(&served, &name).await?;
        let old = attempt::attempts(&from, messages.clone(), PATIENCE).await;
        let new = attempt::attempts(&to, messages.clone(), PATIENCE).await;
        let mut diff = Diff {
            module: name.clone(),
            from: from.version,
            to: to.version,
            messages: old.len().min(new.len()),
            same: 0,
            different: Vec::new(),
        };
        for (message, (old, new)) in messages.iter().zip(old.into_iter().zip(new)) {
            if is_same_outcome(&old.outcome, &new.outcome) {
                diff.same += 1;
            } else if diff.different.len() < MOST_DIFFERENT {
                diff.different.push(Different {
                    message: Sample::of(message, ""),
                    from: old,
                    to: new,
                });
            }
        }
        Ok(Json(diff).into_response())
    };
    compare.await.unwrap_or_else(|refused: Response| refused)
}

/// Compares by value: the order of keys and spaces in JSON make no difference.
fn is_same_outcome(old: &Outcome, new: &Outcome) -> bool {
    let json = |outcome: &Outcome| serde_json::to_string(&Report::of(outcome));
    match (json(old), json(new)) {
        (Ok(old), Ok(new)) => is_same(&old, &new),
        _ => false,
    }
}
