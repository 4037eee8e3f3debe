//! Files that take long to load, or would use up all resources. Each is refused within its bounds, and nobody
//! else waits for it.

mod crafted;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use slipring_support::guests;
use slipring_support::relay::Relay;

use super::commands::{exits, stderr, stdout};
use super::numbers::{CHANNEL, counts, numbers, shows, state};
use super::world::{SOON, World, binary, module};

/// Lower than the defaults, so that tests do not take as long.
const BOUNDS: [(&str, &str); 2] = [("COMPILE_CPU", "4s"), ("COMPILE_MEMORY", "256MiB")];

/// The most memory that the relay itself may use while it refuses a file.
const MEMORY: u64 = 50 << 20;

/// The limit for a neighbour's swap, on a machine that is busy with other tests.
const SWAP: Duration = Duration::from_secs(20);

/// Starts a relay with these bounds, a cache of its own, and the module `unruly`, which has published something.
async fn at_work(bounds: &[(&str, &str)]) -> Result<(World, Relay)> {
    let mut world = World::start().await?;
    let cache = world.home.path().join("cache");
    world.home.env("SLIPRING_MODULES__CACHE_DIR", cache);
    for (key, value) in bounds {
        world.home.env(format!("SLIPRING_MODULES__{key}"), value);
    }
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.stream("BAD", &["bad.>"]).await?;
    world.add_unruly("")?;
    let relay = world.run().await?;
    world.publish(numbers(1..=10)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=10).await?;
    Ok((world, relay))
}

fn write(world: &World, name: &str, wasm: &[u8]) -> Result<PathBuf> {
    let file = world.home.path().join(name);
    fs::write(&file, wasm)?;
    Ok(file)
}

/// Puts a file into the modules directory as a module that reads a stream of its own.
fn add_bad(world: &World, name: &str, wasm: &[u8], toml: &str) -> Result<()> {
    let file = write(world, "bad.wasm", wasm)?;
    world.home.add_module(name, &file, &format!("stream = \"BAD\"\n{toml}"))
}

/// Returns the guest `unruly` as a new file, with a custom section that contains the number.
fn unseen(number: u8) -> Result<Vec<u8>> {
    let mut wasm = fs::read(guests::component("unruly")?)?;
    wasm.extend([0, 3, 1, b'n', number]);
    Ok(wasm)
}

/// Returns how long it takes until a version of `unruly` that has to be compiled runs.
async fn swap(world: &World, relay: &Relay, number: u8) -> Result<Duration> {
    let swaps = module(&relay.status().await?, "unruly")["swaps"]
        .as_u64()
        .unwrap_or_default();
    let file = write(world, "unseen.wasm", &unseen(number)?)?;
    let begun = Instant::now();
    world.home.replace_wasm("unruly", &file)?;
    counts(relay, "unruly", "swaps", swaps + 1).await?;
    Ok(begun.elapsed())
}

async fn refused(relay: &Relay, name: &str, words: &[&str]) -> Result<()> {
    let failed = state(relay, name, "failed").await?;
    let reason = failed["reason"].as_str().unwrap_or_default();
    ensure!(words.iter().any(|words| reason.contains(words)), "{name}: {reason}");
    Ok(())
}

/// Returns the relay's running child processes.
fn children(relay: &Relay) -> Result<Vec<u32>> {
    let id = relay.id();
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{id}/task"))? {
        // A thread may end meanwhile.
        let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()));
    }
    Ok(found)
}

