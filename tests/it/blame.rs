//! What is at fault when a request fails: a publication, an endpoint, or the key. The endpoints refuse, deny, die or
//! fall silent, and something in between never lets one publication through.

use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future;
use serde_json::Value;
use slipring_support::fake_centrifugo::{Answer, Batch, FakeCentrifugo, Plan};
use slipring_support::relay::Relay;
use slipring_support::{Api, eventually, guests};

use super::numbers::{counts, number_on};
use super::world::{SOON, World, module, over_both};

const CHANNELS: u64 = 10;
const POISON: &str = "unruly:poison";

over_both!(
    the_next_endpoint_is_asked_when_one_lets_nothing_in,
    an_endpoint_that_refuses_whatever_it_gets_costs_no_publication,
    a_publication_that_is_never_answered_holds_up_nobody_else,
    what_fails_for_one_module_disturbs_no_other,
);

fn channel(number: u64) -> String {
    format!("unruly:{}", number % CHANNELS)
}

fn numbers(numbers: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = (&'static str, String)> {
    numbers.map(|number| number_on(&channel(number), number))
}

fn status(status: u16) -> Answer {
    Answer::Status {
        status,
        executed: false,
    }
}

/// Prepares a relay that will read from the stream `UNRULY`.
async fn world(api: Api, fake: FakeCentrifugo) -> Result<World<FakeCentrifugo>> {
    let mut world = World::start_fake_over(api, fake).await?;
    world.home.env("SLIPRING_CENTRIFUGO__TIMEOUT", "500ms");
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    Ok(world)
}

/// Waits until each channel shows its share of the numbers up to this one: all, in order, none twice.
async fn shows(fake: &FakeCentrifugo, patience: Duration, last: u64) -> Result<()> {
    let what = format!("1 to {last} to be shown");
    eventually(patience, what, async || {
        for number in 0..CHANNELS {
            let channel = channel(number);
            let shown = fake.shown(&channel);
            let shown: Vec<&str> = shown
                .iter()
                .filter_map(|publication| Some(publication.command.data.as_ref()?.get()))
                .collect();
            let expected: Vec<String> = (1..=last)
                .filter(|other| other % CHANNELS == number % CHANNELS)
                .map(|number| number.to_string())
                .collect();
            ensure!(shown == expected, "{channel} shows {shown:?}, not {expected:?}");
        }
        Ok(())
    })
    .await
}

async fn no_refusal(relay: &Relay) -> Result<()> {
    let status = relay.status().await?;
    let unruly = module(&status, "unruly");
    ensure!(unruly["rejected"] == 0 && unruly["state"] == "running", "{unruly}");
    Ok(())
}

async fn the_next_endpoint_is_asked_when_one_lets_nothing_in(api: Api) -> Result<()> {
    let check = async |answer: Answer| -> Result<()> {
        let (bad, good) = tokio::try_join!(FakeCentrifugo::start(), FakeCentrifugo::start())?;
        bad.close(Some(answer));
        let endpoints = format!("{},{}", bad.endpoint(api), good.endpoint(api));
        let mut world = world(api, bad).await?;
        world.home.env("SLIPRING_CENTRIFUGO__ENDPOINTS", endpoints);
        world.publish(numbers(1..=300)).await?;
        let relay = world.run().await?;
        // The pause after 404 is at least a second.
        shows(&good, SOON, 300).await?;
        world.all_acked(SOON, "UNRULY", "unruly").await?;
        no_refusal(&relay).await?;
        let asked = world.centrifugo.batch_requests(api);
        // The greeting, the requests that were in flight together, and what followed their refusal.
        ensure!(asked <= 20, "the bad endpoint was asked {asked} times");
        let status = relay.status().await?;
        ensure!(
            status["ready"] == true && status["centrifugo"]["trouble"].is_null(),
            "{status}"
        );
        Ok(())
    };
    let silence = Answer::Silence { executed: false };
    let answers = [400, 401, 403, 404, 405, 413, 500, 503].map(status);
    let checks = answers.into_iter().chain([silence]).map(check);
    future::try_join_all(checks).await.map(drop)
}

/// This happens when TLS was switched on at Centrifugo and the relay's endpoint still begins with `http`.
async fn an_endpoint_that_refuses_whatever_it_gets_costs_no_publication(api: Api) -> Result<()> {
    for refusal in [400, 413] {
        let world = world(api, FakeCentrifugo::start().await?).await?;
        let relay = world.run().await?;
        world.publish(numbers(1..=10)).await?;
        shows(&world.centrifugo, SOON, 10).await?;
        world.centrifugo.close(Some(status(refusal)));
        world.publish(numbers(11..=200)).await?;
        let troubled = |status: &Value| {
            let trouble = status["centrifugo"]["trouble"].as_str();
            trouble.is_some_and(|trouble| trouble.contains("even an empty request"))
        };
        relay.status_when(SOON, "its trouble in the status", troubled).await?;
        counts(&relay, "unruly", "transformed", 200).await?;
        no_refusal(&relay).await?;

        world.centrifugo.close(None);
        shows(&world.centrifugo, SOON, 200).await?;
        world.all_acked(SOON, "UNRULY", "unruly").await?;
        no_refusal(&relay).await?;
    }
    Ok(())
}

fn is_poisoned(batch: &Batch) -> bool {
    batch
        .commands
        .iter()
        .any(|command| command.channels.iter().any(|channel| channel == POISON))
}

/// Every request with a publication for the channel [`POISON`] gets this answer and does not arrive.
fn poisoned(answer: Answer) -> impl FnMut(&Batch) -> Plan + Send + 'static {
    move |batch| match is_poisoned(batch) {
        true => Plan::answer(answer),
        false => Plan::execute(),
    }
}

