//! Publications that Centrifugo accepts but clients may not receive. Each kind is logged once. Data that one of its
//! transports cannot carry is sent over neither.

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use serde_json::json;
use slipring_support::{Api, guests};

use super::commands::{exits, stderr};
use super::dead_letters::dead_letters;
use super::world::{SOON, World, over_both};

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_said_once() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let relay = world.run().await?;
    let wish = |channel: &str| json!([{ "channels": [channel], "data": 1 }]).to_string();
    let large = (2_usize << 20).to_string();
    for _ in 0..3 {
        world
            .publish([
                ("unruly.publish", wish("unruly:größe")),
                ("unruly.publish", wish("unruly:#17")),
                ("unruly.binary", "bytes".to_owned()),
                ("unruly.large", large.clone()),
            ])
            .await?;
    }
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    let said = |text: &str| relay.log().iter().filter(|line| line.contains(text)).count();
    for text in [
        "`unruly:größe` has non-ASCII characters",
        "`unruly:ok` is binary",
        "has 2097152 bytes",
    ] {
        relay.has_logged(SOON, text).await?;
        ensure!(said(text) == 1, "{text}: {:#?}", relay.log());
    }
    ensure!(said("each kind is logged once") == 3, "{:#?}", relay.log());
    ensure!(
        world.centrifugo.history("unruly:größe").await?.len() == 3,
        "they are published all the same"
    );

    // `slipring try` reports it too.
    let module = guests::component("unruly")?;
    std::fs::write(
        world.home.path().join("messages.jsonl"),
        json!({ "subject": "unruly.publish", "payload": wish("unruly:größe") }).to_string(),
    )?;
    let arguments = ["try", module.to_str().context("a path")?, "messages.jsonl"];
    let output = world.home.command(arguments).output()?;
    exits(&output, 0)?;
    ensure!(
        stderr(&output).contains("Centrifugo lets no client subscribe to it"),
        "{}",
        stderr(&output)
    );
    Ok(())
}

async fn json_is_as_deep_as_both_transports_take(api: Api) -> Result<()> {
    let world = World::start_over(api).await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let _relay = world.run().await?;
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for levels in [9_990, 9_991] {
        let mut headers = HeaderMap::new();
        headers.insert("Channel", "unruly:deep");
        let publish = world
            .jetstream
            .publish_with_headers("unruly.ok", headers, nested(levels).into());
        publish.await?.await?;
    }
    let letters = dead_letters(&world, "unruly", 1).await?;
    let [stage, code, channel, reason] = letters[0].why();
    ensure!(
        [stage, code, channel] == ["transform", "json", "unruly:deep"],
        "{:?}",
        letters[0].why()
    );
    ensure!(reason.contains("nested deeper than 9990 levels"), "{reason}");
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    // Centrifugo returns the channel's history.
    let history = world.centrifugo.history("unruly:deep").await?;
    ensure!(
        history.len() == 1 && history[0].text() == nested(9_990),
        "{} publications",
        history.len()
    );
    Ok(())
}

over_both!(json_is_as_deep_as_both_transports_take);
