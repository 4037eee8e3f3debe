//! The window bounds what is published again after a crash: in messages, in bytes and in age. One channel is stuck for
//! long and holds the ack floor while the others continue.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use slipring_support::eventually;
use slipring_support::fake_centrifugo::{Batch, FakeCentrifugo, OnCommand, Plan};

use super::world::{SOON, World};

const STREAM: &str = "UNRULY";
const STUCK: &str = "unruly:stuck";
const FREE: &str = "unruly:free";

/// Returns a message whose publication has this size or a little more.
fn message(channel: &str, number: usize, size: usize) -> (&'static str, String) {
    let wishes = json!([{ "channels": [channel], "data": { "number": number, "filler": "x".repeat(size) } }]);
    ("unruly.publish", wishes.to_string())
}

/// Fails everything on the stuck channel, and nothing else.
fn stuck(batch: &Batch) -> Plan {
    let internal_error = |stuck| {
        if stuck {
            OnCommand::Fail(100)
        } else {
            OnCommand::Execute
        }
    };
    let commands = batch.commands.iter();
    Plan {
        commands: commands
            .map(|command| internal_error(command.channels.iter().any(|channel| channel == STUCK)))
            .collect(),
        ..Plan::execute()
    }
}

struct Replay {
    /// Publications on other channels that were shown before the crash.
    before: usize,
    /// Publications that were sent again after it.
    repeated: usize,
}

/// Sends one message on the stuck channel, then `batches` on the others with a pause between them. When nothing moves
/// any more the relay is killed, the channel recovers, and another relay does the rest.
async fn crash(toml: &str, size: usize, batches: usize, each: usize, pause: Duration) -> Result<Replay> {
    let world = World::start_fake(FakeCentrifugo::start_with(stuck).await?).await?;
    world.stream(STREAM, &["unruly.>"]).await?;
    world.add_unruly(toml)?;
    let mut relay = world.run().await?;
    world.publish([message(STUCK, 0, size)]).await?;
    for batch in 0..batches {
        let numbers = batch * each + 1..=(batch + 1) * each;
        world.publish(numbers.map(|number| message(FREE, number, size))).await?;
        tokio::time::sleep(pause).await;
    }
    let shown = || world.centrifugo.shown(FREE).len();
    // Long enough for a tick and a pull.
    let mut last = (shown(), std::time::Instant::now());
    eventually(SOON, "nothing to move any more", async || {
        if shown() != last.0 {
            last = (shown(), std::time::Instant::now());
        }
        ensure!(last.1.elapsed() > Duration::from_secs(3), "{} were shown", last.0);
        Ok(())
    })
    .await?;
    let before = shown();
    ensure!(before > 0, "the others go on");
    let info = world.consumer(STREAM, "unruly").await?;
    ensure!(
        info.ack_floor.stream_sequence == 0,
        "the stuck one holds the floor: {info:?}"
    );
    relay.kill();

    let executed = world.centrifugo.executed().len();
    world.centrifugo.behave(|_| Plan::execute());
    let _relay = world.run().await?;
    world.all_acked(SOON, STREAM, "unruly").await?;
    ensure!(shown() == batches * each, "{} were shown", shown());
    ensure!(world.centrifugo.shown(STUCK).len() == 1, "and the stuck one");
    let after = world.centrifugo.executed();
    let repeated = after[executed..].iter().filter(|one| !one.shown).count();
    Ok(Replay { before, repeated })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replay_is_bounded_in_messages() -> Result<()> {
    let Replay { before, repeated } = crash("window = 50", 10, 10, 100, Duration::ZERO).await?;
    // The stuck message is in the window too.
    ensure!(before == 49 && repeated == 49, "{before} before, {repeated} again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replay_is_bounded_in_bytes() -> Result<()> {
    const WINDOW: usize = 64 * 1024;
    let Replay { before, repeated } = crash("window_bytes = \"64KiB\"", 1024, 10, 100, Duration::ZERO).await?;
    ensure!(
        before * 1024 <= WINDOW && repeated == before,
        "{before} before, {repeated} again"
    );
    // Each publication takes as much again, and both need a little more.
    ensure!(before * 1024 >= WINDOW / 4, "{before} are far less than fits");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replay_is_bounded_in_age() -> Result<()> {
    // 100 messages every 50 ms for 5 s, and a window of one second.
    let Replay { before, repeated } = crash("window_age = \"1s\"", 10, 100, 100, Duration::from_millis(50)).await?;
    ensure!(
        before <= 5_000 && repeated == before,
        "{before} before, {repeated} again"
    );
    Ok(())
}
