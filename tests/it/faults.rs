//! Order and completeness while Centrifugo fails: the real relay and a real nats-server, with a Centrifugo that errs,
//! falls silent, is late, refuses or dies as each test says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::consumer::pull;
use futures_util::{StreamExt, future};
use serde::Deserialize;
use serde_json::{Value, json};
use slipring_support::fake_centrifugo::{Answer, Batch, Command, Executed, FakeCentrifugo, Faults, Plan};
use slipring_support::{Api, eventually, guests};

use super::world::{SOON, World, module, over_both};

const STREAM: &str = "NOTIFICATIONS";
const MODULE: &str = "notifications";

over_both!(
    whatever_fails_all_is_shown_once_and_in_order,
    without_keys_first_appearances_are_in_order,
    a_killed_relay_repeats_only_what_was_not_acked_and_keys_suppress_it,
    when_an_endpoint_dies_the_other_one_takes_over_at_once,
    a_publication_that_makes_a_batch_unreadable_is_found_and_dead_lettered,
    batches_that_are_too_large_become_smaller_and_nothing_is_refused,
    while_centrifugo_lets_nobody_in_the_relay_waits_and_says_so,
);

/// The message with this number goes to these users, with the number as its data.
type Events = BTreeMap<u64, BTreeSet<u32>>;

fn channel(user: u32) -> String {
    format!("notifications:user-{user}")
}

/// Some users get many events, most get few. One event in ten is a broadcast.
fn events(seed: u64, count: u64) -> Events {
    let mut random = fastrand::Rng::with_seed(seed);
    let user = |random: &mut fastrand::Rng| match random.u32(..10) {
        0 => random.u32(1..=3),
        _ => random.u32(1_000..1_500),
    };
    let event = |number| {
        let receivers = if random.u32(..10) == 0 { 3 } else { 1 };
        (number, (0..receivers).map(|_| user(&mut random)).collect())
    };
    (1..=count).map(event).collect()
}

/// Returns the numbers that each channel should show, in order.
fn expected(events: &Events) -> BTreeMap<String, Vec<u64>> {
    let mut channels: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (number, users) in events {
        for user in users {
            channels.entry(channel(*user)).or_default().push(*number);
        }
    }
    channels
}

/// Returns the numbers that each channel has shown, in order.
fn shown<'a>(executed: impl IntoIterator<Item = &'a Executed>) -> Result<BTreeMap<String, Vec<u64>>> {
    let mut channels: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for publication in executed.into_iter().filter(|publication| publication.shown) {
        channels
            .entry(publication.channel.clone())
            .or_default()
            .push(number(&publication.command)?);
    }
    Ok(channels)
}

fn number(command: &Command) -> Result<u64> {
    #[derive(Deserialize)]
    struct Notification {
        text: String,
    }
    let data = command.data.as_ref().context("JSON")?;
    let notification: Notification = serde_json::from_str(data.get())?;
    notification
        .text
        .parse()
        .with_context(|| format!("a number instead of {}", notification.text))
}

/// Keeps the first appearance of each number.
fn first_appearances(mut channels: BTreeMap<String, Vec<u64>>) -> BTreeMap<String, Vec<u64>> {
    for numbers in channels.values_mut() {
        let mut seen = BTreeSet::new();
        numbers.retain(|number| seen.insert(*number));
    }
    channels
}

/// Names the first channel that differs, which is easier to read than two maps of hundreds.
fn compare(shown: &BTreeMap<String, Vec<u64>>, expected: &BTreeMap<String, Vec<u64>>) -> Result<()> {
    for (channel, numbers) in expected {
        let shown = shown.get(channel).map_or(&[][..], Vec::as_slice);
        ensure!(shown == numbers, "{channel} shows {shown:?} instead of {numbers:?}");
    }
    let strangers: Vec<&String> = shown
        .keys()
        .filter(|channel| !expected.contains_key(*channel))
        .collect();
    ensure!(strangers.is_empty(), "nothing was meant for {strangers:?}");
    Ok(())
}

