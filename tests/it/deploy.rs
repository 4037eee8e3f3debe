//! `slipring deploy`: a version on its way into a running relay, whatever becomes of it.

mod halves;
mod upload;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use slipring_support::guests;
use slipring_support::relay::{Home, Relay};

use super::commands::{exits, stderr, stdout};
use super::world::{SOON, World, binary, module, unruly_toml};

/// Where a module is written, apart from the modules directory.
const DESK: &str = "desk";

/// Puts a module on the desk, as a build leaves it.
pub(super) fn write(home: &Home, name: &str, wasm: &[u8], toml: Option<&str>) -> Result<PathBuf> {
    let desk = home.path().join(DESK);
    fs::create_dir_all(&desk)?;
    let path = desk.join(format!("{name}.wasm"));
    fs::write(&path, wasm)?;
    if let Some(toml) = toml {
        fs::write(path.with_extension("toml"), toml)?;
    }
    Ok(path)
}

pub(super) fn unruly() -> Result<Vec<u8>> {
    let file = guests::component("unruly")?;
    fs::read(&file).with_context(|| format!("reading {}", file.display()))
}

/// Returns the same module as another file: with a section of its own at the end.
fn another(wasm: &[u8]) -> Vec<u8> {
    [wasm, &[0, 5, 4, b'm', b'a', b'r', b'k']].concat()
}

pub(super) fn settings(more: &str, mark: &str) -> String {
    unruly_toml(&format!("{more}\n[settings]\nmark = {mark:?}"))
}

fn deploy(home: &Home, arguments: &[&str]) -> Result<Output> {
    let file = format!("{DESK}/unruly.wasm");
    let arguments = [&["deploy", &file], arguments].concat();
    home.command(arguments).output().context("running slipring")
}

/// The command exits with this code, and prints each of these texts, in this order.
pub(super) fn says(output: &Output, code: i32, texts: &[&str]) -> Result<()> {
    exits(output, code)?;
    let all = stdout(output) + &stderr(output);
    let mut rest = all.as_str();
    for text in texts {
        let at = rest.find(text).with_context(|| format!("{text:?} is not in {all}"))?;
        rest = &rest[at + text.len()..];
    }
    Ok(())
}

fn installed(home: &Home, file: &str) -> Result<Vec<u8>> {
    let file = home.modules().join(file);
    fs::read(&file).with_context(|| format!("reading {}", file.display()))
}

/// Starts a relay without modules.
async fn world() -> Result<(World, Relay)> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    let relay = world.home.run().await?;
    Ok((world, relay))
}

fn message(number: u64) -> (&'static str, String) {
    let wish = json!([{ "channels": ["unruly:1"], "data": number }]);
    ("unruly.publish", wish.to_string())
}

