//! Bad messages and modules. Each bad message costs only itself, and a person can read why. Later messages of the same
//! stream are published, and the neighbour goes on.

use std::fmt::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use serde_json::Value;
use slipring_support::guests;
use slipring_support::relay::Relay;

use super::dead_letters::{dead_letters, no_dead_letters};
use super::world::{SOON, World, module};

/// A message that is rejected.
struct Bad {
    subject: &'static str,
    payload: Bytes,
    code: &'static str,
    /// Part of the reason.
    reason: &'static str,
    channel: &'static str,
}

fn bad(wish: &'static str, payload: impl Into<Bytes>, code: &'static str, reason: &'static str) -> Bad {
    Bad {
        subject: wish,
        payload: payload.into(),
        code,
        reason,
        channel: "",
    }
}

impl Bad {
    /// The message is rejected for a publication on this channel.
    fn on(self, channel: &'static str) -> Self {
        Self { channel, ..self }
    }
}

fn order(number: usize) -> String {
    format!(r#"{{"id":1,"revision":{number},"status":"paid","lines":[{{"quantity":{number},"price_cents":1}}]}}"#)
}

/// Two modules side by side, each with a stream of its own.
async fn unruly_and_orders(toml: &str) -> Result<(World, Relay)> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.stream("ORDERS", &["orders.>"]).await?;
    world.add_unruly(toml)?;
    world.home.add_module(
        "orders",
        &guests::component("orders")?,
        "stream = \"ORDERS\"\ndeliver = \"all\"\n",
    )?;
    let relay = world.run().await?;
    Ok((world, relay))
}

/// Waits until the module has published this many, and checks that it is well.
async fn publishes(relay: &Relay, name: &str, published: usize, rejected: usize) -> Result<()> {
    let done = |status: &Value| {
        let module = module(status, name);
        module["published"] == published && module["rejected"] == rejected
    };
    let status = relay
        .status_when(SOON, &format!("{name} to publish {published}"), done)
        .await?;
    ensure!(
        module(&status, name)["state"] == "running" && status["ready"] == true,
        "{status}"
    );
    Ok(())
}

/// Checks that the channel's history is exactly this, in order.
async fn holds(world: &World, channel: &str, expected: impl IntoIterator<Item = String>) -> Result<()> {
    let history = world.centrifugo.history(channel).await?;
    let texts: Vec<_> = history.iter().map(|publication| publication.text()).collect();
    let expected: Vec<_> = expected.into_iter().collect();
    ensure!(texts == expected, "{channel} holds {texts:?} instead of {expected:?}");
    Ok(())
}

