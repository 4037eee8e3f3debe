//! The history, and the samples as they are taken.

use std::io::Read;
use std::time::Duration;

use flate2::read::GzDecoder;
use slipring_core::pipeline::Counters;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{READ, SOON, Test, bearer, exchange, start, start_guarded};
use crate::status::{HistoryReport, LiveSample, MarkKind, State};

const PATH: &str = "/api/v1/events";

/// A client that reads events.
struct Listener {
    stream: TcpStream,
    head: String,
    unread: String,
}

impl Test {
    /// Takes samples as a relay does.
    fn follow(&self) {
        let (history, board) = (self.history.clone(), self.board.clone());
        tokio::spawn(async move { history.follow(board).await });
    }

    async fn asks_for_events(&self) -> TcpStream {
        let mut stream = self.connect().await;
        let request = format!("GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// Returns a client that has got the head of the answer.
    async fn listen(&self) -> Listener {
        let mut listener = Listener {
            stream: self.asks_for_events().await,
            head: String::new(),
            unread: String::new(),
        };
        while !listener.unread.contains("\r\n\r\n") {
            assert!(listener.read().await, "{}", listener.unread);
        }
        let (head, rest) = listener.unread.split_once("\r\n\r\n").unwrap();
        (listener.head, listener.unread) = (head.to_owned(), rest.to_owned());
        listener
    }
}

impl Listener {
    /// Reads what there is. Returns false at the end, which may be a reset.
    async fn read(&mut self) -> bool {
        let mut bytes = vec![0; 1 << 16];
        let read = timeout(SOON, self.stream.read(&mut bytes)).await;
        let length = read.expect("something, or the end").unwrap_or_default();
        self.unread.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        length > 0
    }

    /// Returns the next event.
    async fn next(&mut self) -> LiveSample {
        loop {
            // The length of the chunk comes first: this event has no other line.
            if let Some((_, rest)) = self.unread.split_once("event: sample\n")
                && let Some((event, rest)) = rest.split_once("\n\n")
            {
                let sample = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
                self.unread = rest.to_owned();
                return sample;
            }
            assert!(self.read().await, "{}", self.unread);
        }
    }
}

#[tokio::test]
async fn a_client_gets_a_sample_at_once_and_each_second() {
    let test = start(|_| {}).await;
    let orders = test.board.module("orders");
    orders.set_state(State::Running, None);
    test.follow();
    let mut one = test.listen().await;
    for header in [
        "HTTP/1.1 200",
        "content-type: text/event-stream",
        "cache-control: no-store",
        "x-accel-buffering: no",
    ] {
        assert!(one.head.contains(header), "{}", one.head);
    }
    assert!(!one.head.contains("no-cache"), "{}", one.head);
    let first = one.next().await;
    assert_eq!(first.status.modules[0].name, "orders");
    assert_eq!(first.marks.len(), 1);
    assert_eq!(first.marks[0].kind, MarkKind::Started);
    let begin = Instant::now();
    let mut other = test.listen().await;
    let same = other.next().await;
    assert!(begin.elapsed() < Duration::from_millis(400), "{:?}", begin.elapsed());
    assert!(same.time >= first.time);
    assert_eq!(same.marks, first.marks, "it has not been told yet");

    orders.metrics().count(&Counters {
        received: 7,
        ..Counters::default()
    });
    orders.set_state(State::Halted, Some("<b>why</b>\n".to_owned()));
    let mut received = 0.0;
    for _ in 0..3 {
        let sample = one.next().await;
        received += sample.samples["orders"].received.unwrap();
        if let [mark] = &sample.marks[..] {
            assert_eq!((mark.kind, mark.text.as_str()), (MarkKind::Halted, "<b>why</b>\n"));
            assert!(received > 4.0, "{received}");
            let mut told = other.next().await.marks;
            while told.is_empty() {
                told = other.next().await.marks;
            }
            assert_eq!(told, sample.marks);
            return;
        }
        assert_eq!(sample.marks, []);
    }
    panic!("there is no mark about the halt");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody() {
    let test = start(|_| {}).await;
    for module in 0..200 {
        test.board.module(&format!("module-with-a-long-name-{module}"));
    }
    test.follow();
    let silent = test.asks_for_events().await;
    let mut listener = test.listen().await;
    let mut last = listener.next().await.time;
    for _ in 0..3 {
        let time = listener.next().await.time;
        assert!((0.4..1.9).contains(&(time - last)), "{time} {last}");
        last = time;
    }
    drop(silent);
}

#[tokio::test]
async fn events_end_with_the_relay() {
    let mut test = start(|_| {}).await;
    test.follow();
    let mut listener = test.listen().await;
    listener.next().await;
    let begin = Instant::now();
    test.stop().await;
    assert!(begin.elapsed() < Duration::from_millis(900), "{:?}", begin.elapsed());
    while listener.read().await {}
    assert!(
        listener.unread.ends_with("0\r\n\r\n"),
        "the end is told: {:?}",
        listener.unread
    );
}

#[tokio::test(start_paused = true)]
async fn events_last_for_days() {
    let test = start(|_| {}).await;
    // There are no samples, so only comments keep the connection busy.
    let mut listener = test.listen().await;
    let begin = Instant::now();
    let mut comments = 0;
    while begin.elapsed() < Duration::from_secs(3 * 24 * 60 * 60) {
        assert!(listener.read().await, "{:?}", begin.elapsed());
        comments += std::mem::take(&mut listener.unread).matches(":\n\n").count();
    }
    assert!((17_000..=17_300).contains(&comments), "{comments}");
}

#[tokio::test]
async fn who_listens_gives_way_to_a_probe() {
    let test = start(|_| {}).await;
    test.follow();
    let mut listeners = Vec::new();
    for _ in 0..128 {
        listeners.push(test.listen().await);
    }
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let begin = Instant::now();
    assert_eq!(exchange(test.connect().await, request).await.code, 200);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    let mut first = listeners.remove(0);
    while first.read().await {}
    for mut listener in listeners {
        listener.next().await;
    }
}

#[tokio::test]
async fn who_holds_connections_ends_no_events() {
    let test = start(|_| {}).await;
    test.follow();
    let mut listener = test.listen().await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(test.connect().await);
    }
    for _ in 0..2 {
        listener.next().await;
    }
}

#[tokio::test]
async fn the_history_is_served_in_steps() {
    let test = start(|_| {}).await;
    test.board.module("orders").set_state(State::Running, None);
    let path = "/api/v1/history";
    let report = |body: &str| serde_json::from_str::<HistoryReport>(body).unwrap();
    let empty = test.get(&format!("{path}?module=orders"), "").await;
    assert_eq!(
        (empty.code, report(&empty.body).times.len()),
        (200, 0),
        "there is no sample yet"
    );
    test.follow();
    test.listen().await.next().await;

    let reply = test.get(path, "").await;
    assert!(reply.head.contains("content-type: application/json"), "{}", reply.head);
    let usual = report(&reply.body);
    assert_eq!((usual.step_seconds, usual.modules.len(), usual.marks.len()), (5, 1, 1));
    assert!(usual.times[0].is_multiple_of(5));
    let reply = test.get(&format!("{path}?step=60&module=orders"), "").await;
    assert_eq!(report(&reply.body).step_seconds, 60);
    for bad in ["0", "61", "-1", "1.5", "x", ""] {
        let reply = test.get(&format!("{path}?step={bad}"), "").await;
        assert!(
            reply.code == 400 && reply.body.contains("step"),
            "{bad}: {}",
            reply.body
        );
    }
    let reply = test.get(&format!("{path}?step=61"), "").await;
    assert_eq!(reply.body, "`step` is 61; it must be from 1 to 60 seconds.\n");
    assert_eq!(test.get(&format!("{path}?steps=5"), "").await.code, 400);
    let reply = test.get(&format!("{path}?module=mails"), "").await;
    assert_eq!(
        (reply.code, reply.body.as_str()),
        (404, "There is no module `mails`.\n")
    );

    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\r\n");
    let mut stream = test.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&answer[..end]);
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut text = String::new();
    GzDecoder::new(&answer[end..]).read_to_string(&mut text).unwrap();
    assert_eq!(report(&text).step_seconds, 5);
}

#[tokio::test]
async fn reading_needs_a_token_where_one_is_set() {
    let test = start_guarded().await;
    test.follow();
    for path in [PATH, "/api/v1/history"] {
        assert_eq!(test.get(path, "").await.code, 401);
        let page = format!("{}Origin: http://evil.example\r\n", bearer(READ));
        assert_eq!(test.get(path, &page).await.code, 403);
    }
    assert_eq!(test.get("/api/v1/history", &bearer(READ)).await.code, 200);
}