/// The events are in the stream, and the relay is not started yet.
async fn world(api: Api, fake: FakeCentrifugo, events: &Events) -> Result<World<FakeCentrifugo>> {
    let world = World::start_fake_over(api, fake).await?;
    world.stream(STREAM, &["notifications.>"]).await?;
    publish(&world, events).await?;
    let toml = format!("stream = \"{STREAM}\"\ndeliver = \"all\"\n");
    world.home.add_module(MODULE, &guests::component(MODULE)?, &toml)?;
    Ok(world)
}

async fn publish(world: &World<FakeCentrifugo>, events: &Events) -> Result<()> {
    let message = |(number, users): (&u64, &BTreeSet<u32>)| {
        let event = json!({ "kind": "comment", "actor": 0, "text": number.to_string(), "followers": users });
        ("notifications.comment", event.to_string())
    };
    world.publish(events.iter().map(message)).await
}

async fn dead_letters(world: &World<FakeCentrifugo>) -> Result<Vec<async_nats::HeaderMap>> {
    let stream = world.jetstream.get_stream("SLIPRING_DEAD_LETTERS").await?;
    let count = stream.cached_info().state.messages;
    let consumer = stream.create_consumer(pull::Config::default()).await?;
    let letters = consumer
        .fetch()
        .max_messages(usize::try_from(count)?)
        .messages()
        .await?;
    let headers = letters.map(|letter| letter.map(|letter| letter.message.headers.unwrap_or_default()));
    let headers: Vec<_> = headers.collect().await;
    headers
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(anyhow::Error::from_boxed)
}

/// Runs a relay with a Centrifugo that fails in all ways at random, until everything is acked.
async fn run_with_faults(api: Api, seed: u64, publish: &str) -> Result<(FakeCentrifugo, Events)> {
    let events = events(seed, 2_000);
    let fake = FakeCentrifugo::start_with(Faults::mixed().seeded(seed)).await?;
    let mut world = world(api, fake, &events).await?;
    world.home.env("SLIPRING_CENTRIFUGO__TIMEOUT", "300ms");
    world.home.configure_more(publish)?;
    let mut relay = world.home.run().await?;
    world.all_acked(SOON * 2, STREAM, MODULE).await?;
    ensure!(relay.stop(SOON).await?.success(), "the relay stops cleanly");
    Ok((world.centrifugo, events))
}

async fn whatever_fails_all_is_shown_once_and_in_order(api: Api) -> Result<()> {
    let run = async |seed| {
        let (fake, events) = run_with_faults(api, seed, "").await?;
        let executed = fake.executed();
        ensure!(
            executed.iter().any(|publication| !publication.shown),
            "no fault made anything come twice"
        );
        compare(&shown(&executed)?, &expected(&events))
    };
    let seeds = [1, 2, fastrand::u64(..)];
    let runs = seeds.map(async |seed| run(seed).await.with_context(|| format!("with the seed {seed}")));
    future::try_join_all(runs).await.map(drop)
}

/// Without keys, repeats are visible, but first appearances stay in order.
async fn without_keys_first_appearances_are_in_order(api: Api) -> Result<()> {
    let seed = fastrand::u64(..);
    let check = async {
        let (fake, events) = run_with_faults(api, seed, "[publish]\nidempotency = false").await?;
        let shown = shown(&fake.executed())?;
        let expected = expected(&events);
        ensure!(shown != expected, "no fault made anything come twice");
        compare(&first_appearances(shown), &expected)
    };
    check.await.with_context(|| format!("with the seed {seed}"))
}

