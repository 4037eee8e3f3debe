//! `docs/from-benthos.md`, typed as it is there: the blocks of the page are run, or written to the files that they are
//! for.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use slipring_support::relay::Home;
use slipring_support::servers::{Centrifugo, Redis};
use slipring_support::{Api, eventually, workspace};

use super::super::world::{SOON, binary, know};

/// Returns the blocks of the page in this language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(found)) if found == language => open = Some(String::new()),
            (None, Some(_)) => open = Some("\0".to_owned()),
            (Some(block), Some(_)) => {
                blocks.extend(Some(std::mem::take(block)).filter(|block| !block.starts_with('\0')));
                open = None;
            }
            (Some(block), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_does_what_it_says() -> Result<()> {
    let page = std::fs::read_to_string(workspace().join("docs/from-benthos.md"))?;
    let redis = Redis::start().await?;
    let centrifugo = Centrifugo::start_with(|config| {
        know("chat", config);
        // Channels without a namespace keep a history too, so that the test can see them.
        config["channel"]["without_namespace"]["history_size"] = 100.into();
        config["channel"]["without_namespace"]["history_ttl"] = "1h".into();
    })
    .await?;
    let home = Home::new(binary(), "", &centrifugo.endpoint(Api::Http), centrifugo.api_key())?;
    std::fs::remove_dir_all(home.modules())?;

    let commands = blocks(&page, "sh");
    ensure!(commands.len() == 2, "{commands:?}");
    let path = std::path::Path::new(binary()).parent().context("a folder")?;
    let path = format!("{}:{}", path.display(), std::env::var("PATH")?);
    let status = Command::new("bash")
        .args(["-euc", &commands[0]])
        .current_dir(home.path())
        .env("PATH", path)
        .status()?;
    ensure!(status.success(), "{}", commands[0]);

    let [module, config] = <[String; 2]>::try_from(blocks(&page, "toml"))
        .ok()
        .context("two files in TOML")?;
    let written = std::fs::read_to_string(home.modules().join("chat.toml"))?;
    for line in module.lines() {
        ensure!(
            written.lines().any(|written| written == line),
            "{line:?} is not in {written}"
        );
    }
    let config = config
        .replace("redis://127.0.0.1:6379", &redis.url())
        .replace("http://127.0.0.1:8000", &centrifugo.endpoint(Api::Http));
    home.configure(&format!("{config}\n[admin]\nlisten = \"127.0.0.1:0\"\n"))?;

    ensure!(
        commands[1].starts_with("slipring check --online\nslipring run"),
        "{}",
        commands[1]
    );
    let check = home.command(["check", "--online"]).output()?;
    let told = String::from_utf8_lossy(&check.stdout);
    ensure!(
        check.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&check.stderr)
    );
    ensure!(told.contains("`centrifugo.publish` holds nothing yet"), "{told}");

    let relay = home.run().await?;
    relay.ready(SOON).await?;
    let push = blocks(&page, "text").into_iter().next().context("the message")?;
    let message = push
        .trim()
        .strip_prefix("RPUSH centrifugo.publish '")
        .and_then(|rest| rest.strip_suffix('\''));
    let message = message.context("an RPUSH")?;
    let mut client = redis.client().await?;
    for text in [
        message,
        r#"{"method": "publish", "payload": {"channel": "chat", "data": 2}}"#,
        "no command",
    ] {
        let _: u64 = redis::cmd("RPUSH")
            .arg("centrifugo.publish")
            .arg(text)
            .query_async(&mut client)
            .await?;
    }
    let shown = async || {
        let history = centrifugo.history("chat").await?;
        let data: Vec<serde_json::Value> = history.iter().map(|one| one.json()).collect::<Result<_>>()?;
        ensure!(data == [serde_json::json!({ "input": "test" }), 2.into()], "{data:?}");
        Ok(())
    };
    eventually(SOON, "the messages to be shown", shown).await?;
    let letters = async || {
        let list = home.command(["dead-letters", "list", "--json"]).output()?;
        let list = String::from_utf8(list.stdout)?;
        ensure!(list.lines().count() == 1, "{list}");
        Ok(())
    };
    eventually(SOON, "the dead letter", letters).await
}
