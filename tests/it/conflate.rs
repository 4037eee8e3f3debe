//! `conflate = true`: of the publications that wait for a channel only the newest is sent, and a channel never goes
//! back to an older state.

use anyhow::{Result, ensure};
use slipring_support::eventually;

use super::numbers::{CHANNEL, counts, marked, number_on, numbers, settled};
use super::world::{SOON, World, module};

const CHANNELS: u64 = 20;

fn channel(number: u64) -> String {
    format!("unruly:{}", number % CHANNELS)
}

/// Waits until a channel shows the newest state, and checks that its states never go back. Returns how many there are.
async fn shows_the_newest(world: &World, channel: &str, newest: u64) -> Result<usize> {
    let what = format!("{channel} to show {newest}");
    let shown = eventually(SOON, what, async || {
        let shown = marked(&world.centrifugo, channel).await?;
        let shown: Vec<u64> = shown.into_iter().map(|(number, _)| number).collect();
        ensure!(shown.last() == Some(&newest), "it shows {shown:?}");
        Ok(shown)
    })
    .await?;
    ensure!(
        shown.is_sorted_by(|left, right| left < right),
        "{channel} shows {shown:?}"
    );
    Ok(shown.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_subscribers_get_the_newest_state_and_nothing_before_it() -> Result<()> {
    const MESSAGES: u64 = 3_000;
    let mut world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("conflate = true")?;
    let relay = world.run().await?;
    world.publish(numbers(1..=1)).await?;
    counts(&relay, "unruly", "published", 1).await?;
    world.centrifugo.pause()?;
    world.publish(numbers(2..=3)).await?;
    counts(&relay, "unruly", "transformed", 3).await?;
    world
        .publish((4..=MESSAGES).map(|number| number_on(&channel(number), number)))
        .await?;
    counts(&relay, "unruly", "transformed", MESSAGES).await?;
    world.centrifugo.resume()?;
    settled(&world, "UNRULY", "slipring-unruly").await?;

    let mut shown = shows_the_newest(&world, CHANNEL, 3).await?;
    for newest in MESSAGES - CHANNELS + 1..=MESSAGES {
        shown += shows_the_newest(&world, &channel(newest), newest).await?;
    }
    ensure!(shown < 200, "{shown} of {MESSAGES} publications were shown");
    let status = relay.status().await?;
    let unruly = module(&status, "unruly");
    ensure!(
        unruly["published"] == shown && unruly["conflated"] == MESSAGES - shown as u64,
        "{shown} were shown: {unruly}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_that_are_killed_never_go_back_to_an_older_state() -> Result<()> {
    const MESSAGES: u64 = 40_000;
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world
        .publish((1..=MESSAGES).map(|number| number_on(&channel(number), number)))
        .await?;
    world.add_unruly("conflate = true\nwindow = 2000")?;
    for floor in [1, MESSAGES / 4, MESSAGES / 2] {
        let mut relay = world.run().await?;
        eventually(SOON, format!("{floor} to be acknowledged"), async || {
            let info = world.consumer("UNRULY", "unruly").await?;
            ensure!(info.ack_floor.stream_sequence >= floor, "{info:?}");
            Ok(())
        })
        .await?;
        relay.kill();
    }
    let _relay = world.run().await?;
    settled(&world, "UNRULY", "slipring-unruly").await?;
    for newest in MESSAGES - CHANNELS + 1..=MESSAGES {
        shows_the_newest(&world, &channel(newest), newest).await?;
    }
    Ok(())
}
