//! Which hosts and origins a request may have.

use super::{Test, bearer, start};

async fn code(test: &Test, request_line: &str, headers: &[&str]) -> u16 {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let request = format!("{request_line}\r\n{headers}Connection: close\r\n\r\n");
    test.send(&request).await.code
}

async fn named() -> Test {
    start(|config| config.hosts = vec!["relay.example".to_owned()]).await
}

const GET: &str = "GET /api/v1/status HTTP/1.1";

/// Values of `Host` for which the relay answers.
const GOOD: [&str; 22] = [
    "localhost",
    "LocalHost",
    "localhost.",
    "localhost:8787",
    "localhost:",
    "127.0.0.1",
    "127.0.0.1:8787",
    "127.0.0.1:1",
    "127.255.0.7",
    "127.0.0.1.",
    "[::1]",
    "[::1]:8787",
    "[0:0:0:0:0:0:0:1]:8787",
    "[::ffff:127.0.0.1]",
    "10.0.0.7",
    "10.0.0.7:8787",
    "[2001:DB8::1]:443",
    "relay.example",
    "relay.example:443",
    "RELAY.example.",
    "relay.example.:8787",
    " localhost ",
];

/// Names of others.
const FOREIGN: [&str; 14] = [
    "evil.example",
    "evil.example:8787",
    "evil.example.",
    "EVIL.EXAMPLE",
    "localhost.evil.example",
    "evil.localhost",
    "relay.example.evil.example",
    "a.relay.example",
    "127.0.0.1.evil.example",
    "127.1",
    "0x7f.0.0.1",
    "2130706433",
    "127.0.0.1..",
    "localhosts",
];

/// What is no host.
const MALFORMED: [&str; 20] = [
    "",
    " ",
    ".",
    ":8787",
    "localhost:http",
    "localhost:99999",
    "localhost:-1",
    "localhost:1:2",
    "user@localhost",
    "user:password@localhost",
    "localhost@evil.example",
    "localhost, evil.example",
    "localhost evil.example",
    "localhost/evil.example",
    "http://localhost",
    "::1",
    "[::1",
    "[::1]8787",
    "[localhost]",
    "evil%2eexample",
];

#[tokio::test]
async fn the_relay_answers_only_for_itself() {
    let test = named().await;
    for (hosts, expected) in [(&GOOD[..], 200), (&FOREIGN[..], 421), (&MALFORMED[..], 400)] {
        for host in hosts {
            assert_eq!(
                code(&test, GET, &[&format!("Host: {host}")]).await,
                expected,
                "{host:?}"
            );
        }
    }
}

#[tokio::test]
async fn there_is_one_host() {
    let test = named().await;
    assert_eq!(code(&test, GET, &[]).await, 400);
    for pair in [
        ["Host: localhost", "Host: localhost"],
        ["Host: localhost", "Host: evil.example"],
        ["Host: evil.example", "host: localhost"],
        ["Host: localhost", "Host:"],
    ] {
        assert_eq!(code(&test, GET, &pair).await, 400, "{pair:?}");
    }
    let old = "GET /api/v1/status HTTP/1.0";
    assert_eq!(code(&test, old, &[]).await, 400);
    assert_eq!(code(&test, old, &["Host: localhost"]).await, 200);
    assert_eq!(code(&test, old, &["Host: evil.example"]).await, 421);
}

#[tokio::test]
async fn a_request_line_may_have_a_host_too() {
    let test = named().await;
    for (target, host, expected) in [
        ("http://localhost/api/v1/status", "localhost", 200),
        ("http://127.0.0.1:8787/api/v1/status", "localhost", 200),
        ("https://relay.example/api/v1/status", "localhost", 200),
        ("http://evil.example/api/v1/status", "localhost", 421),
        ("http://localhost/api/v1/status", "evil.example", 421),
        ("http://EVIL.example:80/api/v1/status", "127.0.0.1", 421),
        ("http://user@localhost/api/v1/status", "localhost", 400),
        ("http://evil.example@localhost/api/v1/status", "localhost", 400),
        ("//evil.example/api/v1/status", "localhost", 404),
    ] {
        let line = format!("GET {target} HTTP/1.1");
        assert_eq!(
            code(&test, &line, &[&format!("Host: {host}")]).await,
            expected,
            "{target} {host}"
        );
    }
    assert_eq!(
        code(&test, "CONNECT evil.example:80 HTTP/1.1", &["Host: localhost"]).await,
        421
    );
    assert_eq!(code(&test, "OPTIONS * HTTP/1.1", &["Host: evil.example"]).await, 421);
}

