//! Checks what the support crate promises the relay's tests, against the servers that it starts.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use slipring_support::servers::{Centrifugo, NatsServer};
use slipring_support::subscriber::Subscriber;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn nats_keeps_its_port_and_its_stream_over_a_stop_and_a_kill() -> Result<()> {
    let mut nats = NatsServer::start().await?;
    let url = nats.url();
    let stream = async_nats::jetstream::stream::Config {
        name: "ORDERS".into(),
        subjects: vec!["orders.>".into()],
        ..Default::default()
    };
    let jetstream = nats.jetstream().await?;
    jetstream.create_stream(stream).await?;
    jetstream.publish("orders.1", "one".into()).await?.await?;

    nats.restart().await?;
    nats.jetstream().await?.publish("orders.1", "two".into()).await?.await?;

    nats.kill();
    nats.restart().await?;
    assert_eq!(nats.url(), url);
    let mut stream = nats.jetstream().await?.get_stream("ORDERS").await?;
    assert_eq!(stream.info().await?.state.messages, 2);
    Ok(())
}

#[tokio::test]
async fn nats_says_why_it_does_not_start() {
    let error = NatsServer::start_with("no_such_setting: 1").await.unwrap_err();
    assert!(format!("{error:#}").contains("no_such_setting"), "{error:#}");
}

#[tokio::test]
async fn what_is_published_is_in_the_history_and_at_the_subscriber() -> Result<()> {
    let mut centrifugo = Centrifugo::start().await?;
    let channels: Vec<String> = (0..1_200).map(|n| format!("test:{n}")).collect();
    let mut subscriber = Subscriber::connect(&centrifugo.websocket_url(), &channels).await?;
    assert_eq!(centrifugo.channels().await?.len(), channels.len());

    let tagged = json!({ "channel": "test:7", "data": { "n": 1 }, "tags": { "kind": "first" } });
    centrifugo.api("publish", tagged).await?;
    centrifugo.publish("test:1199", json!([2])).await?;

    let received = subscriber.take(2, PATIENCE).await?;
    assert_eq!(received[0].channel, "test:7");
    assert_eq!(received[0].publication.text(), r#"{"n":1}"#);
    assert_eq!(received[0].publication.tags["kind"], "first");
    assert_eq!(
        (received[0].publication.offset, received[1].channel.as_str()),
        (1, "test:1199")
    );
    assert_eq!(received[1].publication.json::<Vec<u64>>()?, [2]);

    let history = centrifugo.history("test:7").await?;
    assert_eq!(history.len(), 1);
    assert_eq!((history[0].offset, history[0].text().as_str()), (1, r#"{"n":1}"#));

    // A subscriber is told when its connection ends. A restart keeps address and key, and forgets the history.
    centrifugo.restart().await?;
    let error = subscriber.next(PATIENCE).await.unwrap_err();
    assert!(format!("{error:#}").contains("closed the connection"), "{error:#}");
    assert!(centrifugo.history("test:7").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn binary_data_arrives_as_it_was_published_and_pings_are_answered() -> Result<()> {
    let centrifugo = Centrifugo::start_with(|config| {
        config["client"]["ping_interval"] = json!("100ms");
        config["client"]["pong_timeout"] = json!("50ms");
    });
    let centrifugo = centrifugo.await?;
    let mut subscriber = Subscriber::connect(&centrifugo.websocket_url(), ["plain:1"]).await?;
    // Long enough for the server to miss several answers and close the connection, if they did not come.
    let silence = subscriber.next(Duration::from_millis(600)).await.unwrap_err();
    assert!(silence.to_string().contains("nothing arrived"), "{silence:#}");
    centrifugo
        .api("publish", json!({ "channel": "plain:1", "b64data": "AAECAwT/" }))
        .await?;
    assert_eq!(subscriber.next(PATIENCE).await?.publication.data, [0, 1, 2, 3, 4, 255]);
    Ok(())
}

#[tokio::test]
async fn a_long_history_is_read_whole() -> Result<()> {
    let centrifugo = Centrifugo::start().await?;
    let commands: Vec<Value> = (0..25_000)
        .map(|n| json!({ "publish": { "channel": "test:long", "data": n } }))
        .collect();
    assert_eq!(centrifugo.batch(&commands).await?.len(), commands.len());
    let numbers: Result<Vec<usize>> = centrifugo
        .history("test:long")
        .await?
        .iter()
        .map(|p| p.json())
        .collect();
    assert!(numbers?.into_iter().eq(0..25_000));
    Ok(())
}

#[tokio::test]
async fn centrifugo_refuses_what_its_configuration_does_not_know() -> Result<()> {
    let centrifugo =
        Centrifugo::start_with(|config| config["channel"]["namespaces"] = json!([{ "name": "other" }])).await?;
    centrifugo.publish("other:1", json!(1)).await?;
    let error = centrifugo.publish("test:1", json!(1)).await.unwrap_err();
    assert!(error.to_string().contains("unknown channel"), "{error}");
    let error = Subscriber::connect(&centrifugo.websocket_url(), ["test:1"])
        .await
        .unwrap_err();
    assert!(format!("{error:#}").contains("test:1: "), "{error:#}");
    Ok(())
}
