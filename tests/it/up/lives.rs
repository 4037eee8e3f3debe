//! What `up` starts, uses and ends, with modules that are built already.

use async_nats::jetstream;
use rustix::process::{Pid, Signal, kill_process};

use super::super::world::World;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_turns_up_later_is_added() -> Result<()> {
    let desk = Desk::new()?;
    desk.add_guest("orders", "modules/shop.wasm", ORDERS)?;
    let mut up = desk.up("", &["modules"]).await?;
    desk.types("", &format!("slipring publish orders.paid '{AN_ORDER}'"))?;
    up.says("Centrifugo did not know the namespace orders, so it was added")
        .await?;
    let mut screen = up.subscribe("orders:7").await?;
    desk.types("", "slipring dead-letters replay --all")?;
    ensure!(screen.next(SOON).await?.publication.text().contains("paid"));
    let log = up.ctrl_c().await?;
    ensure!(!log.iter().any(|line| line.contains("relay: error")), "{log:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_it_when_it_is_killed() -> Result<()> {
    let desk = Desk::new()?;
    desk.add_guest("orders", "orders.wasm", ORDERS)?;
    let mut up = desk.up("", &["orders.wasm"]).await?;
    ensure!(desk.processes().len() == 4, "{:#?}", desk.processes());
    up.process.kill();
    desk.is_deserted().await?;
    // The folder is free again.
    let again = desk.up("", &["orders.wasm"]).await?;
    again.ctrl_c().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_server_ends_all_with_its_last_words() -> Result<()> {
    let desk = Desk::new()?;
    desk.add_guest("orders", "orders.wasm", ORDERS)?;
    let mut up = desk.up("", &["orders.wasm"]).await?;
    let server = desk.processes().into_iter().find(|line| line.contains("nats-server"));
    let id = server.as_deref().and_then(|line| line.split(' ').next()?.parse().ok());
    kill_process(
        Pid::from_raw(id.context("nats-server")?).context("an ID")?,
        Signal::TERM,
    )?;
    let status = up.process.wait(SOON).await?;
    ensure!(status.code() == Some(1), "{status}");
    let log = up.process.log().join("\n");
    ensure!(
        log.contains("nats-server has ended (") && log.contains(".slipring/nats.log"),
        "{log}"
    );
    ensure!(log.contains("Server Exiting"), "{log}");
    desk.is_deserted().await
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_run_already_are_used_and_stay() -> Result<()> {
    let world = World::start().await?;
    let desk = Desk::new()?;
    desk.add_guest("orders", "orders.wasm", ORDERS)?;
    desk.write("key", world.centrifugo.api_key())?;
    let (nats, centrifugo) = (world.nats.url(), world.centrifugo.url());
    let given = [
        "orders.wasm",
        "--nats",
        &nats,
        "--centrifugo",
        &centrifugo,
        "--api-key-file",
        "key",
    ];
    let up = desk.up("", &given).await?;
    ensure!(up.nats == nats && up.websocket == world.centrifugo.websocket_url());
    ensure!(desk.processes().len() == 2, "{:#?}", desk.processes());
    let mut screen = up.subscribe("orders:7").await?;
    desk.types("", &format!("slipring publish orders.paid '{AN_ORDER}'"))?;
    screen.next(SOON).await?;
    up.ctrl_c().await?;
    world.jetstream.get_stream("ORDERS").await?;

    // The same servers by a configuration of the user's own, whose stream lacks subjects.
    let config = jetstream::stream::Config {
        name: "ORDERS".to_owned(),
        subjects: vec!["orders.paid".to_owned()],
        ..Default::default()
    };
    world.jetstream.update_stream(config).await?;
    let text = format!(
        "nats.servers = ['{nats}']\ncentrifugo.endpoints = ['{centrifugo}']\ncentrifugo.api_key_file = 'key'\n\
         admin.listen = '127.0.0.1:0'\nmodules.dir = 'deployed'\n"
    );
    let admin = slipring_support::servers::free_port();
    desk.write("slipring.toml", &text.replace(":0'", &format!(":{admin}'")))?;
    let up = desk.up("", &["orders.wasm"]).await?;
    let log = up.process.log().join("\n");
    ensure!(log.contains("the stream ORDERS does not store orders.>"), "{log}");
    ensure!(
        up.page.starts_with(&format!("http://127.0.0.1:{admin}/#/?token=")),
        "{}",
        up.page
    );
    ensure!(desk.path("deployed/orders.wasm").exists());
    ensure!(up.ask("api/v1/arrivals").await?["websocket"].is_null());
    up.ctrl_c().await.map(drop)
}
