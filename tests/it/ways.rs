//! The ways in: each way to sign in to NATS and to encrypt connections works, and each wrong one is told with the key to
//! change. Secrets that are replaced are used without a restart.

mod replaced;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slipring::config;
use slipring::nats;
use slipring_support::eventually;
use slipring_support::relay::Relay;
use slipring_support::servers::{Centrifugo, NatsServer};
use tempfile::TempDir;

use super::commands::{exits, stdout};
use super::jwt::Operator;
use super::numbers::{CHANNEL, numbers, shows};
use super::unreadable::connections::carries;
use super::world::{SOON, World, know_unruly};

const HOUR: Duration = Duration::from_secs(3600);

/// Returns a certificate for 127.0.0.1 (`server.pem`), its key, or the authority that signed it (`ca.pem`).
pub fn server_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/grpc").join(name)
}

/// Returns a certificate of a client (`client.pem`), its key, or the authority that signed it (`client-ca.pem`).
pub fn client_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/unreadable/tls")
        .join(name)
}

/// Returns a certificate for `nats.example` (`other.pem`), its key, or the authority that signed it (`other-ca.pem`).
fn other_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/ways").join(name)
}

/// Returns the `tls` block of a nats-server, with these lines added.
fn server_tls(more: &str) -> String {
    let [certificate, key] = ["server.pem", "server.key"].map(server_file);
    format!(
        "tls {{ cert_file: {certificate:?}, key_file: {key:?}, ca_file: {:?}, {more} }}",
        client_file("client-ca.pem")
    )
}

/// Returns `[nats.tls]` or `[centrifugo.tls]` with these files.
fn tls(section: &str, ca: &Path, client: Option<(&Path, &Path)>) -> String {
    let mut text = format!("[{section}.tls]\nca_file = {ca:?}\n");
    if let Some((certificate, key)) = client {
        text.push_str(&format!("cert_file = {certificate:?}\nkey_file = {key:?}\n"));
    }
    text
}

/// A folder with the secrets' files.
struct Files(TempDir);

impl Files {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(std::fs::write(self.0.path().join(name), text)?)
    }

    /// Returns `[nats]` as it is in a `slipring.toml` in this folder.
    fn nats(&self, server: &str, text: &str) -> Result<config::Nats> {
        let text = format!("nats.servers = ['{server}']\n{text}");
        let env: [(String, String); 0] = [];
        Ok(config::parse_config(&self.0.path().join("slipring.toml"), &text, env)?.nats)
    }
}

/// A server that asks for a way to sign in, what signs in there, and what it says about something wrong.
struct Way {
    server: String,
    right: &'static str,
    wrong: &'static str,
    told: String,
}

fn ways(files: &Files) -> Result<Vec<Way>> {
    let (right, wrong) = (nkeys::KeyPair::new_user(), nkeys::KeyPair::new_user());
    let (operator, other) = (Operator::new(), Operator::new());
    for (name, text) in [
        ("right", "secret".to_owned()),
        ("wrong", "other".to_owned()),
        ("right.nkey", right.seed()?),
        ("wrong.nkey", wrong.seed()?),
        ("right.creds", operator.credentials(HOUR)?),
        ("wrong.creds", other.credentials(HOUR)?),
    ] {
        files.write(name, &text)?;
    }
    Ok(vec![
        Way {
            server: "authorization { user: slipring, password: secret }".to_owned(),
            right: "nats.user = 'slipring'\nnats.password_file = 'right'",
            wrong: "nats.user = 'slipring'\nnats.password_file = 'wrong'",
            told: "refuses the user \"slipring\" (`nats.user`) with the password of `nats.password_file`".to_owned(),
        },
        Way {
            server: "authorization { token: secret }".to_owned(),
            right: "nats.token_file = 'right'",
            wrong: "nats.token_file = 'wrong'",
            told: "refuses the token of `nats.token_file`".to_owned(),
        },
        Way {
            server: "authorization { token: secret }".to_owned(),
            right: "nats.token_file = 'right'",
            wrong: "",
            told: "refuses a client without credentials: set `nats.creds_file`".to_owned(),
        },
        Way {
            server: format!("authorization {{ users: [{{ nkey: {} }}] }}", right.public_key()),
            right: "nats.nkey_file = 'right.nkey'",
            wrong: "nats.nkey_file = 'wrong.nkey'",
            told: format!(
                "refuses the seed of `nats.nkey_file`: the server knows no user {}",
                wrong.public_key()
            ),
        },
        Way {
            server: operator.server_config()?,
            right: "nats.creds_file = 'right.creds'",
            wrong: "nats.creds_file = 'wrong.creds'",
            told: "refuses the credentials of `nats.creds_file`".to_owned(),
        },
    ])
}

