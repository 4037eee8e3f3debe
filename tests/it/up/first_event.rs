//! What a person types from an empty folder on, and what the person then sees.

use std::time::Instant;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn from_nothing_to_an_event_on_a_screen() -> Result<()> {
    let desk = Desk::new()?;
    desk.types("", "slipring new shop")?;
    // Pins the versions that the rest of the workspace uses, and needs no network.
    fs::copy(workspace().join("Cargo.lock"), desk.path("shop/Cargo.lock"))?;
    let mut up = desk.up("shop", &[]).await?;
    let arrivals = up.ask("api/v1/arrivals").await?;
    ensure!(arrivals["websocket"] == up.websocket.as_str(), "{arrivals}");
    let mut screen = up.subscribe("shop:7").await?;

    let line = up.publish.clone().context("a line to publish a message")?;
    let said = desk.types("shop", &line)?;
    ensure!(said == "stored in SHOP as 1\n", "{said}");
    let arrived = screen.next(SOON).await?;
    let data = arrived.publication.text();
    ensure!(
        (arrived.channel.as_str(), data.as_str()) == ("shop:7", r#"{"status":"paid"}"#),
        "{data}"
    );
    // Who subscribes later sees it too, if the page asks for the history: the namespace keeps one.
    ensure!(arrived.publication.offset == 1, "{arrived:?}");

    // The folder above knows nothing of it, and the one below does.
    let said = desk.types("shop/src", "slipring publish --case ../cases/no-status.json")?;
    ensure!(said == "stored in SHOP as 2\n", "{said}");
    let letter = up.says("became dead letter 1").await?;
    ensure!(
        letter.contains("shop: shop.7 became") && letter.contains("status"),
        "{letter}"
    );
    let toml = fs::read_to_string(desk.path("shop/shop.toml"))?;
    desk.write(
        "shop/.slipring/modules/shop.toml",
        &format!("{toml}\ntimeout = \"200ms\"\n"),
    )?;
    up.says("shop: swapped to ").await?;

    let page = up.page.clone();
    let log = up.ctrl_c().await?;
    ensure!(
        log.last()
            .is_some_and(|line| line.contains("`rm -r .slipring` deletes it")),
        "{log:#?}"
    );
    desk.is_deserted().await?;

    // An open page goes on after a restart, and the stream has kept its messages.
    let mut up = desk.up("shop", &[]).await?;
    ensure!(up.page == page, "{} was {page}", up.page);
    let mut screen = up.subscribe("shop:7").await?;
    let said = desk.types("shop", &line)?;
    ensure!(said == "stored in SHOP as 3\n", "{said}");
    ensure!(screen.next(SOON).await?.publication.text() == data);
    up.process.signal(rustix::process::Signal::TERM)?;
    ensure!(up.process.wait(SOON).await?.success(), "{}", up.process.tail());
    desk.is_deserted().await
}

/// Prints a record of the first minutes of a new user. It measures nothing on a busy machine, so nothing is expected of
/// its numbers: `COLD=1 RELAY=$PWD/target/release/slipring cargo test --workspace --test it record_of_the_first -- --nocapture`.
/// Cold: nothing is compiled. Warm: the second module of the same user. Without `COLD`, only a warm one, from the builds of other
/// tests.
#[tokio::test(flavor = "multi_thread")]
async fn record_of_the_first_event() -> Result<()> {
    let is_complete = std::env::var_os("COLD").is_some();
    let caches = tempfile::TempDir::with_prefix("slipring-caches-")?;
    for kind in ["cold", "warm"] {
        let desk = Desk::new()?;
        let as_typed = |command: &mut Command| {
            if is_complete {
                command.env_remove("CARGO_TARGET_DIR");
                command.env("XDG_CACHE_HOME", caches.path());
            }
        };
        if kind == "cold" && !is_complete {
            println!("cold: left out; set COLD=1");
            continue;
        }
        let begun = Instant::now();
        let tell = |what: &str| println!("{kind:5} {:6.2} s  {what}", begun.elapsed().as_secs_f64());
        desk.types("", "slipring new shop")?;
        tell("slipring new shop");
        fs::copy(workspace().join("Cargo.lock"), desk.path("shop/Cargo.lock"))?;
        let mut test = desk.command("shop", binary())?;
        as_typed(&mut test);
        let tested = test.arg("test").output()?;
        ensure!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
        tell("slipring test");
        let mut up = desk.command("shop", binary())?;
        as_typed(&mut up);
        let up = Up::ready(Process::spawn("slipring up", up.args(["up", "--no-open"]))?).await?;
        tell("slipring up");
        let mut screen = up.subscribe("shop:7").await?;
        desk.types("shop", up.publish.as_deref().context("a line")?)?;
        screen.next(SOON).await?;
        tell("slipring publish: the event has arrived at a subscriber");
        up.ctrl_c().await?;
    }
    Ok(())
}
