//! The connection for deliveries is made like the client's: with the same credentials, the same TLS settings, to
//! the same servers.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use slipring::config::{Nats as Config, NatsAuth, Secret, Tls};
use slipring::nats::{self, Nats, wire::Wire};
use slipring_support::servers::NatsServer;

use super::super::world::SOON;

const LIMIT: usize = 1 << 20;

fn config(server: &NatsServer) -> Config {
    Config::at([server.url()])
}

/// Checks that a message from the client arrives.
pub async fn carries(nats: &Nats) -> Result<()> {
    let mut wire = Wire::open(nats, LIMIT).await?;
    let inbox = wire.subscribe();
    // Once it receives its own message, it is subscribed.
    wire.publish(&format!("{inbox}.0"), "nobody", b"itself");
    let heard = tokio::time::timeout(SOON, wire.next())
        .await
        .context("it hears itself")??;
    ensure!(
        heard.payload() == "itself" && heard.reply() == Some(b"nobody"),
        "{heard:?}"
    );
    let large = vec![b'x'; 1 << 20];
    nats.client.publish(format!("{inbox}.1"), large.clone().into()).await?;
    nats.client.publish(format!("{inbox}.2"), "small".into()).await?;
    for expected in [&large[..], b"small"] {
        let frame = tokio::time::timeout(SOON, wire.next()).await.context("it comes")??;
        ensure!(frame.payload() == expected, "{} bytes", frame.payload().len());
    }
    Ok(())
}

/// Returns a file: a certificate for 127.0.0.1, its key and the authority that signed it. The key of the authority for
/// client certificates is lost too.
fn tls_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/grpc").join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_sign_in_works() -> Result<()> {
    let pair = nkeys::KeyPair::new_user();
    let seed = pair.seed()?;
    let user = NatsAuth::User {
        user: "slipring".to_owned(),
        password: Secret::new("secret"),
    };
    for (settings, auth) in [
        (String::new(), NatsAuth::None),
        (
            "authorization { token: \"secret\" }".to_owned(),
            NatsAuth::Token(Secret::new("secret")),
        ),
        ("authorization { user: slipring, password: secret }".to_owned(), user),
        (
            format!("authorization {{ users: [{{ nkey: {} }}] }}", pair.public_key()),
            NatsAuth::NKey(Secret::new(seed)),
        ),
    ] {
        let server = NatsServer::start_with(&settings).await?;
        let nats = nats::connect(&Config {
            auth,
            ..config(&server)
        })
        .await;
        carries(&nats).await.with_context(|| settings)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_with_a_certificate_of_its_own() -> Result<()> {
    let server_files = ["server.pem", "server.key"].map(tls_file);
    let [certificate, key] = server_files.each_ref().map(|file| file.display());
    let own = |name: &str| {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/it/unreadable/tls")
            .join(name)
    };
    let clients = own("client-ca.pem");
    for verify in [false, true] {
        let tls = format!(
            "tls {{ cert_file: \"{certificate}\", key_file: \"{key}\", ca_file: \"{}\", verify: {verify} }}",
            clients.display()
        );
        let server = NatsServer::start_with(&tls).await?;
        let tls = Tls {
            ca_file: Some(tls_file("ca.pem")),
            cert_file: verify.then(|| own("client.pem")),
            key_file: verify.then(|| own("client.key")),
        };
        let config = Config { tls, ..config(&server) };
        let nats = nats::connect_within(&config, SOON).await?;
        carries(&nats).await.with_context(|| format!("verify is {verify}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_told_with_its_cause() -> Result<()> {
    let denied = "authorization { users: [{ user: a, password: b, permissions: { publish: { deny: secret } } }] }";
    let mut server = NatsServer::start_with(denied).await?;
    let auth = NatsAuth::User {
        user: "a".to_owned(),
        password: Secret::new("b"),
    };
    let nats = nats::connect(&Config {
        auth,
        ..config(&server)
    })
    .await;
    let mut wire = Wire::open(&nats, LIMIT).await?;
    // The requested messages will never come.
    wire.publish("secret", "reply", b"");
    let end = tokio::time::timeout(SOON, wire.next()).await.context("it ends")?;
    let words = "the server reported: Permissions Violation for Publish to \"secret\"";
    ensure!(end.as_ref().is_err_and(|end| end.to_string() == words), "{end:?}");
    ensure!(wire.next().await == end, "and says so again");

    let mut wire = Wire::open(&nats, LIMIT).await?;
    server.stop().await?;
    let end = tokio::time::timeout(SOON, wire.next()).await.context("it ends")?;
    ensure!(end.is_err(), "{end:?}");
    ensure!(Wire::open(&nats, LIMIT).await.is_err(), "nobody is there");
    Ok(())
}

/// Nothing more is read while too much waits, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_bounded() -> Result<()> {
    const MESSAGES: usize = 400;
    let server = NatsServer::start().await?;
    let nats = nats::connect(&config(&server)).await;
    let mut wire = Wire::open(&nats, 100_000).await?;
    let inbox = wire.subscribe();
    wire.publish(&format!("{inbox}.0"), "nobody", b"itself");
    wire.next().await?;
    for _ in 0..MESSAGES {
        nats.client
            .publish(format!("{inbox}.1"), vec![b'x'; 10_000].into())
            .await?;
    }
    nats.client.flush().await?;
    for number in 0..MESSAGES {
        let frame = tokio::time::timeout(SOON, wire.next())
            .await
            .with_context(|| format!("the {number}th"))??;
        ensure!(frame.payload().len() == 10_000);
        ensure!(wire.waiting() < 300_000, "{} bytes wait", wire.waiting());
    }
    Ok(())
}

/// Out of several servers it uses one that is running.
#[tokio::test(flavor = "multi_thread")]
async fn another_server_does_as_well() -> Result<()> {
    let server = NatsServer::start().await?;
    let mut several = config(&server);
    several.servers.insert(0, "nats://127.0.0.1:1".to_owned());
    let nats = nats::connect(&several).await;
    for _ in 0..4 {
        carries(&nats).await?;
    }
    Ok(())
}
