use std::net::SocketAddr;
use std::time::{Duration, Instant};

use slipring_core::pipeline::Counters;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::routes::PATHS;
use super::{Admin, Error};
use crate::config::{self, Secret};
use crate::modules::{Command, Controls, Verb};
use crate::status::{Consumer, Format, Metrics, State, StatusBoard};

struct Test {
    address: SocketAddr,
    board: StatusBoard,
    controls: Controls,
    cancel: CancellationToken,
    server: JoinHandle<Result<(), Error>>,
}

fn config(token: Option<&str>) -> config::Admin {
    config::Admin {
        listen: "127.0.0.1:0".parse().unwrap(),
        token: token.map(Secret::new),
    }
}

async fn start(token: Option<&str>) -> Test {
    let admin = Admin::bind(&config(token)).await.unwrap();
    let metrics = Metrics::new();
    let board = StatusBoard::new(metrics.clone());
    board.modules_known();
    let cancel = CancellationToken::new();
    let address = admin.address();
    let controls = Controls::default();
    let server = tokio::spawn(admin.serve(board.clone(), metrics, controls.clone(), cancel.clone()));
    Test {
        address,
        board,
        controls,
        cancel,
        server,
    }
}

impl Test {
    /// Returns the status code, the headers and the body.
    async fn get(&self, path: &str, headers: &str) -> (u16, String, String) {
        self.ask("GET", path, headers).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(Duration::from_secs(10), stream.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let code = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .expect("a status code");
        (code, head.to_owned(), body.to_owned())
    }
}

#[tokio::test]
async fn a_command_needs_its_header_and_a_module_that_hears_it() {
    let test = start(None).await;
    let mut commands = test.controls.register("orders");
    let path = "/api/modules/orders/rollback";
    let (code, _, body) = test.ask("POST", path, "").await;
    assert_eq!(code, 403, "as a web page would send it: {body}");
    assert!(commands.try_recv().is_err());
    let (code, ..) = test.get(path, "slipring-command: 1\r\n").await;
    assert_eq!(code, 405);
    let (code, _, body) = test
        .ask("POST", "/api/modules/bills/retry", "slipring-command: 1\r\n")
        .await;
    assert_eq!(
        (code, body.as_str()),
        (404, "There is no module `bills`. The modules are: orders\n")
    );

    let keeper = tokio::spawn(async move {
        let Command { verb, answer } = commands.recv().await.unwrap();
        assert_eq!(verb, Verb::Rollback);
        answer.send(Err("no version is known".to_owned())).unwrap();
    });
    let (code, _, body) = test.ask("POST", path, "slipring-command: 1\r\n").await;
    assert_eq!((code, body.as_str()), (409, "no version is known\n"));
    keeper.await.unwrap();
    let (code, ..) = test.ask("POST", path, "slipring-command: 1\r\n").await;
    assert_eq!(code, 503, "its keeper has ended");
}

#[tokio::test]
async fn health_is_not_readiness() {
    let test = start(None).await;
    let (code, _, body) = test.get("/healthz", "").await;
    assert_eq!((code, body.as_str()), (200, "ok\n"));
    test.board
        .module("orders")
        .set_state(State::Halted, Some("101 rejections in a row".to_owned()));
    let (code, _, body) = test.get("/readyz", "").await;
    assert_eq!(code, 503);
    assert_eq!(
        body,
        "not ready:\n- NATS is not connected\n- orders is halted: 101 rejections in a row\n"
    );
    test.board.nats_connected("2.15.2");
    test.board.module("orders").set_state(State::Running, None);
    let (code, _, body) = test.get("/readyz", "").await;
    assert_eq!((code, body.as_str()), (200, "ready\n"));
}

#[tokio::test]
async fn a_module_has_a_readiness_of_its_own() {
    let test = start(None).await;
    test.board.nats_connected("2.15.2");
    let (orders, bills) = (test.board.module("orders"), test.board.module("bills"));
    orders.set_source("ORDERS", "slipring-orders");
    orders.set_state(State::Running, None);
    bills.set_state(State::Failed, Some("no such export".to_owned()));
    let (code, _, body) = test.get("/readyz", "").await;
    assert_eq!(
        (code, body.as_str()),
        (200, "ready\nwarnings:\n- bills has failed: no such export\n")
    );
    let (code, _, body) = test.get("/readyz/bills", "").await;
    assert_eq!(
        (code, body.as_str()),
        (503, "not ready:\n- bills has failed: no such export\n")
    );
    assert_eq!(test.get("/readyz/orders", "").await.0, 200);
    assert_eq!(test.get("/readyz/mails", "").await.0, 404);

    let paused = Consumer {
        pending: 7,
        paused_for: Some(Duration::from_secs(3_600)),
        ..Consumer::default()
    };
    orders.inspected(Instant::now(), paused);
    let (code, _, body) = test.get("/readyz/orders", "").await;
    assert!(
        code == 200 && body.contains("- orders is paused on the server until"),
        "{body}"
    );
    orders.set_state(State::Failed, None);
    assert_eq!(test.get("/readyz", "").await.0, 503, "every module has failed");
}

#[tokio::test]
async fn metrics_and_status_are_served() {
    let test = start(None).await;
    test.board.module("orders").metrics().count(&Counters {
        received: 1,
        ..Counters::default()
    });
    let (code, head, body) = test.get("/metrics", "").await;
    assert_eq!(code, 200);
    assert!(head.contains(Format::Text.content_type()), "{head}");
    assert!(!body.contains("# EOF"), "{body}");
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.1\r\n";
    let (code, head, body) = test.get("/metrics", accept).await;
    assert_eq!(code, 200);
    assert!(head.contains(Format::OpenMetrics.content_type()), "{head}");
    assert!(
        body.contains("slipring_messages_received_total{module=\"orders\"} 1\n"),
        "{body}"
    );
    assert!(body.ends_with("# EOF\n"), "{body}");
    let (code, head, body) = test.get("/api/status", "").await;
    assert_eq!(code, 200);
    assert!(head.contains("application/json"), "{head}");
    let status: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status["modules"][0]["received"], 1);
}

