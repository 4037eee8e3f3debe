//! `slipring record`: cases from messages on a real server. Also `slipring dev --live`, which shows messages
//! as they arrive.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Output;

use anyhow::{Context, Result, bail, ensure};
use async_nats::HeaderMap;
use serde_json::{Value, json};
use slipring_support::eventually;

use super::super::world::{SOON, World};
use super::{exits, stderr, stdout};

const MODULE: &str = "modules/unruly.wasm";

/// Starts a world with the guest `unruly`, its stream, and messages in it.
async fn world_with(messages: &[(&'static str, &'static str)]) -> Result<World> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>", "other.>"]).await?;
    world.add_unruly("subjects = [\"unruly.>\"]")?;
    world.publish(messages.iter().copied()).await?;
    Ok(world)
}

fn slipring(world: &World, arguments: &[&str]) -> Result<Output> {
    world
        .home
        .command(arguments.iter().copied())
        .output()
        .context("running slipring")
}

fn record(world: &World, arguments: &[&str]) -> Result<Output> {
    slipring(world, &[&["record", MODULE], arguments].concat())
}

fn case(world: &World, name: &str) -> Result<Value> {
    let path = world.home.path().join("modules/cases").join(name);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{name}: {text}"))
}

fn recorded(world: &World) -> BTreeSet<String> {
    let files = std::fs::read_dir(world.home.path().join("modules/cases"));
    let names = files.into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_passes_and_says_what_the_module_makes_of_it() -> Result<()> {
    let world = world_with(&[
        ("unruly.ok", r#"{"id":1}"#),
        ("unruly.drop", "a text"),
        ("other.ok", r#"{"id":3}"#),
        ("unruly.reject", "no"),
        ("unruly.ok", r#"{"id":5}"#),
    ])
    .await?;
    let output = record(&world, &["--last", "3"])?;
    exits(&output, 0)?;
    let files = ["UNRULY-2.json", "UNRULY-4.json", "UNRULY-5.json"];
    let written: Vec<PathBuf> = stdout(&output).lines().map(PathBuf::from).collect();
    ensure!(
        written == files.map(|file| PathBuf::from("modules/cases").join(file)),
        "the last three that the module reads: {written:?}"
    );
    ensure!(stderr(&output).ends_with("3 cases written\n"), "{}", stderr(&output));
    let published = case(&world, "UNRULY-5.json")?;
    let message = &published["message"];
    ensure!(
        message["subject"] == "unruly.ok" && message["data"] == json!({ "id": 5 }) && message["sequence"] == 5,
        "{published}"
    );
    ensure!(
        message["timestamp"].is_string() && message.get("stream").is_none(),
        "{published}"
    );
    let expected =
        json!({ "outcome": "publish", "publications": [{ "channels": ["unruly:ok"], "data": { "id": 5 } }] });
    ensure!(published["expect"] == expected, "{published}");
    ensure!(case(&world, "UNRULY-2.json")?["expect"] == json!({ "outcome": "drop" }));
    ensure!(case(&world, "UNRULY-4.json")?["expect"]["reason"] == "rejected as asked: no");
    let tested = slipring(&world, &["test", MODULE])?;
    exits(&tested, 0)?;

    let again = record(&world, &["--seq", "5", "--seq", "3"])?;
    exits(&again, 0)?;
    ensure!(
        stderr(&again).contains("UNRULY-5.json already exists and was not changed\n")
            && stderr(&again).ends_with("1 case written, 1 already there\n"),
        "{}",
        stderr(&again)
    );
    let stream = world.jetstream.get_stream("UNRULY").await?;
    ensure!(stream.cached_info().state.consumer_count == 0, "nothing of it stays");
    ensure!(stream.cached_info().state.messages == 5, "nothing was taken");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_redacted_is_in_no_case() -> Result<()> {
    let world = world_with(&[("unruly.drop", "secret@example.org, no JSON")]).await?;
    let mut headers = HeaderMap::new();
    headers.insert("Authorization", "secret");
    let payload = r#"{"customer":{"email":"secret@example.org","age":7},"id":7}"#;
    world
        .jetstream
        .publish_with_headers("unruly.ok", headers, payload.into())
        .await?
        .await?;
    let fields = [
        "--redact",
        "customer.email",
        "--redact",
        "authorization",
        "--redact-if-there",
        "phone",
    ];
    let output = record(&world, &[&["--last", "10"][..], &fields].concat())?;
    exits(&output, 0)?;
    ensure!(
        recorded(&world) == BTreeSet::from(["UNRULY-2.json".to_owned()]),
        "{:?}",
        recorded(&world)
    );
    let case = case(&world, "UNRULY-2.json")?;
    ensure!(!case.to_string().contains("secret"), "{case}");
    let data = json!({ "customer": { "email": "redacted", "age": 7 }, "id": 7 });
    ensure!(
        case["message"]["data"] == data && case["message"]["headers"]["Authorization"] == "redacted",
        "{case}"
    );
    ensure!(
        case["expect"]["publications"][0]["data"] == data,
        "what it makes of the redacted message: {case}"
    );
    for words in [
        "UNRULY-1: not recorded, because the message cannot be searched for fields to redact: it is not JSON, or is \
         incomplete\n",
        "redacted `customer.email` in 1 of 1 messages, values: 1\n",
        "none of the messages has a `phone`\n",
        "1 case written, 1 not recorded\n",
    ] {
        ensure!(
            stderr(&output).contains(words),
            "{words:?} is not in {}",
            stderr(&output)
        );
    }
    exits(&slipring(&world, &["test", MODULE])?, 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_is_redacted_in_whatever_form_it_comes() -> Result<()> {
    let order = r#"{"wei":1000000000000000000001,"Email":"secret@example.org"}"#;
    let outbox = json!({ "payload": order, "more": [json!({ "again": order }).to_string()], "data": "eyJlbWFpbCI6InNlY3JldEBleGFtcGxlLm9yZyJ9" });
    let twice = json!({ "before": null, "after": outbox.to_string() }).to_string();
    let world = world_with(&[]).await?;
    for payload in [
        order.to_owned(),
        outbox.to_string(),
        twice,
        format!("\u{feff}{order}\n{order}\n"),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert("Ce-Data", order);
        let published = world
            .jetstream
            .publish_with_headers("unruly.ok", headers, payload.into())
            .await?;
        published.await?;
    }
    let output = record(&world, &["--last", "10", "--redact", "email"])?;
    exits(&output, 0)?;
    ensure!(
        stderr(&output).contains("redacted `email` in 4 of 4 messages, values: 13\n"),
        "{}",
        stderr(&output)
    );
    ensure!(recorded(&world).len() == 4, "{:?}", recorded(&world));
    for name in recorded(&world) {
        let text = std::fs::read_to_string(world.home.path().join("modules/cases").join(&name))?;
        ensure!(!text.contains("secret") && !text.contains("c2VjcmV0"), "{name}: {text}");
        ensure!(text.contains("1000000000000000000001"), "{name}: {text}");
    }
    exits(&slipring(&world, &["test", MODULE])?, 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_redacted_is_an_error() -> Result<()> {
    let world = world_with(&[
        ("unruly.ok", r#"{"customer":"somebody"}"#),
        ("unruly.ok", r#"{"customer":"nobody"}"#),
        ("unruly.somebody", r#"{"customer":"somebody"}"#),
    ])
    .await?;
    let nowhere = record(&world, &["--last", "3", "--redact", "costumer"])?;
    exits(&nowhere, 1)?;
    ensure!(
        stderr(&nowhere).ends_with(
            "nothing was written: none of the messages has a `costumer`; did you mean `customer`? For a field that may \
             be missing from all of them, use --redact-if-there\n"
        ),
        "{}",
        stderr(&nowhere)
    );
    ensure!(
        recorded(&world).is_empty() && stdout(&nowhere).is_empty(),
        "{:?}",
        recorded(&world)
    );

    exits(&record(&world, &["--seq", "1"])?, 0)?;
    exits(&record(&world, &["--seq", "2", "--redact", "customer"])?, 0)?;
    let there = record(&world, &["--last", "3", "--redact", "customer"])?;
    exits(&there, 1)?;
    for words in [
        "modules/cases/UNRULY-1.json already exists and still holds `customer`: remove it, or use --overwrite\n",
        "modules/cases/UNRULY-2.json already exists and was not changed\n",
        "warning: modules/cases/UNRULY-3.json: the value of `customer` is also in the subject, which is never redacted\n",
        "redacted `customer` in 1 of 1 messages, values: 1\n",
        "1 case written, 2 already there\n",
    ] {
        ensure!(stderr(&there).contains(words), "{words:?} is not in {}", stderr(&there));
    }
    // This message has nothing to redact.
    let other = record(&world, &["--seq", "2", "--redact", "customer"])?;
    exits(&other, 0)?;
    let words = "modules/cases/UNRULY-1.json, which was not changed, holds `customer`\n";
    ensure!(stderr(&other).contains(words), "{}", stderr(&other));

    exits(
        &record(&world, &["--last", "3", "--redact", "customer", "--overwrite"])?,
        0,
    )?;
    let first = case(&world, "UNRULY-1.json")?;
    ensure!(!first.to_string().contains("somebody"), "{first}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_becomes_a_case() -> Result<()> {
    let world = world_with(&[("unruly.reject", r#"{"id":7}"#)]).await?;
    let mut relay = world.run().await?;
    eventually(SOON, "a dead letter", async || {
        world.jetstream.get_stream("SLIPRING_DEAD_LETTERS").await.map(drop)
    })
    .await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    relay.stop(SOON).await?;
    let output = record(&world, &["--dead-letter", "1"])?;
    exits(&output, 0)?;
    ensure!(
        stderr(&output).contains("dead letter 1 of unruly: rejected as asked: {\"id\":7} (rejected)\n"),
        "{}",
        stderr(&output)
    );
    let case = case(&world, "dead-letter-1.json")?;
    ensure!(
        case["message"]["subject"] == "unruly.reject" && case["message"]["sequence"] == 1,
        "{case}"
    );
    ensure!(
        case["message"]["headers"].is_null(),
        "none of the letter's own headers: {case}"
    );
    ensure!(case["expect"]["outcome"] == "reject", "{case}");
    exits(&slipring(&world, &["test", MODULE])?, 0)?;
    let none = record(&world, &["--dead-letter", "2"])?;
    exits(&none, 1)?;
    ensure!(
        stderr(&none).ends_with("there is no dead letter 2 in SLIPRING_DEAD_LETTERS\n"),
        "{}",
        stderr(&none)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_module_cases_are_samples_and_what_is_not_there_is_named() -> Result<()> {
    let world = world_with(&[("unruly.ok", "1")]).await?;
    let output = slipring(
        &world,
        &["record", "--stream", "UNRULY", "--last", "1", "--into", "samples"],
    )?;
    exits(&output, 0)?;
    ensure!(
        stderr(&output).starts_with("there is no module in ., so"),
        "{}",
        stderr(&output)
    );
    let text = std::fs::read_to_string(world.home.path().join("samples/UNRULY-1.json"))?;
    let sample: Value = serde_json::from_str(&text)?;
    ensure!(
        sample["message"]["stream"] == "UNRULY" && sample.get("expect").is_none(),
        "{sample}"
    );

    let refused = |arguments: &[&str], code: i32, words: &str| -> Result<()> {
        let output = slipring(&world, &[&["record"], arguments].concat())?;
        exits(&output, code)?;
        ensure!(
            stderr(&output).contains(words),
            "{words:?} is not in {}",
            stderr(&output)
        );
        Ok(())
    };
    refused(&["--last", "1"], 2, "no stream is named: use --stream")?;
    refused(&["--stream", "UNRULY"], 2, "--last <COUNT>")?;
    refused(
        &["--stream", "ORDERS", "--last", "1"],
        1,
        "there is no stream `ORDERS`; there are UNRULY",
    )?;
    refused(
        &[MODULE, "--seq", "9"],
        1,
        "there is no message 9 in the stream `UNRULY`",
    )?;
    refused(
        &[MODULE, "--last", "1", "--subject", "unruly.x"],
        1,
        "the stream `UNRULY` holds no message of unruly.x",
    )?;
    refused(
        &[MODULE, "--last", "1", "--redact", "a..b"],
        2,
        "such as customer.email",
    )?;
    refused(
        &[MODULE, "--dead-letter", "1"],
        1,
        "there are no dead letters: the stream SLIPRING_DEAD_LETTERS does not exist",
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_shows_what_arrives_and_touches_nothing() -> Result<()> {
    let world = world_with(&[("unruly.ok", "0")]).await?;
    std::fs::create_dir(world.home.path().join("modules/cases"))?;
    let mut dev = world.home.start(["dev", MODULE, "--live"])?;
    let says = async |dev: &mut slipring_support::process::Process, what: &str| {
        dev.line(SOON, what, |line| line.contains(what)).await.map(drop)
    };
    says(&mut dev, "showing messages of UNRULY (unruly.>) as they arrive").await?;
    world
        .publish([("other.ok", "1"), ("unruly.ok", "{\"id\":2}"), ("unruly.drop", "3")])
        .await?;
    says(&mut dev, "    dropped").await?;
    let shown = dev.log();
    let begin = shown
        .iter()
        .position(|line| line.ends_with("  UNRULY:3  unruly.ok  {\"id\":2}"))
        .with_context(|| format!("{shown:#?}"))?;
    let [made, next, dropped] = &shown[begin + 1..] else {
        bail!("{shown:#?}")
    };
    ensure!(
        made == "    unruly:ok  {\"id\":2}" && next.ends_with("  UNRULY:4  unruly.drop  3") && dropped == "    dropped",
        "{shown:#?}"
    );

    // The saved settings apply to the following messages.
    world.home.configure_module(
        "unruly",
        "stream = \"UNRULY\"\nsubjects = [\"other.>\"]\nsettings.mark = \"new\"",
    )?;
    says(&mut dev, "showing messages of UNRULY (other.>) as they arrive").await?;
    world.publish([("other.ok", "5")]).await?;
    says(&mut dev, "    unruly:ok  mark=new  5").await?;
    dev.interrupt()?;
    let status = dev.wait(SOON).await?;
    ensure!(status.code() == Some(0), "{status}");
    let counts = "3 messages: 2 published, 1 dropped, 0 rejected";
    ensure!(dev.log().iter().any(|line| line == counts), "{:#?}", dev.log());
    let stream = world.jetstream.get_stream("UNRULY").await?;
    ensure!(
        stream.cached_info().state.messages == 5,
        "nothing was taken: {:?}",
        stream.cached_info().state
    );
    Ok(())
}
