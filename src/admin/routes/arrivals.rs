//! `GET /api/v1/arrivals`: where the page connects to show what arrives at subscribers. The page may connect there only if
//! `admin.centrifugo_websocket` is set.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State as Shared;
use axum::http::HeaderValue;
use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::timeout;
use url::{Position, Url};

use super::Served;

/// Centrifugo's address for browsers, and the content policy that allows the page to connect there.
#[derive(Debug, Clone)]
pub struct Arrivals {
    websocket: Option<Url>,
    policy: HeaderValue,
}

impl Arrivals {
    pub fn new(websocket: Option<Url>) -> Self {
        Self {
            policy: policy(websocket.as_ref()),
            websocket,
        }
    }

    /// Returns the content policy of the page.
    pub(super) fn policy(&self) -> HeaderValue {
        self.policy.clone()
    }
}

impl Default for Arrivals {
    fn default() -> Self {
        Self::new(None)
    }
}

/// Only the relay's own files are run and shown, and only the relay and Centrifugo's WebSocket are asked.
fn policy(websocket: Option<&Url>) -> HeaderValue {
    let origin = websocket.map(|url| format!(" {}", &url[..Position::BeforePath]));
    let policy = |origin: &str| {
        format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'{origin}; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
        )
    };
    // The configuration accepts no host that cannot be in a header.
    let allowing = HeaderValue::try_from(policy(&origin.unwrap_or_default()));
    allowing.unwrap_or_else(|_| HeaderValue::try_from(policy("")).expect("it is ASCII"))
}

/// Where subscribers connect.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Arrivals")]
pub(super) struct Address {
    /// The URL of Centrifugo's WebSocket, as browsers reach it. `null` if `admin.centrifugo_websocket` is not set.
    websocket: Option<String>,
    /// The subjects that each module reads. An empty list means all of its stream. A module that is busy is left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    subjects: BTreeMap<String, Vec<String>>,
}

/// How long to wait for a module that is busy, such as with a swap.
const PATIENCE: Duration = Duration::from_millis(300);

pub(super) async fn arrivals(Shared(served): Shared<Served>) -> Json<Address> {
    let websocket = served.arrivals.websocket.as_ref().map(Url::to_string);
    let subjects = match websocket {
        Some(_) => subjects(&served).await,
        None => BTreeMap::new(),
    };
    Json(Address { websocket, subjects })
}

async fn subjects(served: &Served) -> BTreeMap<String, Vec<String>> {
    let modules = served.board.status().modules;
    let asked = modules.into_iter().map(async |module| {
        let loaded = timeout(PATIENCE, served.controls.version(&module.name, None)).await;
        let config = loaded.ok()?.ok()?.ok()?.config;
        Some((module.name, config.subjects.clone()))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_server_is_allowed() {
        let sources = |url: Option<&str>| {
            let arrivals = Arrivals::new(url.map(|url| Url::parse(url).unwrap()));
            let policy = arrivals.policy().to_str().unwrap().to_owned();
            let sources = policy.split("; ").find_map(|part| part.strip_prefix("connect-src "));
            sources.unwrap().to_owned()
        };
        assert_eq!(sources(None), "'self'");
        assert_eq!(
            sources(Some("ws://127.0.0.1:8000/connection/websocket")),
            "'self' ws://127.0.0.1:8000"
        );
        assert_eq!(sources(Some("wss://chat.example/ws")), "'self' wss://chat.example");
    }
}
