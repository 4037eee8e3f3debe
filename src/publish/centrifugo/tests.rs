//! The client against a small server of its own: what it sends, and how it interprets each kind of answer or silence.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap as Headers, Uri};
use axum::response::IntoResponse;
use axum::routing::any;
use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;
use crate::config::Secret;
use crate::message::{Body, Publication};
use crate::publish::{Reply, RequestId};

const KEY: &str = "a-secret-key";

/// What the server answers, and the requests that it has seen.
#[derive(Debug, Clone)]
struct Script {
    status: u16,
    body: &'static str,
    silent: bool,
    seen: Arc<Mutex<Vec<String>>>,
}

struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(status: u16, body: &'static str) -> Self {
        Self::with(Script {
            status,
            body,
            silent: false,
            seen: Arc::default(),
        })
        .await
    }

    async fn silent() -> Self {
        Self::with(Script {
            status: 200,
            body: "",
            silent: true,
            seen: Arc::default(),
        })
        .await
    }

    async fn with(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::clone(&script.seen);
        let router = Router::new().fallback(any(answer)).with_state(script);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, seen, task }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(script): State<Script>, uri: Uri, headers: Headers, body: Bytes) -> impl IntoResponse {
    let key = headers.get("x-api-key").map(|key| key.to_str().unwrap());
    let body = String::from_utf8(body.to_vec()).unwrap();
    script
        .seen
        .lock()
        .unwrap()
        .push(format!("{} {key:?} {body}", uri.path()));
    if script.silent {
        std::future::pending::<()>().await;
    }
    let status = axum::http::StatusCode::from_u16(script.status).unwrap();
    (status, [("location", "/elsewhere")], script.body)
}

fn client(endpoints: &[&str]) -> Client {
    let config = config::Centrifugo {
        endpoints: endpoints.iter().map(|url| Url::parse(url).unwrap()).collect(),
        api_key: Some(Secret::new(KEY)),
        timeout: Duration::from_millis(300),
        tls: config::Tls::default(),
    };
    Client::new(&config).unwrap()
}

fn request() -> Request {
    let publication = Publication::new(
        vec![Arc::from("any")],
        Body::Json(RawValue::from_string("1".to_owned()).unwrap()),
    );
    Request::new(RequestId(0), vec![publication.into()], 0)
}

const CONFIRMED: &str = r#"{"replies":[{"publish":{}}]}"#;

fn confirmed() -> Answer {
    Answer::Replies(vec![Reply::Confirmed(None)])
}

async fn answer_to(status: u16, body: &'static str) -> Answer {
    let server = Server::start(status, body).await;
    client(&[&server.url()]).send(&request()).await
}

/// Returns the reason of a lost answer.
fn lost(answer: Answer) -> String {
    match answer {
        Answer::Lost { reason } => {
            assert!(!reason.contains(KEY), "{reason}");
            reason
        }
        other => panic!("{other:?} is not lost"),
    }
}

#[tokio::test]
async fn sends_the_body_and_the_key_to_the_batch_api() {
    let server = Server::start(200, CONFIRMED).await;
    assert_eq!(client(&[&server.url()]).send(&request()).await, confirmed());
    let expected =
        format!("/api/batch Some({KEY:?}) {{\"commands\":[{{\"publish\":{{\"channel\":\"any\",\"data\":1}}}}]}}");
    assert_eq!(*server.seen.lock().unwrap(), [expected]);
}

#[tokio::test]
async fn refusals_carry_what_was_said() {
    let refused = |status, reason: &str| Answer::Refused {
        status,
        reason: reason.to_owned(),
    };
    assert_eq!(
        answer_to(400, "Bad Request").await,
        refused(400, "HTTP 400 Bad Request")
    );
    assert_eq!(
        answer_to(413, "at most 1 MB").await,
        refused(413, "HTTP 413 Payload Too Large: at most 1 MB")
    );
}

