//! A deployment that is killed in between leaves nothing that a relay would run by mistake.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use slipring_support::eventually;
use slipring_support::relay::Home;

use super::super::world::{SOON, World, binary, module};
use super::{another, deploy, installed, says, settings, unruly, write};

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    let digits = sha2::Sha256::digest(bytes);
    digits.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The new settings are there, for the new file alone, and the old file: so a deployment leaves them if it is killed after
/// its first rename.
#[tokio::test(flavor = "multi_thread")]
async fn between_the_two_files_the_old_version_runs_on_even_after_a_restart() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    let home = &world.home;
    let (old, new) = (unruly()?, another(&unruly()?));
    write(home, "unruly", &old, Some(&settings("", "old")))?;
    says(&deploy(home, &["--no-wait"])?, 0, &["copied "])?;
    let mut relay = world.run().await?;
    let hash = sha256(settings("", "old").as_bytes());
    let runs_old = |status: &Value| {
        let unruly = module(status, "unruly");
        unruly["toml_sha256"] == hash.as_str() && unruly["state"] == "running"
    };
    relay.status_when(SOON, "the old version", runs_old).await?;

    let half = format!("sha256 = \"{}\"\n{}", sha256(&new), settings("", "new"));
    home.configure_module("unruly", &half)?;
    let refused = |status: &Value| {
        let refusal = module(status, "unruly")["last_refusal"].as_str().unwrap_or_default();
        refusal.contains("unruly.toml allows only the file with the SHA-256")
    };
    let status = relay.status_when(SOON, "the refusal", refused).await?;
    ensure!(runs_old(&status), "{status}");
    relay.stop(SOON).await?;
    let relay = world.run().await?;
    relay.status_when(SOON, "the old version again", runs_old).await?;

    // The next deployment finishes it, and leaves no line of its own.
    write(home, "unruly", &new, Some(&settings("watch = \"0s\"", "new")))?;
    says(
        &deploy(home, &["--url", relay.url()])?,
        0,
        &["copied unruly.toml and unruly.wasm", "unruly is deployed"],
    )?;
    ensure!(installed(home, "unruly.toml")? == settings("watch = \"0s\"", "new").as_bytes());
    ensure!(installed(home, "unruly.wasm")? == new);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_moment_leaves_one_version_or_the_other() -> Result<()> {
    const KILLS: usize = 12;
    let home = Home::new(binary(), "nats://127.0.0.1:1", "http://127.0.0.1:1", "secret")?;
    let versions = [(unruly()?, settings("", "1")), (another(&unruly()?), settings("", "2"))];
    let quick = ["--no-test", "--no-diff", "--no-wait"];
    let (wasm, toml) = &versions[0];
    write(&home, "unruly", wasm, Some(toml))?;
    let begun = Instant::now();
    says(&deploy(&home, &quick)?, 0, &["copied "])?;
    let whole = begun.elapsed();
    for number in 1..=KILLS {
        let (wasm, toml) = &versions[number % 2];
        write(&home, "unruly", wasm, Some(toml))?;
        let mut deploying = home.start([&["deploy", "desk/unruly.wasm"], &quick[..]].concat())?;
        let moment = whole.mul_f64(0.6 + 0.5 * fastrand::f64()) + Duration::from_millis(1);
        tokio::time::sleep(moment).await;
        deploying.kill();
        eventually(SOON, "the end", async || {
            ensure!(deploying.exited().is_some());
            Ok(())
        })
        .await?;
        let (wasm_there, toml_there) = (installed(&home, "unruly.wasm")?, installed(&home, "unruly.toml")?);
        let is_whole = versions
            .iter()
            .any(|(wasm, toml)| wasm_there == *wasm && toml_there == toml.as_bytes());
        // A half may also be of an earlier kill, if this one came before the first rename.
        let is_half = versions.iter().any(|(wasm, toml)| {
            let pin = format!("sha256 = \"{}\"\n{toml}", sha256(wasm));
            toml_there == pin.as_bytes()
        });
        ensure!(is_whole || is_half, "{}", String::from_utf8_lossy(&toml_there));
    }
    says(&deploy(&home, &quick)?, 0, &[])?;
    let (wasm, toml) = &versions[KILLS % 2];
    ensure!(installed(&home, "unruly.wasm")? == *wasm && installed(&home, "unruly.toml")? == toml.as_bytes());
    let left: BTreeSet<_> = std::fs::read_dir(home.modules())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    let visible: Vec<&String> = left.iter().filter(|name| !name.starts_with('.')).collect();
    ensure!(visible == ["unruly.toml", "unruly.wasm"], "{left:?}");
    Ok(())
}
