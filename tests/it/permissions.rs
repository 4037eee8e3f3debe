//! `slipring check --permissions`: the relay and the commands run with exactly the permissions that it prints, on every
//! version of nats-server, and the server reports no violation.

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipring_support::eventually;
use slipring_support::guests;
use slipring_support::relay::Home;
use slipring_support::servers::{Centrifugo, NatsServer, NatsVersion};

use super::api::Api;
use super::commands::{exits, stderr, stdout};
use super::numbers::{CHANNEL, counts, number_on, numbers, settled, shows, state};
use super::world::{SOON, World, know_unruly, unruly_toml};

const STREAM: &str = "UNRULY";
const CONSUMER: &str = "slipring-unruly";
const DEAD_LETTERS: &str = "SLIPRING_DEAD_LETTERS";

const STANDBY: &str = "[standby]\nenabled = true\nttl = \"4s\"";

const FILTER: &str = "subjects = [\"unruly.*\"]";

/// From 2.15 on, a server may deliver with longer subjects for acks.
const LONG_ACKS: &str = "feature_flags { js_ack_fc_v2: true }";

fn permissions(home: &Home, user: &str) -> Result<String> {
    let output = home.command(["check", "--permissions", "--user", user]).output()?;
    exits(&output, 0)?;
    Ok(stdout(&output))
}

/// Starts servers. The test itself may do everything. The relay is the user `slipring` and a person the user
/// `people`, each with the permissions for the module `unruly`, with these `settings`.
async fn world(version: NatsVersion, server: &str, settings: &str, toml: &str) -> Result<World> {
    let centrifugo = Centrifugo::start_with(know_unruly).await?;
    let (url, key) = (centrifugo.url(), centrifugo.api_key().to_owned());
    let nats = NatsServer::start_version(version).await?;
    let mut world = World::start_on(nats, centrifugo, &url, &key).await?;
    world.home.configure_more(settings)?;
    world.add_unruly(toml)?;
    let config = server_config(server, &world)?;
    serve(&mut world, &config).await?;
    Ok(world)
}

fn server_config(server: &str, world: &World) -> Result<String> {
    let [relay, people] = ["relay", "people"].map(|user| permissions(&world.home, user));
    Ok(format!(
        "{server}\nno_auth_user: test\nauthorization {{ users: [\n{{ user: test, password: test }}\n{{ user: slipring, password: \
         secret\n{} }}\n{{ user: people, password: secret\n{} }} ] }}",
        relay?, people?
    ))
}

async fn serve(world: &mut World, config: &str) -> Result<()> {
    world.nats.restart_with(config).await?;
    world.jetstream = world.nats.jetstream().await?;
    world.home.env("SLIPRING_NATS__USER", "slipring");
    world.home.env("SLIPRING_NATS__PASSWORD", "secret");
    world.stream(STREAM, &["unruly.>"]).await?;
    Ok(())
}

fn no_violation(world: &World) -> Result<()> {
    let log = world.nats.log();
    let violations: Vec<&String> = log.iter().filter(|line| line.contains("iolation")).collect();
    ensure!(violations.is_empty(), "{violations:#?}");
    Ok(())
}

/// Publishes, makes a dead letter, restarts, swaps with another filter, and ends, with unacknowledged messages on the
/// way.
async fn works(world: &World) -> Result<()> {
    world.publish(numbers(1..=100)).await?;
    let mut relay = world.run().await?;
    shows(&world.centrifugo, CHANNEL, 1..=100).await?;
    world.publish([("unruly.error", "")]).await?;
    eventually(SOON, "a dead letter", async || {
        let stream = world.jetstream.get_stream(DEAD_LETTERS).await?;
        ensure!(stream.cached_info().state.messages == 1);
        Ok(())
    })
    .await?;
    settled(world, STREAM, CONSUMER).await?;
    let api = Api::new(world, &relay)?;
    ensure!(api.get("dead-letters").await?["total"] == 1);
    ensure!(api.get("dead-letters/1").await?["subject"] == "unruly.error");
    for (verb, done) in [("replay", "1 rejected again"), ("remove", "removed 1 dead letter")] {
        let (status, text) = api
            .post(&format!("dead-letters/{verb}"), Some(&json!({ "all": true })))
            .await?;
        ensure!(status.is_success() && text.contains(done), "{status} {text}");
    }
    // It does not finish its work.
    world.publish(numbers(101..=2000)).await?;
    relay.kill();
    let relay = world.run().await?;
    settled(world, STREAM, CONSUMER).await?;
    world
        .home
        .configure_module("unruly", &toml("[settings]\nmark = \"new\""))?;
    counts(&relay, "unruly", "swaps", 1).await?;
    world.publish([number_on("unruly:new", 7)]).await?;
    shows(&world.centrifugo, "unruly:new", [7]).await?;
    settled(world, STREAM, CONSUMER).await?;
    ensure!(!relay.logged("iolation"), "{:#?}", relay.log());
    no_violation(world)
}