fn never_answered() -> [Answer; 5] {
    [
        status(500),
        status(403),
        status(429),
        Answer::Silence { executed: false },
        Answer::Cut { executed: false },
    ]
}

async fn a_publication_that_is_never_answered_holds_up_nobody_else(api: Api) -> Result<()> {
    let check = async |answer: Answer| -> Result<()> {
        let world = world(api, FakeCentrifugo::start_with(poisoned(answer)).await?).await?;
        let relay = world.run().await?;
        world.publish([number_on(POISON, 0)]).await?;
        world.publish(numbers(1..=300)).await?;
        shows(&world.centrifugo, SOON / 2, 300).await?;
        world.publish(numbers(301..=400)).await?;
        shows(&world.centrifugo, SOON / 4, 400).await?;
        // Alone on an idle module it could be anybody's fault, but now something else has gone through.
        let mut last = 400;
        eventually(SOON, "the stuck publication to be named", async || {
            last += 1;
            world.publish(numbers(last..=last)).await?;
            ensure!(relay.logged("a publication keeps failing"), "{:#?}", relay.log());
            Ok(())
        })
        .await?;
        let status = relay.status().await?;
        ensure!(module(&status, "unruly")["rejected"] == 0, "{status}");
        ensure!(
            world.consumer("UNRULY", "unruly").await?.ack_floor.stream_sequence == 0,
            "it is not given up"
        );

        world.centrifugo.behave(|_| Plan::execute());
        world.all_acked(SOON, "UNRULY", "unruly").await?;
        ensure!(world.centrifugo.shown(POISON).len() == 1, "it is shown in the end");
        no_refusal(&relay).await
    };
    let checks = never_answered().map(|answer| async move {
        let checked = check(answer).await;
        checked.map_err(|error| error.context(format!("{answer:?}")))
    });
    future::try_join_all(checks).await.map(drop)
}

async fn what_fails_for_one_module_disturbs_no_other(api: Api) -> Result<()> {
    let check = async |answer: Answer| -> Result<()> {
        let world = world(api, FakeCentrifugo::start_with(poisoned(answer)).await?).await?;
        world.stream("NEIGHBOUR", &["neighbour.>"]).await?;
        let toml = "stream = \"NEIGHBOUR\"\ndeliver = \"all\"\n";
        world
            .home
            .add_module("neighbour", &guests::component("unruly")?, toml)?;
        let relay = world.run().await?;
        world.publish([number_on(POISON, 0)]).await?;
        // Continues until the poisoned publication was tried alone.
        for number in 1..=300 {
            world.publish([("neighbour.ok", number.to_string())]).await?;
            counts(&relay, "neighbour", "published", number).await?;
            let alone = world
                .centrifugo
                .batches()
                .iter()
                .filter(|batch| is_poisoned(batch))
                .count();
            if number >= 20 && alone >= 3 {
                break;
            }
        }
        let disturbed = relay
            .log()
            .into_iter()
            .find(|line| line.contains("publishing is paused") && line.contains("neighbour"));
        ensure!(disturbed.is_none(), "{disturbed:?}");
        let status = relay.status().await?;
        ensure!(module(&status, "neighbour")["retried"] == 0, "{status}");
        Ok(())
    };
    let checks = never_answered().map(|answer| async move {
        let checked = check(answer).await;
        checked.map_err(|error| error.context(format!("{answer:?}")))
    });
    future::try_join_all(checks).await.map(drop)
}
