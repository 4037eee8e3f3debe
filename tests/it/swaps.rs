//! A bad version does no harm: it is refused before it takes over, or rolled back soon after. However often modules are
//! swapped, under load, nothing is lost and every channel keeps its order.

mod absence;
mod trust;
mod watch;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slipring_support::relay::Relay;
use slipring_support::{eventually, guests};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::commands::{exits, stderr, stdout};
use super::world::{SOON, World, module, publish, unruly_toml};

const CHANNELS: u64 = 20;

/// A constant load of messages, numbered by their sequence. Each channel gets every twentieth.
struct Load {
    sent: Arc<AtomicU64>,
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Load {
    /// Sends about two thousand a second, so that something is always in flight.
    fn start<C>(world: &World<C>) -> Self {
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
        let (jetstream, counter, stopped) = (world.jetstream.clone(), Arc::clone(&sent), stop.clone());
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            while !stopped.is_cancelled() {
                ticks.tick().await;
                let first = counter.load(Ordering::SeqCst) + 1;
                let numbers = first..first + CHANNELS;
                publish(&jetstream, numbers.map(|number| ("unruly.publish", wish(number)))).await?;
                counter.fetch_add(CHANNELS, Ordering::SeqCst);
            }
            Ok(())
        });
        Self { sent, stop, task }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    /// Waits until this many more were sent.
    async fn more(&self, messages: u64) {
        let enough = self.sent() + messages;
        while self.sent() < enough {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns how many there were.
    async fn end(self) -> Result<u64> {
        self.stop.cancel();
        self.task.await??;
        Ok(self.sent.load(Ordering::SeqCst))
    }
}

fn wish(number: u64) -> String {
    json!([{ "channels": [channel(number)], "data": number }]).to_string()
}

fn channel(number: u64) -> String {
    format!("unruly:{}", number % CHANNELS)
}

/// Starts a relay under load whose module has already published something.
async fn at_work(toml: &str) -> Result<(World, Relay, Load)> {
    at_work_with("", toml).await
}

/// Does the same with more lines for the relay's own configuration.
async fn at_work_with(config: &str, toml: &str) -> Result<(World, Relay, Load)> {
    let world = World::start().await?;
    world.home.configure_more(config)?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly(toml)?;
    let relay = world.run().await?;
    let load = Load::start(&world);
    load.more(500).await;
    relay
        .status_when(SOON, "300 publications", |status| {
            module(status, "unruly")["published"].as_u64() >= Some(300)
        })
        .await?;
    Ok((world, relay, load))
}

fn mark(mark: &str) -> String {
    format!("[settings]\nmark = {mark:?}")
}

/// Changes the module's settings.
fn configure<C>(world: &World<C>, toml: &str) -> Result<()> {
    world.home.configure_module("unruly", &unruly_toml(toml))
}

/// Returns what was published, by number, with the mark of the version that published it.
async fn shown(world: &World) -> Result<BTreeMap<u64, String>> {
    let mut marks = BTreeMap::new();
    for number in 0..CHANNELS {
        let mut last = None;
        for publication in world.centrifugo.history(&channel(number)).await? {
            let number: u64 = publication.json()?;
            ensure!(last < Some(number), "{number} came after {last:?}");
            last = Some(number);
            let mark = publication.tags.get("mark").cloned().unwrap_or_default();
            ensure!(marks.insert(number, mark).is_none(), "{number} came twice");
        }
    }
    Ok(marks)
}

/// Ends the load. Everything was published in order, except for `dead`, which are exactly the dead letters. Each mark
/// made one unbroken run, and the marks came in this order.
async fn all_shown(world: &World, load: Load, dead: impl IntoIterator<Item = u64>, marks: &[&str]) -> Result<()> {
    let sent = finish(world, load).await?;
    let dead: Vec<u64> = dead.into_iter().collect();
    let letters = dead_letters(world)?;
    ensure!(letters == dead, "{letters:?} are in the dead letters, and not {dead:?}");
    all_of_them_shown(world, sent, &letters, marks).await
}

/// Checks the same for `sent` messages.
async fn all_of_them_shown(world: &World, sent: u64, without: &[u64], marks: &[&str]) -> Result<()> {
    let shown = shown(world).await?;
    let missing: Vec<u64> = (1..=sent)
        .filter(|number| !shown.contains_key(number) && !without.contains(number))
        .collect();
    ensure!(missing.is_empty(), "these are missing: {missing:?}");
    ensure!(
        shown.len() + without.len() == sent as usize,
        "{} were shown",
        shown.len()
    );
    let mut runs: Vec<&str> = shown.values().map(String::as_str).collect();
    runs.dedup();
    ensure!(runs == marks, "{runs:?}");
    Ok(())
}

/// Ends the load, and waits until the relay has nothing left to do. Returns how many messages there were.
async fn finish(world: &World, load: Load) -> Result<u64> {
    let sent = load.end().await?;
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    Ok(sent)
}

async fn unruly_when(relay: &Relay, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
    let status = relay
        .status_when(SOON, what, |status| holds(module(status, "unruly")))
        .await?;
    Ok(module(&status, "unruly").clone())
}

/// Waits until a version has published something. A swap waits for the messages before it, so a version that is replaced at
/// once may get none.
async fn has_published(world: &World, mark: &str) -> Result<()> {
    eventually(SOON, format!("a publication of {mark}"), async || {
        let last = world.centrifugo.history("unruly:0").await?.pop();
        let last = last.context("a publication")?;
        ensure!(last.tags["mark"] == mark, "{last:?}");
        anyhow::Ok(())
    })
    .await
}

fn text<'a>(module: &'a Value, field: &str) -> &'a str {
    module[field].as_str().unwrap_or_default()
}

