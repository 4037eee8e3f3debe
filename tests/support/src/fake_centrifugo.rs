//! A Centrifugo that fails on demand: `/api/batch`, and `Batch` over GRPC, with the answers of Centrifugo 6.9.1
//! (sequential; a command that fails does not stop the next; keys and versions suppress), except for what a behaviour
//! decides for each request. It remembers what it executed, which the relay cannot know after an ambiguous answer.

mod behaviour;
mod grpc;
mod store;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use behaviour::{Answer, Faults, OnCommand, Plan};
pub use store::{Batch, Command, Executed};

use crate::Api;
use store::Store;

/// The key that it requires.
pub const API_KEY: &str = "the-key-of-the-fake";

const HTTP_PATH: &str = "/api/batch";

type Behaviour = Box<dyn FnMut(&Batch) -> Plan + Send>;

pub struct FakeCentrifugo {
    address: SocketAddr,
    grpc_address: SocketAddr,
    shared: Arc<Shared>,
    servers: [JoinHandle<()>; 2],
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    closed: Mutex<Option<Answer>>,
    store: Mutex<Store>,
}

impl FakeCentrifugo {
    /// Starts one that executes every request.
    pub async fn start() -> Result<Self> {
        Self::start_with(|_| Plan::execute()).await
    }

    /// Starts one that asks `behaviour` what to do, in the order in which requests come in.
    pub async fn start_with(behaviour: impl FnMut(&Batch) -> Plan + Send + 'static) -> Result<Self> {
        let listen = async || {
            TcpListener::bind("127.0.0.1:0")
                .await
                .context("listening for the fake Centrifugo")
        };
        let (listener, grpc_listener) = (listen().await?, listen().await?);
        let (address, grpc_address) = (listener.local_addr()?, grpc_listener.local_addr()?);
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Box::new(behaviour)),
            closed: Mutex::default(),
            store: Mutex::default(),
        });
        let router = Router::new()
            .route(HTTP_PATH, post(batch))
            .fallback(not_found)
            .with_state(Arc::clone(&shared));
        // These end only with the abort in `Drop`.
        let http = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        let grpc = tokio::spawn(grpc::serve(grpc_listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            grpc_address,
            shared,
            servers: [http, grpc],
        })
    }

    /// Changes the behaviour from the next request on.
    pub fn behave(&self, behaviour: impl FnMut(&Batch) -> Plan + Send + 'static) {
        *lock(&self.shared.behaviour) = Box::new(behaviour);
    }

    /// From the next request on, every request gets this answer, even an empty one.
    pub fn close(&self, answer: Option<Answer>) {
        *lock(&self.shared.closed) = answer;
    }

    pub fn url(&self) -> String {
        self.endpoint(Api::Http)
    }

    /// Returns the URL for the relay's `endpoints`.
    pub fn endpoint(&self, api: Api) -> String {
        match api {
            Api::Http => format!("http://{}", self.address),
            Api::Grpc => format!("grpc://{}", self.grpc_address),
        }
    }

    /// Returns every publication it executed, including suppressed ones, in the order of execution.
    pub fn executed(&self) -> Vec<Executed> {
        lock(&self.shared.store).executed.clone()
    }

    /// Returns what a subscriber of `channel` was shown, in order.
    pub fn shown(&self, channel: &str) -> Vec<Executed> {
        let store = lock(&self.shared.store);
        store
            .executed
            .iter()
            .filter(|publication| publication.shown && publication.channel == channel)
            .cloned()
            .collect()
    }

    /// Returns the channels in which something was shown.
    pub fn channels(&self) -> Vec<String> {
        let mut channels: Vec<String> = self
            .executed()
            .into_iter()
            .filter(|p| p.shown)
            .map(|p| p.channel)
            .collect();
        channels.sort();
        channels.dedup();
        channels
    }

    /// Returns how many requests came to `path`, whatever became of them.
    pub fn requests(&self, path: &str) -> usize {
        lock(&self.shared.store).requests.get(path).copied().unwrap_or_default()
    }

    /// Returns how many requests for a batch came over this API, whatever became of them.
    pub fn batch_requests(&self, api: Api) -> usize {
        self.requests(match api {
            Api::Http => HTTP_PATH,
            Api::Grpc => grpc::PATH,
        })
    }

    /// Returns the batches that could be read, in order of arrival.
    pub fn batches(&self) -> Vec<Batch> {
        lock(&self.shared.store).batches.clone()
    }
}

