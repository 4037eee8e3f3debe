//! Messages that NATS stores and no library can read, because their headers or subjects are invalid. Each one becomes a
//! dead letter with its bytes, without a call of the module. The following messages are published at once, and neither
//! this module nor a neighbour loses a connection.

mod commands;
pub mod connections;
mod generated;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use slipring_support::fake_centrifugo::{Answer, Batch, FakeCentrifugo, Plan};
use slipring_support::raw::RawClient;
use slipring_support::relay::Relay;
use slipring_support::servers::{NatsServer, NatsVersion};
use slipring_support::{eventually, guests};

use super::dead_letters::DeadLetter;
use super::numbers::counts;
use super::world::{SOON, World, module};

const STREAM: &str = "UNRULY";
const MODULE: &str = "unruly";
const LETTERS: &str = "SLIPRING_DEAD_LETTERS";

/// An unreadable message. If the guest got it, it would publish it.
struct Bad {
    subject: &'static [u8],
    headers: &'static [u8],
    /// Part of the reason.
    reason: &'static str,
}

const BAD: [Bad; 9] = [
    Bad {
        subject: b"unruly.ok",
        headers: b"NATS/1.0\r\nCity: M\xfcnchen\r\n\r\n",
        reason: "line 2 of its header block, `City`, is not UTF-8: byte 8 of the line is 0xfc",
    },
    Bad {
        subject: b"unruly.ok",
        headers: b"NATS/1.0\r\nUser Name: a\r\n\r\n",
        reason: "the header name in line 2 of its header block has ' ' at byte 5",
    },
    Bad {
        subject: b"unruly.ok",
        headers: b"NATS/1.0\r\nTrace: 1\r\nStra\xc3\x9fe: a\r\n\r\n",
        reason: "the header name in line 3 of its header block",
    },
    Bad {
        subject: b"unruly.ok",
        headers: b"NATS/1.0\r\nno colon\r\n\r\n",
        reason: "line 2 of its header block has no `:`",
    },
    Bad {
        subject: b"unruly.ok",
        headers: b"City: a\r\n\r\n",
        reason: "its header block does not begin with NATS/1.0",
    },
    Bad {
        subject: b"unruly.ok",
        headers: b"\xff\x00\xfe",
        reason: "line 1 of its header block is not UTF-8",
    },
    // With this one, async-nats does not only lose its connection: it panics.
    Bad {
        subject: b"unruly.ok",
        headers: b"NATS/1.0\r\nCity: a\rb\r\n\r\n",
        reason: "has a carriage return in it",
    },
    Bad {
        subject: b"unruly.\xfc.ok",
        headers: b"",
        reason: "its subject is not UTF-8: byte 8 of it is 0xfc",
    },
    Bad {
        subject: b"unruly.\xff.ok",
        headers: b"NATS/1.0\r\nTrace: 1\r\n\r\n",
        reason: "its subject is not UTF-8",
    },
];

impl Bad {
    fn payload(&self) -> &'static [u8] {
        b"{\"bad\":\"\xff\"}"
    }
}

/// Messages that async-nats cannot read, but a module can: an odd space in the subject, a status from a client.
const ODD: [(&[u8], &[u8]); 3] = [
    ("unruly.a\u{a0}b.ok".as_bytes(), b"NATS/1.0\r\nTrace: 1\r\n\r\n"),
    (b"unruly.a\x0bb.ok", b"NATS/1.0\r\nTrace: 1\r\n\r\n"),
    (b"unruly.ok", b"NATS/1.0 409 Consumer Deleted\r\nTrace: 1\r\n\r\n"),
];

/// Sends them one by one, each followed by a number, so that they have the sequences 1, 3, 5, …
async fn send<C>(world: &World<C>, bad: &[Bad], first: u64) -> Result<()> {
    let mut raw = RawClient::connect(&world.nats.url()).await?;
    for (bad, number) in bad.iter().zip(first..) {
        raw.publish(bad.subject, bad.headers, bad.payload());
        raw.publish(b"unruly.ok", b"", number.to_string().as_bytes());
    }
    raw.flush().await
}

