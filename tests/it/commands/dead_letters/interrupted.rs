//! A replay that is killed, or stopped, and started again.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use slipring_support::eventually;
use slipring_support::fake_centrifugo::{Answer, FakeCentrifugo, OnCommand, Plan};
use slipring_support::process::Process;

use super::super::super::world::{SOON, World};
use super::super::{exits, stderr};
use super::{listed, run, stored};

const LETTERS: u64 = 1_500;

/// How long Centrifugo takes for a request, so that a replay can be interrupted in the middle.
const SLOW: Duration = Duration::from_millis(10);

/// Creates letters whose messages go to ten channels, every tenth to three of them at once. Centrifugo refused them all
/// and accepts them from now on.
async fn letters() -> Result<World<FakeCentrifugo>> {
    let fake = FakeCentrifugo::start_with(|batch| Plan::each(batch, OnCommand::Fail(102))).await?;
    let world = World::start_fake(fake).await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("max_consecutive_rejects = 1000000")?;
    let mut relay = world.run().await?;
    let messages = (1..=LETTERS).map(|number| {
        let wishes = json!([{ "channels": channels(number), "data": number }]);
        ("unruly.publish", wishes.to_string())
    });
    world.publish(messages).await?;
    stored(&world, LETTERS).await?;
    relay.stop(SOON).await?;
    world.centrifugo.behave(|_| Plan::execute().after(SLOW));
    Ok(world)
}

fn channels(number: u64) -> Vec<String> {
    let count = if number.is_multiple_of(10) { 3 } else { 1 };
    (0..count)
        .map(|other| format!("unruly:{}", (number * 7 + other) % 10))
        .collect()
}

/// Checks that every number is on its channels, once and in order.
fn all_shown(world: &World<FakeCentrifugo>) -> Result<()> {
    let mut expected: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for number in 1..=LETTERS {
        for channel in channels(number) {
            expected.entry(channel).or_default().push(number);
        }
    }
    for (channel, expected) in expected {
        let shown = world.centrifugo.shown(&channel);
        let number = |data: &str| data.parse::<u64>().ok();
        let shown: Vec<u64> = shown
            .iter()
            .filter_map(|publication| number(publication.command.data.as_ref()?.get()))
            .collect();
        ensure!(shown == expected, "{channel}: {shown:?}");
    }
    Ok(())
}

/// Starts a replay.
fn start(world: &World<FakeCentrifugo>) -> Result<Process> {
    world.home.start(["dead-letters", "replay", "--all"])
}

/// Stops the replay as Ctrl-C does. Returns its exit code and its output.
async fn interrupt(mut replay: Process) -> Result<(Option<i32>, String)> {
    replay.interrupt()?;
    let status = replay.wait(SOON).await?;
    Ok((status.code(), replay.log().join("\n")))
}

async fn executed(world: &World<FakeCentrifugo>, more_than: usize) -> Result<()> {
    eventually(SOON, format!("more than {more_than} publications"), async || {
        let executed = world.centrifugo.executed().len();
        ensure!(executed > more_than, "{executed}");
        Ok(())
    })
    .await
}

/// Each time, Centrifugo executes the request but does not reply, so the replay is killed while it does not know
/// what was shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_was_killed_goes_on_with_what_is_left() -> Result<()> {
    const ANSWERED: usize = 30;
    let world = letters().await?;
    let mut before = LETTERS as usize;
    for _ in 0..3 {
        let mut requests = 0;
        world.centrifugo.behave(move |_| {
            requests += 1;
            match requests {
                1..=ANSWERED => Plan::execute(),
                _ => Plan::answer(Answer::Silence { executed: true }),
            }
        });
        let seen = world.centrifugo.batches().len();
        let mut replay = start(&world)?;
        eventually(SOON, "a replay in the middle", async || {
            let requests = world.centrifugo.batches().len() - seen;
            let left = listed(&world, &[])?.len();
            ensure!(
                requests > ANSWERED && left < before,
                "{requests} requests, {left} of {before} left"
            );
            Ok(())
        })
        .await?;
        replay.kill();
        before = listed(&world, &[])?.len();
        ensure!(before > 0, "it was in the middle");
    }
    world.centrifugo.behave(|_| Plan::execute());
    let output = run(&world, &["replay", "--all"])?;
    exits(&output, 0)?;
    let said = stderr(&output);
    let summary = format!("{before} published, 0 dropped by the module, 0 rejected again, 0 not tried\n");
    ensure!(said.contains(&summary), "{said}");
    let repeated = world
        .centrifugo
        .executed()
        .iter()
        .filter(|publication| !publication.shown)
        .count();
    ensure!(repeated > 0, "what was in doubt was published again");
    all_shown(&world)?;
    stored(&world, 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_finishes_what_is_in_flight_and_says_what_remains() -> Result<()> {
    let world = letters().await?;
    let replay = start(&world)?;
    executed(&world, 100).await?;
    let (code, said) = interrupt(replay).await?;
    ensure!(code == Some(1), "{said}");
    let left = listed(&world, &[])?.len();
    ensure!(
        said.contains(&format!("stopped before the end: {left} dead letters left")),
        "{left}: {said}"
    );
    ensure!(
        said.contains(&format!("{} published, ", LETTERS as usize - left)),
        "{left}: {said}"
    );

    // While Centrifugo is away, nothing is in flight.
    world.centrifugo.behave(|_| {
        Plan::answer(Answer::Status {
            status: 503,
            executed: false,
        })
    });
    let replay = start(&world)?;
    let batches = world.centrifugo.batches().len();
    eventually(SOON, "two attempts", async || {
        let more = world.centrifugo.batches().len() - batches;
        ensure!(more > 1, "{more}");
        Ok(())
    })
    .await?;
    let (code, said) = interrupt(replay).await?;
    ensure!(
        code == Some(1) && said.contains(&format!("0 rejected again, {left} not tried")),
        "{said}"
    );

    world.centrifugo.behave(|_| Plan::execute());
    exits(&run(&world, &["replay", "--all"])?, 0)?;
    let executed = world.centrifugo.executed();
    ensure!(
        executed.iter().all(|publication| publication.shown),
        "in good order nothing is sent twice"
    );
    all_shown(&world)?;
    stored(&world, 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_outlives_a_restart_of_nats() -> Result<()> {
    let mut world = letters().await?;
    let mut replay = start(&world)?;
    executed(&world, 100).await?;
    world.nats.kill();
    world.nats.restart().await?;
    let status = replay.wait(SOON).await?;
    let said = replay.log();
    ensure!(status.code() == Some(0), "{said:#?}");
    let summary = format!("{LETTERS} published, 0 dropped by the module, 0 rejected again, ");
    ensure!(said.iter().any(|line| line.starts_with(&summary)), "{said:#?}");
    all_shown(&world)?;
    world.jetstream = world.nats.jetstream().await?;
    stored(&world, 0).await
}