/// Sends each bad message to `unruly`, followed by a good one, and an order to the neighbour. Only the bad ones are not
/// published, and the dead letter of each says why.
async fn each_costs_one_message(toml: &str, stage: &str, cases: Vec<Bad>) -> Result<()> {
    let (world, relay) = unruly_and_orders(toml).await?;
    for (number, bad) in cases.iter().enumerate() {
        world.publish([(bad.subject, bad.payload.clone())]).await?;
        world
            .publish([("unruly.ok", number.to_string()), ("orders.paid", order(number + 1))])
            .await?;
    }
    publishes(&relay, "unruly", cases.len(), cases.len()).await?;
    publishes(&relay, "orders", cases.len(), 0).await?;
    holds(&world, "unruly:ok", (0..cases.len()).map(|number| number.to_string())).await?;
    let views =
        (1..=cases.len()).map(|number| format!(r#"{{"status":"paid","items":{number},"total_cents":{number}}}"#));
    holds(&world, "orders:1", views).await?;

    let letters = dead_letters(&world, "unruly", cases.len()).await?;
    for ((number, bad), letter) in cases.iter().enumerate().zip(&letters) {
        let found = letter.why();
        let expected = [stage, bad.code, bad.channel];
        ensure!(
            found[..3] == expected && found[3].contains(bad.reason),
            "{}: {found:?}",
            bad.subject
        );
        let sequence = (2 * number + 1).to_string();
        ensure!(
            letter.header("Slipring-Sequence") == sequence,
            "{}: {letter:?}",
            bad.subject
        );
    }
    relay.has_logged(SOON, "rejected a message").await?;
    let metrics = relay.metrics().await?;
    for line in [
        format!(
            "slipring_messages_rejected_total{{module=\"unruly\",stage=\"{stage}\"}} {}\n",
            cases.len()
        ),
        format!("slipring_dead_letters_total{{module=\"unruly\"}} {}\n", cases.len()),
    ] {
        ensure!(metrics.contains(&line), "no {line} in {metrics}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_breaks_or_takes_too_much() -> Result<()> {
    let cases = vec![
        bad("unruly.reject", "no", "rejected", "rejected as asked: no"),
        bad("unruly.fly", "", "rejected", "unruly does not know how to \"fly\""),
        bad("unruly.panic", "a reason", "trap", ": panicked as asked: a reason"),
        bad(
            "unruly.abort",
            "",
            "trap",
            "trapped: wasm `unreachable` instruction executed",
        ),
        bad(
            "unruly.overflow",
            "",
            "trap",
            "overflowed its stack, most likely by endless recursion",
        ),
        bad("unruly.exit", "", "exit", "exited with an error"),
        bad("unruly.sleep", "", "trap", "a transform cannot sleep"),
        bad(
            "unruly.eat",
            "",
            "memory",
            "needed more memory than its limit of 64 MiB",
        ),
    ];
    // Long enough to use up the memory even on a busy machine.
    each_costs_one_message("timeout = \"10s\"", "transform", cases).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_never_returns() -> Result<()> {
    let loops = || {
        bad(
            "unruly.loop",
            "",
            "timeout",
            "did not return within its timeout of 300ms",
        )
    };
    each_costs_one_message("timeout = \"300ms\"", "transform", vec![loops(), loops()]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_returns_what_cannot_be_published() -> Result<()> {
    let cases = vec![
        bad(
            "unruly.many",
            "1000000",
            "memory",
            "needed more memory than its limit of 64 MiB",
        ),
        bad(
            "unruly.many",
            "10001",
            "output",
            "returned 10001 publications for one message; 10000 is the limit",
        ),
        bad(
            "unruly.large",
            "20000000",
            "output",
            "returned more than 16 MiB for one message",
        ),
        bad("unruly.empty-channel", "", "channel", "its channel is empty"),
        bad("unruly.long-channel", "", "channel", "has 300 bytes; 255 is the limit"),
        bad(
            "unruly.broken-json",
            "",
            "json",
            "its body is not JSON: EOF while parsing",
        )
        .on("unruly:ok"),
        bad(
            "unruly.two-jsons",
            "",
            "json",
            "its body is not JSON: trailing characters",
        )
        .on("unruly:ok"),
        bad(
            "unruly.big-version",
            "",
            "version",
            "version 9007199254740993 is too large",
        )
        .on("unruly:ok"),
    ];
    each_costs_one_message("timeout = \"10s\"", "transform", cases).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_centrifugo_does_not_know() -> Result<()> {
    let unknown = "error 102 (unknown channel): does the namespace before `:` exist in Centrifugo's configuration?";
    let cases = vec![
        bad("unruly.channels", r#"["nowhere:1"]"#, "102", unknown).on("nowhere:1"),
        bad("unruly.channels", r#"["nowhere:2"]"#, "102", unknown).on("nowhere:2"),
    ];
    each_costs_one_message("", "publish", cases).await
}

/// No rejection: the message is published, and the module's log is cut to what a person can read.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_floods_its_log() -> Result<()> {
    let (world, relay) = unruly_and_orders("timeout = \"60s\"").await?;
    world.publish([("unruly.chatter", ""), ("unruly.ok", "2")]).await?;
    world.publish([("orders.paid", order(1))]).await?;
    publishes(&relay, "unruly", 2, 0).await?;
    publishes(&relay, "orders", 1, 0).await?;
    holds(&world, "unruly:ok", ["1", "2"].map(str::to_owned)).await?;
    relay.has_logged(SOON, "the module logs too much").await?;
    let written = relay
        .log()
        .iter()
        .filter(|line| line.contains("of 100000, which nobody needs"))
        .count();
    // A hundred at once, then ten a second.
    ensure!(
        (100..1_000).contains(&written),
        "{written} lines of the module are in the log"
    );
    no_dead_letters(&world).await
}

/// The example `orders` gets payloads that it cannot read.
#[tokio::test(flavor = "multi_thread")]
async fn payloads_that_are_not_json() -> Result<()> {
    let world = World::start().await?;
    world.stream("ORDERS", &["orders.>"]).await?;
    world.home.add_module(
        "orders",
        &guests::component("orders")?,
        "stream = \"ORDERS\"\ndeliver = \"all\"\n",
    )?;
    let relay = world.run().await?;
    let cases: [(&[u8], &str); 6] = [
        (b"hello", "expected value at line 1 column 1"),
        (b"{\"id\":1", "EOF while parsing an object at line 1 column 7"),
        (
            b"{\"id\":1,\"revision\":1,\"status\":\"p\xff\"}",
            "invalid unicode code point at line 1 column 33",
        ),
        (
            b"\xff\xfe{\x00}\x00",
            "a UTF-16 byte order mark, but JSON must be UTF-8",
        ),
        (b"\xef\xbb\xbf{}", "a byte order mark (ef bb bf), which must be removed"),
        (b"", "the payload is empty, but must be JSON"),
    ];
    for (number, (payload, _)) in (1..).zip(cases) {
        world.publish([("orders.paid", Bytes::from_static(payload))]).await?;
        world.publish([("orders.paid", order(number))]).await?;
    }
    publishes(&relay, "orders", cases.len(), cases.len()).await?;
    let letters = dead_letters(&world, "orders", cases.len()).await?;
    for (letter, (payload, reason)) in letters.iter().zip(cases) {
        let found = letter.why();
        ensure!(
            found[..3] == ["transform", "rejected", ""] && found[3].contains(reason),
            "{found:?}"
        );
        ensure!(letter.payload == payload, "{letter:?}");
    }
    let views =
        (1..=cases.len()).map(|number| format!(r#"{{"status":"paid","items":{number},"total_cents":{number}}}"#));
    holds(&world, "orders:1", views).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_as_large_as_nats_allows_is_published_whole() -> Result<()> {
    let (world, relay) = unruly_and_orders("").await?;
    let large = |letter: &str| format!("\"{}\"", letter.repeat((1 << 20) - 2));
    let messages = [large("a"), "1".to_owned(), large("b"), large("c"), "2".to_owned()];
    world
        .publish(messages.clone().map(|message| ("unruly.ok", message)))
        .await?;
    publishes(&relay, "unruly", messages.len(), 0).await?;
    let history = world.centrifugo.history("unruly:ok").await?;
    let found: Vec<_> = history.iter().map(|publication| publication.text()).collect();
    ensure!(
        found == messages,
        "{:?}",
        found.iter().map(String::len).collect::<Vec<_>>()
    );
    no_dead_letters(&world).await
}

#[tokio::test]
async fn a_bad_configuration_ends_the_relay_with_all_its_mistakes() -> Result<()> {
    let nowhere = "127.0.0.1:1";
    let home = slipring_support::relay::Home::new(
        super::world::binary(),
        &format!("nats://{nowhere}"),
        &format!("http://{nowhere}"),
        "key",
    )?;
    let mut text = std::fs::read_to_string(home.config_file())?;
    let line = text.lines().count() + 1;
    writeln!(
        text,
        "[publish]\nordr = \"strict\"\nmax_batch = 0\nidempotency = \"yes\"\n[shutdwn]\ngrace = \"1s\""
    )?;
    home.configure(&text)?;
    let mut command = home.command(["run"]);
    command.stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = tokio::time::timeout(SOON, output)
        .await
        .context("the relay goes on")???;
    let errors = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(78), "{}: {errors}", output.status);
    ensure!(output.stdout.is_empty(), "{:?}", output.stdout);
    for (line, words) in [
        (line + 1, ["`publish.ordr`", "`publish.order`"]),
        (line + 2, ["max_batch", "1"]),
        (line + 3, ["idempotency", "\"yes\""]),
        (line + 4, ["`shutdwn`", "`shutdown`"]),
    ] {
        let place = format!("slipring.toml:{line}:");
        let mistake = errors.lines().find(|error| error.starts_with(&place));
        let mistake = mistake.with_context(|| format!("nothing about line {line} in {errors}"))?;
        ensure!(words.iter().all(|word| mistake.contains(word)), "{mistake}");
    }
    ensure!(errors.lines().count() == 4, "{errors}");
    Ok(())
}
