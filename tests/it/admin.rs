//! The admin server of a running relay: who may send commands, and what its clients cannot do.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use slipring_support::relay::Relay;

use super::world::{SOON, World, binary};

async fn world() -> Result<World> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    Ok(world)
}

/// Runs `slipring` with the relay's URL.
fn ask(world: &World, relay: &Relay, arguments: &[&str]) -> Result<Output> {
    let arguments = [arguments, &["--url", relay.url()]].concat();
    world.home.command(arguments).output().context("running slipring")
}

fn says(output: &Output, code: i32, words: &str) -> Result<()> {
    let text = [&*output.stdout, &output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    ensure!(
        output.status.code() == Some(code) && text.contains(words),
        "{words:?} is not in {output:?}"
    );
    Ok(())
}

fn token_file(world: &World, relay: &Relay) -> Result<PathBuf> {
    let address = relay.url().strip_prefix("http://").context("an address")?;
    let name = format!("{}.token", address.replace(':', "-"));
    Ok(world.home.path().join("slipring").join(name))
}

fn mode(path: &Path) -> Result<u32> {
    Ok(fs::symlink_metadata(path)?.mode() & 0o7777)
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_need_no_token_from_the_relays_own_user() -> Result<()> {
    let world = world().await?;
    let mut relay = world.run().await?;
    says(&ask(&world, &relay, &["status"])?, 0, "unruly  running")?;
    says(
        &ask(&world, &relay, &["modules", "retry", "unruly"])?,
        1,
        "is already running",
    )?;
    says(
        &ask(&world, &relay, &["modules", "rollback", "unruly"])?,
        1,
        "has no earlier version",
    )?;
    for command in ["retry", "rollback"] {
        let line = relay.logs(SOON, &format!("command=\"{command}\"")).await?;
        for part in [
            "a client sent a command",
            "module=\"unruly\"",
            "client=127.0.0.1:",
            "token=\"generated\"",
            "result=\"refused\"",
        ] {
            ensure!(line.contains(part), "{part} is not in {line}");
        }
    }

    let file = token_file(&world, &relay)?;
    ensure!(mode(&file)? == 0o600 && mode(file.parent().context("a directory")?)? == 0o700);
    ensure!(fs::metadata(&file)?.uid() == fs::metadata(world.home.path())?.uid());
    // Another user has other directories.
    let mut another = world.home.command(["modules", "retry", "unruly", "--url", relay.url()]);
    let another = another.env("XDG_RUNTIME_DIR", "/nowhere").env("TMPDIR", "/nowhere");
    says(&another.output()?, 1, "run this command as the user who runs the relay")?;
    // Anyone on this machine may read.
    let mut another = world.home.command(["status", "--url", relay.url()]);
    let another = another.env("XDG_RUNTIME_DIR", "/nowhere").env("TMPDIR", "/nowhere");
    says(&another.output()?, 0, "unruly  running")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_start_creates_a_token_and_a_clean_end_removes_it() -> Result<()> {
    let world = world().await?;
    let mut killed = world.run().await?;
    let left = token_file(&world, &killed)?;
    let first = fs::read_to_string(&left)?;
    killed.kill();
    ensure!(left.exists(), "a killed relay cannot remove it");

    // The same address, so the same file.
    let listen = killed.url().strip_prefix("http://").context("an address")?.to_owned();
    let config = fs::read_to_string(world.home.config_file())?;
    world.home.configure(&config.replace("127.0.0.1:0", &listen))?;
    let mut next = world.run().await?;
    let second = fs::read_to_string(&left)?;
    ensure!(first != second);
    // The address in the configuration leads to the token, too.
    let output = world.home.command(["modules", "retry", "unruly"]).output()?;
    says(&output, 1, "is already running")?;
    ensure!(!next.logged(second.trim()), "the token is in the log");

    // A second relay beside it has a token of its own.
    world.home.configure(&config)?;
    let mut beside = world.home.run().await?;
    let other = token_file(&world, &beside)?;
    ensure!(other != left && fs::read_to_string(&other)? != second);
    beside.stop(SOON).await?;
    ensure!(!other.exists() && fs::read_to_string(&left)? == second);
    next.stop(SOON).await?;
    ensure!(!left.exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_token_is_the_only_one() -> Result<()> {
    let mut world = world().await?;
    world.home.env("SLIPRING_ADMIN__TOKEN", "the-token-for-everything");
    world.home.env("SLIPRING_ADMIN__READ_TOKEN", "the-token-to-read");
    // The test itself has no token, so it does not wait until the relay is ready.
    let mut relay = world.home.run().await?;
    relay
        .logs(SOON, "reading starts at the first unsettled message")
        .await?;
    ensure!(!world.home.path().join("slipring").exists());
    says(
        &ask(&world, &relay, &["modules", "retry", "unruly"])?,
        1,
        "is already running",
    )?;
    relay.logs(SOON, "token=\"full\"").await?;

    let with = |full: &str, arguments: &[&str]| {
        let mut command = world.home.command([arguments, &["--url", relay.url()]].concat());
        match full {
            "" => command.env_remove("SLIPRING_ADMIN__TOKEN"),
            token => command.env("SLIPRING_ADMIN__TOKEN", token),
        };
        command.output().context("running slipring")
    };
    says(&with("", &["status"])?, 0, "unruly  running")?;
    says(
        &with("", &["modules", "retry", "unruly"])?,
        1,
        "has the token for reading, which does not allow this",
    )?;
    for _ in 0..3 {
        says(
            &with("another-token-for-everything", &["status"])?,
            1,
            "the token that was sent is wrong",
        )?;
    }
    let lines = relay.log();
    let wrong: Vec<&String> = lines.iter().filter(|line| line.contains("has a wrong token")).collect();
    ensure!(wrong.len() == 1 && wrong[0].contains("client=127.0.0.1:"), "{wrong:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_commands_know_the_relays_certificate() -> Result<()> {
    let world = world().await?;
    let pem = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/grpc").join(name);
    let (cert, key) = (pem("server.pem"), pem("server.key"));
    world
        .home
        .configure_more(&format!("[admin.tls]\ncert_file = {cert:?}\nkey_file = {key:?}"))?;
    let mut relay = world.home.run().await?;
    relay
        .logs(SOON, "reading starts at the first unsettled message")
        .await?;
    let url = relay.url().replace("http://", "https://");
    let status = world.home.command(["status", "--url", &url]).output()?;
    says(&status, 0, "unruly  running")?;
    let retry = ["modules", "retry", "unruly", "--url", &url];
    says(&world.home.command(retry).output()?, 1, "is already running")?;

    let elsewhere = tempfile::tempdir()?;
    let from_elsewhere = |arguments: &[&str]| {
        let mut command = world.home.command(["status", "--url", &url].iter().chain(arguments));
        command.current_dir(elsewhere.path()).output()
    };
    says(&from_elsewhere(&[])?, 1, "--ca-file")?;
    let ca = pem("ca.pem").display().to_string();
    says(&from_elsewhere(&["--ca-file", &ca])?, 0, "unruly  running")
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_use_up_the_relays_descriptors() -> Result<()> {
    let mut world = world().await?;
    let script = world.home.path().join("few-descriptors");
    fs::write(&script, format!("#!/bin/sh\nulimit -n 256\nexec {} \"$@\"\n", binary()))?;
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755))?;
    world.home.replace_binary(&script);
    let relay = world.run().await?;
    let address = relay.url().strip_prefix("http://").context("an address")?;

    let idle: Vec<TcpStream> = (0..300)
        .map(|_| TcpStream::connect(address))
        .collect::<Result<_, _>>()?;
    world.publish((0..500).map(|_| ("unruly.ok", "1"))).await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    // A swap opens files and starts a process.
    world.add_unruly("timeout = \"90ms\"")?;
    relay.has_logged(SOON, "swapped").await?;
    let open = fs::read_dir(format!("/proc/{}/fd", relay.id()))?.count();
    ensure!((128..250).contains(&open), "{open} descriptors");
    ensure!(!relay.logged("Too many open files"), "{:#?}", relay.log());
    // Idle connections keep no probe out.
    let begin = Instant::now();
    relay.ready(SOON).await?;
    ensure!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    drop(idle);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_come_is_not_waited_for() -> Result<()> {
    let world = world().await?;
    let relay = world.run().await?;
    let address = relay.url().strip_prefix("http://").context("an address")?.to_owned();
    let waited = tokio::task::spawn_blocking(move || -> Result<Duration> {
        let mut slow = TcpStream::connect(address)?;
        slow.set_read_timeout(Some(SOON))?;
        slow.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n")?;
        let begin = Instant::now();
        let mut answer = Vec::new();
        slow.read_to_end(&mut answer)?;
        ensure!(!answer.starts_with(b"HTTP/1.1 200"));
        Ok(begin.elapsed())
    });
    let waited = waited.await??;
    ensure!(waited >= Duration::from_secs(9), "{waited:?}");
    Ok(())
}