/// Waits for this many dead letters and returns them in the order of their messages.
async fn letters<C>(world: &World<C>, count: usize) -> Result<Vec<DeadLetter>> {
    eventually(SOON, format!("{count} dead letters"), async || {
        let stream = world.jetstream.get_stream(LETTERS).await?;
        let held = stream.cached_info().state.messages;
        ensure!(held == count as u64, "there are {held}");
        let mut letters = Vec::new();
        for sequence in 1..=held {
            let message = stream.get_raw_message(sequence).await?;
            letters.push(DeadLetter {
                headers: message.headers,
                payload: message.payload,
            });
        }
        letters.sort_by_key(|letter| letter.header("Slipring-Sequence").parse::<u64>().unwrap_or(0));
        Ok(letters)
    })
    .await
}

/// Checks that each has the bytes of its message, its sequence, and the reason.
fn check(letters: &[DeadLetter], bad: &[Bad], first_sequence: u64) -> Result<()> {
    for ((bad, letter), number) in bad.iter().zip(letters).zip(0..) {
        let [stage, code, channel, reason] = letter.why();
        ensure!((stage, code, channel) == ("transform", "unreadable", ""), "{letter:?}");
        ensure!(reason.contains(bad.reason), "{:?} and not {reason:?}", bad.reason);
        ensure!(letter.payload == bad.payload(), "{letter:?}");
        let sequence = (first_sequence + 2 * number).to_string();
        ensure!(letter.header("Slipring-Sequence") == sequence, "{letter:?}");
        let headers = STANDARD.decode(letter.header("Slipring-Raw-Headers"))?;
        ensure!(headers == bad.headers, "{:?} and not {headers:?}", bad.headers);
        let subject = letter.header("Slipring-Raw-Subject");
        let subject = match std::str::from_utf8(bad.subject) {
            Ok(text) => subject.is_empty() && letter.header("Slipring-Subject") == text,
            Err(_) => STANDARD.decode(subject)? == bad.subject,
        };
        ensure!(subject, "{letter:?}");
    }
    Ok(())
}

/// Checks that no connection was lost and no epoch ended.
fn undisturbed(relay: &Relay) -> Result<()> {
    for words in [
        "lost the connection",
        "reading was interrupted",
        "cannot read messages",
        "restarting the pipeline",
    ] {
        ensure!(!relay.logged(words), "{words:?} is in {:#?}", relay.log());
    }
    Ok(())
}

/// Returns what the channel shows, as text.
fn shown(world: &World<FakeCentrifugo>, channel: &str) -> Vec<String> {
    let executed = world.centrifugo.shown(channel);
    let text = |one: slipring_support::fake_centrifugo::Executed| {
        one.command
            .data
            .as_ref()
            .map(|data| data.get().to_owned())
            .unwrap_or_default()
    };
    executed.into_iter().map(text).collect()
}

async fn world_on(version: NatsVersion, retention: RetentionPolicy) -> Result<World<FakeCentrifugo>> {
    let nats = NatsServer::start_version(version).await?;
    let world = World::start_fake_on(nats, FakeCentrifugo::start().await?).await?;
    let config = Config {
        name: STREAM.to_owned(),
        subjects: vec!["unruly.>".to_owned()],
        retention,
        ..Default::default()
    };
    world.jetstream.create_stream(config).await?;
    world.add_unruly("")?;
    Ok(world)
}

/// Checks what every server version and every kind of stream must do with them: some wait when the relay starts, and
/// some come afterwards.
async fn each_becomes_a_dead_letter(world: &World<FakeCentrifugo>) -> Result<Relay> {
    let count = BAD.len() as u64;
    let (waiting, coming) = BAD.split_at(4);
    if world.jetstream.get_stream(STREAM).await?.cached_info().config.retention == RetentionPolicy::Interest {
        // Nothing is kept before there is a consumer.
        let relay = world.run().await?;
        send(world, waiting, 1).await?;
        return go_on(world, relay, coming, count).await;
    }
    send(world, waiting, 1).await?;
    let relay = world.run().await?;
    go_on(world, relay, coming, count).await
}

