//! Replays and copies are faithful: only what failed is published again, and a message comes back complete.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use serde_json::{Value, json};
use slipring_support::eventually;
use slipring_support::fake_centrifugo::{Answer, Batch, FakeCentrifugo, OnCommand, Plan};
use slipring_support::guests;

use super::super::super::world::{SOON, World, know, unruly_toml};
use super::super::{exits, stderr, stdout};
use super::{STREAM, json as lines, listed, run, stored};

/// Switches the keys off, which would hide repeats for five minutes.
fn without_keys<C>(world: &World<C>) -> Result<()> {
    world.home.configure_more("[publish]\nidempotency = false")
}

/// Returns publications, each on these channels with this data.
fn publications(wishes: &[(&[&str], Value)]) -> String {
    let wishes = wishes
        .iter()
        .map(|(channels, data)| json!({ "channels": channels, "data": data }));
    Value::from_iter(wishes).to_string()
}

/// Returns the behaviour of a Centrifugo that refuses publications on channels with these prefixes.
fn refusing(prefixes: &'static [&'static str]) -> impl FnMut(&Batch) -> Plan + Send + 'static {
    move |batch| {
        let refused = |channel: &String| prefixes.iter().any(|prefix| channel.starts_with(prefix));
        let commands = batch.commands.iter();
        let plans = commands.map(|command| match command.channels.iter().any(refused) {
            true => OnCommand::Fail(102),
            false => OnCommand::Execute,
        });
        Plan {
            commands: plans.collect(),
            ..Plan::execute()
        }
    }
}

