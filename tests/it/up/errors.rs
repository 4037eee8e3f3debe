//! What keeps `up` from starting, and what it says.

use std::os::unix::fs::symlink;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn only_one_runs_in_a_folder() -> Result<()> {
    let desk = Desk::new()?;
    desk.add_guest("orders", "orders.wasm", ORDERS)?;
    let up = desk.up("", &["orders.wasm"]).await?;
    let second = desk.slipring("", &["up", "--no-open", "orders.wasm"])?;
    let said = failed(&second, 1)?;
    let id = up.process.id();
    ensure!(
        said.contains(&format!(
            "another `slipring up` (process {id}) is running with .slipring"
        )),
        "{said}"
    );
    up.ctrl_c().await.map(drop)
}

#[test]
fn missing_servers_are_told_together_and_how_to_get_them() -> Result<()> {
    let desk = Desk::new()?;
    desk.add_guest("orders", "orders.wasm", ORDERS)?;
    let run = |arguments: &[&str]| -> Result<Output> {
        let mut command = desk.command("", binary())?;
        command.env("PATH", desk.path("nothing")).arg("up").args(arguments);
        Ok(command.output()?)
    };
    let said = failed(&run(&["orders.wasm"])?, 1)?;
    ensure!(
        said.contains("nats-server is neither on the PATH nor in .tools/bin"),
        "{said}"
    );
    ensure!(
        said.contains("centrifugo is neither on the PATH nor in .tools/bin"),
        "{said}"
    );
    ensure!(said.contains("`make servers` builds it"), "{said}");
    ensure!(!desk.path(".slipring").exists(), "nothing was begun");
    let said = failed(&run(&["--nats-server", "nowhere", "orders.wasm"])?, 1)?;
    ensure!(
        said.contains("`--nats-server nowhere` names no executable file"),
        "{said}"
    );
    // The tools of a folder above are found without any PATH.
    fs::create_dir(desk.path(".tools"))?;
    symlink(
        tool("nats-server")?.parent().context("a folder")?,
        desk.path(".tools/bin"),
    )?;
    let said = failed(&run(&["nowhere.wasm"])?, 1)?;
    ensure!(said.contains("cannot access nowhere.wasm"), "{said}");
    let said = failed(&run(&[".tools"])?, 1)?;
    ensure!(said.contains("there is no module in .tools"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_cannot_run_is_told_and_leaves_nothing_running() -> Result<()> {
    let desk = Desk::new()?;
    desk.write("broken/build", "#!/bin/sh\necho no compiler >&2\nexit 3\n")?;
    desk.types("", "chmod +x broken/build")?;
    let said = failed(&desk.slipring("", &["up", "broken"])?, 1)?;
    ensure!(
        said.contains("no compiler") && said.contains("broken/build failed (exit status: 3)"),
        "{said}"
    );
    desk.is_deserted().await?;

    desk.write("orders.wasm", "this is no module")?;
    desk.write("orders.toml", ORDERS)?;
    let said = failed(&desk.slipring("", &["up", "orders.wasm"])?, 1)?;
    ensure!(said.contains("cannot load the module orders.wasm"), "{said}");

    desk.add_guest("orders", "orders.wasm", "stream = 7")?;
    let said = failed(&desk.slipring("", &["up", "orders.wasm"])?, 78)?;
    ensure!(said.contains("orders.toml:1:10: `stream` is 7"), "{said}");

    desk.add_guest(
        "orders",
        "orders.wasm",
        "source.kind = 'redis-list'\nsource.key = 'orders'",
    )?;
    let said = failed(&desk.slipring("", &["up", "orders.wasm"])?, 1)?;
    ensure!(
        said.contains("orders reads from Redis, which `slipring up` does not start"),
        "{said}"
    );
    desk.is_deserted().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_during_a_build_ends_the_build() -> Result<()> {
    let desk = Desk::new()?;
    desk.write("slow/build", "#!/bin/sh\necho building >&2\nexec sleep 1000\n")?;
    desk.types("", "chmod +x slow/build")?;
    let mut process = desk.start("", &["slow"])?;
    process.line(SOON, "the build", |line| line == "building").await?;
    process.interrupt()?;
    let status = process.wait(SOON).await?;
    ensure!(status.success(), "{status}: {}", process.tail());
    desk.is_deserted().await
}