#[tokio::test]
async fn whoever_looks_around_is_told_the_paths() {
    let test = start(None).await;
    let (code, _, body) = test.get("/", "").await;
    assert_eq!((code, body.as_str()), (200, PATHS));
    let (code, _, body) = test.get("/status", "").await;
    assert_eq!(code, 404);
    assert!(body.ends_with(PATHS), "{body}");
}

#[test]
fn each_path_is_in_the_manual() {
    let page = include_str!("../../docs/operating/running.md");
    for line in PATHS.lines() {
        let (path, _) = line.split_once("  ").unwrap();
        assert!(page.contains(&format!("| `{path}` |")), "{path}");
    }
}

#[tokio::test]
async fn a_token_guards_all_but_the_probe_of_life() {
    let test = start(Some("open sesame")).await;
    assert_eq!(test.get("/healthz", "").await.0, 200);
    for path in ["/", "/readyz", "/metrics", "/api/status", "/elsewhere"] {
        let (code, head, body) = test.get(path, "").await;
        assert_eq!(code, 401, "{path}");
        assert!(head.to_lowercase().contains("www-authenticate: bearer"), "{head}");
        assert!(body.contains("`Authorization: Bearer TOKEN` is missing"), "{body}");
    }
    for wrong in [
        "Bearer open",
        "Bearer open sesame!",
        "Bearer ",
        "Basic open sesame",
        "open sesame",
    ] {
        let (code, _, body) = test.get("/metrics", &format!("Authorization: {wrong}\r\n")).await;
        assert_eq!(code, 401, "{wrong}");
        assert!(body.contains("has the wrong token"), "{body}");
    }
    assert_eq!(
        test.get("/metrics", "Authorization: Bearer open sesame\r\n").await.0,
        200
    );
    assert_eq!(
        test.get("/metrics", "authorization: bearer open sesame\r\n").await.0,
        200
    );
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let test = start(None).await;
    let error = Admin::bind(&config::Admin {
        listen: test.address,
        token: None,
    })
    .await
    .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Taken { .. }), "{text}");
    assert!(
        text.contains(&test.address.to_string()) && text.contains("admin.listen"),
        "{text}"
    );
}

#[tokio::test]
async fn cancelling_ends_it_whatever_a_client_does() {
    let test = start(None).await;
    // Half a request: the connection is neither idle nor ever complete.
    let mut stream = TcpStream::connect(test.address).await.unwrap();
    stream.write_all(b"GET /metr").await.unwrap();
    assert_eq!(test.get("/healthz", "").await.0, 200);
    test.cancel.cancel();
    timeout(Duration::from_secs(10), test.server)
        .await
        .expect("an end")
        .unwrap()
        .unwrap();
}
