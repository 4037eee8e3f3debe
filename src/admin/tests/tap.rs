//! The stream of messages that pass through the modules.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{FULL, READ, SOON, Test, bearer, start_guarded};
use crate::message::{Message, Outcome, Rejection, Stage};
use crate::tap::{MOST_OPEN, Tap};

const IMAGE: &str = "<img src=x onerror=alert(1)>";

/// A connection that a tap's events come over.
struct Stream(BufReader<TcpStream>);

impl Stream {
    /// Opens a tap, and waits for the head of the answer.
    async fn open(test: &Test, query: &str) -> Self {
        let mut stream = Self(BufReader::new(test.connect().await));
        let token = bearer(FULL);
        let request = format!("GET /api/v1/tap{query} HTTP/1.1\r\nHost: localhost\r\n{token}\r\n");
        stream.0.write_all(request.as_bytes()).await.unwrap();
        let mut head = stream.line().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        while !head.ends_with("\n\n") {
            head += &stream.line().await;
        }
        assert!(head.contains("content-type: text/event-stream\n"), "{head}");
        assert!(head.contains("cache-control: no-store\n"), "{head}");
        stream
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = timeout(SOON, self.0.read_line(&mut line)).await;
        assert!(read.expect("a line").unwrap() > 0, "the stream has ended");
        line.replace('\r', "")
    }

    /// Returns the next message.
    async fn next(&mut self) -> Value {
        while self.line().await != "event: message\n" {}
        let line = self.line().await;
        let data = line.strip_prefix("data: ").expect("data");
        serde_json::from_str(data).unwrap()
    }
}

fn offer(tap: &Tap, payload: &'static [u8]) {
    let message = Message::new("ORDERS", 7, "orders.7", payload);
    let rejection = Rejection {
        stage: Stage::Transform,
        code: "rejected".into(),
        channel: None,
        reason: IMAGE.to_owned(),
    };
    let outcome = Outcome::Reject(rejection);
    let version = "3045d0fa30ea-2a14983ed58f".into();
    tap.offer(&version, [(&message, &outcome, Duration::from_micros(12))]);
}

async fn closes(tap: &Tap) {
    let closed = async {
        while tap.wants() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, closed).await.expect("the tap closes with its connection");
}

#[tokio::test]
async fn a_tap_is_open_as_long_as_its_connection() {
    let test = start_guarded().await;
    test.board.module("orders");
    let tap = test.taps.of("orders");
    assert!(!tap.wants());
    let mut stream = Stream::open(&test, "?module=orders&channel=&rate=50").await;
    assert!(tap.wants());
    offer(&tap, IMAGE.as_bytes());
    let line = stream.next().await;
    assert_eq!(
        (&line["module"], &line["subject"]),
        (&json!("orders"), &json!("orders.7"))
    );
    assert_eq!(line["version"], "3045d0fa30ea-2a14983ed58f");
    assert_eq!((&line["payload"], &line["reason"]), (&json!(IMAGE), &json!(IMAGE)));
    assert_eq!((&line["micros"], &line["skipped"]), (&json!(12), &json!(0)));
    offer(&tap, b"\xff");
    assert_eq!(stream.next().await["payload_base64"], "/w==");
    drop(stream);
    closes(&tap).await;
}

#[tokio::test]
async fn without_a_module_it_follows_all_of_them() {
    let test = start_guarded().await;
    let mut stream = Stream::open(&test, "").await;
    // It starts later.
    offer(&test.taps.of("bills"), b"1");
    assert_eq!(stream.next().await["module"], "bills");
}

#[tokio::test]
async fn only_so_many_are_open_at_once() {
    let test = start_guarded().await;
    let tap = test.taps.of("orders");
    let mut streams = Vec::new();
    for _ in 0..MOST_OPEN {
        streams.push(Stream::open(&test, "").await);
    }
    let reply = test.get("/api/v1/tap", &bearer(FULL)).await;
    assert_eq!(
        (reply.code, reply.body.as_str()),
        (
            503,
            "8 taps are open already, which is the limit; close one of them first.\n"
        )
    );
    streams.clear();
    closes(&tap).await;
    Stream::open(&test, "").await;
}

#[tokio::test]
async fn payloads_are_for_those_with_all_rights() {
    let test = start_guarded().await;
    assert_eq!(test.get("/api/v1/tap", "").await.code, 401);
    assert_eq!(test.get("/api/v1/tap", &bearer(READ)).await.code, 403);
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_the_reason() {
    let test = start_guarded().await;
    test.board.module("orders");
    test.board.module("bills");
    for (query, code, words) in [
        (
            "module=mails",
            404,
            "There is no module `mails`. The modules are: bills, orders\n",
        ),
        (
            "rate=0",
            400,
            "`rate` is 0; it must be from 1 to 50 messages a second.\n",
        ),
        (
            "rate=51",
            400,
            "`rate` is 51; it must be from 1 to 50 messages a second.\n",
        ),
        ("rate=fast", 400, "rate"),
        ("chan=a", 400, "chan"),
    ] {
        let reply = test.get(&format!("/api/v1/tap?{query}"), &bearer(FULL)).await;
        assert!(
            reply.code == code && reply.body.contains(words),
            "{query}: {}",
            reply.body
        );
    }
    assert!(!test.taps.of("orders").wants());
}
