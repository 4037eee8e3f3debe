//! What each route answers.

use std::io::Read;
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use slipring_core::pipeline::Counters;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::routes::{ROUTES, paths};
use super::super::{Admin, Error};
use super::{bearer, start};
use crate::modules::{Request, Verb};
use crate::status::{Consumer, Format, State};

const COMMAND: &str = "slipring-command: 1\r\n";

#[tokio::test]
async fn a_command_needs_its_header_and_a_module_that_hears_it() {
    let test = start(|_| {}).await;
    let mut commands = test.controls.register("orders");
    let _orders = test.board.module("orders");
    let token = bearer(&test.created_token());
    let with_all = format!("{token}{COMMAND}");
    let path = "/api/v1/modules/orders/rollback";
    let reply = test.ask("POST", path, &token).await;
    assert_eq!(reply.code, 403, "as a web page would send it: {}", reply.body);
    assert!(commands.try_recv().is_err());
    assert_eq!(test.get(path, &with_all).await.code, 405);
    let reply = test.ask("POST", "/api/v1/modules/bills/retry", &with_all).await;
    assert_eq!(
        (reply.code, reply.body.as_str()),
        (404, "There is no module `bills`. The modules are: orders\n")
    );

    let keeper = tokio::spawn(async move {
        let Some(Request::Command(verb, answer)) = commands.recv().await else {
            panic!("another request")
        };
        assert_eq!(verb, Verb::Rollback(None));
        answer.send(Err("no version is known".to_owned())).unwrap();
    });
    let reply = test.ask("POST", path, &with_all).await;
    assert_eq!((reply.code, reply.body.as_str()), (409, "no version is known\n"));
    keeper.await.unwrap();
    let reply = test.ask("POST", path, &with_all).await;
    assert_eq!(reply.code, 503, "its keeper has ended");
}

#[tokio::test]
async fn health_is_not_readiness() {
    let test = start(|_| {}).await;
    test.board.nats_disconnected(None);
    let reply = test.get("/healthz", "").await;
    assert_eq!((reply.code, reply.body.as_str()), (200, "ok\n"));
    test.board
        .module("orders")
        .set_state(State::Halted, Some("101 rejections in a row".to_owned()));
    let reply = test.get("/readyz", "").await;
    assert_eq!(reply.code, 503);
    assert_eq!(
        reply.body,
        "not ready:\n- NATS is not connected\n- orders is halted: 101 rejections in a row\n"
    );
    test.board.nats_connected("2.15.2");
    test.board.module("orders").set_state(State::Running, None);
    let reply = test.get("/readyz", "").await;
    assert_eq!((reply.code, reply.body.as_str()), (200, "ready\n"));
}

#[tokio::test]
async fn a_module_has_a_readiness_of_its_own() {
    let test = start(|_| {}).await;
    test.board.nats_connected("2.15.2");
    let (orders, bills) = (test.board.module("orders"), test.board.module("bills"));
    orders.set_source("ORDERS", "slipring-orders", "NATS");
    orders.set_state(State::Running, None);
    bills.set_state(State::Failed, Some("no such export".to_owned()));
    let reply = test.get("/readyz", "").await;
    assert_eq!(
        (reply.code, reply.body.as_str()),
        (200, "ready\nwarnings:\n- bills has failed: no such export\n")
    );
    let reply = test.get("/readyz/bills", "").await;
    assert_eq!(
        (reply.code, reply.body.as_str()),
        (503, "not ready:\n- bills has failed: no such export\n")
    );
    assert_eq!(test.get("/readyz/orders", "").await.code, 200);
    assert_eq!(test.get("/readyz/mails", "").await.code, 404);

    let paused = Consumer {
        pending: 7,
        paused_for: Some(Duration::from_secs(3_600)),
        ..Consumer::default()
    };
    orders.inspected(Instant::now(), paused);
    let reply = test.get("/readyz/orders", "").await;
    assert!(
        reply.code == 200 && reply.body.contains("- orders is paused on the server until"),
        "{}",
        reply.body
    );
    orders.set_state(State::Failed, None);
    assert_eq!(test.get("/readyz", "").await.code, 503, "every module has failed");
}

#[tokio::test]
async fn readiness_names_the_active_relay_of_what_stands_by() {
    let test = start(|_| {}).await;
    test.board.nats_connected("2.15.2");
    test.board.module("bills").set_state(State::Running, None);
    let reason = Some("the active relay is web-2".to_owned());
    test.board.module("orders").set_state(State::Standby, reason);
    let standing_by = "ready\nstanding by:\n- orders: the active relay is web-2\n";
    for (path, expected) in [
        ("/readyz", standing_by),
        ("/readyz/orders", standing_by),
        ("/readyz/bills", "ready\n"),
    ] {
        let reply = test.get(path, "").await;
        assert_eq!((reply.code, reply.body.as_str()), (200, expected), "{path}");
    }
}

