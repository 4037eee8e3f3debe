//! `slipring dev` on a terminal: its screen, its keys, and the terminal after it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use slipring_support::process::Process;
use slipring_support::{guests, workspace};

use super::super::world::{SOON, World, binary};
use super::exits;
use super::new::{A_BUILD, Desk, replace};
use super::terminal::Terminal;

fn dev(desk: &Desk, shop: &Path, columns: u16, lines: u16) -> Result<Terminal> {
    let command = format!("{} dev", binary());
    Terminal::run(&command, columns, lines, |script| desk.prepare(script, shop))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_is_written_on_the_screen() -> Result<()> {
    let desk = Desk::new()?;
    exits(&desk.shell(&desk.path(""), "slipring new screen-shop")?, 0)?;
    let shop = desk.path("screen-shop");
    std::fs::copy(workspace().join("Cargo.lock"), shop.join("Cargo.lock"))?;
    let source = shop.join("src/lib.rs");
    let mut dev = dev(&desk, &shop, 60, 24)?;

    let good = [
        "watching",
        "3 cases: 3 passed, 0 failed",
        "unit tests: 1 passed",
        "q quit",
    ];
    dev.shows(A_BUILD, &good).await?;
    dev.press("jj")?;
    let screen = dev
        .shows(SOON, &["> ok      paid", "screen-shop:7  v3  {\"status\":\"paid\"}"])
        .await?;
    println!("60 columns:\n{screen}\n");

    // A save that changes an outcome. The unit test still passes.
    replace(
        &source,
        "status: order.status }",
        "status: order.status.to_uppercase() }",
    )?;
    let changed = [
        "> FAILED  paid",
        "2 passed, 1 failed  unit tests: 1 passed",
        "+         \"status\": \"PAID\"",
    ];
    dev.resize(100, 30)?;
    let screen = dev.shows(A_BUILD, &changed).await?;
    println!("100 columns:\n{screen}\n");
    dev.press("a")?;
    dev.shows(SOON, &["3 passed, 0 failed", "expects this outcome now"])
        .await?;
    let case = std::fs::read_to_string(shop.join("cases/paid.json"))?;
    ensure!(case.contains("\"status\": \"PAID\""), "{case}");

    // A save that does not build.
    dev.resize(80, 24)?;
    replace(&source, "let view = View", "let view: = View")?;
    let failed = [
        "build failed: the module built at",
        "stays in use",
        "error: expected type, found `=`",
    ];
    let screen = dev.shows(A_BUILD, &failed).await?;
    println!("a build that fails:\n{screen}\n");
    // The module that stays runs a message that somebody pastes.
    dev.press("\u{1b}[200~{\"subject\":\"shop.8\",\"data\":{\"id\":8,\"revision\":1,\"status\":\"new\"}}\u{1b}[201~")?;
    dev.shows(SOON, &["pasted 1", "screen-shop:8  v1  {\"status\":\"NEW\"}"])
        .await?;
    dev.press("seight\r")?;
    dev.shows(SOON, &["saved as cases/eight.json", "4 cases: 4 passed"])
        .await?;
    replace(&source, "let view: = View", "let view = View")?;
    dev.shows(A_BUILD, &["watching", "unit tests: 1 passed"]).await?;

    // Ctrl-Z has no shell here that would continue it, so it goes on at once.
    dev.press("\u{1a}")?;
    dev.press("q")?;
    let left = dev.is_restored(SOON).await?;
    ensure!(left.contains("exit code 0"), "{left}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_edited_published_and_seen_as_it_arrives() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("subjects = [\"unruly.>\"]")?;
    let editor = world.home.path().join("editor");
    std::fs::write(&editor, "#!/bin/sh\nsed -i 's/\"n\": 1/\"n\": 2/' \"$1\"\n")?;
    let cases = world.home.modules().join("cases");
    std::fs::create_dir(&cases)?;
    std::fs::write(
        cases.join("one.json"),
        r#"{"message":{"subject":"unruly.ok","data":{"n":1}}}"#,
    )?;
    let command = format!("{} dev modules/unruly.wasm --live", binary());
    let mut dev = Terminal::run(&command, 100, 30, |script| {
        script.current_dir(world.home.path()).env("NO_COLOR", "1");
        script.env("EDITOR", format!("sh {}", editor.display()));
        Ok(())
    })?;
    dev.shows(SOON, &["live UNRULY (unruly.>)", "0 messages"]).await?;
    dev.press("\t")?;
    dev.shows(SOON, &["sample  one"]).await?;
    dev.press("e")?;
    dev.shows(SOON, &["edited 1", "unruly:ok  {\"n\":2}"]).await?;
    dev.press("p")?;
    dev.shows(SOON, &["publish unruly.ok to NATS?"]).await?;
    dev.press("\r")?;
    dev.shows(SOON, &["stored in UNRULY as 1", "1 message: 1 published"])
        .await?;
    dev.press("\t")?;
    dev.shows(SOON, &["UNRULY:1", "\"n\": 2"]).await?;
    dev.press("\u{3}")?;
    let left = dev.is_restored(SOON).await?;
    ensure!(left.contains("exit code 0"), "{left}");
    Ok(())
}

/// As `slipring record` does it.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_saved_is_redacted() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("subjects = [\"unruly.>\"]")?;
    let command = format!("{} dev modules/unruly.wasm --live --redact email", binary());
    let mut dev = Terminal::run(&command, 100, 30, |script| {
        script.current_dir(world.home.path()).env("NO_COLOR", "1");
        Ok(())
    })?;
    dev.shows(SOON, &["live UNRULY (unruly.>)"]).await?;
    let secret = r#"{"n":1,"email":"ann@example.org"}"#;
    world.publish([("unruly.ok", secret)]).await?;
    dev.shows(SOON, &["UNRULY:1", "ann@example.org"]).await?;
    dev.press("sreal\r")?;
    dev.shows(SOON, &["saved as modules/cases/real.json; redacted `email`"])
        .await?;
    let case = std::fs::read_to_string(world.home.modules().join("cases/real.json"))?;
    ensure!(!case.contains("ann@"), "{case}");
    let redacted = case.matches("\"email\": \"redacted\"").count() + case.matches("\"email\":\"redacted\"").count();
    ensure!(redacted == 2, "in the message and in what is expected: {case}");

    // What it says elsewhere stays, and is told.
    world
        .publish([("unruly.ok", r#"{"email":"ann@example.org","from":"ann@example.org"}"#)])
        .await?;
    dev.shows(SOON, &["UNRULY:2"]).await?;
    dev.press("selsewhere\r")?;
    let told = ["redacted `email`; the value of", "under another key"];
    dev.shows(SOON, &told).await?;

    // A message without the field may have it under another name.
    world
        .publish([("unruly.ok", r#"{"e-mail":"ann@example.org"}"#)])
        .await?;
    dev.shows(SOON, &["UNRULY:3"]).await?;
    dev.press("sother\r")?;
    let refused = [
        "none of the messages has a `email`; did you mean `e-mail`?",
        "--redact-if-there",
    ];
    dev.shows(SOON, &refused).await?;
    ensure!(!world.home.modules().join("cases/other.json").exists());
    dev.press("q")?;
    dev.is_restored(SOON).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_leave_the_terminal_as_it_was() -> Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::copy(guests::component("unruly")?, dir.path().join("unruly.wasm"))?;
    for signal in [Signal::TERM, Signal::INT] {
        let command = format!("{} dev unruly.wasm", binary());
        let dev = Terminal::run(&command, 60, 24, |script| {
            script.current_dir(dir.path());
            Ok(())
        })?;
        dev.shows(SOON, &["unruly", "watching", "no cases"]).await?;
        dev.signal(signal)?;
        let left = dev.is_restored(SOON).await?;
        ensure!(left.contains("exit code 0"), "{left}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_or_dumb_terminal_gets_lines() -> Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::copy(guests::component("unruly")?, dir.path().join("unruly.wasm"))?;
    for (columns, command) in [(59, "dev"), (80, "dev --lines"), (80, "TERM=dumb dev")] {
        let (variables, arguments) = command.split_once("dev").context("dev")?;
        let command = format!("env {variables} {} dev {arguments} unruly.wasm", binary());
        let mut dev = Terminal::run(&command, columns, 24, |script| {
            script.current_dir(dir.path());
            Ok(())
        })?;
        let text = dev
            .shows(SOON, &["unruly.wasm: loaded, ", "watching for changes"])
            .await?;
        ensure!(!text.contains("q quit"), "{text}");
        dev.press("\u{3}")?;
        let left = dev.is_restored(SOON).await?;
        ensure!(left.contains("stopped") && left.contains("exit code 0"), "{left}");
    }
    Ok(())
}

/// What a module prints is beside the message that it belongs to, and a panic is one line.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_module_prints_is_beside_its_message() -> Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::copy(guests::component("unruly")?, dir.path().join("unruly.wasm"))?;
    let cases = dir.path().join("cases");
    std::fs::create_dir(&cases)?;
    for (name, subject) in [("log", "unruly.say"), ("panic", "unruly.panic")] {
        let case = format!(r#"{{"message":{{"subject":"{subject}","data":1}}}}"#);
        std::fs::write(cases.join(format!("{name}.json")), case)?;
    }
    let mut command = Command::new(binary());
    command
        .args(["dev", "unruly.wasm"])
        .current_dir(dir.path())
        .env("NO_COLOR", "1");
    let mut dev = Process::spawn("slipring dev", &mut command)?;
    dev.line(SOON, "the end", |line| line == "watching for changes").await?;
    let log = dev.log();
    let at = |text: &str| {
        let place = log.iter().position(|line| line.contains(text));
        place.with_context(|| format!("{text:?} in {log:#?}"))
    };
    ensure!(
        at("    log: 1")? > at("sample  log")? && at("    log: 1")? < at("sample  panic")?,
        "{log:#?}"
    );
    let about = log.iter().filter(|line| line.contains("panicked at"));
    ensure!(about.count() == 1, "{log:#?}");
    dev.interrupt()?;
    ensure!(dev.wait(SOON).await?.code() == Some(0));
    Ok(())
}
