//! Commands that find the configuration of a `slipring up` that has ended.

use super::*;

#[test]
fn commands_ask_whether_up_is_running() -> Result<()> {
    let desk = Desk::new()?;
    desk.add_guest("orders", "shop/orders.wasm", ORDERS)?;
    desk.write(
        ".slipring/slipring.toml",
        "nats.servers = ['nats://127.0.0.1:1']\ncentrifugo.endpoints = ['http://127.0.0.1:1']\nmodules.dir = 'modules'\n\
         admin = { listen = '127.0.0.1:1', token_file = 'admin.token' }\n",
    )?;
    desk.write(".slipring/admin.token", "a-token-with-enough-letters")?;
    fs::create_dir(desk.path(".slipring/modules"))?;
    // Each waits for NATS for a while, so they wait together.
    let of_nats: [&[&str]; 4] = [
        &["publish", "orders.7", "{}"],
        &["dead-letters", "list"],
        &["fix", "1", "shop/orders.wasm"],
        &["record", "shop/orders.wasm", "--last", "1"],
    ];
    let of_relay: [&[&str]; 3] = [&["status"], &["modules"], &["tap", "--count", "1"]];
    let said = |arguments: &[&str]| -> Result<String> { failed(&desk.slipring("", arguments)?, 1) };
    std::thread::scope(|threads| -> Result<()> {
        let asked = of_nats.map(|arguments| (arguments, threads.spawn(|| said(arguments))));
        for (arguments, asked) in asked {
            let said = asked.join().expect("no panic")?;
            let question = "no connection to NATS at nats://127.0.0.1:1, is `slipring up` running? ";
            ensure!(said.contains(question), "{arguments:?}: {said}");
        }
        Ok(())
    })?;
    for arguments in of_relay {
        let said = said(arguments)?;
        ensure!(said.contains("(is `slipring up` running?)"), "{arguments:?}: {said}");
    }
    // The folder below finds it, too, and a deployment does not need the relay.
    let output = desk.slipring("shop", &["deploy", "orders.wasm", "--no-diff"])?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{output:?}");
    ensure!(
        told.contains("no relay can be followed: no relay answers at ") && told.contains("(is `slipring up` running?)"),
        "{told}"
    );

    // Another address is that of somebody else.
    let said = said(&["status", "--url", "http://127.0.0.1:2"])?;
    ensure!(said.contains("(is it running?)"), "{said}");
    let mut elsewhere = desk.command("", binary())?;
    elsewhere
        .args(["publish", "orders.7", "{}"])
        .env("SLIPRING_NATS__SERVERS", "nats://127.0.0.1:2");
    let said = failed(&elsewhere.output()?, 1)?;
    ensure!(said.contains("is `nats.servers` right?"), "{said}");
    Ok(())
}