/// Runs `slipring modules` and checks its exit code and output.
fn modules<C>(world: &World<C>, relay: &Relay, arguments: &[&str], code: i32, words: &str) -> Result<()> {
    let arguments = [&["modules"], arguments, &["--url", relay.url()]].concat();
    let output = world.home.command(arguments).output().context("running slipring")?;
    exits(&output, code)?;
    ensure!(
        (stdout(&output) + &stderr(&output)).contains(words),
        "{words:?} is not in {output:?}"
    );
    Ok(())
}

/// Replays the dead letters. None are left.
fn replay<C>(world: &World<C>) -> Result<()> {
    let replay = ["dead-letters", "replay", "--module", "unruly"];
    exits(&world.home.command(replay).output()?, 0)?;
    ensure!(dead_letters(world)?.is_empty(), "they are replayed");
    Ok(())
}

/// Returns the numbers of the messages in the dead letters, sorted, because their order in the stream may differ.
fn dead_letters<C>(world: &World<C>) -> Result<Vec<u64>> {
    let output = world.home.command(["dead-letters", "list", "--json"]).output()?;
    exits(&output, 0)?;
    let sequence = |line: &str| -> Result<u64> {
        let letter: Value = serde_json::from_str(line)?;
        letter["sequence"]
            .as_u64()
            .with_context(|| format!("a sequence in {line}"))
    };
    let mut sequences: Vec<u64> = stdout(&output).lines().map(sequence).collect::<Result<_>>()?;
    sequences.sort_unstable();
    Ok(sequences)
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_swapped_between_two_messages() -> Result<()> {
    let (world, relay, load) = at_work(&mark("1")).await?;
    configure(&world, &mark("2"))?;
    unruly_when(&relay, "a swap", |unruly| unruly["swaps"] == 1).await?;
    load.more(500).await;
    all_shown(&world, load, [], &["1", "2"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_swaps_in_a_second_lose_nothing() -> Result<()> {
    let (world, _relay, load) = at_work(&mark("0")).await?;
    for number in 1..=10 {
        configure(&world, &mark(&number.to_string()))?;
        load.more(200).await;
    }
    // The last version wins, whichever of the others were seen.
    has_published(&world, "10").await?;
    let sent = finish(&world, load).await?;
    let shown = shown(&world).await?;
    ensure!(shown.len() as u64 == sent, "{} of {sent}", shown.len());
    let marks: Vec<u64> = shown.values().map(|mark| mark.parse()).collect::<Result<_, _>>()?;
    ensure!(marks.is_sorted(), "no version comes back: {marks:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_worse_on_the_last_messages_is_refused() -> Result<()> {
    let (world, relay, load) = at_work(&mark("good")).await?;
    let before = unruly_when(&relay, "a version", |unruly| unruly["toml_sha256"].is_string()).await?;
    for (times, bad, how) in [
        (1, "refuse_from = 1", "was rejected because: this version is bad"),
        (2, "trap_from = 1", "was rejected because: panicked"),
    ] {
        configure(&world, &format!("{}\n{bad}", mark("bad")))?;
        let unruly = unruly_when(&relay, "the refusal", |unruly| unruly["refused_swaps"] == times).await?;
        let refusal = text(&unruly, "last_refusal");
        ensure!(refusal.contains(how), "{refusal}");
        ensure!(
            refusal
                .contains("the new version rejects 256 of the last 256 messages, and the running version does better")
                && refusal.contains("To load it anyway, set `probe = 0` in unruly.toml"),
            "{refusal}"
        );
        ensure!(
            unruly["toml_sha256"] == before["toml_sha256"] && unruly["rejected"] == 0,
            "{unruly}"
        );
    }
    let unruly = module(&relay.status().await?, "unruly").clone();
    ensure!(unruly["refused_swaps"] == 2 && unruly["swaps"] == 0, "{unruly}");
    modules(&world, &relay, &[], 0, "unruly: its last new version was refused: ")?;

    load.more(200).await;
    all_shown(&world, load, [], &["good"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_can_go_back_and_forth() -> Result<()> {
    let (world, mut relay, load) = at_work(&mark("1")).await?;
    modules(
        &world,
        &relay,
        &["rollback", "unruly"],
        1,
        "`unruly` has no earlier version to roll back to",
    )?;
    modules(
        &world,
        &relay,
        &["rollback", "orders"],
        1,
        "There is no module `orders`. The modules are: unruly",
    )?;

    configure(&world, &mark("2"))?;
    unruly_when(&relay, "a swap", |unruly| unruly["swaps"] == 1).await?;
    has_published(&world, "2").await?;
    // The previous version is still known after a restart.
    relay.stop(SOON).await?;
    let relay = world.run().await?;
    load.more(100).await;
    modules(&world, &relay, &["rollback", "unruly"], 0, "")?;
    unruly_when(&relay, "the old version", |unruly| unruly["swaps"] == 1).await?;
    has_published(&world, "1").await?;
    modules(&world, &relay, &["retry", "unruly"], 0, "")?;
    let unruly = unruly_when(&relay, "the new version", |unruly| unruly["swaps"] == 2).await?;
    ensure!(unruly["rolled_back"].is_null() && unruly["rollbacks"] == 1, "{unruly}");
    modules(
        &world,
        &relay,
        &["retry", "unruly"],
        1,
        "the version of `unruly` in the modules directory is already running",
    )?;
    load.more(100).await;
    all_shown(&world, load, [], &["1", "2", "1", "2"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_that_another_module_stands_in_is_taken_when_it_is_free() -> Result<()> {
    let (world, relay, load) = at_work(&mark("1")).await?;
    finish(&world, load).await?;
    let old = module(&relay.status().await?, "unruly")["toml_sha256"].clone();
    let running = |toml: &str| {
        let hash = sha256(unruly_toml(toml).as_bytes());
        move |unruly: &Value| unruly["toml_sha256"] == hash.as_str() && unruly["state"] == "running"
    };
    let elsewhere = "consumer = \"elsewhere\"";
    configure(&world, elsewhere)?;
    unruly_when(&relay, "the other consumer", running(elsewhere)).await?;
    let taker = unruly_toml("consumer = \"slipring-unruly\"");
    world.home.add_module("taker", &guests::component("unruly")?, &taker)?;
    relay
        .status_when(SOON, "the module that takes the consumer", |status| {
            module(status, "taker")["state"] == "running"
        })
        .await?;
    let told = "accepted, but the change to `unruly` is waiting: its consumer `slipring-unruly` of the stream `UNRULY` \
                is already read by the module `taker`";
    modules(&world, &relay, &["rollback", "unruly"], 1, told)?;
    unruly_when(&relay, "what ran to go on", running(elsewhere)).await?;
    world.home.remove_module("taker")?;
    unruly_when(&relay, "the old version", |unruly| unruly["toml_sha256"] == old).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_a_way_back_the_old_version_stays() -> Result<()> {
    let (world, relay, load) = at_work(&mark("1")).await?;
    // A file is in the way of what has to be written, because a disk cannot be filled on demand.
    let toml = unruly_toml(&mark("2"));
    let hash = sha256(toml.as_bytes());
    let kept = world.home.modules().join(".versions/unruly");
    let in_the_way = kept.join(format!("{hash}.toml"));
    fs::create_dir(&in_the_way)?;
    world.home.configure_module("unruly", &toml)?;
    let full = |unruly: &Value| text(unruly, "last_refusal").contains("Is a directory");
    let unruly = unruly_when(&relay, "the refusal", full).await?;
    let refusal = text(&unruly, "last_refusal");
    ensure!(
        refusal.starts_with("cannot save the new version in ") && refusal.contains("free some space there"),
        "{refusal}"
    );
    load.more(100).await;
    fs::remove_dir(&in_the_way)?;
    modules(&world, &relay, &["retry", "unruly"], 0, "")?;
    load.more(100).await;
    all_shown(&world, load, [], &["1", "2"]).await
}

/// Returns hexadecimal digits.
fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
