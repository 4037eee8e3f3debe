//! The modules directory while the relay runs: adding, replacing, editing, renaming and removing, as people and tools do it. Each
//! takes effect without a restart, loses nothing and leaves the neighbours alone.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use slipring_support::guests;
use slipring_support::relay::Relay;

use super::numbers::{CHANNEL, consumer, counts, marked, number_on, numbers, shows, state};
use super::world::{SOON, World, module, unruly_toml};

/// What a file that is being written rests for, at least, before the relay takes it as whole.
const STABLE: Duration = Duration::from_millis(150);

async fn world() -> Result<World> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    Ok(world)
}

/// The settings that mark each publication.
fn mark(mark: &str) -> String {
    unruly_toml(&format!("settings.mark = \"{mark}\""))
}

/// Puts bytes into the place of the module's file, in one step.
fn put_wasm(world: &World, name: &str, bytes: &[u8]) -> Result<()> {
    let file = world.home.path().join("made-by-the-test.wasm");
    fs::write(&file, bytes)?;
    world.home.replace_wasm(name, &file)
}

/// The same module with a section that nobody reads, so that its file is so much larger.
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

async fn removed(relay: &Relay, name: &str) -> Result<()> {
    let gone = |status: &Value| module(status, name).is_null();
    relay
        .status_when(SOON, &format!("{name} to be gone"), gone)
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_before_a_change_of_settings_carries_the_old_ones_and_every_later_one_the_new() -> Result<()> {
    const CHANNELS: u64 = 20;
    const CHUNK: u64 = 100;
    let world = world().await?;
    world
        .home
        .add_module("unruly", &guests::component("unruly")?, &mark("a"))?;
    let relay = world.run().await?;
    let created = consumer(&world, "UNRULY", "slipring-unruly").await?.created;

    let edited = AtomicBool::new(false);
    let publish = async {
        let mut last = 0;
        while !edited.load(Ordering::Relaxed) {
            let numbers = (last + 1)..=(last + CHUNK);
            let messages = numbers.map(|number| number_on(&format!("unruly:{}", number % CHANNELS), number));
            world.publish(messages).await?;
            last += CHUNK;
        }
        Ok(last)
    };
    let edit = async {
        let swaps: Result<()> = async {
            for (swaps, letter) in (1..).zip(["b", "c", "d"]) {
                world.home.configure_module("unruly", &mark(letter))?;
                counts(&relay, "unruly", "swaps", swaps).await?;
            }
            // Many within a second: how many of them are seen is left open, but the last one stays.
            for letter in ["e", "f", "g", "h", "i", "j"] {
                world.home.configure_module("unruly", &mark(letter))?;
            }
            counts(&relay, "unruly", "swaps", 4).await
        }
        .await;
        edited.store(true, Ordering::Relaxed);
        swaps
    };
    let (last, ()) = tokio::try_join!(publish, edit)?;
    world
        .publish((last + 1..=last + CHUNK).map(|number| number_on("unruly:0", number)))
        .await?;
    let last = last + CHUNK;
    counts(&relay, "unruly", "published", last).await?;

    let mut all = Vec::new();
    for channel in 0..CHANNELS {
        let shown = marked(&world.centrifugo, &format!("unruly:{channel}")).await?;
        ensure!(
            shown.is_sorted_by(|(a, _), (b, _)| a < b),
            "unruly:{channel} is in order: {shown:?}"
        );
        all.extend(shown);
    }
    all.sort();
    ensure!(
        all.iter().map(|(number, _)| *number).eq(1..=last),
        "all are there, none twice"
    );
    let mut marks: Vec<&str> = all.iter().map(|(_, mark)| mark.as_str()).collect();
    marks.dedup();
    ensure!(marks.is_sorted(), "the settings took turns: {marks:?}");
    ensure!(
        marks.starts_with(&["a", "b", "c", "d"]) && marks.ends_with(&["j"]),
        "each took its turn: {marks:?}"
    );
    let consumer = consumer(&world, "UNRULY", "slipring-unruly").await?;
    ensure!(consumer.created == created, "the consumer is the same");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn other_subjects_restart_the_pipeline_and_change_the_consumer() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["a.*", "b.*", "c.*"]).await?;
    world.add_unruly("subjects = [\"a.*\"]")?;
    let relay = world.run().await?;
    let created = consumer(&world, "UNRULY", "slipring-unruly").await?.created;
    world.publish([("a.ok", "1"), ("c.ok", "100"), ("a.ok", "2")]).await?;
    shows(&world.centrifugo, CHANNEL, [1, 2]).await?;

    world
        .home
        .configure_module("unruly", &unruly_toml("subjects = [\"a.*\", \"b.*\"]"))?;
    let subjects = async || {
        let config = consumer(&world, "UNRULY", "slipring-unruly").await?.config;
        ensure!(
            config.filter_subjects == ["a.*", "b.*"],
            "{:?} {:?}",
            config.filter_subject,
            config.filter_subjects
        );
        Ok(())
    };
    slipring_support::eventually(SOON, "the consumer to have both subjects", subjects).await?;
    world.publish([("b.ok", "3"), ("c.ok", "101"), ("a.ok", "4")]).await?;
    shows(&world.centrifugo, CHANNEL, 1..=4).await?;
    ensure!(
        consumer(&world, "UNRULY", "slipring-unruly").await?.created == created,
        "the consumer is the same"
    );
    ensure!(
        module(&relay.status().await?, "unruly")["state"] == "running",
        "it runs again"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_on_reject_counts_from_the_next_message_on() -> Result<()> {
    let world = world().await?;
    world.add_unruly("")?;
    let relay = world.run().await?;
    let dead_letters = async || -> Result<u64> {
        let mut stream = world.jetstream.get_stream("SLIPRING_DEAD_LETTERS").await?;
        Ok(stream.info().await?.state.messages)
    };
    world.publish([("unruly.reject", "no"), ("unruly.ok", "1")]).await?;
    shows(&world.centrifugo, CHANNEL, [1]).await?;
    slipring_support::eventually(SOON, "a dead letter", async || {
        let count = dead_letters().await?;
        ensure!(count == 1, "{count}");
        Ok(())
    })
    .await?;
    world
        .home
        .configure_module("unruly", &unruly_toml("on_reject = \"drop\""))?;
    counts(&relay, "unruly", "swaps", 1).await?;
    world.publish([("unruly.reject", "no"), ("unruly.ok", "2")]).await?;
    shows(&world.centrifugo, CHANNEL, [1, 2]).await?;
    counts(&relay, "unruly", "rejected", 2).await?;
    settled(&world, "slipring-unruly").await?;
    ensure!(dead_letters().await? == 1, "the second one was dropped");
    Ok(())
}

/// Waits until the consumer has nothing outstanding and nothing to deliver.
async fn settled(world: &World, name: &str) -> Result<()> {
    slipring_support::eventually(SOON, "all to be acknowledged", async || {
        let info = consumer(world, "UNRULY", name).await?;
        ensure!(info.num_pending == 0 && info.num_ack_pending == 0, "{info:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_module_drains_and_its_consumer_waits_for_it_to_come_back() -> Result<()> {
    const MESSAGES: u64 = 5_000;
    let world = world().await?;
    let wasm = guests::component("unruly")?;
    world.publish(numbers(1..=MESSAGES)).await?;
    world.home.add_module("unruly", &wasm, &mark("before"))?;
    let mut relay = world.run().await?;
    let some = |status: &Value| module(status, "unruly")["published"].as_u64() > Some(100);
    relay.status_when(SOON, "the first publications", some).await?;

    world.home.remove_module("unruly")?;
    relay.logs(SOON, "the module was removed; its consumer stays").await?;
    removed(&relay, "unruly").await?;
    let info = consumer(&world, "UNRULY", "slipring-unruly").await?;
    let shown = marked(&world.centrifugo, CHANNEL).await?.len() as u64;
    ensure!(info.num_ack_pending == 0, "what it had taken is finished: {info:?}");
    ensure!(
        info.ack_floor.stream_sequence == shown,
        "what was acknowledged was shown, {shown}: {info:?}"
    );
    ensure!(!relay.logged("left unsettled"), "nothing is left: {:#?}", relay.log());
    ensure!(
        !relay.metrics().await?.contains("module=\"unruly\""),
        "its metrics are gone"
    );
    relay.ready(SOON).await?;

    world.publish(numbers(MESSAGES + 1..=MESSAGES + 10)).await?;
    world.home.add_module("unruly", &wasm, &mark("after"))?;
    shows(&world.centrifugo, CHANNEL, 1..=MESSAGES + 10).await?;
    let last = marked(&world.centrifugo, CHANNEL).await?.pop().context("a last one")?;
    ensure!(
        last.1 == "after",
        "the module that came back has its new settings: {last:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_module_goes_on_with_the_consumer_it_names() -> Result<()> {
    const MESSAGES: u64 = 5_000;
    let world = world().await?;
    world.publish(numbers(1..=MESSAGES)).await?;
    world.home.add_module(
        "old",
        &guests::component("unruly")?,
        &unruly_toml("consumer = \"shared\""),
    )?;
    let mut relay = world.run().await?;
    let some = |status: &Value| module(status, "old")["published"].as_u64() > Some(100);
    relay.status_when(SOON, "the first publications", some).await?;
    let modules = world.home.modules();
    for extension in ["wasm", "toml"] {
        fs::rename(
            modules.join("old").with_extension(extension),
            modules.join("new").with_extension(extension),
        )?;
    }
    // Its keys are others, since they are made from the module's name: what is shown twice was published twice.
    shows(&world.centrifugo, CHANNEL, 1..=MESSAGES).await?;
    removed(&relay, "old").await?;
    settled(&world, "shared").await?;
    let line = |text: &str| relay.log().iter().position(|line| line.contains(text));
    let gone = line("the module was removed").context("the old one's end")?;
    let log = relay.log();
    let started = log
        .iter()
        .rposition(|line| line.contains("starting the module") && line.contains("new"));
    ensure!(
        started > Some(gone),
        "the new one starts when the old one has drained: {log:#?}"
    );
    ensure!(
        !relay.logged("epoch is over"),
        "they never read at the same time: {log:#?}"
    );
    relay.stop(SOON).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_module_on_one_consumer_is_refused_until_the_first_one_leaves() -> Result<()> {
    let world = world().await?;
    let wasm = guests::component("unruly")?;
    let toml = |mark: &str| unruly_toml(&format!("consumer = \"shared\"\nsettings.mark = \"{mark}\""));
    world.home.add_module("first", &wasm, &toml("first"))?;
    let relay = world.run().await?;
    world.home.add_module("second", &wasm, &toml("second"))?;
    let second = state(&relay, "second", "failed").await?;
    let reason = second["reason"].as_str().unwrap_or_default();
    ensure!(
        reason.contains("`shared`") && reason.contains("`UNRULY`") && reason.contains("the module `first`"),
        "the reason names them: {reason}"
    );
    ensure!(relay.get("/readyz").await.is_err(), "the relay is not ready");
    world.publish(numbers(1..=20)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=20).await?;
    ensure!(
        module(&relay.status().await?, "first")["state"] == "running",
        "the first one is unharmed"
    );
    settled(&world, "shared").await?;

    world.home.remove_module("first")?;
    state(&relay, "second", "running").await?;
    world.publish(numbers(21..=40)).await?;
    shows(&world.centrifugo, CHANNEL, 1..=40).await?;
    let makers = marked(&world.centrifugo, CHANNEL).await?;
    ensure!(
        makers
            .iter()
            .all(|(number, mark)| mark == if *number <= 20 { "first" } else { "second" }),
        "{makers:?}"
    );

    // A module that runs keeps its consumer when it is pointed at another one's.
    let own = "stream = \"UNRULY\"\nsettings.mark = \"third\"\n";
    world.home.add_module("third", &wasm, own)?;
    state(&relay, "third", "running").await?;
    world.home.configure_module("third", &toml("third"))?;
    counts(&relay, "third", "refused_swaps", 1).await?;
    world.publish(numbers(41..=41)).await?;
    counts(&relay, "third", "published", 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_is_exchanged_by_its_data_link() -> Result<()> {
    let world = world().await?;
    let modules = world.home.modules();
    // As the kubelet does it: a directory a version, a link `..data` to it, and a link a file through that.
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
        // What it had goes on meanwhile; waiting for that is what makes the copy slow.
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
    // A writer that rests for longer than this is one that has finished, as far as anyone can tell.
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
        // A component that has nothing.
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
        let lines = relay.log();
        let lines = lines
            .iter()
            .filter(|line| line.contains("refused the module's new files"));
        ensure!(
            lines.clone().count() as u64 == refused,
            "a line each: {:#?}",
            lines.collect::<Vec<_>>()
        );
        world.publish(numbers(refused..=refused)).await?;
        shows(&world.centrifugo, CHANNEL, 1..=refused).await?;

        world.home.add_module("unruly", &good, &mark("good"))?;
        let clear = |status: &Value| module(status, "unruly")["last_refusal"].is_null();
        relay.status_when(SOON, "the refusal to be taken back", clear).await?;
    }
    let makers = marked(&world.centrifugo, CHANNEL).await?;
    ensure!(makers.iter().all(|(_, mark)| mark == "good"), "{makers:?}");
    ensure!(
        !relay.logged("the epoch is over"),
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
    ensure!(lonely["reason"] == "waiting for lonely.toml", "{lonely}");
    let hollow = state(&relay, "hollow", "waiting").await?;
    ensure!(hollow["reason"] == "waiting for hollow.wasm", "{hollow}");
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