#[tokio::test]
async fn metrics_and_status_are_served() {
    let test = start(|_| {}).await;
    test.board.module("orders").metrics().count(&Counters {
        received: 1,
        ..Counters::default()
    });
    let reply = test.get("/metrics", "").await;
    assert_eq!(reply.code, 200);
    assert!(reply.head.contains(Format::Text.content_type()), "{}", reply.head);
    assert!(!reply.body.contains("# EOF"), "{}", reply.body);
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.1\r\n";
    let reply = test.get("/metrics", accept).await;
    assert_eq!(reply.code, 200);
    assert!(
        reply.head.contains(Format::OpenMetrics.content_type()),
        "{}",
        reply.head
    );
    let body = reply.body;
    assert!(
        body.contains("slipring_messages_received_total{module=\"orders\"} 1\n"),
        "{body}"
    );
    assert!(body.ends_with("# EOF\n"), "{body}");
    let reply = test.get("/api/v1/status", "").await;
    assert_eq!(reply.code, 200);
    assert!(reply.head.contains("application/json"), "{}", reply.head);
    let status: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(status["modules"][0]["received"], 1);
}

#[tokio::test]
async fn whoever_looks_around_is_told_the_paths() {
    let test = start(|_| {}).await;
    let reply = test.get("/", "").await;
    assert_eq!((reply.code, reply.body), (200, paths()));
    let reply = test.get("/status", "").await;
    assert_eq!(reply.code, 404);
    assert!(reply.body.ends_with(&paths()), "{}", reply.body);
}

#[test]
fn each_path_is_in_the_manual() {
    let page = include_str!("../../../docs/operating/running.md");
    // The description of the API has the others.
    let others = ["/page/", "/api/v1/"];
    for route in ROUTES
        .iter()
        .filter(|route| !others.iter().any(|other| route.path.starts_with(other)))
    {
        let shown = route.shown();
        assert!(page.contains(&format!("| `{shown}` |")), "{shown}");
    }
    assert!(page.contains("| `/api/v1/…` |"));
}

#[tokio::test]
async fn every_answer_is_private_and_counted() {
    let test = start(|_| {}).await;
    let replies = [
        test.get("/healthz", "").await,
        test.get("/metrics", "").await,
        test.get("/elsewhere", "").await,
        test.ask("DELETE", "/metrics", "").await,
        test.ask("POST", "/api/v1/modules/orders/retry", "").await,
        test.get("/metrics", "Origin: http://evil.example\r\n").await,
        test.send("GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
            .await,
    ];
    let codes = replies.each_ref().map(|reply| reply.code);
    assert_eq!(codes, [200, 200, 404, 405, 401, 403, 421]);
    for reply in &replies {
        for header in [
            "cache-control: no-store",
            "x-content-type-options: nosniff",
            "content-security-policy: default-src 'none'; frame-ancestors 'none'",
        ] {
            assert!(reply.head.contains(header), "{}", reply.head);
        }
    }
    let metrics = test.metrics.encode(Format::Text);
    assert!(
        metrics.contains("slipring_admin_requests_total{code=\"200\"} 2\n"),
        "{metrics}"
    );
    for code in &codes[2..] {
        let line = format!("slipring_admin_requests_total{{code=\"{code}\"}} 1\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let test = start(|_| {}).await;
    let mut config = test.config.clone();
    config.listen = test.address;
    let error = Admin::bind(&config).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Taken { .. }), "{text}");
    assert!(
        text.contains(&test.address.to_string()) && text.contains("admin.listen"),
        "{text}"
    );
    assert!(
        test.token_file().exists(),
        "the token of the relay that runs is untouched"
    );
}

#[tokio::test]
async fn cancelling_ends_it_whatever_a_client_does() {
    let mut test = start(|_| {}).await;
    // Half a request: the connection is neither idle nor ever complete.
    let mut stream = test.connect().await;
    stream.write_all(b"GET /metr").await.unwrap();
    assert_eq!(test.get("/healthz", "").await.code, 200);
    test.stop().await;
}

#[tokio::test]
async fn metrics_are_compressed_for_those_who_accept_it() {
    let test = start(|_| {}).await;
    let plain = test.get("/metrics", "").await;
    assert!(!plain.head.contains("content-encoding"), "{}", plain.head);
    // An answer to HTTP/1.0 ends with the connection, and has no lengths in between.
    let request = "GET /metrics HTTP/1.0\r\nHost: localhost\r\nAccept-Encoding: deflate, gzip;q=0.5\r\n\r\n";
    let mut stream = test.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&answer[..end]);
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut text = String::new();
    GzDecoder::new(&answer[end..]).read_to_string(&mut text).unwrap();
    let names = |text: &str| {
        text.lines()
            .filter(|line| line.starts_with("# TYPE"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&text), names(&plain.body));
    assert!(2 * answer.len() < text.len(), "{} bytes", answer.len());
}

#[tokio::test]
async fn the_page_learns_where_events_arrive_if_it_may_connect_there() {
    let path = "/api/v1/arrivals";
    let test = start(|_| {}).await;
    let reply = test.get(path, "").await;
    assert_eq!((reply.code, reply.body.as_str()), (200, "{\"websocket\":null}"));
    let page = test.get("/", "Accept: text/html\r\n").await;
    assert!(page.head.contains("connect-src 'self';"), "{}", page.head);

    let url = "ws://127.0.0.1:8000/connection/websocket";
    let test = start(|config| config.centrifugo_websocket = Some(url.parse().unwrap())).await;
    let reply = test.get(path, "").await;
    assert_eq!((reply.code, reply.body), (200, format!("{{\"websocket\":\"{url}\"}}")));
    for file in ["/", "/page/page.js"] {
        let page = test.get(file, "Accept: text/html\r\n").await;
        assert!(
            page.head.contains("connect-src 'self' ws://127.0.0.1:8000;"),
            "{}",
            page.head
        );
    }
}