impl Drop for FakeCentrifugo {
    fn drop(&mut self) {
        // Open connections outlive the listener. Requests on them break, and nothing of them is executed.
        self.behave(|_| Plan::answer(Answer::Cut { executed: false }));
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

impl fmt::Debug for FakeCentrifugo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeCentrifugo")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

async fn batch(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    lock(&shared.store).count(uri.path());
    if let Some(worked) = shared.closed() {
        return respond(worked).await;
    }
    if !authorised(&headers) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Some(commands) = store::read_commands(&body) else {
        return (StatusCode::BAD_REQUEST, "Bad Request\n").into_response();
    };
    if commands.is_empty() {
        // A request without commands only asks whether the server is there. The real one gives the same answer.
        return axum::Json(json!({})).into_response();
    }
    respond(work(&shared, commands).await).await
}

async fn respond(worked: Worked) -> Response {
    match worked {
        Worked::Replies(replies) => axum::Json(json!({ "replies": replies })).into_response(),
        Worked::Status(status) => StatusCode::from_u16(status)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            .into_response(),
        Worked::Silence => std::future::pending().await,
        // The body is announced and never comes, so the connection breaks.
        Worked::Cut => {
            let broken = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::other("cut on purpose"))]);
            ([(header::CONTENT_LENGTH, "100")], Body::from_stream(broken)).into_response()
        }
    }
}

impl Shared {
    /// Returns the answer that every request gets, if one is set.
    fn closed(&self) -> Option<Worked> {
        Some(match (*lock(&self.closed))? {
            Answer::Replies => Worked::Replies(Vec::new()),
            Answer::Status { status, .. } => Worked::Status(status),
            Answer::Silence { .. } => Worked::Silence,
            Answer::Cut { .. } => Worked::Cut,
        })
    }
}

/// What to answer, over either API.
enum Worked {
    Replies(Vec<Value>),
    /// An HTTP status.
    Status(u16),
    Silence,
    Cut,
}

async fn work(shared: &Arc<Shared>, commands: Vec<Command>) -> Worked {
    let batch = lock(&shared.store).admit(commands);
    let plan = (lock(&shared.behaviour))(&batch);
    let shared = Arc::clone(shared);
    // Like the real one, it continues when the client hangs up: that drops the handler, but not the task
    // that it spawned.
    let work = tokio::spawn(async move {
        tokio::time::sleep(plan.delay).await;
        let replies = plan
            .executes()
            .then(|| lock(&shared.store).execute(&batch, &plan.commands));
        tokio::time::sleep(plan.answer_delay).await;
        (plan.answer, replies)
    });
    match work.await {
        Ok((Answer::Replies, Some(replies))) => Worked::Replies(replies),
        Ok((Answer::Status { status, .. }, _)) => Worked::Status(status),
        Ok((Answer::Silence { .. }, _)) => Worked::Silence,
        Ok((Answer::Cut { .. }, _)) => Worked::Cut,
        Ok((Answer::Replies, None)) | Err(_) => Worked::Status(500),
    }
}

async fn not_found(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    lock(&shared.store).count(uri.path());
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

fn authorised(headers: &HeaderMap) -> bool {
    let is = |name: &str, wanted: &str| {
        headers
            .get(name)
            .is_some_and(|value| value.as_bytes() == wanted.as_bytes())
    };
    is("x-api-key", API_KEY) || is("authorization", &format!("apikey {API_KEY}"))
}

/// A test that panicked must not cause a second panic here.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
