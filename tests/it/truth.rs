//! Every light tells the truth: `/readyz`, the status, the log and the metrics say what is wrong and what to change, and the
//! backlog is what the server says, also when nothing fails and nothing moves.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future;
use serde_json::Value;
use slipring_support::eventually;
use slipring_support::proxy::Proxy;
use slipring_support::relay::Relay;
use slipring_support::servers::{Centrifugo, NatsServer};

use super::commands::{exits, stdout};
use super::world::{SOON, World, know_unruly, module};

/// How soon each trouble has to be seen, and a link that swallows everything or a stall.
const SEEN: Duration = Duration::from_secs(15);
const SEEN_LATER: Duration = Duration::from_secs(45);

/// How soon after the last message the backlog has to be right.
const COUNTED: Duration = Duration::from_secs(10);

/// Messages for `unruly`, each published unchanged.
async fn send(world: &World<impl Sized>, numbers: std::ops::Range<u32>) -> Result<()> {
    world
        .publish(numbers.map(|number| ("unruly.ok", number.to_string())))
        .await
}

/// Waits until every light shows this kind of trouble, with these words.
async fn shows(world: &World<impl Sized>, relay: &Relay, within: Duration, kind: &str, words: &[&str]) -> Result<()> {
    let begun = Instant::now();
    let is_warning = ["paused", "failed_among_others"].contains(&kind);
    let seen = async || -> Result<()> {
        let status = relay.status().await?;
        let list = if is_warning { "warnings" } else { "obstacles" };
        let findings = status[list].as_array().context("a list of findings")?;
        let texts = findings.iter().filter(|finding| finding["kind"] == kind);
        let mut texts = texts.filter_map(|finding| finding["text"].as_str());
        let found = texts.any(|text| words.iter().all(|word| text.contains(word)));
        ensure!(found, "{status:#}");
        Ok(())
    };
    let seen = eventually(SOON, format!("the status to show {kind}"), seen).await;
    seen.with_context(|| format!("{:#?}", relay.log()))?;
    let took = begun.elapsed();
    ensure!(took <= within, "{kind} was seen only after {took:?}");

    let ready = relay.get("/readyz").await;
    let text = ready.as_ref().map_or_else(|error| format!("{error:#}"), Clone::clone);
    ensure!(
        ready.is_ok() == is_warning && words.iter().all(|word| text.contains(word)),
        "{text}"
    );
    let metrics = relay.metrics().await?;
    let ready = format!("\nslipring_ready {}\n", u8::from(is_warning));
    ensure!(metrics.contains(&ready) && !metrics.contains("NaN"), "{metrics}");
    let check = world
        .home
        .command(["status", "--check", "--url", relay.url()])
        .output()?;
    exits(&check, i32::from(!is_warning))?;
    // Trouble of the relay as a whole is above the table, in other words.
    let told = words.iter().all(|word| stdout(&check).contains(word));
    ensure!(told || kind == "nats", "{}", stdout(&check));
    Ok(())
}

async fn logs(relay: &Relay, kind: &str) -> Result<()> {
    relay.has_logged(SOON, &format!("kind=\"{kind}\"")).await
}

/// Waits until the relay's backlog is what the server says, and is this many messages.
async fn counts(world: &World<impl Sized>, relay: &Relay, messages: u64) -> Result<()> {
    let counted = async || -> Result<()> {
        let info = world.consumer("UNRULY", "unruly").await?;
        let status = relay.status().await?;
        let unruly = module(&status, "unruly");
        let server = info.num_pending + info.num_ack_pending as u64;
        ensure!(server == messages, "the server has {info:?}");
        ensure!(unruly["lag_messages"] == server, "{unruly}");
        ensure!(
            unruly["backlog"]["pending"] == info.num_pending,
            "{unruly} is not {info:?}"
        );
        ensure!(
            unruly["backlog"]["ack_pending"] == info.num_ack_pending,
            "{unruly} is not {info:?}"
        );
        let sample = format!("slipring_lag_messages{{module=\"unruly\"}} {server}\n");
        let metrics = relay.metrics().await?;
        ensure!(metrics.contains(&sample), "{metrics}");
        Ok(())
    };
    let begun = Instant::now();
    eventually(SOON, "the backlog to be right", counted).await?;
    let took = begun.elapsed();
    ensure!(took <= COUNTED, "the backlog was right only after {took:?}");
    Ok(())
}

