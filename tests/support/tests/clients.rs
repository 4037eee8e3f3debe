//! The clients that others wrote, against Centrifugo alone: what they accept and what they refuse. Ignored by default, since
//! they need Node.js: `make test-clients` runs them.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use slipring_support::clients::JavaScriptClient;
use slipring_support::servers::Centrifugo;

/// Publishes these sequence numbers in `test:1`, and returns what the client says.
async fn receive(numbers: &[u64]) -> Result<String> {
    let centrifugo = Centrifugo::start().await?;
    let client = JavaScriptClient::start(&centrifugo.websocket_url(), &["test:{1..3}"], 5, "seq").await?;
    for number in numbers {
        centrifugo.publish("test:1", json!({ "seq": number })).await?;
    }
    client.finish(Duration::from_secs(30)).await
}

#[tokio::test]
#[ignore = "needs Node.js: make test-clients"]
async fn javascript_client_accepts_an_unbroken_sequence() -> Result<()> {
    assert_eq!(
        receive(&[1, 2, 3, 4, 5]).await?,
        "5 of 5 publications in 1 channels, 0 violations"
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs Node.js: make test-clients"]
async fn javascript_client_refuses_a_repeat_a_gap_and_one_too_many() {
    for (numbers, complaint) in [
        (vec![1, 2, 2, 3, 4], "test:1: 2 arrived where 3 was due"),
        (vec![1, 2, 4, 5, 6], "test:1: 4 arrived where 3 was due: missing"),
        (vec![1, 2, 3, 4, 5, 6], "6 publications arrived, 5 were expected"),
    ] {
        let error = receive(&numbers).await.unwrap_err();
        assert!(format!("{error:#}").contains(complaint), "{error:#}");
    }
}
