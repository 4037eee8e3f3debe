//! Files as editors, `cp`, the kubelet and mistakes leave them: half written, linked, without their other half, bad.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use slipring_support::{eventually, guests};

use super::super::numbers::{CHANNEL, counts, marked, numbers, shows, state};
use super::super::world::{SOON, World, module, unruly_toml};
use super::{mark, world};

/// How long a file must rest, at least, before the relay takes it as complete.
const STABLE: Duration = Duration::from_millis(150);

/// Replaces the module's file with these bytes, in one step.
fn put_wasm(world: &World, name: &str, bytes: &[u8]) -> Result<()> {
    let file = world.home.path().join("made-by-the-test.wasm");
    fs::write(&file, bytes)?;
    world.home.replace_wasm(name, &file)
}

/// Returns the same module with a section that nobody reads, to make the file larger.
fn padded(bytes: usize) -> Result<Vec<u8>> {
    let mut wasm = fs::read(guests::component("unruly")?)?;
    let name = b"padding";
    wasm.push(0);
    let mut size = 1 + name.len() + bytes;
    while size >= 0x80 {
        wasm.push((size & 0x7f) as u8 | 0x80);
        size >>= 7;
    }
    wasm.push(size as u8);
    wasm.push(name.len() as u8);
    wasm.extend(name);
    wasm.extend(std::iter::repeat_n(0, bytes));
    Ok(wasm)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_is_exchanged_by_its_data_link() -> Result<()> {
    let world = world().await?;
    let modules = world.home.modules();
    // The kubelet creates a directory per version, a link `..data` to it, and a link per file through that.
    let version = |directory: &str, letter: &str| -> Result<()> {
        fs::create_dir(modules.join(directory))?;
        fs::copy(
            guests::component("unruly")?,
            modules.join(directory).join("unruly.wasm"),
        )?;
        fs::write(modules.join(directory).join("unruly.toml"), mark(letter))?;
        symlink(directory, modules.join("..data_tmp"))?;
        fs::rename(modules.join("..data_tmp"), modules.join("..data"))?;
        Ok(())
    };
    version("..2026_11_01", "old")?;
    symlink("..data/unruly.wasm", modules.join("unruly.wasm"))?;
    symlink("..data/unruly.toml", modules.join("unruly.toml"))?;
    let relay = world.run().await?;
    world.publish(numbers(1..=10)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=10).await?;

    version("..2026_11_02", "new")?;
    fs::remove_dir_all(modules.join("..2026_11_01"))?;
    counts(&relay, "unruly", "swaps", 1).await?;
    world.publish(numbers(11..=20)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=20).await?;
    let makers = marked(&world.centrifugo, CHANNEL).await?;
    ensure!(makers[9].1 == "old" && makers[10].1 == "new", "{makers:?}");
    let status = relay.status().await?;
    let names: Vec<&Value> = status["modules"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|module| &module["name"])
        .collect();
    ensure!(names == ["unruly"], "the kubelet's own files are no modules: {names:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_copied_over_slowly_is_taken_once_it_is_whole() -> Result<()> {
    let world = world().await?;
    world.add_unruly("")?;
    let relay = world.run().await?;
    let wasm = padded(8 << 20)?;
    let mut file = File::create(world.home.modules().join("unruly.wasm"))?;
    let mut longest = Duration::ZERO;
    let mut number = 0;
    for chunk in wasm.chunks(wasm.len() / 50) {
        let start = Instant::now();
        file.write_all(chunk)?;
        file.flush()?;
        // The old module goes on meanwhile. Waiting for that makes the copy slow.
        number += 1;
        world.publish(numbers(number..=number)).await?;
        counts(&relay, "unruly", "published", number).await?;
        longest = longest.max(start.elapsed());
    }
    drop(file);
    counts(&relay, "unruly", "swaps", 1).await?;
    world.publish(numbers(number + 1..=number + 10)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=number + 10).await?;
    let status = relay.status().await?;
    // If a writer pauses for longer than this, nobody can tell it from one that has finished.
    if longest < STABLE {
        ensure!(
            module(&status, "unruly")["refused_swaps"] == 0,
            "half a file was not tried: {status}"
        );
    }
    ensure!(module(&status, "unruly")["last_refusal"].is_null(), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_changes_nothing_but_a_log_line_the_status_and_a_metric() -> Result<()> {
    let world = world().await?;
    let good = guests::component("unruly")?;
    let bytes = fs::read(&good)?;
    world.home.add_module("unruly", &good, &mark("good"))?;
    let mut relay = world.run().await?;
    let before = state(&relay, "unruly", "running").await?;
    type Damage<'a> = Box<dyn Fn() -> Result<()> + 'a>;
    let wasm = |bytes: &'static [u8]| -> Damage<'_> { Box::new(|| put_wasm(&world, "unruly", bytes)) };
    let toml = |text: &'static str| -> Damage<'_> { Box::new(|| world.home.configure_module("unruly", text)) };
    let half: Damage<'_> = Box::new(|| put_wasm(&world, "unruly", &bytes[..bytes.len() / 2]));
    let cases = [
        (wasm(b"<html>not found</html>"), "wasm"),
        (wasm(b""), "empty"),
        (half, "unruly.wasm"),
        // A component without anything in it.
        (wasm(b"\0asm\x0d\0\x01\0"), "export"),
        (
            toml("stream = \"UNRULY\"\nsettings.fail = \"no such room\""),
            "no such room",
        ),
        (toml("stream = \"UNRULY\"\nsettings.panic = true"), "asked to panic"),
        (
            toml("stream = \"UNRULY\"\nsubject = [\"a\"]"),
            "did you mean `subjects`",
        ),
        (toml("stream = "), "unruly.toml:1"),
    ];
    for (refused, (damage, word)) in (1..).zip(&cases) {
        damage()?;
        let what = format!("refusal {refused}, about {word:?}");
        let told = |status: &Value| {
            let status = module(status, "unruly");
            let refusal = status["last_refusal"].as_str().unwrap_or_default();
            status["refused_swaps"] == refused && refusal.contains(word)
        };
        let status = relay.status_when(SOON, &what, told).await?;
        let after = module(&status, "unruly");
        ensure!(
            after["sha256"] == before["sha256"] && after["state"] == "running",
            "the old one goes on: {after}"
        );
        let metric = format!("slipring_swaps_refused_total{{module=\"unruly\"}} {refused}");
        ensure!(relay.metrics().await?.contains(&metric), "{metric}");
        // The status may be quicker than the log's pipe.
        eventually(SOON, format!("a line about refusal {refused}"), async || {
            let lines = relay.log();
            let lines = lines
                .iter()
                .filter(|line| line.contains("refused the module's new files"));
            let count = lines.clone().count() as u64;
            ensure!(count == refused, "a line each: {:#?}", lines.collect::<Vec<_>>());
            Ok(())
        })
        .await?;
        world.publish(numbers(refused..=refused)).await?;
        shows(&world.centrifugo, CHANNEL, 1..=refused).await?;

        world.home.add_module("unruly", &good, &mark("good"))?;
        let clear = |status: &Value| module(status, "unruly")["last_refusal"].is_null();
        relay.status_when(SOON, "the refusal to be taken back", clear).await?;
    }
    let makers = marked(&world.centrifugo, CHANNEL).await?;
    ensure!(makers.iter().all(|(_, mark)| mark == "good"), "{makers:?}");
    ensure!(
        !relay.logged("reading was interrupted"),
        "the pipeline was never disturbed: {:#?}",
        relay.log()
    );
    ensure!(relay.stop(SOON).await?.success(), "it stops cleanly");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_waits_for_its_other_file_and_must_have_a_fitting_name() -> Result<()> {
    let world = world().await?;
    let wasm = guests::component("unruly")?;
    let file = |name: &str| -> PathBuf { world.home.modules().join(name) };
    fs::copy(&wasm, file("lonely.wasm"))?;
    fs::write(file("hollow.toml"), unruly_toml(""))?;
    fs::copy(&wasm, file("un.ruly.wasm"))?;
    fs::write(file("un.ruly.toml"), unruly_toml(""))?;
    let relay = world.home.run().await?;
    let lonely = state(&relay, "lonely", "waiting").await?;
    ensure!(lonely["reason"] == "lonely.toml is missing", "{lonely}");
    let hollow = state(&relay, "hollow", "waiting").await?;
    ensure!(hollow["reason"] == "hollow.wasm is missing", "{hollow}");
    let named = state(&relay, "un.ruly", "failed").await?;
    let reason = named["reason"].as_str().unwrap_or_default();
    ensure!(
        reason.contains("\"un.ruly\"") && reason.contains("without spaces, `.`"),
        "the reason says why: {reason}"
    );

    for extension in ["wasm", "toml"] {
        fs::rename(
            file(&format!("un.ruly.{extension}")),
            file(&format!("un-ruly.{extension}")),
        )?;
    }
    relay.ready(SOON).await?;
    world.publish(numbers(1..=10)).await?;
    counts(&relay, "un-ruly", "published", 10).await?;
    fs::write(file("lonely.toml"), unruly_toml(""))?;
    counts(&relay, "lonely", "published", 10).await?;
    fs::remove_file(file("lonely.toml"))?;
    let lonely = state(&relay, "lonely", "waiting").await?;
    ensure!(lonely["sha256"].is_null(), "nothing of it is in use: {lonely}");
    relay.ready(SOON).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_module_and_a_halted_one_leave_their_neighbour_alone() -> Result<()> {
    let world = world().await?;
    let wasm = guests::component("unruly")?;
    world.stream("HALTING", &["halting.>"]).await?;
    world.home.add_module("good", &wasm, &mark("one"))?;
    world.home.configure_module("bad", &unruly_toml(""))?;
    put_wasm(&world, "bad", b"no wasm at all")?;
    let halting = "stream = \"HALTING\"\ndeliver = \"all\"\non_reject = \"halt\"\n";
    world.home.add_module("halting", &wasm, halting)?;
    world
        .publish([("halting.reject", "no"), ("halting.ok", "1000")])
        .await?;
    let relay = world.home.run().await?;
    state(&relay, "bad", "failed").await?;
    let halted = state(&relay, "halting", "halted").await?;
    ensure!(
        halted["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("sequence 1 ")),
        "the reason names the message: {halted}"
    );
    world.publish(numbers(1..=100)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=100).await?;
    world.home.configure_module("good", &mark("two"))?;
    counts(&relay, "good", "swaps", 1).await?;
    world.publish(numbers(101..=200)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=200).await?;
    let why = format!(
        "{:#}",
        relay.get("/readyz").await.err().context("the relay is not ready")?
    );
    ensure!(
        why.contains("bad has failed") && why.contains("halting is halted") && !why.contains("good "),
        "it says why it is not ready: {why}"
    );
    Ok(())
}
