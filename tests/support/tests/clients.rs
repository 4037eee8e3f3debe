//! Other clients against Centrifugo alone, without the relay. Ignored by default, because they need Node.js: `make
//! test-clients` runs them.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use slipring_support::clients::JavaScriptClient;
use slipring_support::servers::Centrifugo;

#[tokio::test]
#[ignore = "needs Node.js: make test-clients"]
async fn javascript_client_hands_over_what_it_receives_even_too_much() -> Result<()> {
    let centrifugo = Centrifugo::start().await?;
    let channels = ["test:1", "test:2"].map(str::to_owned);
    let client = JavaScriptClient::start(&centrifugo.websocket_url(), &channels, 2).await?;
    for (channel, number) in [("test:1", 1), ("test:2", 2), ("test:1", 3), ("test:3", 4)] {
        centrifugo.publish(channel, json!({ "number": number })).await?;
    }
    let delivered = client.finish(Duration::from_secs(30)).await?;
    let numbers: Vec<(String, Value)> = delivered
        .into_iter()
        .map(|delivered| {
            Ok((
                delivered.channel,
                delivered.publication.json::<Value>()?["number"].take(),
            ))
        })
        .collect::<Result<_>>()?;
    assert_eq!(
        numbers,
        [("test:1", 1), ("test:2", 2), ("test:1", 3)].map(|(channel, number)| (channel.to_owned(), json!(number)))
    );
    Ok(())
}