#[tokio::test]
async fn http_2_is_not_spoken() {
    let test = named().await;
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut stream = test.connect().await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, preface.as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer)
        .await
        .unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
}

#[tokio::test]
async fn the_answer_names_the_key_to_change() {
    let test = named().await;
    let reply = test
        .send("GET / HTTP/1.1\r\nHost: Relay-2.example:8787\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(
        reply.body,
        "The relay does not answer to the name `relay-2.example`. Use its IP address, or add the name to `admin.hosts`.\n"
    );
}

#[tokio::test]
async fn a_probe_may_use_any_name() {
    let test = named().await;
    test.board.nats_disconnected(None);
    for (path, expected) in [("/healthz", 200), ("/readyz", 503)] {
        for host in ["Host: evil.example", "Host: pod-7", "Host:", "Host: localhost"] {
            let line = format!("GET {path} HTTP/1.1");
            assert_eq!(code(&test, &line, &[host]).await, expected, "{path} {host}");
        }
        let old = format!("GET {path} HTTP/1.0");
        assert_eq!(code(&test, &old, &[]).await, expected, "{path}");
    }
}

#[tokio::test]
async fn a_rebound_page_cannot_send_a_command_even_with_the_token() {
    let test = named().await;
    let headers = format!(
        "Host: evil.example\r\nslipring-command: 1\r\n{}",
        bearer(&test.created_token())
    );
    let request = format!("POST /api/v1/modules/orders/rollback HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    assert_eq!(test.send(&request).await.code, 421);
}

#[tokio::test]
async fn pages_of_other_sites_get_nothing() {
    let test = named().await;
    for (host, headers, expected) in [
        ("localhost:8787", &["Origin: http://localhost:8787"][..], 200),
        ("LOCALHOST.:8787", &["Origin: http://localhost:8787"], 200),
        ("localhost", &["Origin: http://localhost"], 200),
        ("localhost:80", &["Origin: http://localhost"], 200),
        ("relay.example", &["Origin: https://relay.example"], 200),
        ("[::1]:1", &["Origin: http://[0::1]:1"], 200),
        ("localhost", &["Sec-Fetch-Site: same-origin"], 200),
        ("localhost", &["Sec-Fetch-Site: none"], 200),
        // What a page sends whose own name leads here (DNS rebinding): the name is what is wrong.
        ("evil.example", &["Origin: http://evil.example"], 421),
        ("evil.example", &["Sec-Fetch-Site: same-origin"], 421),
        ("evil.example", &["Origin: http://localhost"], 421),
        ("localhost:8787", &["Origin: http://localhost:3000"], 403),
        ("localhost:8787", &["Origin: http://127.0.0.1:8787"], 403),
        ("localhost:8787", &["Origin: https://localhost"], 403),
        ("localhost", &["Origin: http://evil.example"], 403),
        ("localhost", &["Origin: http://localhost.evil.example"], 403),
        ("localhost", &["Origin: http://localhost@evil.example"], 403),
        ("localhost", &["Origin: null"], 403),
        ("localhost", &["Origin:"], 403),
        ("localhost", &["Origin: localhost"], 403),
        ("localhost", &["Origin: file://"], 403),
        ("localhost", &["Origin: http://localhost/"], 403),
        ("localhost", &["Origin: chrome-extension://abcdef"], 403),
        (
            "localhost",
            &["Origin: http://localhost", "Origin: http://evil.example"],
            403,
        ),
        ("localhost", &["Sec-Fetch-Site: cross-site"], 403),
        ("localhost", &["Sec-Fetch-Site: same-site"], 403),
        ("localhost", &["Sec-Fetch-Site:"], 403),
        (
            "localhost",
            &["Sec-Fetch-Site: none", "Sec-Fetch-Site: cross-site"],
            403,
        ),
        (
            "localhost",
            &["Origin: http://localhost", "Sec-Fetch-Site: cross-site"],
            403,
        ),
    ] {
        let host = format!("Host: {host}");
        let all = [&[&*host], headers].concat();
        assert_eq!(code(&test, GET, &all).await, expected, "{all:?}");
    }
    for path in ["/", "/healthz", "/readyz", "/metrics", "/elsewhere"] {
        let line = format!("GET {path} HTTP/1.1");
        let headers = ["Host: localhost", "Origin: http://evil.example"];
        assert_eq!(code(&test, &line, &headers).await, 403, "{path}");
    }
    let preflight = [
        "Host: localhost",
        "Origin: http://evil.example",
        "Access-Control-Request-Method: POST",
    ];
    assert_eq!(
        code(&test, "OPTIONS /api/v1/modules/orders/retry HTTP/1.1", &preflight).await,
        403
    );
}