fn toml(more: &str) -> String {
    unruly_toml(&format!("{FILTER}\n{more}"))
}

async fn works_on(version: NatsVersion, server: &str) -> Result<()> {
    works(&world(version, server, "", FILTER).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_needs_no_more_than_is_printed_on_2_10() -> Result<()> {
    works_on(NatsVersion::V2_10, "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_needs_no_more_than_is_printed_on_2_12() -> Result<()> {
    works_on(NatsVersion::V2_12, "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_needs_no_more_than_is_printed_on_2_15() -> Result<()> {
    works_on(NatsVersion::V2_15, "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_needs_no_more_than_is_printed_for_long_ack_subjects() -> Result<()> {
    works_on(NatsVersion::V2_15, LONG_ACKS).await
}

/// Also: a consumer without a filter, and one with several, have other subjects.
#[tokio::test(flavor = "multi_thread")]
async fn two_relays_need_no_more_than_is_printed() -> Result<()> {
    for (server, subjects) in [("", ""), (LONG_ACKS, "subjects = [\"unruly.ok\", \"unruly.error\"]")] {
        let world = world(NatsVersion::V2_15, server, STANDBY, subjects).await?;
        world.publish(numbers(1..=50)).await?;
        let mut first = world.run().await?;
        state(&first, "unruly", "running").await?;
        let second = world.run().await?;
        state(&second, "unruly", "standby").await?;
        ensure!(first.stop(SOON).await?.success());
        world.publish(numbers(51..=60)).await?;
        state(&second, "unruly", "running").await?;
        shows(&world.centrifugo, CHANNEL, 1..=60).await?;
        settled(&world, STREAM, CONSUMER).await?;
        ensure!(!first.logged("cannot give up the pin"), "{:#?}", first.log());
        no_violation(&world)?;
    }
    Ok(())
}

/// The name is for people, so the relays do without the permission to write it.
#[tokio::test(flavor = "multi_thread")]
async fn two_relays_that_may_not_change_the_consumer_stand_by_without_names() -> Result<()> {
    let mut world = world(NatsVersion::V2_15, "", STANDBY, FILTER).await?;
    world.publish(numbers(1..=10)).await?;
    let mut first = world.run().await?;
    settled(&world, STREAM, CONSUMER).await?;
    ensure!(first.stop(SOON).await?.success());
    let whole = server_config("", &world)?;
    let create = format!("$JS.API.CONSUMER.CREATE.{STREAM}.{CONSUMER}");
    let without = whole.replacen(&create, "nothing", 1);
    ensure!(without != whole, "{create} is not in {whole}");
    serve(&mut world, &without).await?;

    world.publish(numbers(11..=20)).await?;
    let mut first = world.run().await?;
    state(&first, "unruly", "running").await?;
    first.has_logged(SOON, "do not learn this relay's name").await?;
    let second = world.run().await?;
    let unnamed = |status: &Value| status["modules"][0]["reason"] == "another relay is active";
    second
        .status_when(SOON, "an active relay without a name", unnamed)
        .await?;
    ensure!(first.stop(SOON).await?.success());
    world.publish(numbers(21..=30)).await?;
    state(&second, "unruly", "running").await?;
    shows(&world.centrifugo, CHANNEL, 1..=30).await?;
    settled(&world, STREAM, CONSUMER).await?;
    ensure!(no_violation(&world).is_err_and(|error| error.to_string().contains(&create)));
    for relay in [first, second] {
        ensure!(!relay.logged("lacks a permission"), "{:#?}", relay.log());
    }
    Ok(())
}

/// Without [standby] and long ack subjects, two of the printed lines are not needed.
#[tokio::test(flavor = "multi_thread")]
async fn the_status_names_each_line_that_is_taken_away() -> Result<()> {
    let printed = permissions(&world(NatsVersion::V2_15, "", "", FILTER).await?.home, "relay")?;
    let lines = printed.lines().filter(|line| line.trim_start().starts_with('"'));
    let needed = lines.filter(|line| !line.contains(".UNPIN.") && !line.contains("$JS.ACK.*.*."));
    // Nobody looks at dead letters, so nothing reads or removes them.
    let reads_letters =
        |line: &str| line.contains(DEAD_LETTERS) && !line.contains("STREAM.INFO") && !line.contains("STREAM.CREATE");
    let needed = needed.filter(|line| !reads_letters(line));
    let needed: Vec<&str> = needed.collect();
    ensure!(needed.len() == 10, "{needed:#?}");
    for line in needed {
        let mut servers = world(NatsVersion::V2_15, "", "", FILTER).await?;
        let whole = server_config("", &servers)?;
        // An empty list would allow everything.
        let without = whole.replacen(line, "\"nothing\"", 1);
        ensure!(without != whole, "{line} is not in {whole}");
        serve(&mut servers, &without).await?;
        let relay = servers.home.run().await?;
        servers
            .publish([number_on(CHANNEL, 1), ("unruly.error", String::new())])
            .await?;
        let subject = line.split('"').nth(1).context("a subject")?;
        // The status has `>` instead of the filter.
        let subject = subject.trim_end_matches(".unruly.*");
        let named = |status: &Value| {
            let obstacles = status["obstacles"].as_array().into_iter().flatten();
            obstacles
                .into_iter()
                .any(|finding| finding["text"].as_str().is_some_and(|text| text.contains(subject)))
        };
        let seen = relay
            .status_when(SOON, &format!("{subject} in the status"), named)
            .await;
        seen.with_context(|| line.to_owned())?;
        ensure!(relay.get("/readyz").await.is_err(), "{line}: it is ready");
    }
    Ok(())
}

/// The page is not what the relay is for, so it stays ready.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_lines_for_the_page_it_says_which_one_is_missing() -> Result<()> {
    let mut servers = world(NatsVersion::V2_15, "", "", FILTER).await?;
    let subjects = ["CONSUMER.CREATE", "STREAM.MSG.DELETE"].map(|what| format!("$JS.API.{what}.{DEAD_LETTERS}"));
    let mut config = server_config("", &servers)?;
    // The block of the relay is the first one.
    for subject in &subjects {
        config = config.replacen(subject, "nothing", 1);
    }
    serve(&mut servers, &config).await?;
    let relay = servers.run().await?;
    servers.publish([("unruly.error", "")]).await?;
    relay
        .status_when(SOON, "a rejection", |status| status["modules"][0]["rejected"] == 1)
        .await?;
    settled(&servers, STREAM, CONSUMER).await?;
    let api = Api::new(&servers, &relay)?;
    let [create, delete] = &subjects;
    let (status, text) = api.ask(Method::GET, "dead-letters", None).await?;
    ensure!(
        status == StatusCode::SERVICE_UNAVAILABLE && text.contains(create),
        "{status} {text}"
    );
    let first = json!({ "numbers": [1] });
    let (status, text) = api.post("dead-letters/remove", Some(&first)).await?;
    ensure!(
        status == StatusCode::OK && text.contains(delete) && text.contains("\"ok\":false"),
        "{status} {text}"
    );
    ensure!(
        relay.get("/readyz").await? == "ready\n" && !relay.logged("is not ready"),
        "{:#?}",
        relay.log()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_need_no_more_than_is_printed() -> Result<()> {
    for version in [NatsVersion::V2_10, NatsVersion::V2_15] {
        let mut world = world(version, "", "", "").await?;
        let mut relay = world.run().await?;
        let rejected = |number: u64| ("unruly.error", number.to_string());
        world.publish(numbers(1..=20).chain((1..=3).map(rejected))).await?;
        eventually(SOON, "dead letters", async || {
            let stream = world.jetstream.get_stream(DEAD_LETTERS).await?;
            ensure!(stream.cached_info().state.messages == 3);
            Ok(())
        })
        .await?;
        settled(&world, STREAM, CONSUMER).await?;
        relay.stop(SOON).await?;
        world.home.env("SLIPRING_NATS__USER", "people");
        // With this setting, the module accepts the letters.
        world
            .home
            .configure_module("unruly", &unruly_toml("[settings]\nwish = \"ok\""))?;
        let old = world.home.path().join("old.wasm");
        std::fs::copy(guests::component("unruly")?, &old)?;
        let run = |arguments: &[&str]| -> Result<String> {
            let output = world.home.command(arguments.iter().copied()).output()?;
            ensure!(
                output.status.success(),
                "{version}, {arguments:?}: {}{}",
                stdout(&output),
                stderr(&output)
            );
            Ok(stdout(&output))
        };
        let said = run(&["check", "--online"])?;
        ensure!(!said.contains("$JS.API.INFO"), "{said}");
        let wasm = "modules/unruly.wasm";
        run(&["try", "--stream", STREAM, "--last", "5", wasm])?;
        run(&["try", "--stream", STREAM, "--seq", "3", wasm])?;
        run(&["diff", "old.wasm", wasm, "--stream", STREAM, "--last", "10"])?;
        run(&["record", "--stream", STREAM, "--last", "5", "--into", "cases", wasm])?;
        ensure!(run(&["dead-letters", "list"])?.contains("unruly"));
        run(&["dead-letters", "show", "1"])?;
        run(&["dead-letters", "remove", "1"])?;
        run(&["dead-letters", "replay", "--module", "unruly"])?;
        let stream = world.jetstream.get_stream(DEAD_LETTERS).await?;
        ensure!(stream.cached_info().state.messages == 0, "the rest is replayed");
        let missing = world
            .home
            .command(["try", "--stream", "NONE", "--last", "5", wasm])
            .output()?;
        ensure!(!missing.status.success());
        let log = world.nats.log();
        let violations: Vec<&String> = log
            .iter()
            .filter(|line| line.contains("iolation") && !line.contains("STREAM.INFO.NONE"))
            .collect();
        ensure!(violations.is_empty(), "{version}: {violations:#?}");
    }
    Ok(())
}

/// With JetStream in a domain, and an inbox of its own, which no other user can read.
#[tokio::test(flavor = "multi_thread")]
async fn prefixes_are_in_the_permissions() -> Result<()> {
    let mut nats = NatsServer::start().await?;
    nats.set_domain("hub");
    let centrifugo = Centrifugo::start_with(know_unruly).await?;
    let (url, key) = (centrifugo.url(), centrifugo.api_key().to_owned());
    let mut world = World::start_on(nats, centrifugo, &url, &key).await?;
    world.home.env("SLIPRING_NATS__DOMAIN", "hub");
    world.home.env("SLIPRING_NATS__INBOX_PREFIX", "_INBOX_relay.a");
    world.add_unruly(FILTER)?;
    let config = server_config("", &world)?;
    ensure!(
        config.contains("$JS.hub.API.STREAM.INFO") && config.contains("_INBOX_relay.a.>"),
        "{config}"
    );
    serve(&mut world, &config).await?;
    works(&world).await
}

/// The relay's own user may not ask for the account's limits, which the relay does not need.
#[tokio::test(flavor = "multi_thread")]
async fn check_online_is_good_with_the_permissions_of_the_relay() -> Result<()> {
    let world = world(NatsVersion::V2_15, "", "", "").await?;
    let output = world.home.command(["check", "--online", "--json"]).output()?;
    exits(&output, 0)?;
    let report: Value = serde_json::from_str(&stdout(&output))?;
    let servers = report["servers"].as_array().context("a list")?;
    let note = servers
        .iter()
        .find(|finding| finding["note"] == true)
        .context("a note")?;
    ensure!(
        note["detail"]
            .as_str()
            .is_some_and(|detail| detail.contains("no reply to JetStream's `INFO` request")),
        "{note}"
    );
    // This also shows that the other tests would see a violation.
    ensure!(
        no_violation(&world).is_err_and(|error| error.to_string().contains("$JS.API.INFO")),
        "{:#?}",
        world.nats.log()
    );
    Ok(())
}