/// Returns the lines that are logged in the second minute of a trouble.
async fn second_minute(relay: &Relay) -> Result<Vec<String>> {
    tokio::time::sleep(Duration::from_secs(60)).await;
    let first = relay.log().len();
    tokio::time::sleep(Duration::from_secs(60)).await;
    Ok(relay.log().split_off(first))
}

async fn world() -> Result<World> {
    world_on(NatsServer::start().await?).await
}

async fn world_on(nats: NatsServer) -> Result<World> {
    let centrifugo = Centrifugo::start_with(know_unruly).await?;
    let (url, key) = (centrifugo.url(), centrifugo.api_key().to_owned());
    let world = World::start_on(nats, centrifugo, &url, &key).await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    Ok(world)
}

/// Starts servers at which the relay's user may do everything but this. The test's own connections may do all.
async fn world_that_denies(subject: &str) -> Result<World> {
    let denied = format!(
        "no_auth_user: admin\nauthorization {{ users: [\n  {{ user: admin, password: a }}\n  {{ user: slipring, password: b, \
         permissions: {{ publish: {{ deny: [\"{subject}\"] }} }} }}\n] }}"
    );
    let mut world = world_on(NatsServer::start_with(&denied).await?).await?;
    world.home.env("SLIPRING_NATS__USER", "slipring");
    world.home.env("SLIPRING_NATS__PASSWORD", "b");
    Ok(world)
}