async fn a_killed_relay_repeats_only_what_was_not_acked_and_keys_suppress_it(api: Api) -> Result<()> {
    let events = events(7, 1_000);
    // Requests may overtake each other, so the first message need not be in the first request.
    let answered =
        |batch: &Batch| batch.number < 3 || batch.commands.iter().any(|command| number(command).ok() == Some(1));
    let fake = FakeCentrifugo::start_with(move |batch| match answered(batch) {
        true => Plan::execute(),
        false => Plan::answer(Answer::Silence { executed: true }),
    });
    let world = world(api, fake.await?, &events).await?;
    let mut relay = world.run().await?;
    let in_the_middle = async || -> Result<()> {
        let unanswered: BTreeSet<usize> = world
            .centrifugo
            .batches()
            .iter()
            .filter(|batch| !answered(batch))
            .map(|batch| batch.number)
            .collect();
        let unanswered = world
            .centrifugo
            .executed()
            .iter()
            .any(|publication| unanswered.contains(&publication.batch));
        ensure!(unanswered, "no publication was executed and not answered");
        let floor = world.consumer(STREAM, MODULE).await?.ack_floor.stream_sequence;
        ensure!(floor > 0, "nothing is acked");
        Ok(())
    };
    eventually(SOON, "the middle of the run", in_the_middle).await?;
    relay.kill();
    let floor = world.consumer(STREAM, MODULE).await?.ack_floor.stream_sequence;
    world.centrifugo.behave(|_| Plan::execute());

    let _relay = world.run().await?;
    world.all_acked(SOON, STREAM, MODULE).await?;
    let executed = world.centrifugo.executed();
    compare(&shown(&executed)?, &expected(&events))?;
    let repeated: Vec<u64> = executed
        .iter()
        .filter(|publication| !publication.shown)
        .map(|publication| number(&publication.command))
        .collect::<Result<_>>()?;
    ensure!(!repeated.is_empty(), "what was executed and not acked comes again");
    ensure!(
        repeated.iter().all(|number| *number > floor),
        "{repeated:?} came again, and {floor} was the ack floor"
    );
    Ok(())
}

async fn when_an_endpoint_dies_the_other_one_takes_over_at_once(api: Api) -> Result<()> {
    let before = events(11, 500);
    let after: Events = events(12, 500)
        .into_iter()
        .map(|(number, users)| (500 + number, users))
        .collect();
    let (first, second) = (FakeCentrifugo::start().await?, FakeCentrifugo::start().await?);
    let urls = format!("{},{}", first.endpoint(api), second.endpoint(api));
    let mut world = world(api, first, &before).await?;
    world.home.env("SLIPRING_CENTRIFUGO__ENDPOINTS", urls);
    let relay = world.run().await?;
    world.all_acked(SOON, STREAM, MODULE).await?;
    ensure!(
        second.executed().is_empty(),
        "only the first endpoint is asked while it works"
    );

    let mut executed = world.centrifugo.executed();
    world.centrifugo = second;
    let died = Instant::now();
    publish(&world, &after).await?;
    world.all_acked(SOON, STREAM, MODULE).await?;
    // Far less than the timeout of a request, which is 8 s.
    ensure!(died.elapsed() < Duration::from_secs(5), "it took {:?}", died.elapsed());
    executed.extend(world.centrifugo.executed());
    compare(
        &shown(&executed)?,
        &expected(&before.into_iter().chain(after).collect()),
    )?;
    let status = relay.status().await?;
    ensure!(
        status["ready"] == true && status["centrifugo"]["trouble"].is_null(),
        "{status}"
    );
    Ok(())
}

async fn a_publication_that_makes_a_batch_unreadable_is_found_and_dead_lettered(api: Api) -> Result<()> {
    const POISON: u32 = 666;
    let mut events = events(21, 1_000);
    events.insert(500, BTreeSet::from([POISON]));
    let poisoned = |batch: &Batch| {
        batch
            .commands
            .iter()
            .any(|command| command.channels.contains(&channel(POISON)))
    };
    let fake = FakeCentrifugo::start_with(move |batch| match poisoned(batch) {
        true => Plan::answer(Answer::Status {
            status: 400,
            executed: false,
        }),
        false => Plan::execute(),
    });
    let world = world(api, fake.await?, &events).await?;
    let relay = world.run().await?;
    world.all_acked(SOON, STREAM, MODULE).await?;

    events.remove(&500);
    compare(&shown(&world.centrifugo.executed())?, &expected(&events))?;
    let letters = dead_letters(&world).await?;
    let [letter] = letters.as_slice() else {
        anyhow::bail!("one dead letter, not {letters:?}")
    };
    let header = |name: &str| letter.get(name).map(ToString::to_string).unwrap_or_default();
    let facts = ["Code", "Stage", "Sequence", "Channel"].map(|fact| header(&format!("Slipring-{fact}")));
    assert_eq!(facts, ["400", "publish", "500", &channel(POISON)]);
    let status = relay.status().await?;
    ensure!(
        status["ready"] == true && module(&status, MODULE)["rejected"] == 1,
        "{status}"
    );
    Ok(())
}

