//! `slipring dead-letters replay`: what becomes of each letter.

use anyhow::{Context, Result, ensure};
use async_nats::HeaderMap;
use serde_json::{Value, json};
use slipring_support::fake_centrifugo::{Answer, Command, FakeCentrifugo, OnCommand, Plan};
use slipring_support::guests;

use super::super::super::world::{SOON, World, unruly_toml};
use super::super::{exits, stderr, stdout};
use super::{listed, run, stored};

/// Orders that `unruly` rejects and the guest `orders` accepts, except for one draft and one that is no order. They are
/// sent all at once, so their letters need not be in order.
async fn orders() -> Result<World> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("max_consecutive_rejects = 1000")?;
    let mut relay = world.run().await?;
    let mut messages: Vec<(&str, String)> = (1..=20)
        .map(|number| ("unruly.reject", order(7 + number % 2, number, "paid")))
        .collect();
    messages.push(("unruly.reject", order(7, 21, "draft")));
    messages.push(("unruly.reject", "no order".to_owned()));
    world.publish(messages).await?;
    stored(&world, 22).await?;
    relay.stop(SOON).await?;
    Ok(world)
}

fn order(id: u64, number: u64, status: &str) -> String {
    format!(
        r#"{{"id":{id},"revision":{number},"status":"{status}","lines":[{{"quantity":{number},"price_cents":1}}]}}"#
    )
}

