//! What only Centrifugo's GRPC API has: TLS of its own, and a check in `slipring check --online`. Publishing over GRPC
//! is tested together with HTTP.

use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Result, ensure};
use serde_json::json;
use slipring_support::servers::Centrifugo;

use super::world::World;

/// Returns a file: a certificate for 127.0.0.1 until 2126, its key, and the authority that signed it. The
/// authority's key is lost.
fn tls_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/grpc").join(name)
}

/// Checks both servers, with these authorities as the only ones that the platform knows.
fn check_online(world: &World, authorities: &str) -> Result<Output> {
    let mut command = world.home.command(["check", "--online"]);
    Ok(command.env("SSL_CERT_FILE", tls_file(authorities)).output()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn check_online_asks_the_grpc_api() -> Result<()> {
    let centrifugo = Centrifugo::start().await?;
    let (url, key) = (centrifugo.grpc_url(), centrifugo.api_key().to_owned());
    let world = World::start_with(centrifugo, &url, &key).await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let output = world.home.command(["check", "--online"]).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && said.contains(&url), "{said}");

    let mut wrong = world.home.command(["check", "--online"]);
    let output = wrong.env("SLIPRING_CENTRIFUGO__API_KEY", "wrong").output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.code() == Some(1) && said.contains("grpc_api.key"),
        "{said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_server_has_to_be_who_it_says() -> Result<()> {
    let centrifugo = Centrifugo::start_with(|config| {
        config["grpc_api"]["tls"] = json!({
            "enabled": true,
            "cert_pem": tls_file("server.pem"),
            "key_pem": tls_file("server.key"),
        });
    });
    let centrifugo = centrifugo.await?;
    let url = centrifugo.grpc_url().replace("grpc://", "grpcs://");
    let key = centrifugo.api_key().to_owned();
    let world = World::start_with(centrifugo, &url, &key).await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let output = check_online(&world, "ca.pem")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && said.contains(&url), "{said}");

    // Trusts the certificate itself, which is no authority, instead of the one that signed it.
    let output = check_online(&world, "server.pem")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.code() == Some(1) && said.contains("certificate"),
        "{said}"
    );

    // The other way round: the server requires TLS.
    let mut plain = world.home.command(["check", "--online"]);
    let output = plain
        .env("SLIPRING_CENTRIFUGO__ENDPOINTS", world.centrifugo.grpc_url())
        .output()?;
    ensure!(output.status.code() == Some(1), "a server without TLS was expected");
    Ok(())
}
