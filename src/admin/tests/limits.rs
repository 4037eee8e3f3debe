//! What a client cannot do: hold something for ever, or more than its share.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{Test, exchange, start};

/// Waits until the server closes the connection. Returns what it sent, and how long that took.
async fn until_closed(mut stream: TcpStream) -> (String, Duration) {
    let begin = Instant::now();
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ = timeout(Duration::from_secs(60), stream.read_to_end(&mut answer))
        .await
        .expect("an end");
    (String::from_utf8_lossy(&answer).into_owned(), begin.elapsed())
}

async fn writes(test: &Test, text: &str) -> TcpStream {
    let mut stream = test.connect().await;
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(start_paused = true)]
async fn a_head_has_to_arrive_in_ten_seconds() {
    let test = start(|_| {}).await;
    for begun in ["", "G", "GET / HTTP/1.1\r\nHost: localhost\r\n"] {
        let (answer, took) = until_closed(writes(&test, begun).await).await;
        assert!(!answer.contains("200"), "{answer}");
        assert!((9..=11).contains(&took.as_secs()), "{begun:?} {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_has_no_more_time() {
    let test = start(|_| {}).await;
    let (mut reader, mut writer) = test.connect().await.into_split();
    let trickle = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        while writer.write_all(b"G").await.is_ok() {
            tick.tick().await;
        }
    });
    let begin = Instant::now();
    let _ = reader.read_to_end(&mut Vec::new()).await;
    assert!((9..=12).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    trickle.abort();
}

#[tokio::test(start_paused = true)]
async fn a_connection_between_two_requests_ends() {
    let test = start(|_| {}).await;
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (answer, took) = until_closed(writes(&test, request).await).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"),
        "{answer}"
    );
    assert!((9..=11).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_body_has_to_arrive_in_ten_seconds() {
    let test = start(|_| {}).await;
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n1234";
    let (answer, took) = until_closed(writes(&test, request).await).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    // The answer ends the request, and the next head does not come either.
    assert!((9..=21).contains(&took.as_secs()), "{took:?}");
}

#[tokio::test]
async fn a_body_has_at_most_64_kib() {
    let test = start(|_| {}).await;
    let request = |length: usize| {
        let body = "x".repeat(length);
        format!(
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    assert_eq!(test.send(&request(64 << 10)).await.code, 200);
    assert_eq!(test.send(&request((64 << 10) + 1)).await.code, 413);
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x1_0000));
    let head = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(test.send(&format!("{head}{chunk}0\r\n\r\n")).await.code, 200);
    assert_eq!(test.send(&format!("{head}{chunk}1\r\nx\r\n0\r\n\r\n")).await.code, 413);
}

#[tokio::test]
async fn a_head_has_at_most_16_kib() {
    let test = start(|_| {}).await;
    let with = |header: usize| format!("X-Long: {}\r\n", "x".repeat(header));
    assert_eq!(test.get("/healthz", &with(15 << 10)).await.code, 200);
    assert_eq!(test.get("/healthz", &with(16 << 10)).await.code, 431);
    assert_eq!(test.get(&format!("/{}", "x".repeat(17 << 10)), "").await.code, 431);
}

#[tokio::test(start_paused = true)]
async fn the_longest_idle_of_128_connections_gives_way() {
    let test = start(|_| {}).await;
    let begin = Instant::now();
    let mut idle = Vec::new();
    for _ in 0..128 {
        idle.push(test.connect().await);
    }
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(test.connect().await, request).await.code, 200);
    assert_eq!(
        idle.remove(0).read(&mut [0]).await.unwrap_or_default(),
        0,
        "the oldest is closed"
    );
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    // The others are still served.
    for stream in idle {
        assert_eq!(exchange(stream, request).await.code, 200);
    }
}