/// Returns the numbers of the orders in a channel's history, in order.
async fn shown(world: &World, channel: &str) -> Result<Vec<u64>> {
    let history = world.centrifugo.history(channel).await?;
    let number = |publication: &slipring_support::Publication| {
        let order: Value = publication.json()?;
        order["items"].as_u64().context("a number of items")
    };
    history.iter().map(number).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mended_module_publishes_in_order_and_what_it_rejects_stays() -> Result<()> {
    let world = orders().await?;
    let output = run(&world, &["replay", "--all"])?;
    exits(&output, 1)?;
    let summary = "0 published, 0 dropped by the module, 22 rejected again, 0 not tried";
    ensure!(stderr(&output).contains(summary), "{}", stderr(&output));
    ensure!(
        stdout(&output).contains("rejected again by unruly (rejected): rejected as asked"),
        "{}",
        stdout(&output)
    );
    stored(&world, 22).await?;

    world.home.replace_wasm("unruly", &guests::component("orders")?)?;
    let output = run(&world, &["replay", "--all", "--dry-run"])?;
    exits(&output, 1)?;
    let said = stderr(&output);
    ensure!(
        said.contains("20 would be published, 1 dropped by the module, 1 rejected again"),
        "{said}"
    );
    let text = stdout(&output);
    let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(lines.len() == 22, "{text}");
    let first = &lines[0]["publications"][0];
    ensure!(
        first["channels"][0] == "orders:8" && first["idempotency_key"].is_string(),
        "{first}"
    );
    stored(&world, 22).await?;
    ensure!(shown(&world, "orders:8").await?.is_empty(), "nothing was published");

    // The relay runs beside the replay, with the fixed module.
    let relay = world.run().await?;
    let output = run(&world, &["replay", "--all"])?;
    exits(&output, 1)?;
    let said = stderr(&output);
    ensure!(
        said.contains("20 published, 1 dropped by the module, 1 rejected again, 0 not tried\n"),
        "{said}"
    );
    let text = stdout(&output);
    ensure!(
        text.lines().count() == 2 && text.contains(": dropped by unruly\n"),
        "{text}"
    );
    drop(relay);
    let odd: Vec<u64> = (1..=20).filter(|number| number % 2 == 1).collect();
    let even: Vec<u64> = (1..=20).filter(|number| number % 2 == 0).collect();
    ensure!(
        shown(&world, "orders:8").await? == odd,
        "{:?}",
        shown(&world, "orders:8").await?
    );
    ensure!(
        shown(&world, "orders:7").await? == even,
        "{:?}",
        shown(&world, "orders:7").await?
    );

    let left = listed(&world, &[])?;
    ensure!(left.len() == 1, "{left:?}");
    let left = left[0].to_string();
    let output = run(&world, &["show", &left, "--payload"])?;
    ensure!(output.stdout == b"no order", "{}", stdout(&output));
    let output = run(&world, &["replay", &left, "--json"])?;
    exits(&output, 1)?;
    let line: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(line["outcome"] == "rejected" && line["stage"] == "transform", "{line}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_message_is_the_one_that_was_rejected() -> Result<()> {
    let fake = FakeCentrifugo::start_with(|batch| Plan::each(batch, OnCommand::Fail(102))).await?;
    let world = World::start_fake(fake).await?;
    let created = world.stream("UNRULY", &["unruly.>"]).await?.cached_info().created;
    world.add_unruly("")?;
    let mut relay = world.run().await?;
    let mut headers = HeaderMap::new();
    headers.append("Trace", "1");
    headers.append("Trace", "2");
    for subject in ["unruly.headers", "unruly.report"] {
        let publish = world
            .jetstream
            .publish_with_headers(subject, headers.clone(), "".into());
        publish.await?.await?;
    }
    stored(&world, 2).await?;
    relay.stop(SOON).await?;

    world.centrifugo.behave(|_| Plan::execute());
    world
        .home
        .configure_module("unruly", &unruly_toml("version = \"sequence\""))?;
    exits(&run(&world, &["replay", "--all"])?, 0)?;
    let shown = world.centrifugo.shown("unruly:ok");
    let [headers, report] = shown.as_slice() else {
        anyhow::bail!("{shown:?}")
    };
    let data =
        |command: &Command| serde_json::from_str::<Value>(command.data.as_ref().context("JSON")?.get()).context("JSON");
    let traces = data(&headers.command)?;
    ensure!(traces == json!([["Trace", "1"], ["Trace", "2"]]), "{traces}");
    let original = world.jetstream.get_stream("UNRULY").await?.get_raw_message(2).await?;
    let report_of_the_module = data(&report.command)?;
    ensure!(
        i128::from(report_of_the_module["timestamp"].as_u64().context("a time")?)
            == original.time.unix_timestamp_nanos(),
        "{report_of_the_module}"
    );
    ensure!(report.command.version == Some(2), "{report:?}");
    let epoch = format!("{}-unruly", created.unix_timestamp_nanos());
    ensure!(report.command.version_epoch == Some(epoch), "{report:?}");
    stored(&world, 0).await
}

/// The stream was recreated, so the sequence of a message of the old one means nothing.
#[tokio::test(flavor = "multi_thread")]
async fn without_its_stream_a_message_gets_no_version_from_it() -> Result<()> {
    let world = super::letters_of(&[("unruly.publish", br#"[{"channels":["nowhere:7"],"data":1}]"#)]).await?;
    world.jetstream.delete_stream("UNRULY").await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world
        .home
        .configure_module("unruly", &unruly_toml("version = \"sequence\""))?;
    let output = run(&world, &["replay", "1"])?;
    exits(&output, 1)?;
    ensure!(
        stdout(&output).contains("rejected again by unruly (version): the stream `UNRULY`"),
        "{}",
        stdout(&output)
    );
    stored(&world, 1).await
}

/// Centrifugo had executed what it then refused, and it is away when the replay begins.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_waits_for_centrifugo_and_uses_the_keys_of_the_relay() -> Result<()> {
    let fake = FakeCentrifugo::start_with(|batch| Plan::each(batch, OnCommand::ExecuteAndFail(102))).await?;
    let world = World::start_fake(fake).await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("")?;
    let mut relay = world.run().await?;
    world
        .publish((1..=50).map(|number| ("unruly.ok", number.to_string())))
        .await?;
    stored(&world, 50).await?;
    relay.stop(SOON).await?;
    ensure!(world.centrifugo.shown("unruly:ok").len() == 50, "executed all the same");

    let mut requests = 0;
    world.centrifugo.behave(move |_| {
        requests += 1;
        match requests {
            1..=3 => Plan::answer(Answer::Status {
                status: 503,
                executed: false,
            }),
            _ => Plan::execute(),
        }
    });
    let output = run(&world, &["replay", "--module", "unruly"])?;
    exits(&output, 0)?;
    let said = stderr(&output);
    ensure!(said.matches("publishing is paused").count() == 1, "{said}");
    ensure!(
        said.contains("50 published, 0 dropped by the module, 0 rejected again, 0 not tried\n"),
        "{said}"
    );
    stored(&world, 0).await?;
    let executed = world.centrifugo.executed().len();
    ensure!(
        executed == 100 && world.centrifugo.shown("unruly:ok").len() == 50,
        "{executed} executed"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_needs_the_module_and_a_choice() -> Result<()> {
    let world = super::letters_of(&[("unruly.reject", b"one")]).await?;
    for wrong in [
        &["replay"][..],
        &["replay", "1", "--all"],
        &["replay", "--all", "--module", "unruly"],
    ] {
        exits(&run(&world, wrong)?, 2)?;
    }
    let output = run(&world, &["replay", "1", "9"])?;
    exits(&output, 1)?;
    ensure!(
        stderr(&output).contains("there is no dead letter 9"),
        "{}",
        stderr(&output)
    );
    world.home.configure_module("unruly", "stream = 7")?;
    exits(&run(&world, &["replay", "1"])?, 78)?;
    world.home.remove_module("unruly")?;
    let output = run(&world, &["replay", "1"])?;
    exits(&output, 1)?;
    let said = stderr(&output);
    ensure!(
        said.contains("the module unruly (1 dead letter) is not in the modules directory"),
        "{said}"
    );
    ensure!(
        said.contains(
            world
                .home
                .modules()
                .file_name()
                .and_then(|name| name.to_str())
                .context("a name")?
        ),
        "{said}"
    );
    stored(&world, 1).await
}
