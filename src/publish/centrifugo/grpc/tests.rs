//! The endpoint against a Centrifugo that fails on demand. The meaning of each status is tested in `status`, and the
//! content of the messages in `wire`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use slipring_support::Api;
use slipring_support::fake_centrifugo::{API_KEY, Answer as Fate, FakeCentrifugo, Plan};
use tokio::net::TcpListener;

use super::*;
use crate::config::Secret;
use crate::message::{Body, Publication};
use crate::publish::{Client, Reply, RequestId};

fn client(endpoints: &[&str], key: &str) -> Client {
    let config = config::Centrifugo {
        endpoints: endpoints.iter().map(|url| Url::parse(url).unwrap()).collect(),
        api_key: Some(Secret::new(key)),
        timeout: Duration::from_millis(300),
        tls: config::Tls::default(),
    };
    Client::new(&config).unwrap()
}

async fn fake(fate: Fate) -> (FakeCentrifugo, Client) {
    let fake = FakeCentrifugo::start_with(move |_| Plan::answer(fate)).await.unwrap();
    let client = client(&[&fake.endpoint(Api::Grpc)], API_KEY);
    (fake, client)
}

fn request() -> Request {
    let publication = Publication::new(
        vec![Arc::from("any")],
        Body::Json(RawValue::from_string("1".to_owned()).unwrap()),
    );
    Request::new(RequestId(0), vec![publication.into()], 0)
}

fn lost(answer: Answer) -> String {
    match answer {
        Answer::Lost { reason } => reason,
        other => panic!("{other:?} is not lost"),
    }
}

fn is_confirmed(answer: &Answer) -> bool {
    matches!(answer, Answer::Replies(replies) if matches!(replies.as_slice(), [Reply::Confirmed(Some(_))]))
}

#[tokio::test]
async fn the_key_lets_requests_in() {
    let (fake, right) = fake(Fate::Replies).await;
    let answer = right.send(&request()).await;
    assert!(is_confirmed(&answer), "{answer:?}");
    assert_eq!(right.probe().await, Ok(()));

    let wrong = client(&[&fake.endpoint(Api::Grpc)], "another");
    match wrong.send(&request()).await {
        Answer::Denied { reason } => assert!(
            reason.contains("GRPC Unauthenticated: unauthenticated") && reason.contains("grpc_api.key"),
            "{reason}"
        ),
        other => panic!("{other:?}"),
    }
    assert!(wrong.probe().await.is_err());
    assert!(!format!("{wrong:?}").contains("another"));
}

#[tokio::test]
async fn a_status_says_what_it_does_over_http() {
    for status in [400, 413] {
        let (_fake, client) = fake(Fate::Status {
            status,
            executed: false,
        })
        .await;
        match client.send(&request()).await {
            Answer::Refused { status: found, .. } => assert_eq!(found, status),
            other => panic!("{status}: {other:?}"),
        }
    }
    for status in [429, 500, 503] {
        let (fake, client) = fake(Fate::Status {
            status,
            executed: false,
        })
        .await;
        let reason = lost(client.send(&request()).await);
        assert!(
            reason.contains(&fake.endpoint(Api::Grpc)) && reason.contains("GRPC "),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn a_time_out_a_cut_and_a_refused_connection_say_so() {
    let (silent, client_of_silent) = fake(Fate::Silence { executed: true }).await;
    let reason = lost(client_of_silent.send(&request()).await);
    assert!(reason.contains("timed out"), "{reason}");
    assert_eq!(silent.batch_requests(Api::Grpc), 1, "the client does not retry");

    let (cut, client_of_cut) = fake(Fate::Cut { executed: true }).await;
    let reason = lost(client_of_cut.send(&request()).await);
    assert!(!reason.contains("timed out"), "{reason}");
    assert_eq!(cut.batch_requests(Api::Grpc), 1, "the client does not retry");
    cut.behave(|_| Plan::execute());
    assert!(is_confirmed(&client_of_cut.send(&request()).await), "it connects again");

    // Nothing listens on a port that was just released.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("grpc://{}", listener.local_addr().unwrap());
    drop(listener);
    let reason = lost(client(&[&url], API_KEY).send(&request()).await);
    assert!(
        reason.contains(&url) && reason.to_lowercase().contains("connection refused"),
        "{reason}"
    );
}

/// TCP would keep a connection that leads nowhere for a quarter of an hour.
#[tokio::test]
async fn after_a_time_out_the_next_request_has_a_new_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client(&[&format!("grpc://{}", listener.local_addr().unwrap())], API_KEY);
    let mut silent = Vec::new();
    for _ in 0..3 {
        let request = request();
        let (answer, connection) = tokio::join!(client.send(&request), listener.accept());
        assert!(lost(answer).contains("timed out"));
        silent.push(connection.unwrap());
    }
}

/// A request that breaks its connection breaks everything else on it.
#[tokio::test]
async fn requests_that_are_apart_have_a_connection_of_their_own() {
    let (fake, one) = fake(Fate::Replies).await;
    let other = one.apart().unwrap();
    for client in [&one, &other] {
        assert!(is_confirmed(&client.send(&request()).await));
    }
    fake.behave(|_| Plan::answer(Fate::Silence { executed: false }));
    let (one, before) = (Arc::new(one), fake.batch_requests(Api::Grpc));
    let usual = tokio::spawn({
        let one = Arc::clone(&one);
        async move { one.send(&request()).await }
    });
    let others = tokio::spawn(async move { other.send(&request()).await });
    while fake.batch_requests(Api::Grpc) < before + 2 && !(usual.is_finished() && others.is_finished()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fake.behave(|_| Plan::answer(Fate::Cut { executed: false }));
    assert!(!lost(one.send(&request().apart(true)).await).contains("timed out"));
    // Neither of the two was cut.
    assert!(lost(usual.await.unwrap()).contains("timed out"));
    assert!(lost(others.await.unwrap()).contains("timed out"));
}

#[tokio::test]
async fn endpoints_of_both_apis_may_be_mixed() {
    let bad = FakeCentrifugo::start_with(|_| {
        Plan::answer(Fate::Status {
            status: 503,
            executed: false,
        })
    });
    let (bad, good) = (bad.await.unwrap(), FakeCentrifugo::start().await.unwrap());
    let (one, two) = (bad.endpoint(Api::Grpc), good.endpoint(Api::Http));
    let client = client(&[&one, &two], API_KEY);
    lost(client.send(&request()).await);
    assert!(is_confirmed(&client.send(&request().to(1)).await));
    assert_eq!(good.batch_requests(Api::Http), 1);
}

#[test]
fn a_port_is_assumed_and_a_path_is_refused() {
    let server = |url: &str| {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = config::Centrifugo {
            endpoints: Vec::new(),
            api_key: None,
            timeout: Duration::from_secs(1),
            tls: config::Tls::default(),
        };
        server(&config, &Url::parse(url).unwrap()).map(|server| server.uri().to_string())
    };
    assert_eq!(server("grpc://c").unwrap(), "http://c:10000/");
    assert_eq!(server("grpc://[::1]:7/").unwrap(), "http://[::1]:7/");
    assert_eq!(server("grpcs://c.example").unwrap(), "https://c.example:10000/");
    assert_eq!(
        server("grpc://c/api").unwrap_err().to_string(),
        "`grpc://c/api` is not an endpoint of Centrifugo's API: it must be a URL such as `http://host:8000` or `grpc://host:10000`"
    );
}
