//! Compares the fake with what was measured on Centrifugo 6.9.1.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::*;

/// Posts a batch as the relay would.
async fn post(fake: &FakeCentrifugo, commands: Value) -> reqwest::Result<reqwest::Response> {
    send(fake, API_KEY, json!({ "commands": commands }).to_string()).await
}

async fn send(fake: &FakeCentrifugo, key: &str, body: String) -> reqwest::Result<reqwest::Response> {
    let request = crate::http_client()
        .post(format!("{}/api/batch", fake.url()))
        .timeout(Duration::from_secs(2));
    request.header("X-API-Key", key).body(body).send().await
}

async fn replies(fake: &FakeCentrifugo, commands: Value) -> Result<Value> {
    Ok(post(fake, commands).await?.error_for_status()?.json::<Value>().await?["replies"].take())
}

fn publish(channel: &str, key: &str) -> Value {
    json!({ "publish": { "channel": channel, "data": key, "idempotency_key": key } })
}

fn keys(executed: &[Executed]) -> Vec<&str> {
    executed
        .iter()
        .filter_map(|publication| publication.command.idempotency_key.as_deref())
        .collect()
}

#[tokio::test]
async fn answers_like_the_real_one() -> Result<()> {
    let fake = FakeCentrifugo::start().await?;
    let commands = json!([
        publish("a:1", "k1"),
        { "broadcast": { "channels": ["a:1", "", "a:2"], "data": {} } },
        { "publish": { "channel": "", "data": {} } },
        { "publish": { "channel": "a:1" } },
        { "broadcast": { "channels": [], "data": {} } },
    ]);
    let bad_request = json!({ "error": { "code": 107, "message": "bad request" } });
    let ok = |offset| json!({ "offset": offset, "epoch": "fake" });
    let expected = json!([
        { "publish": ok(1) },
        { "broadcast": { "responses": [{ "result": ok(2) }, bad_request, { "result": ok(1) }] } },
        bad_request,
        bad_request,
        bad_request,
    ]);
    assert_eq!(replies(&fake, commands).await?, expected);
    assert_eq!(fake.channels(), ["a:1", "a:2"]);
    assert_eq!(fake.shown("a:1").len(), 2);
    Ok(())
}