fn shown(world: &World<FakeCentrifugo>, channel: &str) -> Vec<String> {
    let shown = world.centrifugo.shown(channel);
    let data = shown.iter().filter_map(|one| one.command.data.as_ref());
    data.map(|data| data.get().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_got_its_publication_never_gets_it_again() -> Result<()> {
    let mut world = World::start().await?;
    without_keys(&world)?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let mut relay = world.run().await?;
    let both = [
        (&["unruly:a", "unruly:b"][..], json!("old")),
        (&["nowhere:7"], json!("late")),
        (&["unruly:a"], json!("older than the next")),
    ];
    world.publish([("unruly.publish", publications(&both))]).await?;
    stored(&world, 1).await?;
    let newer = publications(&[(&["unruly:a"], json!("new"))]);
    world.publish([("unruly.publish", newer)]).await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    relay.stop(SOON).await?;

    let letter = &lines(&world, &["show", "1"])?[0];
    let channels = json!({ "nowhere:7": "-", "unruly:a": "++", "unruly:b": "+" });
    ensure!(letter["channels"] == channels, "{letter}");
    // It forgets its histories and its keys.
    world.centrifugo.restart_with(|config| know("nowhere", config)).await?;
    let output = run(&world, &["replay", "1", "--dry-run"])?;
    exits(&output, 0)?;
    let line: Value = serde_json::from_str(&stdout(&output))?;
    let expected = json!([{ "channels": ["nowhere:7"], "data": "late" }]);
    ensure!(line["publications"] == expected, "{line}");
    exits(&run(&world, &["replay", "1"])?, 0)?;
    for channel in ["unruly:a", "unruly:b"] {
        let history = world.centrifugo.history(channel).await?;
        ensure!(history.is_empty(), "{channel}: {history:?}");
    }
    let history = world.centrifugo.history("nowhere:7").await?;
    ensure!(history.len() == 1 && history[0].text() == "\"late\"", "{history:?}");
    stored(&world, 0).await
}

/// The fixed module publishes elsewhere, and more. If a channel already has its publication, the new one is left out.
/// Everything else is published.
#[tokio::test(flavor = "multi_thread")]
async fn another_version_publishes_on_the_channels_that_have_nothing() -> Result<()> {
    let fake = FakeCentrifugo::start_with(refusing(&["nowhere"])).await?;
    let world = World::start_fake(fake).await?;
    without_keys(&world)?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let mut relay = world.run().await?;
    // `unruly` publishes the indices 0, 1, …; `orders`, which replaces it, publishes something else on `orders:7`.
    let list = r#"["unruly:a","nowhere:1","unruly:b","nowhere:1","unruly:b"]"#;
    world.publish([("unruly.channels", list)]).await?;
    stored(&world, 1).await?;
    let order = r#"{"id":7,"revision":3,"status":"paid","lines":[]}"#;
    let mut headers = HeaderMap::new();
    headers.append("Channel", "nowhere:2");
    let publish = world.jetstream.publish_with_headers("unruly.ok", headers, order.into());
    publish.await?.await?;
    stored(&world, 2).await?;
    relay.stop(SOON).await?;

    world.centrifugo.behave(|_| Plan::execute());
    exits(&run(&world, &["replay", "1"])?, 0)?;
    ensure!(shown(&world, "unruly:a") == ["0"], "{:?}", shown(&world, "unruly:a"));
    ensure!(
        shown(&world, "unruly:b") == ["2", "4"],
        "{:?}",
        shown(&world, "unruly:b")
    );
    ensure!(
        shown(&world, "nowhere:1") == ["1", "3"],
        "{:?}",
        shown(&world, "nowhere:1")
    );
    world.home.replace_wasm("unruly", &guests::component("orders")?)?;
    exits(&run(&world, &["replay", "2"])?, 0)?;
    ensure!(
        shown(&world, "orders:7").len() == 1,
        "a new channel gets its publication"
    );
    ensure!(shown(&world, "nowhere:2").is_empty(), "nothing is made for it any more");
    stored(&world, 0).await
}

/// The fixed module publishes only on a channel that already has its publication. A dry run counts it like the replay.
#[tokio::test(flavor = "multi_thread")]
async fn a_letter_with_nothing_left_is_published() -> Result<()> {
    let fake = FakeCentrifugo::start_with(refusing(&["nowhere"])).await?;
    let world = World::start_fake(fake).await?;
    without_keys(&world)?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let mut relay = world.run().await?;
    let mut headers = HeaderMap::new();
    headers.append("Channel", "unruly:a");
    let list = r#"["unruly:a","nowhere:1"]"#;
    let publish = world
        .jetstream
        .publish_with_headers("unruly.channels", headers, list.into());
    publish.await?.await?;
    stored(&world, 1).await?;
    relay.stop(SOON).await?;

    world
        .home
        .configure_module("unruly", &unruly_toml("[settings]\nwish = \"ok\""))?;
    let output = run(&world, &["replay", "1", "--dry-run"])?;
    exits(&output, 0)?;
    let line: Value = serde_json::from_str(&stdout(&output))?;
    ensure!(
        line["outcome"] == "publish" && line["publications"] == json!([]),
        "{line}"
    );
    let counts = "1 would be published, 0 dropped by the module, 0 rejected again";
    ensure!(stderr(&output).contains(counts), "{}", stderr(&output));
    let output = run(&world, &["replay", "1"])?;
    exits(&output, 0)?;
    let counts = "1 published, 0 dropped by the module, 0 rejected again";
    ensure!(stderr(&output).contains(counts), "{}", stderr(&output));
    ensure!(shown(&world, "unruly:a") == ["0"], "{:?}", shown(&world, "unruly:a"));
    stored(&world, 0).await
}

/// One of two publications on a channel was confirmed, and another version makes three. Nobody can tell
/// which are missing.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_apart_is_left_to_a_person() -> Result<()> {
    let fake = FakeCentrifugo::start_with(|batch| {
        // The second publication on the channel.
        let plan = |data: &str| match data == "1" {
            true => OnCommand::Fail(107),
            false => OnCommand::Execute,
        };
        let commands = batch.commands.iter();
        let data = commands.map(|command| command.data.as_ref().map_or("", |data| data.get()));
        Plan {
            commands: data.map(plan).collect(),
            ..Plan::execute()
        }
    })
    .await?;
    let world = World::start_fake(fake).await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let mut relay = world.run().await?;
    world
        .publish([("unruly.channels", r#"["unruly:a","unruly:a"]"#)])
        .await?;
    stored(&world, 1).await?;
    relay.stop(SOON).await?;
    let letter = &lines(&world, &["list"])?[0];
    ensure!(letter["channels"] == json!({ "unruly:a": "+-" }), "{letter}");

    // The same module would make only the second one again.
    world.centrifugo.behave(|_| Plan::execute());
    let output = run(&world, &["replay", "1", "--dry-run"])?;
    let line: Value = serde_json::from_str(&stdout(&output))?;
    let data: Vec<&Value> = line["publications"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| &one["data"])
        .collect();
    ensure!(data == [&json!(1)], "{line}");
    let output = run(&world, &["replay", "1", "--dry-run", "--whole"])?;
    let line: Value = serde_json::from_str(&stdout(&output))?;
    ensure!(line["publications"].as_array().map(Vec::len) == Some(2), "{line}");
    exits(&run(&world, &["replay", "1"])?, 0)?;
    ensure!(
        shown(&world, "unruly:a") == ["0", "1"],
        "{:?}",
        shown(&world, "unruly:a")
    );
    stored(&world, 0).await
}

/// Each replay publishes a part of the letters and is killed or ends. The next replay does not publish that part again,
/// unless the replay was killed before the letter recorded it.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_was_published_by_a_replay_stays_so() -> Result<()> {
    const LETTERS: u64 = 60;
    let fake = FakeCentrifugo::start_with(refusing(&["a", "b", "c"])).await?;
    let world = World::start_fake(fake).await?;
    without_keys(&world)?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("max_consecutive_rejects = 1000")?;
    let mut relay = world.run().await?;
    let of = |number: u64| {
        publications(&[
            (&["d:1"], json!(number)),
            (&["a:1"], json!(number)),
            (&["b:1"], json!(number)),
            (&["c:1"], json!(number)),
        ])
    };
    world
        .publish((1..=LETTERS).map(|number| ("unruly.publish", of(number))))
        .await?;
    stored(&world, LETTERS).await?;
    relay.stop(SOON).await?;
    let numbers: Vec<String> = (1..=LETTERS).map(|number| number.to_string()).collect();
    ensure!(shown(&world, "d:1") == numbers, "{:?}", shown(&world, "d:1"));

    world.centrifugo.behave(refusing(&["b", "c"]));
    let output = run(&world, &["replay", "--all"])?;
    exits(&output, 1)?;
    ensure!(
        stderr(&output).contains("0 published, 0 dropped by the module, 60 rejected again, 0 not tried"),
        "{}",
        stderr(&output)
    );
    ensure!(shown(&world, "a:1") == numbers, "{:?}", shown(&world, "a:1"));
    let letters = lines(&world, &["list"])?;
    let expected = json!({ "a:1": "+", "b:1": "-", "c:1": "-", "d:1": "+" });
    ensure!(
        letters.len() == 60 && letters.iter().all(|letter| letter["channels"] == expected),
        "{letters:?}"
    );

    // Now b is accepted. The replay is killed in the middle, while nobody knows what was shown.
    let mut requests = 0;
    world.centrifugo.behave(move |batch| {
        requests += 1;
        match requests {
            1..=20 => refusing(&["c"])(batch),
            _ => Plan::answer(Answer::Silence { executed: true }),
        }
    });
    let mut replay = world.home.start(["dead-letters", "replay", "--all"])?;
    eventually(SOON, "a replay in the middle", async || {
        let more = shown(&world, "b:1").len();
        let letters = lines(&world, &["list"])?;
        let told = letters.iter().filter(|letter| letter["channels"]["b:1"] == "+").count();
        ensure!(more > 5 && told > 0, "{more} shown, {told} letters say so");
        Ok(())
    })
    .await?;
    replay.kill();
    world.centrifugo.behave(refusing(&["c"]));
    exits(&run(&world, &["replay", "--all"])?, 1)?;
    world.centrifugo.behave(|_| Plan::execute());
    exits(&run(&world, &["replay", "--all"])?, 0)?;
    for channel in ["a:1", "d:1"] {
        ensure!(
            shown(&world, channel) == numbers,
            "{channel}: {:?}",
            shown(&world, channel)
        );
    }
    // What was in doubt when the replay was killed came again, and then what follows it.
    for channel in ["b:1", "c:1"] {
        let shown: Vec<u64> = shown(&world, channel)
            .iter()
            .filter_map(|number| number.parse().ok())
            .collect();
        ensure!(
            runs(&shown) <= 2 && shown.last() == Some(&LETTERS),
            "{channel}: {shown:?}"
        );
        let each: BTreeMap<u64, ()> = shown.iter().map(|number| (*number, ())).collect();
        ensure!(each.len() as u64 == LETTERS, "{channel}: {shown:?}");
    }
    stored(&world, 0).await
}

/// Returns how many runs of consecutive numbers there are.
fn runs(numbers: &[u64]) -> usize {
    1 + numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).count()
}

/// One letter replaced another, and the replay had no time to remove the old one.
#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_another_one_replaces_is_removed_and_not_published() -> Result<()> {
    let fake = FakeCentrifugo::start_with(refusing(&["a", "b"])).await?;
    let world = World::start_fake(fake).await?;
    without_keys(&world)?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let mut relay = world.run().await?;
    world.publish([("unruly.channels", r#"["a:1","b:1"]"#)]).await?;
    stored(&world, 1).await?;
    relay.stop(SOON).await?;
    let stream = world.jetstream.get_stream(STREAM).await?;
    let letter = stream.get_raw_message(1).await?;
    world.centrifugo.behave(refusing(&["b"]));
    exits(&run(&world, &["replay", "--all"])?, 1)?;
    ensure!(listed(&world, &[])? == [2], "{:?}", listed(&world, &[])?);
    let second = stream.get_raw_message(2).await?;
    // Both are there again, in the same order.
    stream.delete_message(2).await?;
    for (message, replaces) in [(letter, None), (second, Some("3"))] {
        let mut headers = message.headers.clone();
        headers.insert("Nats-Msg-Id", format!("again {replaces:?}"));
        if let Some(replaces) = replaces {
            headers.insert("Slipring-Replaces", replaces);
        }
        let publish = world
            .jetstream
            .publish_with_headers(message.subject.clone(), headers, message.payload.clone());
        publish.await?.await?;
    }
    world.centrifugo.behave(|_| Plan::execute());
    exits(&run(&world, &["replay", "--all"])?, 0)?;
    ensure!(
        shown(&world, "a:1") == ["0"] && shown(&world, "b:1") == ["1"],
        "{:?}",
        world.centrifugo.executed()
    );
    stored(&world, 0).await
}

/// One of a hundred thousand channels is refused. The letter records which one, however long the list is.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_broadcast_to_very_many_only_the_refused_channel_gets_it_again() -> Result<()> {
    let mut world = World::start().await?;
    without_keys(&world)?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("timeout = \"20s\"\nmemory = \"512MiB\"")?;
    let mut relay = world.run().await?;
    let mut channels: Vec<String> = (0..99_999).map(|user| format!("unruly:{user}")).collect();
    channels.insert(50_000, "nowhere:7".to_owned());
    // JetStream accepts a megabyte per message.
    let wishes =
        json!([{ "channels": &channels[49_000..51_000], "data": 1 }, { "channels": &channels[..40_000], "data": 2 }]);
    world.publish([("unruly.publish", wishes.to_string())]).await?;
    eventually(SOON, "a dead letter", async || {
        ensure!(listed(&world, &[]).is_ok_and(|letters| letters.len() == 1), "none");
        Ok(())
    })
    .await?;
    relay.stop(SOON).await?;
    let letter = &lines(&world, &["show", "1"])?[0];
    let text = wishes.to_string();
    ensure!(
        letter["payload"] == text.as_str() && letter["size"] == text.len(),
        "{}",
        letter["size"]
    );
    let output = run(&world, &["show", "1"])?;
    ensure!(
        stdout(&output).contains("(refused on 1 of 42000 channels: nowhere:7)"),
        "{:.2000}",
        stdout(&output)
    );
    world.centrifugo.restart_with(|config| know("nowhere", config)).await?;
    exits(&run(&world, &["replay", "1"])?, 0)?;
    let history = world.centrifugo.history("nowhere:7").await?;
    ensure!(history.len() == 1, "{history:?}");
    let known = world.centrifugo.history("unruly:1").await?;
    ensure!(known.is_empty(), "{known:?}");
    stored(&world, 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn all_headers_come_back() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let mut relay = world.run().await?;
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("Nats-Msg-Id", "event-17"),
        ("Nats-Marker-Reason", "MaxAge"),
        ("nats-expected-stream", "NONE"),
        ("Nats-Custom", "1"),
        ("Nats-Custom", ""),
        ("Slipring-Reason", "of another relay"),
        ("Slipring-Kept-Nats-TTL", "kept before"),
        ("Slipring-Tail", "7"),
        ("Empty", ""),
        ("Größe", "not a name"),
        ("Name", "größe"),
    ] {
        if name.is_ascii() {
            headers.append(name, value);
        }
    }
    for subject in ["unruly.headers", "unruly.reject"] {
        headers.insert("Nats-Msg-Id", subject);
        let publish = world
            .jetstream
            .publish_with_headers(subject, headers.clone(), "no".into());
        publish.await?.await?;
    }
    stored(&world, 1).await?;
    relay.stop(SOON).await?;
    let history = world.centrifugo.history("unruly:ok").await?;
    let mut given: Vec<(String, String)> = history[0].json()?;
    for (name, value) in &mut given {
        if name == "Nats-Msg-Id" {
            "unruly.reject".clone_into(value);
        }
    }
    ensure!(given.len() == 10, "{given:?}");
    let names: Vec<&str> = given.iter().map(|(name, _)| name.as_str()).collect();
    ensure!(
        names.contains(&"nats-expected-stream") && names.contains(&"Slipring-Tail"),
        "{names:?}"
    );

    // The message comes back the same when it is shown,
    let letter = lines(&world, &["show", "1"])?.remove(0);
    ensure!(letter["headers"]["Nats-Custom"] == json!(["1", ""]), "{letter}");
    let text = stdout(&run(&world, &["show", "1"])?);
    ensure!(text.lines().any(|line| line == "Nats-Msg-Id: unruly.reject"), "{text}");
    // when it is tried,
    let module = guests::component("unruly")?;
    let mut as_headers = letter.clone();
    as_headers["subject"] = "unruly.headers".into();
    let mut command = world.home.command(["try", module.to_str().context("a path")?]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let fields = ["subject", "headers", "stream", "sequence", "timestamp", "payload"];
    let sample: serde_json::Map<String, Value> = fields
        .map(|field| (field.to_owned(), as_headers[field].clone()))
        .into_iter()
        .collect();
    writeln!(child.stdin.take().context("an input")?, "{}", Value::from(sample))?;
    let output = child.wait_with_output()?;
    let line: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(line["publications"][0]["data"] == json!(given), "{line}");
    // when it is recorded,
    exits(
        &world
            .home
            .command(["record", "modules/unruly.wasm", "--dead-letter", "1"])
            .output()?,
        0,
    )?;
    let case = std::fs::read_to_string(world.home.path().join("modules/cases/dead-letter-1.json"))?;
    let case: Value = serde_json::from_str(&case)?;
    for (name, _) in &given {
        ensure!(!case["message"]["headers"][name].is_null(), "{name}: {case}");
    }
    // and when it is replayed, by a module that publishes it.
    world.home.replace_wasm("unruly", &guests::component("unruly")?)?;
    world
        .home
        .configure_module("unruly", &unruly_toml("[settings]\nwish = \"headers\""))?;
    exits(&run(&world, &["replay", "1"])?, 0)?;
    let history = world.centrifugo.history("unruly:ok").await?;
    let replayed: Vec<(String, String)> = history[1].json()?;
    ensure!(replayed == given, "{replayed:?}");
    Ok(())
}

/// A message with the longest allowed headers can still be stored as a dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_nothing_but_headers_becomes_a_letter() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let mut relay = world.run().await?;
    let mut headers = HeaderMap::new();
    // JetStream accepts 64 KiB.
    for number in 0..640 {
        headers.append("Nats-Long", format!("{number:089}"));
    }
    let publish = world
        .jetstream
        .publish_with_headers("unruly.reject", headers, "no".into());
    publish.await?.await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    relay.stop(SOON).await?;
    let letter = lines(&world, &["show", "1"])?.remove(0);
    let values = letter["headers"]["Nats-Long"].as_array().context("values")?;
    ensure!(
        values.len() == 640 && values[639] == format!("{:089}", 639),
        "{} values",
        values.len()
    );
    ensure!(letter["payload"] == "no", "{}", letter["payload"]);
    Ok(())
}