#[tokio::test]
async fn denials_carry_a_hint() {
    for (status, hint) in [
        (401, "api_key_file"),
        (403, "api_key_file"),
        (404, "path"),
        (405, "address"),
        (302, "address"),
    ] {
        match answer_to(status, "").await {
            Answer::Denied { reason } => {
                assert!(
                    reason.contains(hint) && reason.contains(&status.to_string()),
                    "{reason}"
                );
                assert!(!reason.contains(KEY), "{reason}");
            }
            other => panic!("{status}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn other_failures_are_ambiguous() {
    for (status, body, expected) in [
        (500, "", "HTTP 500 Internal Server Error"),
        (
            503,
            "down for maintenance",
            "HTTP 503 Service Unavailable: down for maintenance",
        ),
        (429, "", "HTTP 429 Too Many Requests"),
        (
            200,
            "<html>",
            "the reply is not the JSON of a batch: expected value at line 1 column 1; HTTP 200 OK: <html>",
        ),
        (200, "{}", "0 replies to 1 commands; HTTP 200 OK: {}"),
        (204, "", "HTTP 204 No Content"),
    ] {
        let reason = lost(answer_to(status, body).await);
        assert!(reason.ends_with(expected), "{reason}");
    }
}

#[tokio::test]
async fn a_time_out_and_a_refused_connection_say_so() {
    let silent = Server::silent().await;
    let reason = lost(client(&[&silent.url()]).send(&request()).await);
    assert!(
        reason.contains(&silent.url()) && reason.contains("timed out"),
        "{reason}"
    );
    assert_eq!(silent.requests(), 1, "the client does not retry");

    // Nothing listens on a port that was just released.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let reason = lost(client(&[&url]).send(&request()).await);
    assert!(
        reason.contains(&url) && reason.to_lowercase().contains("connection refused"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_request_goes_to_the_endpoint_that_it_names() {
    let (bad, good) = (Server::start(500, "").await, Server::start(200, CONFIRMED).await);
    let client = client(&[&bad.url(), &good.url()]);
    assert_eq!(client.endpoints(), 2);
    assert_eq!(client.send(&request().to(1)).await, confirmed());
    assert!(lost(client.send(&request().to(0)).await).contains(&bad.url()));
    assert_eq!(client.apart().unwrap().send(&request().to(1)).await, confirmed());
    assert_eq!((bad.requests(), good.requests()), (1, 2));
}

#[tokio::test]
async fn a_probe_asks_each_endpoint_until_one_takes_requests() {
    let (bad, worse, good) = (
        Server::start(500, "").await,
        Server::start(401, "").await,
        Server::start(200, "{}").await,
    );
    let all = client(&[&bad.url(), &worse.url(), &good.url()]);
    assert_eq!(all.probe().await, Ok(()));
    let none = client(&[&worse.url(), &bad.url()]).probe().await;
    assert!(none.unwrap_err().contains("401"), "the first one counts");
    assert_eq!((bad.requests(), worse.requests(), good.requests()), (2, 2, 1));
}

/// A server that requires TLS does this.
#[tokio::test]
async fn an_endpoint_that_refuses_an_empty_request_lets_nothing_in() {
    let server = Server::start(400, "Client sent an HTTP request to an HTTPS server.").await;
    let client = client(&[&server.url()]);
    match client.send(&Request::empty(RequestId(0))).await {
        Answer::Denied { reason } => assert!(
            reason.contains(&server.url()) && reason.contains("to an HTTPS server") && reason.contains("`https`"),
            "{reason}"
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_it_prints_does_not_show_the_key() {
    assert!(!format!("{:?}", client(&["http://127.0.0.1:1"])).contains(KEY));
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_none() {
    let endless = Box::leak((r#"{"replies":[{"publish":{}}]}"#.to_owned() + &" ".repeat(2 << 20)).into_boxed_str());
    let server = Server::start(200, endless).await;
    let Answer::Lost { reason, .. } = client(&[&server.url()]).send(&request()).await else {
        panic!("it is too large to be read")
    };
    assert!(reason.contains("the reply is larger than"), "{reason}");
}