#[tokio::test]
async fn refuses_a_wrong_key_a_wrong_path_and_broken_json() -> Result<()> {
    let fake = FakeCentrifugo::start().await?;
    assert_eq!(send(&fake, "wrong", r#"{"commands":[]}"#.into()).await?.status(), 401);
    assert_eq!(
        send(&fake, API_KEY, r#"{"commands":[{"publish":{"data":{]}}"#.into())
            .await?
            .status(),
        400
    );
    assert_eq!(reqwest::get(format!("{}/api/frob", fake.url())).await?.status(), 404);
    assert_eq!((fake.requests("/api/batch"), fake.requests("/api/frob")), (2, 1));
    assert!(fake.executed().is_empty() && fake.batches().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_key_or_a_version_suppresses_and_the_reply_looks_the_same() -> Result<()> {
    let fake = FakeCentrifugo::start().await?;
    let versioned = |version: u64, epoch: &str| json!({ "publish": { "channel": "v", "data": version, "version": version, "version_epoch": epoch } });
    let commands = json!([
        publish("k", "a"),
        publish("k", "a"),
        versioned(5, "x"),
        versioned(5, "x"),
        versioned(6, "x"),
        versioned(1, "y")
    ]);
    let replies = replies(&fake, commands).await?;
    assert_eq!(replies[0], replies[1]);
    assert_eq!(replies[2], replies[3]);
    assert_eq!(keys(&fake.shown("k")), ["a"]);
    let shown: Vec<Option<u64>> = fake
        .shown("v")
        .iter()
        .map(|publication| publication.command.version)
        .collect();
    assert_eq!(shown, [Some(5), Some(6), Some(1)]);
    assert_eq!(fake.executed().len(), 6);
    Ok(())
}

#[tokio::test]
async fn a_command_can_fail_before_or_after_it_is_executed() -> Result<()> {
    let plan = [OnCommand::Fail(100), OnCommand::ExecuteAndFail(100)];
    let fake = FakeCentrifugo::start_with(move |_| Plan {
        commands: plan.to_vec(),
        ..Plan::execute()
    })
    .await?;
    let replies = replies(&fake, json!([publish("a", "1"), publish("a", "2"), publish("a", "3")])).await?;
    assert_eq!(
        (&replies[0]["error"]["code"], &replies[1]["error"]["code"]),
        (&json!(100), &json!(100))
    );
    assert!(replies[2]["publish"].is_object());
    assert_eq!(keys(&fake.shown("a")), ["2", "3"]);
    Ok(())
}

#[tokio::test]
async fn a_request_can_fail_before_or_after_it_is_executed() -> Result<()> {
    let fake = FakeCentrifugo::start().await?;
    for (answer, key) in [
        (
            Answer::Status {
                status: 500,
                executed: false,
            },
            "a",
        ),
        (
            Answer::Status {
                status: 503,
                executed: true,
            },
            "b",
        ),
        (Answer::Cut { executed: false }, "c"),
        (Answer::Cut { executed: true }, "d"),
    ] {
        fake.behave(move |_| Plan::answer(answer));
        let outcome = match post(&fake, json!([publish("a", key)])).await {
            Ok(response) => response
                .error_for_status_ref()
                .map(drop)
                .and(response.bytes().await.map(drop)),
            Err(error) => Err(error),
        };
        assert!(outcome.is_err_and(|error| !error.is_timeout()), "{answer:?}");
    }
    assert_eq!(keys(&fake.executed()), ["b", "d"]);
    Ok(())
}

#[tokio::test]
async fn silence_and_delay_go_on_when_the_client_hangs_up() -> Result<()> {
    let fake = FakeCentrifugo::start_with(|batch| match batch.number {
        0 => Plan::answer(Answer::Silence { executed: true }),
        _ => Plan::execute().after(Duration::from_millis(300)),
    });
    let fake = fake.await?;
    for key in ["a", "b"] {
        let request = tokio::time::timeout(Duration::from_millis(100), post(&fake, json!([publish("a", key)])));
        assert!(request.await.is_err());
    }
    crate::eventually(Duration::from_secs(5), "both publications", async || {
        match fake.executed() {
            executed if keys(&executed) == ["a", "b"] => Ok(()),
            executed => Err(format!("{executed:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn faults_are_the_same_for_the_same_seed_and_all_kinds_happen() {
    let batch = |number| Batch {
        number,
        commands: store::read_commands(br#"{"commands":[{"publish":{}}]}"#).unwrap(),
    };
    let plans = |seed| {
        let mut behaviour = Faults::mixed().seeded(seed);
        (0..500).map(|number| behaviour(&batch(number))).collect::<Vec<_>>()
    };
    let (first, second) = (plans(7), plans(7));
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
    assert_ne!(format!("{first:?}"), format!("{:?}", plans(8)));
    let answered = |kind: fn(&Answer) -> bool| first.iter().filter(|plan| kind(&plan.answer)).count();
    assert!(answered(|a| matches!(a, Answer::Silence { .. })) > 5);
    assert!(answered(|a| matches!(a, Answer::Cut { .. })) > 5);
    assert!(answered(|a| matches!(a, Answer::Status { status: 500, .. })) > 5);
    assert!(answered(|a| matches!(a, Answer::Replies)) > 350);
    assert!(
        first
            .iter()
            .any(|plan| plan.commands == [OnCommand::ExecuteAndFail(100)])
    );
    assert!(first.iter().any(|plan| plan.commands == [OnCommand::Fail(100)]));
    assert!(first.iter().any(|plan| plan.delay > Duration::ZERO));
}