async fn compiles(relay: &Relay) -> Result<Vec<u32>> {
    slipring_support::eventually(SOON, "a process that compiles", async || {
        let found = children(relay)?;
        ensure!(!found.is_empty(), "none");
        Ok(found)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn crafted_modules_are_refused_within_their_bounds_and_hold_up_nobody() -> Result<()> {
    let (world, relay) = at_work(&BOUNDS).await?;
    // The first swaps take memory that later ones use again.
    swap(&world, &relay, 0).await?;
    let before = relay.usage()?.memory;
    let mut swaps = Vec::new();
    for (number, crafted) in (1..).zip(crafted::all()) {
        let name = crafted.name;
        add_bad(&world, name, &crafted.wasm, "timeout = \"1s\"")?;
        swaps.push(swap(&world, &relay, number).await?);
        refused(&relay, name, crafted.refused).await?;
        let peak = relay.usage()?.peak_memory;
        println!(
            "{name}: swapped meanwhile in {:?}, peak {} KiB",
            swaps.last(),
            peak >> 10
        );
        ensure!(
            peak < before + MEMORY,
            "{name}: {} MiB beyond {}",
            (peak - before) >> 20,
            before >> 20
        );
        world.home.remove_module(name)?;
    }
    swaps.sort_unstable();
    println!("median of a swap: {:?} of {swaps:?}", swaps[swaps.len() / 2]);
    ensure!(swaps[swaps.len() / 2] < SWAP, "{swaps:?}");
    world.publish(numbers(11..=20)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=20).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_that_does_not_end_holds_up_nobody() -> Result<()> {
    let (world, relay) = at_work(&[]).await?;
    let toml = "timeout = \"60s\"";
    for name in ["bad1", "bad2", "bad3", "bad4"] {
        let consumer = format!("{toml}\nconsumer = \"{name}\"");
        add_bad(&world, name, &crafted::with_init("(loop (br 0))"), &consumer)?;
    }
    // All of them are compiling.
    relay
        .status_when(SOON, "four that start", |status| {
            ["bad1", "bad2", "bad3", "bad4"]
                .iter()
                .all(|name| module(status, name)["state"] == "starting")
        })
        .await?;
    let swapped = swap(&world, &relay, 1).await?;
    let begun = Instant::now();
    let output = world
        .home
        .command(["modules", "rollback", "unruly", "--url", relay.url()])
        .output()?;
    exits(&output, 0)?;
    let rolled_back = begun.elapsed();
    let mut relay = relay;
    let begun = Instant::now();
    let ended = relay.stop(SOON).await?;
    let stopped = begun.elapsed();
    ensure!(ended.success(), "{ended}");
    let relay = world.home.run().await?;
    let begun = Instant::now();
    state(&relay, "unruly", "running").await?;
    let started = begun.elapsed();
    println!("swap {swapped:?}, rollback {rolled_back:?}, stop {stopped:?}, start {started:?}");
    for took in [swapped, rolled_back, stopped, started] {
        ensure!(
            took < SWAP,
            "swap {swapped:?}, rollback {rolled_back:?}, stop {stopped:?}, start {started:?}"
        );
    }
    for name in ["bad1", "bad4"] {
        ensure!(
            module(&relay.status().await?, name)["state"] == "starting",
            "{name} is at it still"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_come_to_work_gives_way_to_a_newer_one() -> Result<()> {
    let (world, relay) = at_work(&[]).await?;
    add_bad(&world, "bad", &crafted::with_init("(loop (br 0))"), "timeout = \"60s\"")?;
    state(&relay, "bad", "starting").await?;
    let begun = Instant::now();
    let file = write(&world, "good.wasm", &crafted::with_init("(return (i32.const 64))"))?;
    world.home.replace_wasm("bad", &file)?;
    state(&relay, "bad", "running").await?;
    ensure!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    relay.has_logged(SOON, "stopped loading this version").await
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_what_compiles_and_a_crash_does_so_too() -> Result<()> {
    let (world, mut relay) = at_work(&[]).await?;
    add_bad(&world, "bad", &crafted::live_values(), "")?;
    let processes = compiles(&relay).await?;
    let begun = Instant::now();
    let ended = relay.stop(SOON).await?;
    ensure!(
        ended.success() && begun.elapsed() < SWAP,
        "{ended} after {:?}",
        begun.elapsed()
    );
    gone(&processes).await?;
    ensure!(
        !relay.logged("refused the module's new files"),
        "it says nothing of a file that it has not judged"
    );

    let mut relay = world.home.run().await?;
    let processes = compiles(&relay).await?;
    relay.kill();
    gone(&processes).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_compiles_counts_in_the_memory_limit_while_it_does() -> Result<()> {
    /// Far more than ten messages and their pipeline's free room need.
    const COMPILING: u64 = 8 << 20;
    let (world, relay) = at_work(&[]).await?;
    let used = |status: &serde_json::Value| status["memory"]["used"].as_u64().unwrap_or_default();
    relay
        .status_when(SOON, "little in use", |status| used(status) < COMPILING)
        .await?;
    add_bad(&world, "bad", &crafted::live_values(), "")?;
    relay
        .status_when(SOON, "the memory of what compiles", |status| used(status) >= COMPILING)
        .await?;
    world.home.remove_module("bad")?;
    relay
        .status_when(SOON, "little in use again", |status| used(status) < COMPILING)
        .await?;
    Ok(())
}

async fn gone(processes: &[u32]) -> Result<()> {
    slipring_support::eventually(SOON, "the processes to end", async || {
        for id in processes {
            let name = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            ensure!(name.is_empty() || name.contains(") Z "), "{id} runs: {name}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_compiled_before_starts_while_something_else_compiles() -> Result<()> {
    let (world, mut relay) = at_work(&[]).await?;
    relay.stop(SOON).await?;
    // Both slots for compilations are taken as long as this test lasts.
    for name in ["bad1", "bad2", "bad3"] {
        add_bad(&world, name, &crafted::live_values(), &format!("consumer = \"{name}\""))?;
    }
    let relay = world.home.run().await?;
    compiles(&relay).await?;
    let begun = Instant::now();
    state(&relay, "unruly", "running").await?;
    ensure!(begun.elapsed() < SWAP, "{:?}", begun.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_place_that_can_be_written_to_code_comes_through_a_temporary_one() -> Result<()> {
    for cache in ["false", "/proc/cache", "taken"] {
        let mut world = World::start().await?;
        let temporary = world.home.path().join("tmp");
        fs::create_dir(&temporary)?;
        world.home.env("TMPDIR", &temporary);
        world.home.env("SLIPRING_MODULES__CACHE_DIR", cache);
        // There is a file where the cache would keep code.
        let taken = world.home.path().join("taken");
        fs::create_dir(&taken)?;
        fs::set_permissions(&taken, fs::Permissions::from_mode(0o700))?;
        fs::write(taken.join("modules"), "")?;
        world.stream("UNRULY", &["unruly.>"]).await?;
        world.add_unruly("")?;
        let mut relay = world.run().await?;
        world.publish(numbers(1..=10)).await?;
        shows(&world.centrifugo, CHANNEL, 1..=10).await?;
        swap(&world, &relay, 1).await?;
        relay.stop(SOON).await?;
        ensure!(
            fs::read_dir(&temporary)?.next().is_none(),
            "{cache}: something was left behind"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_is_damaged_or_gone_is_compiled_again() -> Result<()> {
    let (world, mut relay) = at_work(&[]).await?;
    let entries = world.home.path().join("cache/modules");
    let each = |change: &dyn Fn(&Path) -> std::io::Result<()>| -> Result<usize> {
        let mut changed = 0;
        for version in fs::read_dir(&entries)? {
            for entry in fs::read_dir(version?.path())? {
                let path = entry?.path();
                if path.extension().is_none() {
                    change(&path)?;
                    changed += 1;
                }
            }
        }
        Ok(changed)
    };
    for change in [
        &(|path: &Path| fs::write(path, b"no code")) as &dyn Fn(&Path) -> std::io::Result<()>,
        &|path| fs::write(path, &fs::read(path)?[..1000]),
        &|path| fs::remove_file(path),
    ] {
        relay.stop(SOON).await?;
        ensure!(each(change)? == 1, "the code of one module");
        relay = world.run().await?;
    }
    world.publish(numbers(11..=20)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=20).await?;
    // The directories used for compiling were removed.
    for entry in fs::read_dir(world.home.path().join("cache"))? {
        let name = entry?.file_name();
        ensure!(name == "modules", "{}", name.display());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_that_loads_a_module_refuses_one_that_is_nested_too_deeply() -> Result<()> {
    let world = World::start().await?;
    world.stream("BAD", &["bad.>"]).await?;
    let message = write(&world, "messages", b"{\"subject\":\"bad.a\",\"payload\":\"\"}\n")?;
    let cases = world.home.path().join("cases");
    fs::create_dir(&cases)?;
    let case = r#"{"message":{"subject":"bad.a","payload":""},"expect":{"outcome":"drop"}}"#;
    fs::write(cases.join("one.json"), case)?;
    for crafted in crafted::deep() {
        add_bad(&world, "deep", &crafted.wasm, "")?;
        let wasm = world.home.modules().join("deep.wasm");
        let told = |arguments: &[&Path]| -> Result<()> {
            let output = world.home.command(arguments.iter().copied()).output()?;
            exits(&output, 1)?;
            let words = stdout(&output) + &stderr(&output);
            let is_told = crafted.refused.iter().any(|refused| words.contains(refused));
            ensure!(is_told, "{} {arguments:?}: {words}", crafted.name);
            Ok(())
        };
        let path = Path::new;
        told(&[path("check")])?;
        told(&[path("try"), &wasm, &message])?;
        told(&[path("test"), &wasm, path("--cases"), &cases])?;
        told(&[path("diff"), &wasm, &wasm])?;
        world.home.remove_module("deep")?;
    }
    Ok(())
}

#[test]
fn the_process_that_compiles_is_no_command_for_people() -> Result<()> {
    for arguments in [&["--help"][..], &["completions", "bash"], &["completions", "zsh"]] {
        let output = Command::new(binary()).args(arguments).output()?;
        exits(&output, 0)?;
        ensure!(!stdout(&output).contains("compile-module"), "{arguments:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_of_a_file_is_bounded() -> Result<()> {
    let (world, relay) = at_work(&[("MAX_FILE_SIZE", "4MiB")]).await?;
    let file = world.home.modules().join("bad.wasm");
    world.home.configure_module("bad", "stream = \"BAD\"\n")?;
    fs::File::create(&file)?.set_len((4 << 20) + 1)?;
    refused(
        &relay,
        "bad",
        &["has 4194305 bytes or more; a .wasm may have at most 4194304"],
    )
    .await?;
    let output = world.home.command(["check"]).output()?;
    exits(&output, 1)?;
    ensure!(stdout(&output).contains("has more than 4194304 bytes"), "{output:?}");
    let status = relay.status().await?;
    ensure!(module(&status, "unruly")["state"] == "running", "{status}");
    Ok(())
}
