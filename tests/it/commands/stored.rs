//! `slipring try` and `slipring diff` on the messages of a stream.

use std::process::Output;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slipring_support::fake_centrifugo::FakeCentrifugo;
use slipring_support::{eventually, guests};

use super::super::numbers::counts;
use super::super::world::{SOON, World, unruly_toml};
use super::{exits, stderr, stdout};

/// No Centrifugo listens there.
const NOWHERE: &str = "http://127.0.0.1:1";

fn run<C>(world: &World<C>, arguments: &[&str]) -> Result<Output> {
    world
        .home
        .command(arguments.iter().copied())
        .output()
        .context("running slipring")
}

fn lines(output: &Output) -> Result<Vec<Value>> {
    let lines = stdout(output);
    lines
        .lines()
        .map(|line| serde_json::from_str(line).context("a line of JSON"))
        .collect()
}

/// Starts a world with a stream of orders, and the examples `orders` and `orders-next` as the old and the new version.
async fn orders() -> Result<World<()>> {
    let world = World::start_with((), NOWHERE, "no key").await?;
    world.stream("ORDERS", &["orders.>", "bills.>"]).await?;
    let order = |id: u64, status: &str| {
        format!(r#"{{"id":{id},"revision":{id},"status":"{status}","lines":[{{"quantity":1,"price_cents":250}}]}}"#)
    };
    let mut messages: Vec<(&str, String)> = (1..=40).map(|id| ("orders.paid", order(id, "paid"))).collect();
    messages.push(("orders.draft", order(41, "draft")));
    // One version does not know this status, the other passes it on.
    messages.push(("orders.lost", order(42, "lost")));
    messages.push(("orders.paid", "no order".to_owned()));
    messages.push(("bills.paid", order(44, "paid")));
    world.publish(messages).await?;
    let toml = "stream = \"ORDERS\"\nsubjects = [\"orders.>\"]\n";
    world.home.add_module("orders", &guests::component("orders")?, toml)?;
    std::fs::copy(guests::component("orders-next")?, world.home.path().join("next.wasm"))?;
    Ok(world)
}

async fn consumers<C>(world: &World<C>, stream: &str) -> Result<usize> {
    let stream = world.jetstream.get_stream(stream).await?;
    Ok(stream.cached_info().state.consumer_count)
}

#[tokio::test(flavor = "multi_thread")]
async fn try_shows_what_becomes_of_a_stored_message() -> Result<()> {
    let world = orders().await?;
    let output = run(
        &world,
        &["try", "--stream", "ORDERS", "--seq", "40", "modules/orders.wasm"],
    )?;
    exits(&output, 0)?;
    let line = &lines(&output)?[0];
    ensure!(line["sequence"] == 40 && line["subject"] == "orders.paid", "{line}");
    let publication = &line["publications"][0];
    ensure!(publication["channels"] == json!(["orders:40"]), "{line}");
    let key = publication["idempotency_key"].as_str().context("a key")?;
    let sent = json!([{ "commands": [{ "publish": {
        "channel": "orders:40",
        "data": { "status": "paid", "items": 1, "total_cents": 250 },
        "idempotency_key": key,
        "version": 40,
    } }] }]);
    ensure!(line["requests"] == sent, "{line}");
    let call = line["call_us"].as_f64().context("a time")?;
    ensure!(call > 0.0 && call < 100_000.0, "{line}");
    let memory = line["memory_bytes"].as_u64().context("a size")?;
    ensure!((64 << 10..64 << 20).contains(&memory), "{line}");
    let said = stderr(&output);
    ensure!(said.contains("1 read: 1 published (publications: 1)"), "{said}");
    ensure!(
        said.contains("a call took ") && said.contains("the module used"),
        "{said}"
    );

    let output = run(&world, &["try", "--last", "4", "modules/orders.wasm"])?;
    exits(&output, 0)?;
    let found = lines(&output)?;
    let found: Vec<_> = found
        .iter()
        .map(|line| (line["sequence"].as_u64(), line["outcome"].as_str()))
        .collect();
    let expected = [(40, "publish"), (41, "drop"), (42, "reject"), (43, "reject")];
    ensure!(
        found == expected.map(|(sequence, outcome)| (Some(sequence), Some(outcome))),
        "the module's own subjects count: {found:?}"
    );
    let output = run(
        &world,
        &["try", "--last", "1", "--subject", "*.paid", "modules/orders.wasm"],
    )?;
    ensure!(lines(&output)?[0]["sequence"] == 44, "{}", stdout(&output));
    let output = run(&world, &["try", "--seq", "44", "modules/orders.wasm"])?;
    exits(&output, 0)?;
    ensure!(
        stderr(&output).contains("the subject bills.paid matches none of the subjects in the .toml: orders.>"),
        "{}",
        stderr(&output)
    );
    ensure!(consumers(&world, "ORDERS").await? == 0, "nothing is left behind");
    Ok(())
}

/// The command that `try` shows is the command that the relay sends, whichever way the key and the version are made.
#[tokio::test(flavor = "multi_thread")]
async fn try_tells_the_very_command_that_the_relay_sends() -> Result<()> {
    let world = World::start_fake(FakeCentrifugo::start().await?).await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("version = \"sequence\"")?;
    let relay = world.run().await?;
    let wishes = json!([
        { "channels": ["a"], "data": { "n": 1.5 }, "tags": { "kind": "x" } },
        { "channels": ["b", "c"], "bytes": [0, 255], "idempotency_key": "mine", "delta": true },
    ]);
    world
        .publish([("unruly.ok", "1".to_owned()), ("unruly.publish", wishes.to_string())])
        .await?;
    counts(&relay, "unruly", "published", 3).await?;
    let output = run(&world, &["try", "--seq", "2", "modules/unruly.wasm"])?;
    exits(&output, 0)?;
    let line = &lines(&output)?[0];
    let commands = line["requests"][0]["commands"].as_array().context("commands")?;
    let command = |channel: &str| -> Result<Value> {
        let executed = world.centrifugo.executed();
        let found = executed
            .iter()
            .find(|one| one.channel == channel)
            .context("it was executed")?;
        let command = &found.command;
        let mut shown = json!({
            "idempotency_key": command.idempotency_key,
            "version": command.version,
            "version_epoch": command.version_epoch,
        });
        let fields = shown.as_object_mut().context("an object")?;
        match command.broadcast {
            true => fields.insert("channels".to_owned(), json!(command.channels)),
            false => fields.insert("channel".to_owned(), json!(command.channels[0])),
        };
        if let Some(data) = &command.data {
            fields.insert("data".to_owned(), serde_json::from_str(data.get())?);
        }
        if let Some(data) = &command.b64data {
            fields.insert("b64data".to_owned(), json!(data));
        }
        if !command.tags.is_empty() {
            fields.insert("tags".to_owned(), json!(command.tags));
        }
        if command.delta {
            fields.insert("delta".to_owned(), json!(true));
        }
        Ok(shown)
    };
    let sent = [
        json!({ "publish": command("a")? }),
        json!({ "broadcast": command("b")? }),
    ];
    ensure!(*commands == sent, "{line}\n{sent:?}");
    ensure!(commands[1]["broadcast"]["idempotency_key"] == "mine", "{line}");
    ensure!(commands[0]["publish"]["version"] == 2, "{line}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn try_says_what_is_not_there() -> Result<()> {
    let world = orders().await?;
    for (arguments, code, said) in [
        (
            &["--seq", "45", "modules/orders.wasm"][..],
            1,
            "there is no message 45 in the stream `ORDERS`: it holds 44 from 1 to 44\n",
        ),
        (
            &["--stream", "ORDRES", "--last", "1", "modules/orders.wasm"],
            1,
            "there is no stream `ORDRES`; there are ORDERS\n",
        ),
        (
            &["--seq", "1", "next.wasm"],
            2,
            "no stream is named: use --stream, or set `stream` in next.toml\n",
        ),
        (
            &["--stream", "ORDERS", "next.wasm"],
            2,
            "--seq <SEQUENCE>|--last <COUNT>",
        ),
        (&["--seq", "0", "next.wasm"], 2, "it must be a sequence from 1 on"),
        (&["--seq", "1", "--last", "1", "next.wasm"], 2, "cannot be used with"),
        (&["--seq", "1", "next.wasm", "samples.jsonl"], 2, "cannot be used with"),
    ] {
        let output = run(&world, &[&["try"], arguments].concat())?;
        exits(&output, code)?;
        ensure!(
            stderr(&output).contains(said) && stdout(&output).is_empty(),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
    let mut world = world;
    world.nats.stop().await?;
    let output = run(&world, &["try", "--seq", "1", "modules/orders.wasm"])?;
    exits(&output, 1)?;
    let told = stderr(&output);
    // Once, with the reason.
    ensure!(
        told.contains("no connection to NATS at")
            && told.matches("onnection refused").count() == 1
            && told.lines().count() == 1,
        "{told}"
    );
    Ok(())
}

fn diff<C>(world: &World<C>, arguments: &[&str]) -> Result<Value> {
    let output = run(
        world,
        &[&["diff", "modules/orders.wasm"], arguments, &["--json"]].concat(),
    )?;
    exits(&output, 0)?;
    serde_json::from_slice(&output.stdout).context("an object")
}

/// Returns the kinds of changes, and how many of each.
fn changed(report: &Value) -> Vec<(&str, u64)> {
    let changed = report["changed"].as_object().into_iter().flatten();
    changed
        .filter_map(|(change, count)| Some((change.as_str(), count.as_u64()?)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn diff_counts_what_changes_and_shows_some_of_it() -> Result<()> {
    let world = orders().await?;
    // The currency is added, and `lost` is passed on.
    let report = diff(&world, &["next.wasm", "--last", "10000"])?;
    ensure!(report["messages"] == 43 && report["same"] == 2, "{report:#}");
    ensure!(
        changed(&report) == [("data", 40), ("no_longer_rejected", 1)],
        "{report:#}"
    );
    let examples = report["examples"].as_array().context("examples")?;
    ensure!(examples.len() == 4, "{report:#}");
    ensure!(
        examples[0]["sequence"] == 1
            && examples[0]["old"]["publications"][0]["data"]["currency"].is_null()
            && examples[0]["new"]["publications"][0]["data"]["currency"] == "EUR",
        "{report:#}"
    );
    for side in ["old", "new"] {
        ensure!(
            report[side]["median_us"].as_f64().is_some_and(|time| time > 0.0),
            "{report:#}"
        );
        ensure!(report[side]["memory_bytes"].as_u64() > Some(0), "{report:#}");
    }
    let report = diff(&world, &["next.wasm", "--last", "3", "--examples", "0"])?;
    ensure!(
        report["messages"] == 3 && changed(&report) == [("no_longer_rejected", 1)],
        "{report:#}"
    );
    let report = diff(&world, &["next.wasm", "--subject", "bills.*"])?;
    ensure!(report["messages"] == 1, "{report:#}");

    let none = ["diff", "modules/orders.wasm", "next.wasm", "--subject", "orders.none"];
    let output = run(&world, &none)?;
    exits(&output, 0)?;
    ensure!(
        stderr(&output).ends_with("the stream `ORDERS` holds no message of orders.none\n"),
        "{}",
        stderr(&output)
    );
    let output = run(&world, &[&none[..], &["--exit-code"]].concat())?;
    exits(&output, 1)?;
    ensure!(
        stdout(&output) == "nothing was compared: there was no message\n"
            && stderr(&output)
                .ends_with("nothing was compared, so --exit-code cannot tell whether the modules differ\n"),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );

    let output = run(&world, &["diff", "modules/orders.wasm", "next.wasm", "--examples", "1"])?;
    exits(&output, 0)?;
    let said = "next.wasm has no .toml beside it: modules/orders.toml applies to both\n";
    ensure!(stderr(&output) == said, "{}", stderr(&output));
    let text = stdout(&output);
    for line in [
        "43 messages compared: 2 the same, 41 changed",
        "changed data, 1 of 40:",
        "  message 1, orders.paid",
        "    +         \"currency\": \"EUR\",",
        "no longer rejected, 1 of 1:",
    ] {
        ensure!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    ensure!(consumers(&world, "ORDERS").await? == 0, "nothing is left behind");

    let differ = ["diff", "modules/orders.wasm", "next.wasm", "--exit-code"];
    let output = run(&world, &differ)?;
    exits(&output, 1)?;
    ensure!(
        stderr(&output).ends_with("the outcomes of 41 of 43 messages changed\n"),
        "{}",
        stderr(&output)
    );
    let same = ["diff", "modules/orders.wasm", "modules/orders.wasm", "--exit-code"];
    let output = run(&world, &same)?;
    exits(&output, 0)?;
    ensure!(
        stdout(&output).starts_with("43 messages compared: none changed"),
        "{}",
        stdout(&output)
    );
    ensure!(stderr(&output).contains("are the same module"), "{}", stderr(&output));
    Ok(())
}

/// A module with other settings counts as another module, and so does one that is slow.
#[tokio::test(flavor = "multi_thread")]
async fn diff_tells_settings_traps_and_time_outs_apart() -> Result<()> {
    let world = World::start_with((), NOWHERE, "no key").await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    let messages = ["ok", "panic", "loop", "drop", "reject", "ok"].map(|wish| (format!("unruly.{wish}"), "1"));
    world.publish(messages).await?;
    world.add_unruly("")?;
    let wasm = guests::component("unruly")?;
    world.home.add_module(
        "marked",
        &wasm,
        &unruly_toml("timeout = \"50ms\"\nsettings.mark = \"new\""),
    )?;
    let unruly = |arguments: &[&str]| -> Result<Value> {
        let output = run(&world, &[&["diff", "--json"], arguments].concat())?;
        exits(&output, 0)?;
        serde_json::from_slice(&output.stdout).context("an object")
    };
    let report = unruly(&["modules/unruly.wasm", "modules/marked.wasm"])?;
    ensure!(changed(&report) == [("tags", 2)], "{report:#}");
    // The orders module knows none of these messages.
    world
        .home
        .add_module("orders", &guests::component("orders")?, &unruly_toml(""))?;
    let report = unruly(&["modules/orders.wasm", "modules/unruly.wasm"])?;
    let expected = [
        ("newly_timed_out", 1),
        ("newly_trapped", 1),
        ("no_longer_rejected", 3),
        ("rejected_otherwise", 1),
    ];
    ensure!(changed(&report) == expected, "{report:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn diff_takes_messages_of_a_file_and_names_its_bad_lines() -> Result<()> {
    let world = World::start_with((), NOWHERE, "no key").await?;
    let home = world.home.path();
    for (name, guest) in [("old", "orders"), ("new", "orders-next")] {
        std::fs::copy(guests::component(guest)?, home.join(name).with_extension("wasm"))?;
    }
    let samples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/orders/samples.jsonl");
    let samples = samples.to_str().context("a path that is text")?;
    let output = run(&world, &["diff", "old.wasm", "new.wasm", "--cases", samples, "--json"])?;
    exits(&output, 0)?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(
        report["messages"] == 6 && changed(&report) == [("data", 5)],
        "{report:#}"
    );
    ensure!(report["examples"][0]["line"] == 2, "{report:#}");

    let bad = "{\"subject\":\"a\",\"data\":1}\nnonsense\n\n{\"subject\":\"a\"}\n";
    std::fs::write(home.join("bad.jsonl"), bad)?;
    let output = run(&world, &["diff", "old.wasm", "new.wasm", "--cases", "bad.jsonl"])?;
    exits(&output, 1)?;
    let said = stderr(&output);
    ensure!(
        said.contains("line 2: this is not JSON") && said.contains("line 4: a message must have exactly one of"),
        "{said}"
    );
    ensure!(said.ends_with("2 lines are not messages\n"), "{said}");
    ensure!(stdout(&output).starts_with("1 message compared"), "{}", stdout(&output));

    for (arguments, code, said) in [
        (&["old.wasm", "new.wasm"][..], 2, "there are no messages to compare"),
        (
            &["old.wasm", "new.wasm", "--cases", "no.jsonl"],
            1,
            "cannot read messages from no.jsonl",
        ),
        (
            &["old.wasm", "no.wasm", "--cases", samples],
            1,
            "cannot load the module no.wasm",
        ),
        (
            &["old.wasm", "bad.jsonl", "--cases", samples],
            1,
            "cannot load the module bad.jsonl",
        ),
        (
            &["old.wasm", "new.wasm", "--stream", "NONE"],
            1,
            "there is no stream `NONE`; there are no streams",
        ),
        (
            &["old.wasm", "new.wasm", "--cases", samples, "--stream", "NONE"],
            2,
            "cannot be used with",
        ),
    ] {
        let output = run(&world, &[&["diff"], arguments].concat())?;
        exits(&output, code)?;
        ensure!(stderr(&output).contains(said), "{arguments:?}: {}", stderr(&output));
    }
    std::fs::write(home.join("new.toml"), "stream = 5\n")?;
    let output = run(&world, &["diff", "old.wasm", "new.wasm", "--cases", samples])?;
    exits(&output, 78)?;
    ensure!(
        stderr(&output).contains("new.toml:1:10: `stream` is 5"),
        "{}",
        stderr(&output)
    );
    Ok(())
}

/// Ten thousand large messages go through both versions without being kept in memory.
#[tokio::test(flavor = "multi_thread")]
async fn diff_holds_a_bounded_part_of_the_stream() -> Result<()> {
    let world = World::start_with((), NOWHERE, "no key").await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    let payload = format!("\"{}\"", "x".repeat(50_000));
    world
        .publish((0..4_000).map(|_| ("unruly.ok", payload.clone())))
        .await?;
    world.add_unruly("")?;
    let mut process = world.home.start([
        "diff",
        "--json",
        "--last",
        "10000",
        "modules/unruly.wasm",
        "modules/unruly.wasm",
    ])?;
    let mut peak = 0;
    eventually(SOON, "it to end", async || {
        if let Ok(usage) = process.usage() {
            peak = peak.max(usage.peak_memory);
        }
        ensure!(process.exited().is_some(), "it runs");
        Ok(())
    })
    .await?;
    ensure!(peak > 0 && peak < 150 << 20, "{} MiB of the stream's 190", peak >> 20);
    Ok(())
}