async fn go_on(world: &World<FakeCentrifugo>, relay: Relay, coming: &[Bad], count: u64) -> Result<Relay> {
    counts(&relay, MODULE, "published", count - coming.len() as u64).await?;
    send(world, coming, count - coming.len() as u64 + 1).await?;
    counts(&relay, MODULE, "published", count).await?;
    check(&letters(world, BAD.len()).await?, &BAD, 1)?;
    world.all_acked(SOON, STREAM, MODULE).await?;
    let numbers: Vec<String> = (1..=count).map(|number| number.to_string()).collect();
    ensure!(shown(world, "unruly:ok") == numbers, "{:?}", shown(world, "unruly:ok"));
    let status = relay.status().await?;
    let unruly = module(&status, MODULE);
    ensure!(unruly["state"] == "running" && status["ready"] == true, "{status}");
    ensure!(unruly["rejected"] == count, "{status}");
    relay.has_logged(SOON, "its header block").await?;
    undisturbed(&relay)?;
    Ok(relay)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_becomes_a_dead_letter_and_the_stream_goes_on() -> Result<()> {
    let world = world_on(NatsVersion::V2_15, RetentionPolicy::Limits).await?;
    each_becomes_a_dead_letter(&world).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn on_streams_that_forget_what_is_acknowledged_as_well() -> Result<()> {
    for retention in [RetentionPolicy::WorkQueue, RetentionPolicy::Interest] {
        let world = world_on(NatsVersion::V2_15, retention).await?;
        each_becomes_a_dead_letter(&world).await?;
        eventually(SOON, "the stream to be empty", async || {
            let held = world.jetstream.get_stream(STREAM).await?.cached_info().state.messages;
            ensure!(held == 0, "it holds {held}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn on_older_servers_as_well() -> Result<()> {
    for version in [NatsVersion::V2_10, NatsVersion::V2_12] {
        let world = world_on(version, RetentionPolicy::Limits).await?;
        let run = each_becomes_a_dead_letter(&world).await;
        run.with_context(|| format!("on NATS server {version}"))?;
    }
    Ok(())
}

/// They are pending when the relay is killed, so the hold-back also waits for messages that cannot be read.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_when_a_relay_is_killed_comes_again() -> Result<()> {
    for version in NatsVersion::ALL {
        let world = world_on(version, RetentionPolicy::Limits).await?;
        world
            .centrifugo
            .behave(|_: &Batch| Plan::answer(Answer::Silence { executed: false }));
        // Nothing after it is acked before it is published.
        world.publish([("unruly.ok", "0")]).await?;
        send(&world, &BAD, 1).await?;
        let mut relay = world.home.run().await?;
        letters(&world, BAD.len()).await?;
        relay.kill();
        let pending = world.consumer(STREAM, MODULE).await?.num_ack_pending;
        ensure!(pending > BAD.len(), "{pending} are pending");
        world.centrifugo.behave(|_: &Batch| Plan::execute());
        let relay = world.run().await?;
        world.all_acked(SOON, STREAM, MODULE).await?;
        let numbers: Vec<String> = (0..=BAD.len()).map(|number| number.to_string()).collect();
        ensure!(
            shown(&world, "unruly:ok") == numbers,
            "{version}: {:?}",
            shown(&world, "unruly:ok")
        );
        // JetStream recognizes the repeated letters.
        check(&letters(&world, BAD.len()).await?, &BAD, 2)?;
        undisturbed(&relay)?;
    }
    Ok(())
}

/// The pin comes with a message, which may be unreadable, and the server writes the pin into that message's headers.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_relay_that_stands_by_as_well() -> Result<()> {
    let world = world_on(NatsVersion::V2_15, RetentionPolicy::Limits).await?;
    world.home.configure_more("[standby]\nenabled = true\nttl = \"4s\"")?;
    // If a header block does not end properly, the server's line overwrites its end.
    let bad: Vec<&Bad> = BAD
        .iter()
        .filter(|bad| bad.headers.is_empty() || bad.headers.ends_with(b"\r\n\r\n"))
        .collect();
    let mut raw = RawClient::connect(&world.nats.url()).await?;
    for (bad, number) in bad.iter().zip(1..) {
        raw.publish(bad.subject, bad.headers, bad.payload());
        raw.publish(b"unruly.ok", b"", number.to_string().as_bytes());
    }
    // A line from somebody else is not the server's.
    raw.publish(b"unruly.ok", b"NATS/1.0\r\nNats-Pin-Id: theirs\r\n\r\n", b"\"theirs\"");
    raw.publish(b"unruly.ok", b"\xff", b"");
    raw.flush().await?;
    let mut first = world.run().await?;
    let second = world.home.run().await?;
    let count = bad.len();
    counts(&first, MODULE, "published", count as u64 + 1).await?;
    let found = letters(&world, count + 1).await?;
    for (bad, letter) in bad.iter().zip(&found) {
        let headers = STANDARD.decode(letter.header("Slipring-Raw-Headers"))?;
        ensure!(headers == bad.headers && letter.payload == bad.payload(), "{letter:?}");
        ensure!(letter.why()[3].contains(bad.reason), "{letter:?}");
    }
    undisturbed(&first)?;

    first.kill();
    send(&world, &BAD[..1], 100).await?;
    counts(&second, MODULE, "published", 1).await?;
    letters(&world, count + 2).await?;
    undisturbed(&second)
}

/// Messages that only async-nats cannot read are published.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_module_can_get_it_gets() -> Result<()> {
    for version in NatsVersion::ALL {
        let world = world_on(version, RetentionPolicy::Limits).await?;
        let mut raw = RawClient::connect(&world.nats.url()).await?;
        for ((subject, headers), number) in ODD.iter().zip(1..) {
            raw.publish(subject, headers, number.to_string().as_bytes());
        }
        raw.flush().await?;
        let relay = world.run().await?;
        counts(&relay, MODULE, "published", ODD.len() as u64).await?;
        world.all_acked(SOON, STREAM, MODULE).await?;
        undisturbed(&relay)?;
    }
    Ok(())
}

/// `on_reject` applies to them, but they do not count against the module.
#[tokio::test(flavor = "multi_thread")]
async fn on_reject_holds_and_they_do_not_halt_a_module_by_their_number() -> Result<()> {
    let world = world_on(NatsVersion::V2_15, RetentionPolicy::Limits).await?;
    world.add_unruly("max_consecutive_rejects = 2")?;
    let mut raw = RawClient::connect(&world.nats.url()).await?;
    for bad in &BAD {
        raw.publish(bad.subject, bad.headers, bad.payload());
    }
    raw.publish(b"unruly.ok", b"", b"1");
    raw.flush().await?;
    let mut relay = world.run().await?;
    counts(&relay, MODULE, "published", 1).await?;
    letters(&world, BAD.len()).await?;

    relay.stop(SOON).await?;
    world.add_unruly("on_reject = \"drop\"")?;
    let mut relay = world.run().await?;
    send(&world, &BAD, 2).await?;
    counts(&relay, MODULE, "published", BAD.len() as u64).await?;
    letters(&world, BAD.len()).await?;

    relay.stop(SOON).await?;
    world.add_unruly("on_reject = \"halt\"")?;
    let relay = world.run().await?;
    send(&world, &BAD[..1], 100).await?;
    let halted = |status: &Value| module(status, MODULE)["state"] == "halted";
    let status = relay.status_when(SOON, "the module to halt", halted).await?;
    let reason = module(&status, MODULE)["reason"].as_str().unwrap_or_default();
    ensure!(
        reason.contains("the message cannot be read: line 2 of its header block"),
        "{status}"
    );
    // A user who chose `halt` has to decide how it continues.
    world.add_unruly("on_reject = \"dead-letter\"")?;
    counts(&relay, MODULE, "rejected", 2).await?;
    letters(&world, BAD.len() + 1).await.map(drop)
}

/// JetStream accepts 64 KiB of headers, so a letter cannot hold as many beside its own. This also applies to
/// readable headers.
#[tokio::test(flavor = "multi_thread")]
async fn headers_that_a_letter_has_no_room_for_are_behind_its_payload() -> Result<()> {
    let world = world_on(NatsVersion::V2_15, RetentionPolicy::Limits).await?;
    let value = "x".repeat(65_400);
    let bad = [format!("NATS/1.0\r\nLarge: {value}").as_bytes(), b"\xfc\r\n\r\n"].concat();
    let good = format!("NATS/1.0\r\nLarge: {value}\r\nTrace: 1\r\n\r\n");
    let mut raw = RawClient::connect(&world.nats.url()).await?;
    raw.publish(b"unruly.ok", &bad, b"bad");
    raw.publish(b"unruly.reject", good.as_bytes(), b"good");
    raw.publish(b"unruly.ok", b"", b"1");
    raw.flush().await?;
    let relay = world.run().await?;
    counts(&relay, MODULE, "published", 1).await?;
    for (letter, payload) in letters(&world, 2).await?.iter().zip(["bad", "good"]) {
        ensure!(letter.payload.starts_with(payload.as_bytes()), "{payload}");
    }
    let shown = |number: &str, json: &str| -> Result<Vec<u8>> {
        let output = world.home.command(["dead-letters", "show", number, json]).output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(output.stdout)
    };
    for number in ["1", "2"] {
        let letter: Value = serde_json::from_slice(&shown(number, "--json")?)?;
        let payload = shown(number, "--payload")?;
        match letter["code"].as_str() {
            Some("unreadable") => {
                ensure!(
                    letter["headers_base64"] == STANDARD.encode(&bad) && payload == b"bad",
                    "{payload:?}"
                );
            }
            _ => {
                ensure!(letter["headers"]["Large"][0] == value && letter["headers"]["Trace"][0] == "1");
                ensure!(payload == b"good" && letter["size"] == 4, "{payload:?}");
            }
        }
    }
    Ok(())
}

/// A stream beside it, whose module has nothing to do with any of this.
#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_notices_nothing() -> Result<()> {
    const MESSAGES: u64 = 400;
    let world = world_on(NatsVersion::V2_15, RetentionPolicy::Limits).await?;
    world.stream("NEIGHBOUR", &["neighbour.>"]).await?;
    let toml = "stream = \"NEIGHBOUR\"\ndeliver = \"all\"\n";
    world
        .home
        .add_module("neighbour", &guests::component("unruly")?, toml)?;
    let relay = world.run().await?;
    let mut raw = RawClient::connect(&world.nats.url()).await?;
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    for number in 1..=MESSAGES {
        pace.tick().await;
        let bad = &BAD[usize::try_from(number)? % BAD.len()];
        raw.publish(bad.subject, bad.headers, bad.payload());
        let wish = format!(r#"[{{"channels":["neighbour"],"data":{number}}}]"#);
        raw.publish(b"neighbour.publish", b"", wish.as_bytes());
        raw.flush().await?;
    }
    counts(&relay, "neighbour", "published", MESSAGES).await?;
    counts(&relay, MODULE, "rejected", MESSAGES).await?;
    let numbers: Vec<String> = (1..=MESSAGES).map(|number| number.to_string()).collect();
    ensure!(shown(&world, "neighbour") == numbers, "in order, none twice");
    world.all_acked(SOON, "NEIGHBOUR", "neighbour").await?;
    world.all_acked(SOON, STREAM, MODULE).await?;
    undisturbed(&relay)
}