/// Starts servers with a proxy between the relay and NATS.
async fn world_behind_a_proxy() -> Result<(World, Proxy)> {
    let nats = NatsServer::start().await?;
    let proxy = Proxy::start(&nats.url()).await?;
    let mut world = world_on(nats).await?;
    world
        .home
        .env("SLIPRING_NATS__SERVERS", format!("nats://{}", proxy.address()));
    Ok((world, proxy))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_centrifugo_that_is_away() -> Result<()> {
    let mut world = world().await?;
    let relay = world.run().await?;
    send(&world, 0..10).await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    world.centrifugo.stop().await?;
    send(&world, 10..210).await?;
    shows(&world, &relay, SEEN, "centrifugo", &["connection refused"]).await?;
    counts(&world, &relay, 200).await?;
    world.centrifugo.restart().await?;
    relay.ready(SOON).await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    counts(&world, &relay, 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_that_is_away() -> Result<()> {
    let mut world = world().await?;
    let relay = world.run().await?;
    send(&world, 0..10).await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    counts(&world, &relay, 0).await?;
    world.nats.stop().await?;
    shows(&world, &relay, SEEN, "nats", &["NATS is not connected"]).await?;
    let unknown = |status: &Value| module(status, "unruly")["lag_messages"].is_null();
    relay
        .status_when(SOON, "the lag to be unknown, and not 0", unknown)
        .await?;
    let metrics = relay.metrics().await?;
    ensure!(metrics.contains("\nslipring_nats_connected 0\n"), "{metrics}");
    ensure!(!metrics.contains("slipring_lag_messages{"), "{metrics}");
    world.nats.restart().await?;
    relay.ready(SOON).await?;
    counts(&world, &relay, 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_nats_that_swallows_everything() -> Result<()> {
    let nats = NatsServer::start().await?;
    let proxy = Proxy::start(&nats.url()).await?;
    let centrifugo = Centrifugo::start_with(know_unruly).await?;
    let (url, key) = (centrifugo.url(), centrifugo.api_key().to_owned());
    let mut world = World::start_on(nats, centrifugo, &url, &key).await?;
    world
        .home
        .env("SLIPRING_NATS__SERVERS", format!("nats://{}", proxy.address()));
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let relay = world.run().await?;
    counts(&world, &relay, 0).await?;
    proxy.change(|faults| faults.stall = true);
    send(&world, 0..500).await?;
    let begun = Instant::now();
    let told = async || {
        let ready = relay.get("/readyz").await;
        ensure!(ready.is_err(), "it is ready");
        let text = format!("{:#}", ready.unwrap_err());
        ensure!(
            text.contains("has an unknown lag") || text.contains("NATS is not connected"),
            "{text}"
        );
        Ok(())
    };
    eventually(SOON, "the relay not to be ready", told).await?;
    ensure!(begun.elapsed() <= SEEN_LATER, "only after {:?}", begun.elapsed());
    let unknown = |status: &Value| module(status, "unruly")["lag_messages"].is_null();
    relay.status_when(SOON, "the lag to be unknown", unknown).await?;
    proxy.heal();
    relay.ready(SOON).await?;
    world.all_acked(SOON, "UNRULY", "unruly").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_somebody_paused() -> Result<()> {
    let world = world().await?;
    let relay = world.run().await?;
    send(&world, 0..10).await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    let stream = world.jetstream.get_stream("UNRULY").await?;
    let until = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
    stream.pause_consumer("slipring-unruly", until).await?;
    send(&world, 10..210).await?;
    let words = ["200 messages wait", "nats consumer resume UNRULY slipring-unruly"];
    shows(&world, &relay, SEEN, "paused", &words).await?;
    logs(&relay, "paused").await?;
    counts(&world, &relay, 200).await?;
    let metrics = relay.metrics().await?;
    ensure!(
        metrics.contains("slipring_consumer_paused{module=\"unruly\"} 1\n"),
        "{metrics}"
    );
    stream.resume_consumer("slipring-unruly").await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    counts(&world, &relay, 0).await?;
    ensure!(!relay.get("/readyz").await?.contains("paused"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_permission_to_read() -> Result<()> {
    let world = world_that_denies("$JS.API.CONSUMER.MSG.NEXT.>").await?;
    send(&world, 0..100).await?;
    let relay = world.home.run().await?;
    let words = [
        "`$JS.API.CONSUMER.MSG.NEXT.UNRULY.slipring-unruly`",
        "nothing is delivered",
        "slipring check --permissions",
    ];
    shows(&world, &relay, SEEN, "permission", &words).await?;
    logs(&relay, "permission").await?;
    counts(&world, &relay, 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_permission_to_acknowledge() -> Result<()> {
    let world = world_that_denies("$JS.ACK.>").await?;
    let relay = world.home.run().await?;
    send(&world, 0..5_000).await?;
    let words = ["`$JS.ACK.UNRULY.slipring-unruly.>`", "nothing is acknowledged"];
    shows(&world, &relay, SEEN, "permission", &words).await?;
    logs(&relay, "permission").await?;
    counts(&world, &relay, 5_000).await
}

/// Each of the other requests without which a module does not run.
#[tokio::test(flavor = "multi_thread")]
async fn any_other_permission() -> Result<()> {
    for subject in [
        "$JS.API.STREAM.INFO.UNRULY",
        "$JS.API.CONSUMER.INFO.UNRULY.slipring-unruly",
        "$JS.API.CONSUMER.CREATE.UNRULY.slipring-unruly",
        "$JS.API.CONSUMER.RESET.UNRULY.slipring-unruly",
    ] {
        let world = world_that_denies(subject).await?;
        let relay = world.home.run().await?;
        shows(&world, &relay, SEEN, "permission", &[subject])
            .await
            .with_context(|| subject.to_owned())?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_cannot_be_stored() -> Result<()> {
    let world = world_that_denies("slipring.dead.>").await?;
    let relay = world.home.run().await?;
    world.publish([("unruly.reject", "no"), ("unruly.ok", "1")]).await?;
    let words = [
        "cannot store dead letters (1 waiting, the first for message 1)",
        "SLIPRING_DEAD_LETTERS",
    ];
    shows(&world, &relay, SEEN, "dead_letters", &words).await?;
    shows(
        &world,
        &relay,
        SEEN,
        "permission",
        &["`slipring.dead.unruly`", "dead letters are not stored"],
    )
    .await?;
    logs(&relay, "dead_letters").await?;
    let metrics = relay.metrics().await?;
    ensure!(
        metrics.contains("slipring_dead_letters_total{module=\"unruly\"} 0\n"),
        "{metrics}"
    );
    ensure!(
        !metrics.contains("slipring_dead_letter_store_failures_total{module=\"unruly\"} 0\n"),
        "{metrics}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halted_module() -> Result<()> {
    let world = world().await?;
    world.add_unruly("on_reject = \"halt\"")?;
    let relay = world.run().await?;
    world.publish([("unruly.reject", "no")]).await?;
    send(&world, 0..200).await?;
    shows(&world, &relay, SEEN, "halted", &["is halted: "]).await?;
    counts(&world, &relay, 201).await?;
    let metrics = relay.metrics().await?;
    ensure!(
        metrics.contains("slipring_module_state{module=\"unruly\",state=\"halted\"} 1\n"),
        "{metrics}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_stands_by() -> Result<()> {
    let world = world().await?;
    world.home.configure_more("[standby]\nenabled = true")?;
    send(&world, 0..10).await?;
    let active = world.run().await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    let other = world.run().await?;
    let stands_by = |status: &Value| module(status, "unruly")["state"] == "standby";
    other.status_when(SOON, "it to stand by", stands_by).await?;
    for relay in [&active, &other] {
        counts(&world, relay, 0).await?;
        ensure!(!relay.metrics().await?.contains("NaN"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_cannot_run_beside_one_that_can() -> Result<()> {
    let world = world().await?;
    let relay = world.run().await?;
    std::fs::write(world.home.modules().join("bad.wasm"), "no module")?;
    std::fs::write(world.home.modules().join("bad.toml"), "stream = \"UNRULY\"")?;
    shows(&world, &relay, SEEN, "failed_among_others", &["has failed: "]).await?;
    ensure!(relay.get("/readyz/bad").await.is_err(), "that module is not ready");
    ensure!(relay.get("/readyz/unruly").await?.starts_with("ready\n"));
    world.home.remove_module("unruly")?;
    shows(&world, &relay, SEEN, "failed", &["has failed: "]).await
}

/// Something between the relay and NATS cuts each connection that asks for messages. Everything else works.
#[tokio::test(flavor = "multi_thread")]
async fn a_stall() -> Result<()> {
    let (world, proxy) = world_behind_a_proxy().await?;
    let relay = world.run().await?;
    send(&world, 0..10).await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    proxy.change(|faults| faults.poison = Some("CONSUMER.MSG.NEXT"));
    // A pull may be open, and it takes some messages.
    send(&world, 10..20).await?;
    relay.has_logged(SOON, "reading was interrupted").await?;
    send(&world, 20..220).await?;
    let words = [
        "has stalled: for ",
        "messages wait in `UNRULY`",
        "nats consumer info UNRULY slipring-unruly",
    ];
    shows(&world, &relay, SEEN_LATER, "stalled", &words).await?;
    logs(&relay, "stalled").await?;
    proxy.heal();
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    relay.ready(SOON).await?;
    counts(&world, &relay, 0).await?;
    relay.has_logged(SOON, "the trouble is over").await
}

/// The log says what is wrong, and not again and again.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes two minutes"]
async fn trouble_takes_few_lines() -> Result<()> {
    let unable = async |subject: &str| -> Result<()> {
        let world = world_that_denies(subject).await?;
        let relay = world.home.run().await?;
        world.publish([("unruly.reject", "no")]).await?;
        send(&world, 0..5_000).await?;
        let lines = second_minute(&relay).await?;
        ensure!(lines.len() <= 6, "{subject}: {lines:#?}");
        Ok(())
    };
    let away = async |nats_too: bool| -> Result<()> {
        let mut world = world().await?;
        let relay = world.run().await?;
        world.centrifugo.stop().await?;
        send(&world, 0..5_000).await?;
        if nats_too {
            world.nats.stop().await?;
        }
        let lines = second_minute(&relay).await?;
        ensure!(lines.len() <= 6, "nats is away: {nats_too}: {lines:#?}");
        Ok(())
    };
    let denied = [
        "$JS.ACK.>",
        "$JS.API.CONSUMER.MSG.NEXT.>",
        "slipring.dead.>",
        "$JS.API.STREAM.INFO.UNRULY",
    ];
    let (denied, away_alone, away_both) =
        tokio::join!(future::try_join_all(denied.map(unable)), away(false), away(true));
    denied?;
    away_alone?;
    away_both
}