async fn publish(world: &World, relay: &Relay, numbers: std::ops::RangeInclusive<u64>) -> Result<()> {
    let last = *numbers.end();
    world.publish(numbers.map(message)).await?;
    let all = |status: &serde_json::Value| module(status, "unruly")["published"].as_u64() >= Some(last);
    relay.status_when(SOON, "the publications", all).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_followed_until_it_is_proven_or_refused() -> Result<()> {
    let (world, relay) = world().await?;
    let home = &world.home;
    let url = ["--url", relay.url()];
    write(home, "unruly", &unruly()?, Some(&settings("", "1")))?;
    says(
        &deploy(home, &url)?,
        0,
        &[
            "desk/unruly.wasm, ",
            "there are no cases",
            "nothing runs as unruly yet, so there is nothing to compare with",
            "copied unruly.toml and unruly.wasm to ",
            "waiting for the relay at ",
            " runs\n",
            "no trial",
            "unruly is deployed",
        ],
    )?;
    publish(&world, &relay, 1..=20).await?;

    // Only the settings change. Nobody can be asked here, so it goes out.
    write(home, "unruly", &unruly()?, Some(&settings("watch = \"1s\"", "2")))?;
    says(
        &deploy(home, &url)?,
        0,
        &[
            "with the last messages of UNRULY: 20 messages compared: 0 the same, 20 changed",
            "changed tags  20",
            "copied unruly.toml to ",
            "probe: passed on the last 20 messages",
            " took over; it is on trial for 1s",
            "it passed its trial: 0 messages, 0 rejected",
            "unruly is deployed",
        ],
    )?;
    says(
        &deploy(home, &url)?,
        0,
        &["is already there", "has both files already", "unruly is deployed"],
    )?;

    // What must not change, does not.
    let before = installed(home, "unruly.toml")?;
    write(home, "unruly", &unruly()?, Some(&settings("", "3")))?;
    says(
        &deploy(home, &["--expect-same"])?,
        1,
        &["nothing was deployed: the outcomes of 20 of 20 messages differ"],
    )?;
    ensure!(installed(home, "unruly.toml")? == before, "nothing was copied");

    let bad = settings("", "4") + "refuse_from = 1\n";
    write(home, "unruly", &unruly()?, Some(&bad))?;
    let refused = "the relay refused the new version of unruly, and the previous one keeps running: the new version rejects 20 of \
                   the last 20 messages";
    says(
        &deploy(home, &url)?,
        1,
        &[
            "newly rejected",
            "waiting for the relay",
            refused,
            "this version is bad",
        ],
    )?;
    let again = ["has both files already", "asking the relay to load them again", refused];
    says(&deploy(home, &url)?, 1, &again)?;
    let status = relay.status().await?;
    ensure!(module(&status, "unruly")["state"] == "running", "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_rolled_back_is_told_with_the_reason() -> Result<()> {
    let (world, relay) = world().await?;
    let home = &world.home;
    write(home, "unruly", &unruly()?, Some(&settings("", "1")))?;
    says(&deploy(home, &["--url", relay.url()])?, 0, &["unruly is deployed"])?;
    publish(&world, &relay, 1..=20).await?;

    let later = settings("watch = \"60s\"\nwatch_max_rejects = 2", "2") + "refuse_from = 30\n";
    write(home, "unruly", &unruly()?, Some(&later))?;
    let file = format!("{DESK}/unruly.wasm");
    let mut deploying = home.start(["deploy", &file, "--url", relay.url()])?;
    deploying
        .line(SOON, "the trial", |line| line.contains("it is on trial for 1m"))
        .await?;
    world.publish((21..=40).map(message)).await?;
    let ended = deploying.wait(SOON).await?;
    let log = deploying.log().join("\n");
    ensure!(ended.code() == Some(1), "{ended}: {log}");
    for text in [
        "the relay rolled unruly back: the new version rejected 3 messages that the previous version accepts",
        "this version is bad",
        "`slipring dead-letters list --module unruly` shows what it rejected in the meantime",
    ] {
        ensure!(log.contains(text), "{text:?} is not in {log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_relay_the_files_are_in_place_and_that_is_said() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    let nobody = "http://127.0.0.1:1";
    write(&world.home, "unruly", &unruly()?, Some(&settings("", "1")))?;
    let told = [
        "copied unruly.toml and unruly.wasm to ",
        "no relay can be followed: no relay answers at ",
    ];
    says(&deploy(&world.home, &["--url", nobody])?, 0, &told)?;
    let relay = world.run().await?;
    publish(&world, &relay, 1..=3).await?;

    // A relay that does not look there cannot know of it.
    let elsewhere = world.home.path().join("elsewhere");
    let dir = elsewhere.to_str().context("a path that is text")?;
    says(
        &deploy(&world.home, &["--dir", dir])?,
        1,
        &["elsewhere does not exist. Create it"],
    )?;
    fs::create_dir(&elsewhere)?;
    write(&world.home, "unruly", &unruly()?, Some(&settings("", "2")))?;
    says(
        &deploy(&world.home, &["--dir", dir, "--url", relay.url(), "--timeout", "1s"])?,
        1,
        &[
            "has not begun to run ",
            " within 1s (--timeout)",
            "name that one with --dir",
        ],
    )
}

/// No servers: the source cannot be reached, which keeps nobody from deploying.
#[test]
fn a_dash_and_an_underscore_are_one_name() -> Result<()> {
    let home = Home::new(binary(), "nats://127.0.0.1:1", "http://127.0.0.1:1", "secret")?;
    let deploy = |module: &str, more: &[&str]| -> Result<Output> {
        let arguments = [&["deploy", module, "--no-wait"], more].concat();
        home.command(arguments).output().context("running slipring")
    };
    // What cargo builds, beside the settings that `slipring new` writes.
    write(&home, "my_shop", &unruly()?, None)?;
    fs::write(home.path().join("desk/my-shop.toml"), settings("", "1"))?;
    says(
        &deploy("desk/my_shop.wasm", &[])?,
        0,
        &["copied my_shop.toml and my_shop.wasm"],
    )?;
    fs::rename(home.modules().join("my_shop.toml"), home.modules().join("my-shop.toml"))?;
    fs::rename(home.modules().join("my_shop.wasm"), home.modules().join("my-shop.wasm"))?;

    // The module keeps its name.
    write(&home, "my_shop", &another(&unruly()?), None)?;
    says(
        &deploy("desk/my_shop.wasm", &[])?,
        0,
        &["not compared with the running version: ", "copied my-shop.wasm"],
    )?;
    ensure!(installed(&home, "my-shop.wasm")? == another(&unruly()?));
    let mut names: Vec<_> = fs::read_dir(home.modules())?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<_>>()?;
    names.sort();
    ensure!(names == ["my-shop.toml", "my-shop.wasm"], "{names:?}");
    says(
        &deploy("desk/my_shop.wasm", &["--expect-same"])?,
        0,
        &["is already there"],
    )?;

    // A half with the other spelling is not the module.
    fs::write(home.modules().join("my_shop.wasm"), "")?;
    says(
        &deploy("desk/my_shop.wasm", &[])?,
        0,
        &["my_shop.wasm is another spelling of the name and does not count; remove it"],
    )?;
    fs::write(home.modules().join("my_shop.toml"), "")?;
    says(
        &deploy("desk/my_shop.wasm", &[])?,
        1,
        &["several modules with this name: my-shop, my_shop"],
    )
}

#[test]
fn what_cannot_go_out_is_said_before_anything_is_copied() -> Result<()> {
    let home = Home::new(binary(), "nats://127.0.0.1:1", "http://127.0.0.1:1", "secret")?;
    write(&home, "unruly", &unruly()?, None)?;
    says(
        &deploy(&home, &[])?,
        1,
        &["desk/unruly.toml does not exist, and a relay runs no module without one"],
    )?;
    write(&home, "unruly", &unruly()?, Some("streem = \"A\"\n"))?;
    says(&deploy(&home, &[])?, 78, &["unruly.toml:1:1"])?;
    write(
        &home,
        "unruly",
        &unruly()?,
        Some(&unruly_toml("[settings]\nfail = \"no\"")),
    )?;
    says(&deploy(&home, &[])?, 1, &["init"])?;
    write(&home, "unruly", b"no module", Some(&unruly_toml("")))?;
    says(&deploy(&home, &[])?, 1, &["cannot load the module "])?;

    // A case that fails.
    write(&home, "unruly", &unruly()?, Some(&unruly_toml("")))?;
    let cases = home.path().join("desk/cases");
    fs::create_dir(&cases)?;
    let case = json!({ "message": { "subject": "unruly.drop", "payload": "" }, "expect": { "outcome": "reject" } });
    fs::write(cases.join("dropped.json"), case.to_string())?;
    says(&deploy(&home, &[])?, 1, &["FAILED   dropped", "1 of 1 case failed"])?;
    ensure!(is_empty(&home.modules())?, "nothing was copied");
    says(&deploy(&home, &["--no-test", "--no-wait"])?, 0, &["copied "])?;
    says(
        &home.command(["deploy", "nowhere"]).output()?,
        1,
        &["there is no nowhere: name the folder of a module"],
    )
}

fn is_empty(dir: &Path) -> Result<bool> {
    Ok(fs::read_dir(dir)?.next().is_none())
}
