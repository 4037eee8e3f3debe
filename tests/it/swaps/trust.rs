//! Which files are accepted at all: a pinned one, and one that nobody else may change.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Result, ensure};
use serde_json::Value;
use slipring_support::guests;

use super::super::commands::{exits, stderr, stdout};
use super::super::world::{SOON, World, unruly_toml};
use super::{all_shown, at_work, mark, sha256, text, unruly_when};

#[tokio::test(flavor = "multi_thread")]
async fn only_the_pinned_file_is_taken() -> Result<()> {
    let wasm = guests::component("unruly")?;
    let pinned = format!("sha256 = \"{}\"\n", sha256(&fs::read(&wasm)?));
    let (world, relay, load) = at_work(&(pinned + &mark("1"))).await?;
    world.home.replace_wasm("unruly", &guests::component("orders")?)?;
    let refused =
        |unruly: &Value| text(unruly, "last_refusal").starts_with("unruly.toml allows only the file with the SHA-256 ");
    unruly_when(&relay, "the refusal", refused).await?;
    let output = world.home.command(["check"]).output()?;
    exits(&output, 1)?;
    ensure!(
        stdout(&output).contains("unruly.toml allows only the file with"),
        "{output:?}"
    );
    all_shown(&world, load, [], &["1"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_may_write_is_not_taken_if_that_is_asked_for() -> Result<()> {
    let mut world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.home.env("SLIPRING_MODULES__STRICT_PERMISSIONS", "true");
    let mode = |mode| fs::set_permissions(world.home.modules(), fs::Permissions::from_mode(mode));
    world.add_unruly(&mark("1"))?;
    mode(0o777)?;
    let output = world.home.command(["check"]).output()?;
    exits(&output, 1)?;
    ensure!(
        stderr(&output).contains("is writable by other users (mode 0777)"),
        "{output:?}"
    );
    let mut relay = world.home.run().await?;
    relay.logs(SOON, "is writable by other users (mode 0777)").await?;
    mode(0o755)?;
    relay.ready(SOON).await?;
    // Now the `.toml` is the problem.
    let file = world.home.modules().join("unruly.toml");
    fs::write(&file, unruly_toml(&mark("2")))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
    let refused = |unruly: &Value| text(unruly, "last_refusal").contains("is writable by other users (mode 0666)");
    unruly_when(&relay, "the refusal", refused).await?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    unruly_when(&relay, "the swap", |unruly| unruly["swaps"] == 1)
        .await
        .map(drop)
}
