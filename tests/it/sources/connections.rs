//! The ways to a Redis: with TLS, through a sentinel, and in a cluster.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use slipring_support::servers::{Redis, Sentinel, cluster, free_port};
use slipring_support::{Api, eventually};

use super::super::numbers::state;
use super::super::ways::{client_file, server_file};
use super::super::world::SOON;
use super::feed::{Feed, KEY, Kind};

/// Starts one that also speaks TLS. Returns its port for that.
async fn encrypted(certificates: &str) -> Result<(Redis, u16)> {
    let port = free_port();
    let text = |path: PathBuf| path.into_os_string().into_string().ok().context("a path is not UTF-8");
    let redis = Redis::start_with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &text(server_file("server.pem"))?,
        "--tls-key-file",
        &text(server_file("server.key"))?,
        "--tls-ca-cert-file",
        &text(client_file("client-ca.pem"))?,
        "--tls-auth-clients",
        certificates,
    ])
    .await?;
    Ok((redis, port))
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_with_and_without_a_certificate_of_the_relay() -> Result<()> {
    let [ca, certificate, key] = [
        server_file("ca.pem"),
        client_file("client.pem"),
        client_file("client.key"),
    ];
    for (certificates, own) in [("no", false), ("yes", true)] {
        let (redis, port) = encrypted(certificates).await?;
        let mut feed = Feed::start(Kind::RedisList, "", "").await?;
        let own = match own {
            true => format!("tls.cert_file = {certificate:?}\ntls.key_file = {key:?}\n"),
            false => String::new(),
        };
        let table = format!("url = \"rediss://127.0.0.1:{port}\"\ntls.ca_file = {ca:?}\n{own}");
        feed.connect(redis, &table)?;
        feed.numbers(1..=100).await?;
        let relay = feed.run().await?;
        feed.shows(100).await?;
        feed.is_settled(&relay).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_of_tls_are_named() -> Result<()> {
    let (ca, other_ca) = (server_file("ca.pem"), client_file("client-ca.pem"));
    let right = format!("tls.ca_file = {ca:?}\n");
    for (certificates, scheme, to_tls, settings, told) in [
        (
            "no",
            "rediss",
            true,
            format!("tls.ca_file = {other_ca:?}\n"),
            "was not issued by any of the authorities in `redis.tls.ca_file`",
        ),
        (
            "no",
            "rediss",
            true,
            String::new(),
            "was not issued by any of the authorities that this machine trusts; set `redis.tls.ca_file`",
        ),
        (
            "no",
            "rediss",
            false,
            right.clone(),
            "If it does not speak TLS, write `redis://`",
        ),
        (
            "no",
            "redis",
            true,
            String::new(),
            "if the server speaks TLS, write `rediss://`",
        ),
        (
            "yes",
            "rediss",
            true,
            right.clone(),
            "requires a client certificate: set `redis.tls.cert_file`",
        ),
    ] {
        let (redis, port) = encrypted(certificates).await?;
        let port = if to_tls { port } else { redis.port() };
        let mut feed = Feed::start(Kind::RedisList, "", "").await?;
        feed.connect(redis, &format!("url = \"{scheme}://127.0.0.1:{port}\"\n{settings}"))?;
        let relay = feed.home.run().await?;
        let module = state(&relay, "unruly", "waiting").await?;
        let reason = module["reason"].as_str().unwrap_or_default();
        ensure!(reason.contains(told), "{scheme}, {to_tls}, {certificates}: {reason}");
    }
    Ok(())
}

const PASSWORD: &str = "SLIPRING_REDIS__SENTINEL_PASSWORD";

fn through(sentinel: &Sentinel, master: &str) -> String {
    format!(
        "sentinels = [\"redis://{}\"]\nmaster = \"{master}\"",
        sentinel.address()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_of_sentinels_are_named() -> Result<()> {
    for (password, master, told) in [
        (
            None,
            Sentinel::MASTER,
            "set `redis.sentinel_password_file` for the sentinels",
        ),
        (
            Some("wrong"),
            Sentinel::MASTER,
            "set `redis.sentinel_password_file` for the sentinels",
        ),
        (Some("secret"), "other", "is `redis.master` right?"),
    ] {
        let redis = Redis::start().await?;
        let sentinel = Sentinel::start(&redis, "secret").await?;
        let mut feed = Feed::start(Kind::RedisList, "", "").await?;
        feed.connect(redis, &through(&sentinel, master))?;
        if let Some(password) = password {
            feed.home.env(PASSWORD, password);
        }
        let relay = feed.home.run().await?;
        let module = state(&relay, "unruly", "waiting").await?;
        let reason = module["reason"].as_str().unwrap_or_default();
        ensure!(reason.contains(told), "{password:?}, {master}: {reason}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_something_else_is_named() -> Result<()> {
    let mut feed = Feed::start(Kind::RedisList, "", "").await?;
    let url = feed.centrifugo.endpoint(Api::Http).replace("http://", "redis://");
    let redis = Redis::start().await?;
    let address = redis.address();
    let tables = [
        (format!("url = \"redis://{address}/99\""), "has no database 99"),
        (format!("url = \"{url}\""), "is not Redis: correct `redis.url`"),
        (
            format!("sentinels = [\"redis://{address}\"]\nmaster = \"main\""),
            "is no sentinel: correct `redis.sentinels`",
        ),
        (
            "url = \"redis://127.0.0.1:1\"".to_owned(),
            "is it running, and is `redis.url` right?",
        ),
    ];
    feed.connect(redis, "url = \"redis://127.0.0.1\"")?;
    for (table, told) in tables {
        let config = std::fs::read_to_string(feed.home.config_file())?;
        let (known, _) = config.split_once("[redis]\n").context("it has no table [redis]")?;
        feed.home.configure(&format!("{known}[redis]\n{table}\n"))?;
        let relay = feed.home.run().await?;
        let module = state(&relay, "unruly", "waiting").await?;
        let reason = module["reason"].as_str().unwrap_or_default().to_owned();
        ensure!(reason.contains(told), "{table}: {reason}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_is_followed() -> Result<()> {
    for kind in [Kind::RedisList, Kind::RedisStream] {
        let master = Redis::start().await?;
        let port = master.port().to_string();
        let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port]).await?;
        let sentinel = Sentinel::start(&master, "secret").await?;
        sentinel.knows_a_replica().await?;
        let mut feed = Feed::start(kind, "window = 64\n", "").await?;
        feed.connect(master, &through(&sentinel, Sentinel::MASTER))?;
        feed.home.env(PASSWORD, "secret");
        feed.numbers(1..=1_000).await?;
        let replicated: u64 = redis::cmd("WAIT")
            .arg(&[1, 10_000])
            .query_async(&mut feed.redis().await?)
            .await?;
        ensure!(replicated == 1, "the replica has all of it");
        let relay = feed.run().await?;
        eventually(SOON, "some to be shown", async || feed.shows_at_least(300).await).await?;
        feed.kill_server();
        sentinel.promotes(&replica).await?;
        feed.fill(replica)?;
        feed.numbers(1_001..=1_500).await?;
        eventually(SOON, "all to be shown in order", async || {
            let (shown, _) = feed.shown().await?;
            for numbers in shown.values() {
                ensure!(numbers.is_sorted(), "{numbers:?}");
            }
            let count: usize = shown.values().map(Vec::len).sum();
            ensure!(count == 1_500, "{count} are shown");
            Ok(())
        })
        .await?;
        feed.is_settled(&relay).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_read_wherever_the_key_is() -> Result<()> {
    for kind in [Kind::RedisList, Kind::RedisStream] {
        let [first, second] = cluster::cluster().await?;
        let (owner, other) = match cluster::has(&first, KEY).await? {
            true => (first, second),
            false => (second, first),
        };
        let mut feed = Feed::start(kind, "window = 64\n", "").await?;
        // From either node the relay finds the one that has the key, and the one that has the dead letters.
        let url = |redis: &Redis| format!("url = \"{}\"", redis.url());
        let (to_other, to_owner) = (url(&other), url(&owner));
        feed.connect(owner, &to_other)?;
        feed.numbers(1..=500).await?;
        let mut relay = feed.run().await?;
        feed.shows(500).await?;
        feed.send([b"4711".to_vec()]).await?;
        eventually(SOON, "a dead letter", async || {
            let letters = feed.command(&["dead-letters", "list", "--json"])?;
            ensure!(letters.lines().count() == 1, "{letters}");
            Ok(())
        })
        .await?;
        ensure!(relay.stop(SOON).await?.success(), "it stops cleanly");

        // The key moves while the relay reads.
        let config = std::fs::read_to_string(feed.home.config_file())?;
        feed.home.configure(&config.replace(&to_other, &to_owner))?;
        let relay = feed.run().await?;
        feed.numbers(501..=1_000).await?;
        feed.moves(KEY, &other).await?;
        let mut owner = feed.fill(other)?;
        feed.numbers(1_001..=1_500).await?;
        feed.shows(1_500).await?;
        feed.is_settled(&relay).await?;

        // The node at `redis.url` is down, and the connection to the other one is lost.
        owner.kill();
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("TYPE").arg("normal");
        kill.exec_async(&mut feed.redis().await?).await?;
        feed.numbers(1_501..=1_600).await?;
        feed.shows(1_600).await?;
    }
    Ok(())
}
