//! Secrets that are replaced while the relay works.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use async_nats::ConnectOptions;
use async_nats::jetstream;
use rustix::process::Signal;
use slipring_support::Api;
use slipring_support::relay::Relay;

use super::super::jwt::Operator;
use super::super::numbers::{CHANNEL, counts, numbers, settled, shows};
use super::super::world::{SOON, World, over_both, publish};

/// The most lines that a replaced secret may cost.
const LINES: usize = 20;

async fn world(api: Api) -> Result<World> {
    let world = World::start_over(api).await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    Ok(world)
}

/// Publishes as long as `work` runs. Returns the last number.
async fn publishing_while(
    jetstream: &jetstream::Context,
    from: u64,
    work: impl Future<Output = Result<()>>,
) -> Result<u64> {
    let over = AtomicBool::new(false);
    let publishing = async {
        let mut next = from;
        while !over.load(Ordering::Relaxed) {
            // While the server restarts, a number is tried again.
            match publish(jetstream, numbers(next..=next)).await {
                Ok(()) => next += 1,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(next - 1)
    };
    let working = async {
        let done = work.await;
        over.store(true, Ordering::Relaxed);
        done
    };
    let (last, done) = tokio::join!(publishing, working);
    done.and(last)
}

fn few_lines(relay: &Relay, before: usize) -> Result<()> {
    let log = relay.log();
    ensure!(log.len() - before < LINES, "{:#?}", &log[before..]);
    Ok(())
}

async fn the_api_key_is_replaced_under_load(api: Api) -> Result<()> {
    let mut world = world(api).await?;
    let relay = world.run().await?;
    let before = relay.log().len();
    let (jetstream, home) = (world.jetstream.clone(), world.home.path().to_owned());
    let mut last = 0;
    // In this order and the other.
    for (key, file_first) in [("second", true), ("third", false)] {
        let said = relay.log().len();
        let replacing = async {
            counts_more(&relay, 20).await?;
            if file_first {
                fs::write(home.join("centrifugo.key"), key)?;
            }
            world.centrifugo.restart_with_key(key).await?;
            fs::write(home.join("centrifugo.key"), key)?;
            counts_more(&relay, 20).await
        };
        last = publishing_while(&jetstream, last + 1, replacing).await?;
        counts(&relay, "unruly", "published", last).await?;
        let log = relay.log();
        let replaced = log[said..].iter().filter(|line| line.contains("has a new key"));
        ensure!(replaced.count() == 1, "{log:#?}");
    }
    few_lines(&relay, before)
}

over_both!(the_api_key_is_replaced_under_load);

/// Waits until this many more publications are confirmed.
async fn counts_more(relay: &Relay, more: u64) -> Result<()> {
    let published = |status: &serde_json::Value| status["modules"][0]["published"].as_u64().unwrap_or(0);
    let before = published(&relay.status().await?);
    let holds = |status: &serde_json::Value| published(status) >= before + more;
    relay.status_when(SOON, "more publications", holds).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_replaced_under_load() -> Result<()> {
    let mut world = World::start().await?;
    let config = |password: &str| {
        format!(
            "no_auth_user: test\nauthorization {{ users: [{{ user: test, password: test }}, {{ user: slipring, password: {password} }}] }}"
        )
    };
    world.nats.restart_with(&config("first")).await?;
    world.jetstream = world.nats.jetstream().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    world.home.env("SLIPRING_NATS__USER", "slipring");
    world.home.env("SLIPRING_NATS__PASSWORD_FILE", "nats.password");
    let file = world.home.path().join("nats.password");
    fs::write(&file, "first")?;
    let relay = world.run().await?;
    let before = relay.log().len();
    let jetstream = world.jetstream.clone();
    let replacing = async {
        counts_more(&relay, 20).await?;
        world.nats.restart_with(&config("second")).await?;
        relay
            .has_logged(SOON, "with the password of `nats.password_file`")
            .await?;
        // A file that is being written is no secret.
        fs::write(&file, "")?;
        relay
            .has_logged(SOON, "cannot read a new secret for NATS, keeping the old one")
            .await?;
        fs::write(&file, "second")?;
        counts_more(&relay, 20).await
    };
    let last = publishing_while(&jetstream, 1, replacing).await?;
    shows(&world.centrifugo, CHANNEL, 1..=last).await?;
    settled(&world, "UNRULY", "slipring-unruly").await?;
    few_lines(&relay, before)
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_expire_under_load_and_are_replaced() -> Result<()> {
    let mut world = World::start().await?;
    let operator = Operator::new();
    world.nats.restart_with(&operator.server_config()?).await?;
    let own = ConnectOptions::new().credentials(&operator.credentials(Duration::from_secs(3600))?)?;
    world.jetstream = jetstream::new(own.connect(world.nats.url()).await?);
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    world.home.env("SLIPRING_NATS__CREDS_FILE", "relay.creds");
    let file = world.home.path().join("relay.creds");
    fs::write(&file, operator.credentials(Duration::from_secs(8))?)?;
    let relay = world.run().await?;
    let before = relay.log().len();
    let replacing = async {
        counts_more(&relay, 20).await?;
        relay
            .has_logged(SOON, "the secret in `nats.creds_file` has expired")
            .await?;
        // It tries in vain for a while.
        tokio::time::sleep(Duration::from_secs(3)).await;
        fs::write(&file, operator.credentials(Duration::from_secs(3600))?)?;
        counts_more(&relay, 20).await
    };
    let last = publishing_while(&world.jetstream.clone(), 1, replacing).await?;
    shows(&world.centrifugo, CHANNEL, 1..=last).await?;
    settled(&world, "UNRULY", "slipring-unruly").await?;
    let reconnects = relay.log().iter().filter(|line| line.contains("econnect")).count();
    ensure!(reconnects < 10, "{:#?}", relay.log());
    few_lines(&relay, before)
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_the_secrets_and_ends_nothing() -> Result<()> {
    let mut world = world(Api::Http).await?;
    let mut relay = world.run().await?;
    fs::write(world.home.path().join("centrifugo.key"), "second")?;
    relay.signal(Signal::HUP)?;
    relay.has_logged(SOON, "SIGHUP: reading the secrets again").await?;
    relay.has_logged(SOON, "has a new key").await?;
    world.centrifugo.restart_with_key("second").await?;
    relay.signal(Signal::USR1)?;
    relay.has_logged(SOON, "SIGUSR1 is ignored").await?;
    world.publish(numbers(1..=5)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=5).await?;
    ensure!(relay.stop(SOON).await?.success());
    Ok(())
}
