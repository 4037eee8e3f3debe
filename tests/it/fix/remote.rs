//! `slipring fix --to`: the relay and its dead letters are on another machine, and only its admin API is reached.

use std::fs;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use slipring_support::relay::Relay;
use slipring_support::{eventually, http_client};

use super::super::deploy::{says, settings, unruly, write};
use super::super::world::{SOON, World, module};

const TOKEN: &str = "the-token-for-all-of-it";
const READ_TOKEN: &str = "the-token-to-read-only";

/// A relay that has rejected the second of two messages.
async fn world() -> Result<(World, Relay)> {
    let mut world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("[settings]\nmark = \"old\"\nrefuse_from = 2")?;
    let only_there = [
        ("SLIPRING_ADMIN__TOKEN", TOKEN),
        ("SLIPRING_ADMIN__READ_TOKEN", READ_TOKEN),
        ("SLIPRING_ADMIN__UPLOADS", "true"),
    ];
    for (name, value) in only_there {
        world.home.env(name, value);
    }
    let relay = world.run().await?;
    for (name, _) in only_there {
        world.home.forget_env(name);
    }
    // This machine reaches neither NATS nor Centrifugo.
    world.home.env("SLIPRING_NATS__SERVERS", "nats://127.0.0.1:1");
    world.home.env("SLIPRING_CENTRIFUGO__ENDPOINTS", "http://127.0.0.1:1");
    for (name, token) in [("full", TOKEN), ("read", READ_TOKEN)] {
        fs::write(world.home.path().join(name), token)?;
    }
    let wish = |number: u64| json!([{ "channels": ["unruly:1"], "data": { "n": number, "email": "ann@example.org" } }]);
    world
        .publish((1..=2).map(|number| ("unruly.publish", wish(number).to_string())))
        .await?;
    until(&relay, "a dead letter", |unruly| unruly["rejected"] == 1).await?;
    Ok((world, relay))
}

/// Waits until the module is like that, and returns it.
async fn until(relay: &Relay, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    let url = format!("{}/api/v1/status", relay.url());
    let asked = async || -> Result<Value> {
        let reply = http_client().get(&url).bearer_auth(READ_TOKEN).send().await?;
        let status: Value = serde_json::from_str(&reply.text().await?)?;
        let unruly = module(&status, "unruly").clone();
        ensure!(is_so(&unruly), "{unruly}");
        Ok(unruly)
    };
    eventually(SOON, what, asked).await
}

fn fix(world: &World, relay: &Relay, number: &str, more: &[&str], code: i32, texts: &[&str]) -> Result<()> {
    let to = [
        "fix",
        number,
        "desk/unruly.wasm",
        "--to",
        relay.url(),
        "--token-file",
        "full",
        "--yes",
    ];
    says(&world.home.command([&to[..], more].concat()).output()?, code, texts)
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_replayed_there_once_the_version_is_proven() -> Result<()> {
    let (world, mut relay) = world().await?;
    let new = settings("watch = \"1s\"", "new");
    write(&world.home, "unruly", &unruly()?, Some(&new))?;
    fix(&world, &relay, "7", &[], 1, &["there is no dead letter 7 any more"])?;
    let read = [
        "fix",
        "1",
        "desk/unruly.wasm",
        "--to",
        relay.url(),
        "--token-file",
        "read",
    ];
    says(
        &world.home.command(read).output()?,
        1,
        &["has the token for reading, which does not allow this"],
    )?;

    // Who does not wait cannot know that the version runs.
    let again = format!(
        "`slipring fix 1 desk/unruly.wasm --to {} --token-file full` goes on",
        relay.url()
    );
    let before = until(&relay, "the old version", |_| true).await?["toml_sha256"].clone();
    fix(
        &world,
        &relay,
        "1",
        &["--no-wait", "--redact-if-there", "email"],
        1,
        &[
            "dead letter 1 of unruly: this version is bad (rejected)",
            "saved its message as the case desk/cases/dead-letter-1.json",
            "dead-letter-1 passes",
            "2 messages compared: 0 the same, 2 changed",
            "no longer rejected  1",
            "uploaded unruly.toml to the relay at ",
            "the dead letter 1 was not replayed: the files are with the relay at ",
            &again,
        ],
    )?;
    let case: Value = serde_json::from_str(&fs::read_to_string(
        world.home.path().join("desk/cases/dead-letter-1.json"),
    )?)?;
    let message = &case["message"];
    ensure!(
        message["sequence"] == 2 && message["stream"] == "UNRULY" && message["subject"] == "unruly.publish",
        "{case}"
    );
    ensure!(
        message["timestamp"].as_str().is_some_and(|time| time.starts_with("20")),
        "{case}"
    );
    ensure!(message["data"][0]["data"]["email"] == "redacted", "{case}");
    until(&relay, "the new version", |unruly| unruly["toml_sha256"] != before).await?;
    ensure!(
        world.centrifugo.history("unruly:1").await?.len() == 1,
        "nothing was replayed"
    );

    fix(
        &world,
        &relay,
        "1",
        &[],
        0,
        &[
            "going on with the case desk/cases/dead-letter-1.json",
            "is already there",
            "has both files already",
            "unruly is deployed",
            "replays the dead letter 1",
            "1 published, 0 dropped by the module, 0 rejected again, 0 not tried",
            "done: keep desk/cases/dead-letter-1.json",
        ],
    )?;
    ensure!(world.centrifugo.history("unruly:1").await?.len() == 2);
    let line = relay.logs(SOON, "command=\"replay dead letters\"").await?;
    ensure!(
        line.contains("token=\"full\"") && line.contains("result=\"done\""),
        "{line}"
    );
    fix(
        &world,
        &relay,
        "1",
        &[],
        0,
        &[
            "there is no dead letter 1 any more",
            "Its case stays in desk/cases/dead-letter-1.json",
        ],
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rejected_again_there_is_still_there() -> Result<()> {
    let (world, relay) = world().await?;
    // Its trial takes longer than the relay keeps an idle connection.
    let old = settings("watch = \"11s\"", "old") + "refuse_from = 2\n";
    write(&world.home, "unruly", &unruly()?, Some(&old))?;
    // Somebody has made the case easier than the message is.
    let case = json!({
        "message": { "subject": "unruly.drop", "data": 1, "sequence": 1 },
        "expect_not": { "outcome": "reject" },
    });
    let cases = world.home.path().join("desk/cases");
    fs::create_dir(&cases)?;
    fs::write(cases.join("dead-letter-1.json"), case.to_string())?;
    fix(
        &world,
        &relay,
        "1",
        &[],
        1,
        &[
            "going on with the case ",
            "unruly is deployed",
            "replays the dead letter 1",
            "1: rejected again: this version is bad",
            "0 published, 0 dropped by the module, 1 rejected again, 0 not tried",
            "the new version is deployed, but the dead letter 1 is still there: `slipring fix 1 desk/unruly.wasm --to ",
        ],
    )?;
    ensure!(
        world.centrifugo.history("unruly:1").await?.len() == 1,
        "nothing was replayed"
    );
    Ok(())
}
