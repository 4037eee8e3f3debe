//! Takes a new version of a module, if the configuration allows it.

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
use super::audit::Audit;
use crate::admin::guard::{Client, Demand, Granted};
use crate::modules::{Refused, Uploads};

/// A `.toml` that is longer is refused in the modules directory, too.
const LONGEST_TOML: usize = 1_000_000;

/// For a large file over a slow network.
const PATIENCE: Duration = Duration::from_secs(120);

/// One at a time, because each takes as much memory as its file is long.
static PLACE: Semaphore = Semaphore::const_new(1);

/// An upload runs code in the relay, so nobody gets it by accident.
const OFF: &str = "This relay takes no uploads. To allow them to whoever has the token that allows everything, set \
                   `uploads = true` in `[admin]` of its configuration, and restart it.";

/// Returns what the route demands, which depends on the configuration.
pub(super) fn demand(of_table: Demand, uploads: &Uploads) -> Demand {
    Demand {
        body: uploads.longest() + LONGEST_TOML,
        patience: PATIENCE,
        place: Some(&PLACE),
        off: (!uploads.are_on()).then_some(OFF),
        ..of_table
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Parts {
    /// How many bytes at the beginning of the body are the `.toml`. The rest is the `.wasm`.
    toml_bytes: usize,
}

/// What became of an uploaded version.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Uploaded {
    /// The name of the module in the modules directory, where `-` and `_` count as the same character.
    module: String,
    /// The name of the version.
    version: String,
    sha256: String,
    toml_sha256: String,
    /// The files that changed. Empty if the directory had them already.
    changed: Vec<String>,
}

pub(super) async fn upload(
    Shared(served): Shared<Served>,
    Path(name): Path<String>,
    Query(Parts { toml_bytes }): Query<Parts>,
    (Extension(client), Extension(granted)): (Extension<Client>, Extension<Granted>),
    body: Bytes,
) -> Response {
    if body.is_empty() {
        // A client learns from this that an upload is allowed, before it sends a large one.
        let text = "The body is empty. It must be the .toml, and then the .wasm.\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    let audit = Audit::begin("upload", &name, client, granted);
    match take(&served.uploads, &name, toml_bytes, &body).await {
        Ok(uploaded) => {
            let text = match uploaded.changed.as_slice() {
                [] => format!("{} is there already", uploaded.version),
                changed => format!("{}: {}", uploaded.version, changed.join(" and ")),
            };
            audit.end(true, &text);
            Json(uploaded).into_response()
        }
        Err((status, reason)) => {
            audit.end(false, &reason);
            (status, format!("{reason}\n")).into_response()
        }
    }
}

async fn take(
    uploads: &Uploads,
    name: &str,
    toml_bytes: usize,
    body: &Bytes,
) -> Result<Uploaded, (StatusCode, String)> {
    let wrong = |reason: String| (StatusCode::BAD_REQUEST, reason);
    if toml_bytes > body.len() {
        return Err(wrong(format!(
            "`toml_bytes` is {toml_bytes}, but the body has only {} bytes: it must be the .toml, and then the .wasm",
            body.len()
        )));
    }
    let (toml, wasm) = body.split_at(toml_bytes);
    let too_large = |what: &str, bytes: usize, most: usize| {
        let reason = format!("The .{what} has {bytes} bytes; it may have at most {most}.");
        (StatusCode::PAYLOAD_TOO_LARGE, reason)
    };
    if toml.len() > LONGEST_TOML {
        return Err(too_large("toml", toml.len(), LONGEST_TOML));
    }
    if wasm.len() > uploads.longest() {
        return Err(too_large("wasm", wasm.len(), uploads.longest()));
    }
    let toml = String::from_utf8(toml.to_vec()).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        wrong(format!(
            "The .toml is not UTF-8 from byte {at} on; is `toml_bytes` right?"
        ))
    })?;
    let taken = uploads.take(name.to_owned(), Arc::from(wasm), toml).await;
    let taken = taken.map_err(|refused| {
        let status = match refused {
            Refused::Wrong(_) => StatusCode::BAD_REQUEST,
            Refused::Unusable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refused::Unkept(_) => StatusCode::CONFLICT,
        };
        (status, refused.to_string())
    })?;
    let id = taken.installed.id;
    Ok(Uploaded {
        module: taken.name,
        version: id.name(),
        sha256: id.wasm_sha256,
        toml_sha256: id.toml_sha256,
        changed: taken.installed.changed,
    })
}