/// Returns what is said about settings that do not work.
async fn why_not(config: &config::Nats) -> Result<String> {
    match nats::connect_within(config, Duration::from_secs(5)).await {
        Ok(_) => anyhow::bail!("it connects: {config:?}"),
        Err(error) => Ok(error.to_string()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_sign_in_works_and_a_wrong_secret_is_named() -> Result<()> {
    let files = Files::new()?;
    for way in ways(&files)? {
        let server = NatsServer::start_with(&way.server).await?;
        let right = files.nats(&server.url(), way.right)?;
        let nats = nats::connect_within(&right, SOON).await?;
        carries(&nats).await.context(way.right)?;
        let told = why_not(&files.nats(&server.url(), way.wrong)?).await?;
        let expected = format!("NATS at {} {}", server.url(), way.told);
        ensure!(told.starts_with(&expected), "{told}\n{expected}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_tls_works() -> Result<()> {
    let files = Files::new()?;
    let (ca, certificate, key) = (
        server_file("ca.pem"),
        client_file("client.pem"),
        client_file("client.key"),
    );
    let client = Some((certificate.as_path(), key.as_path()));
    for (server, right) in [
        ("", tls("nats", &ca, None)),
        ("verify: true", tls("nats", &ca, client)),
        ("handshake_first: true", tls("nats", &ca, None) + "first = true"),
        (
            "handshake_first: true, verify: true",
            tls("nats", &ca, client) + "first = true",
        ),
    ] {
        let server = NatsServer::start_with(&server_tls(server)).await?;
        for url in [server.url(), server.url().replace("nats://", "tls://")] {
            let nats = nats::connect_within(&files.nats(&url, &right)?, SOON).await?;
            carries(&nats).await.with_context(|| right.clone())?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_of_tls_are_named() -> Result<()> {
    let files = Files::new()?;
    let [ca, own, key] = ["ca.pem", "server.pem", "server.key"].map(server_file);
    let other_ca = client_file("client-ca.pem");
    let right = tls("nats", &ca, None);
    let first = format!("{right}first = true");
    let strange = tls("nats", &ca, Some((&own, &key)));
    let plain = String::new();
    let [other, other_key] = ["other.pem", "other.key"].map(other_file);
    let elsewhere = format!("tls {{ cert_file: {other:?}, key_file: {other_key:?} }}");
    let [encrypted, verified, at_once] = ["", "verify: true", "handshake_first: true"].map(server_tls);
    for (server, url, settings, told) in [
        (
            &encrypted,
            "nats://127.0.0.1",
            &tls("nats", &other_ca, None),
            "was not issued by any of the authorities in `nats.tls.ca_file`",
        ),
        (
            &encrypted,
            "nats://127.0.0.1",
            &plain,
            "was not issued by any of the authorities that this machine trusts; set `nats.tls.ca_file`",
        ),
        (
            &elsewhere,
            "nats://127.0.0.1",
            &tls("nats", &other_file("other-ca.pem"), None),
            "is for another name, correct `nats.servers`",
        ),
        (
            &encrypted,
            "nats://127.0.0.1",
            &first,
            "does not begin with TLS: remove `nats.tls.first`",
        ),
        (
            &plain,
            "nats://127.0.0.1",
            &first,
            "does not begin with TLS: remove `nats.tls.first`",
        ),
        (
            &plain,
            "tls://127.0.0.1",
            &right,
            "does not speak TLS: write `nats://` in `nats.servers`",
        ),
        (
            &verified,
            "nats://127.0.0.1",
            &right,
            "requires a client certificate: set `nats.tls.cert_file`",
        ),
        (
            &verified,
            "nats://127.0.0.1",
            &strange,
            "refuses the certificate in `nats.tls.cert_file`",
        ),
        (
            &at_once,
            "nats://127.0.0.1",
            &right,
            "if it has `handshake_first`, set `nats.tls.first = true`",
        ),
    ] {
        let server = NatsServer::start_with(server).await?;
        let url = format!("{url}:{}", server.address().port());
        let error = why_not(&files.nats(&url, settings)?).await?;
        ensure!(error.contains(told) && error.contains(&url), "{error}\n{told}");
    }
    let nobody = why_not(&files.nats("nats://127.0.0.1:1", "")?).await?;
    ensure!(
        nobody.contains("is `nats.servers` right?") && nobody.contains("refused"),
        "{nobody}"
    );
    Ok(())
}

async fn why_not_ready(relay: &Relay, part: &str) -> Result<()> {
    let said = |status: &Value| {
        status["nats"]["trouble"]
            .as_str()
            .is_some_and(|told| told.contains(part))
    };
    relay.status_when(SOON, part, said).await?;
    let ready = relay.get("/readyz").await.err().context("it is not ready")?;
    ensure!(ready.to_string().contains(part), "{ready:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_says_why_nats_is_not_connected() -> Result<()> {
    let mut world = World::start().await?;
    let config = |password: &str| format!("authorization {{ user: slipring, password: {password} }}");
    world.nats.restart_with(&config("first")).await?;
    world.home.env("SLIPRING_NATS__USER", "slipring");
    world.home.env("SLIPRING_NATS__PASSWORD", "wrong");
    let relay = world.home.run().await?;
    why_not_ready(&relay, "with the password of `SLIPRING_NATS__PASSWORD`").await?;
    world.nats.restart_with(&config("wrong")).await?;
    relay.ready(SOON).await?;
    ensure!(relay.status().await?["nats"]["trouble"].is_null(), "it is connected");
    world.nats.restart_with(&config("second")).await?;
    why_not_ready(&relay, "with the password of `SLIPRING_NATS__PASSWORD`").await?;
    let told = world.home.command(["status", "--url", relay.url()]).output()?;
    ensure!(stdout(&told).contains("not connected: NATS at"), "{}", stdout(&told));
    world.nats.stop().await?;
    why_not_ready(&relay, "is `nats.servers` right?").await
}

fn check_online<C>(world: &World<C>) -> Result<Output> {
    Ok(world.home.command(["check", "--online"]).output()?)
}

/// With a private authority and client certificates, over both APIs.
#[tokio::test(flavor = "multi_thread")]
async fn centrifugo_may_ask_for_a_certificate() -> Result<()> {
    let settings = json!({
        "enabled": true,
        "cert_pem": server_file("server.pem"),
        "key_pem": server_file("server.key"),
        "client_ca_pem": client_file("client-ca.pem"),
    });
    let (certificate, key) = (client_file("client.pem"), client_file("client.key"));
    let identity = [std::fs::read(&certificate)?, std::fs::read(&key)?].concat();
    let right = tls("centrifugo", &server_file("ca.pem"), Some((&certificate, &key)));
    let wrong = [
        tls("centrifugo", &server_file("ca.pem"), None),
        tls("centrifugo", &client_file("client-ca.pem"), Some((&certificate, &key))),
    ];
    let https = Centrifugo::start_https(settings.clone(), &identity).await?;
    let grpcs = Centrifugo::start_with(|config| {
        know_unruly(config);
        config["grpc_api"]["tls"] = settings;
    });
    let grpcs = grpcs.await?;
    let urls = [https.url(), grpcs.grpc_url().replace("grpc://", "grpcs://")];
    for (centrifugo, url) in [https, grpcs].into_iter().zip(urls) {
        let key = centrifugo.api_key().to_owned();
        let mut world = World::start_with(centrifugo, &url, &key).await?;
        world.stream("UNRULY", &["unruly.>"]).await?;
        world.add_unruly("")?;
        // The machine's own authorities do not matter.
        world.home.env("SSL_CERT_FILE", "/dev/null");
        let before = std::fs::read_to_string(world.home.config_file())?;
        for wrong in &wrong {
            world.home.configure(&format!("{before}{wrong}"))?;
            let output = check_online(&world)?;
            ensure!(output.status.code() == Some(1), "{url}: {}", stdout(&output));
        }
        world.home.configure(&format!("{before}{right}"))?;
        let output = check_online(&world)?;
        ensure!(
            output.status.success() && stdout(&output).contains(&url),
            "{}",
            stdout(&output)
        );
        world.run().await?;
    }
    Ok(())
}

/// Like an image that holds nothing but the relay.
#[tokio::test(flavor = "multi_thread")]
async fn without_tls_no_certificates_are_needed() -> Result<()> {
    let mut world = World::start().await?;
    for name in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        world.home.env(name, "/nowhere");
    }
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    world.publish(numbers(1..=10)).await?;
    let relay = world.run().await?;
    shows(&world.centrifugo, CHANNEL, 1..=10).await?;
    exits(&check_online(&world)?, 0)?;
    drop(relay);
    // Now something needs them.
    world.home.env("SLIPRING_CENTRIFUGO__ENDPOINTS", "https://127.0.0.1:1");
    let error = world.home.run().await.err().context("it does not start")?;
    ensure!(
        format!("{error:#}").contains("this machine has no certificate authorities"),
        "{error:#}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_of_dead_letters_is_made_as_the_keys_say() -> Result<()> {
    let world = World::start().await?;
    world
        .home
        .configure_more("[dead_letters]\nmax_age = \"720h\"\nmax_bytes = \"1MiB\"")?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let mut relay = world.run().await?;
    world.publish([("unruly.reject", "1")]).await?;
    let stream = eventually(SOON, "a dead letter", async || {
        let stream = world.jetstream.get_stream("SLIPRING_DEAD_LETTERS").await?;
        ensure!(stream.cached_info().state.messages == 1);
        Ok(stream.cached_info().config.clone())
    });
    let stream = stream.await?;
    ensure!(
        stream.max_age == 720 * HOUR && stream.max_bytes == 1 << 20 && stream.num_replicas == 1,
        "{stream:?}"
    );
    ensure!(!relay.logged("has other settings"), "{:#?}", relay.log());
    relay.stop(SOON).await?;
    world
        .home
        .configure(&std::fs::read_to_string(world.home.config_file())?.replace("720h", "1h"))?;
    let relay = world.run().await?;
    world.publish([("unruly.reject", "2")]).await?;
    relay
        .has_logged(
            SOON,
            "`max_age` is 2592000 s in the stream and 3600 s in the configuration",
        )
        .await?;
    let stream = world.jetstream.get_stream("SLIPRING_DEAD_LETTERS").await?;
    ensure!(stream.cached_info().config.max_age == 720 * HOUR, "it stays");
    Ok(())
}

/// The relay is connected to a server that has a JetStream of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_another_domain_is_read_through_a_leaf_node() -> Result<()> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut hub = NatsServer::start_with(&format!("leafnodes {{ listen: \"127.0.0.1:{port}\" }}")).await?;
    hub.set_domain("hub");
    hub.restart().await?;
    let mut leaf = NatsServer::start().await?;
    leaf.set_domain("leaf");
    let remote = format!("leafnodes {{ remotes: [{{ url: \"nats-leaf://127.0.0.1:{port}\" }}] }}");
    leaf.restart_with(&remote).await?;
    let centrifugo = Centrifugo::start_with(know_unruly).await?;
    let (url, key) = (centrifugo.url(), centrifugo.api_key().to_owned());
    let mut world = World::start_on(hub, centrifugo, &url, &key).await?;
    world.home.env("SLIPRING_NATS__SERVERS", leaf.url());
    world.home.env("SLIPRING_NATS__DOMAIN", "hub");
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    world
        .publish(numbers(1..=100).chain([("unruly.reject", "1".to_owned())]))
        .await?;
    let _relay = world.run().await?;
    shows(&world.centrifugo, CHANNEL, 1..=100).await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    let letters = world.jetstream.get_stream("SLIPRING_DEAD_LETTERS").await?;
    ensure!(
        letters.cached_info().state.messages == 1,
        "the dead letter is in the hub"
    );
    Ok(())
}