async fn batches_that_are_too_large_become_smaller_and_nothing_is_refused(api: Api) -> Result<()> {
    const MOST: usize = 10;
    let events = events(31, 1_000);
    let fake = FakeCentrifugo::start_with(|batch| match batch.commands.len() > MOST {
        true => Plan::answer(Answer::Status {
            status: 413,
            executed: false,
        }),
        false => Plan::execute(),
    });
    let world = world(api, fake.await?, &events).await?;
    let relay = world.run().await?;
    world.all_acked(SOON, STREAM, MODULE).await?;
    let too_large = world
        .centrifugo
        .batches()
        .iter()
        .filter(|batch| batch.commands.len() > MOST)
        .count();
    ensure!(too_large > 0, "no batch was too large");
    compare(&shown(&world.centrifugo.executed())?, &expected(&events))?;
    let status = relay.status().await?;
    ensure!(module(&status, MODULE)["rejected"] == 0, "{status}");
    Ok(())
}

async fn while_centrifugo_lets_nobody_in_the_relay_waits_and_says_so(api: Api) -> Result<()> {
    let events = events(41, 1_000);
    let denied = |_: &Batch| {
        Plan::answer(Answer::Status {
            status: 401,
            executed: false,
        })
    };
    let world = world(api, FakeCentrifugo::start_with(denied).await?, &events).await?;
    let mut relay = world.home.run().await?;
    relay.logs(SOON, "publishing is paused").await?;
    let troubled = |status: &Value| {
        status["centrifugo"]["trouble"]
            .as_str()
            .is_some_and(|text| text.contains("api_key_file"))
    };
    let status = relay.status_when(SOON, "its trouble in the status", troubled).await?;
    ensure!(status["ready"] == false, "{status}");
    ensure!(relay.get("/readyz").await.is_err(), "it is not ready");

    world.centrifugo.behave(|_| Plan::execute());
    relay.ready(SOON).await?;
    world.all_acked(SOON, STREAM, MODULE).await?;
    compare(&shown(&world.centrifugo.executed())?, &expected(&events))?;
    relay.has_logged(SOON, "publishing resumed").await?;
    Ok(())
}

/// A message that the module accepts proves that it works, even while nothing can be published.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_does_not_make_rejections_look_like_a_broken_module() -> Result<()> {
    const EACH: u64 = 300;
    let denied = |_: &Batch| {
        Plan::answer(Answer::Status {
            status: 401,
            executed: false,
        })
    };
    let world = World::start_fake(FakeCentrifugo::start_with(denied).await?).await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    let messages =
        (0..EACH).flat_map(|number| ["unruly.ok", "unruly.reject"].map(|subject| (subject, number.to_string())));
    world.publish(messages).await?;
    world.add_unruly("")?;
    let relay = world.home.run().await?;
    let rejected = |status: &Value| module(status, "unruly")["rejected"] == EACH;
    let status = relay.status_when(SOON, "all rejections", rejected).await?;
    ensure!(module(&status, "unruly")["state"] == "running", "{status}");

    world.centrifugo.behave(|_| Plan::execute());
    world.all_acked(SOON, "UNRULY", "unruly").await?;
    ensure!(
        world.centrifugo.shown("unruly:ok").len() as u64 == EACH,
        "what was not rejected is shown"
    );
    ensure!(
        dead_letters(&world).await?.len() as u64 == EACH,
        "what was rejected is kept"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_get_a_new_stream_when_theirs_was_removed() -> Result<()> {
    let world = World::start_fake(FakeCentrifugo::start().await?).await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let _relay = world.run().await?;
    for number in 1..=2 {
        world.publish([("unruly.reject", number.to_string())]).await?;
        let stored = async || -> Result<()> {
            let letters = dead_letters(&world).await?;
            ensure!(letters.len() == 1, "{letters:?}");
            Ok(())
        };
        eventually(SOON, "the dead letter", stored).await?;
        world.all_acked(SOON, "UNRULY", "unruly").await?;
        world.jetstream.delete_stream("SLIPRING_DEAD_LETTERS").await?;
    }
    Ok(())
}
