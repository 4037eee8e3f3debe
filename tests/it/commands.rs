//! The commands as people use them: what they print and how they exit.

mod build_cache;
mod cases;
mod completions;
mod dead_letters;
mod dev;
mod environment;
mod input;
mod namespaces;
pub mod new;
mod record;
mod signals;
mod stored;
mod tap;
pub mod terminal;

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use slipring_support::guests;

use super::numbers::{counts, state};
use super::world::{SOON, World, binary, module, unruly_toml};

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The error shows what the command printed.
pub fn exits(output: &Output, code: i32) -> Result<()> {
    let found = output.status.code();
    ensure!(
        found == Some(code),
        "{:?}: {}{}",
        output.status,
        stdout(output),
        stderr(output)
    );
    Ok(())
}

/// Runs a command in the root of the repository, where people type the README's commands.
fn in_repository(arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.output().context("running slipring")
}

/// Returns the outcomes of an example's samples, one per line.
fn try_samples(example: &str) -> Result<(Vec<Value>, String)> {
    let module = guests::component(example)?;
    let module = module.to_str().context("a path that is text")?;
    let samples = format!("examples/{example}/samples.jsonl");
    let output = in_repository(&["try", module, &samples])?;
    exits(&output, 0)?;
    let lines = stdout(&output);
    let lines: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    Ok((lines, stderr(&output)))
}

fn outcomes(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["outcome"].as_str()).collect()
}

#[test]
fn try_shows_what_orders_makes_of_its_samples() -> Result<()> {
    let (lines, summary) = try_samples("orders")?;
    ensure!(
        outcomes(&lines) == ["drop", "publish", "publish", "publish", "publish", "publish"],
        "{lines:#?}"
    );
    let paid = &lines[1]["publications"][0];
    ensure!(
        paid["channels"] == json!(["orders:17"]) && paid["version"] == 2,
        "{paid}"
    );
    ensure!(
        paid["data"]["status"] == "paid" && paid["data"]["total_cents"] == 900,
        "{paid}"
    );
    ensure!(
        summary.ends_with("6 read: 5 published (publications: 5), 1 dropped, 0 rejected\n"),
        "{summary}"
    );
    Ok(())
}

#[test]
fn try_shows_what_notifications_makes_of_its_samples() -> Result<()> {
    let (lines, summary) = try_samples("notifications")?;
    ensure!(
        outcomes(&lines) == ["publish", "publish", "drop", "publish"],
        "{lines:#?}"
    );
    let comment = &lines[0]["publications"][0];
    let channels = comment["channels"].as_array().context("channels")?;
    ensure!(
        channels.len() == 2 && comment["tags"].is_object(),
        "one event, many channels, with tags: {comment}"
    );
    ensure!(summary.contains("4 read: 3 published"), "{summary}");
    Ok(())
}

/// The settings of this module are in its `.toml`, which has to be beside the module.
#[test]
fn try_reads_the_toml_beside_the_module() -> Result<()> {
    let home = tempfile::tempdir()?;
    let path = |name: &str| home.path().join(name);
    std::fs::copy(guests::component("telemetry")?, path("telemetry.wasm"))?;
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/telemetry");
    std::fs::copy(example.join("telemetry.toml"), path("telemetry.toml"))?;
    let run = || {
        let mut command = Command::new(binary());
        command
            .arg("try")
            .arg(path("telemetry.wasm"))
            .arg(example.join("samples.jsonl"));
        command.output().context("running slipring")
    };
    let output = run()?;
    exits(&output, 0)?;
    ensure!(stdout(&output).lines().count() == 3, "{}", stdout(&output));
    ensure!(
        stdout(&output).contains("\"temperature\""),
        "the sensors have names: {}",
        stdout(&output)
    );
    ensure!(stderr(&output).contains("3 read: 3 published"), "{}", stderr(&output));

    let toml = std::fs::read_to_string(path("telemetry.toml"))?;
    std::fs::write(
        path("telemetry.toml"),
        toml.replace("format = \"json\"", "format = \"binary\""),
    )?;
    let output = run()?;
    exits(&output, 0)?;
    ensure!(
        stdout(&output).contains("\"binary_base64\""),
        "now they are compact: {}",
        stdout(&output)
    );

    let samples = path("samples.jsonl");
    std::fs::write(&samples, "{\"subject\":\"telemetry.pump-7\"}\n")?;
    let mut command = Command::new(binary());
    let output = command.arg("try").arg(path("telemetry.wasm")).arg(&samples).output()?;
    exits(&output, 1)?;
    ensure!(
        stderr(&output).contains("line 1: a message must have exactly one of"),
        "{}",
        stderr(&output)
    );
    let empty = tempfile::tempdir()?;
    let output = Command::new(binary()).arg("try").current_dir(&empty).output()?;
    exits(&output, 1)?;
    ensure!(
        stderr(&output).contains("there is no module in ."),
        "{}",
        stderr(&output)
    );
    Ok(())
}

/// A large module is compiled once, and not by each command.
#[test]
fn what_was_compiled_is_kept_for_the_next_command() -> Result<()> {
    let home = tempfile::tempdir()?;
    let path = |name: &str| home.path().join(name);
    std::fs::copy(guests::component("orders")?, path("orders.wasm"))?;
    std::fs::write(path("samples.jsonl"), "{\"subject\":\"orders.1\",\"payload\":\"\"}")?;
    std::fs::create_dir_all(path("cases"))?;
    std::fs::write(
        path("cases/empty.json"),
        r#"{"message":{"subject":"orders.1","payload":""},"expect":{"outcome":"reject"}}"#,
    )?;
    let run = |arguments: &[&str], cache: &str| {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(home.path());
        command.env("SLIPRING_MODULES__CACHE_DIR", path(cache));
        command.output().context("running slipring")
    };
    // Code that is compiled again is another file.
    let kept = || -> Result<Vec<(u64, std::time::SystemTime)>> {
        let mut kept = Vec::new();
        for version in std::fs::read_dir(path("cache/modules"))? {
            for file in std::fs::read_dir(version?.path())? {
                let file = file?;
                if file.path().extension().is_none() {
                    let metadata = file.metadata()?;
                    kept.push((std::os::unix::fs::MetadataExt::ino(&metadata), metadata.modified()?));
                }
            }
        }
        Ok(kept)
    };
    let tried = ["try", "orders.wasm", "samples.jsonl"];
    exits(&run(&tried, "cache")?, 0)?;
    let first = kept()?;
    ensure!(first.len() == 1, "{first:?}");
    exits(&run(&tried, "cache")?, 0)?;
    exits(&run(&["test", "orders.wasm"], "cache")?, 0)?;
    ensure!(kept()? == first, "it was compiled again");
    // Where nothing can be kept, it only takes longer.
    std::fs::write(path("file"), "")?;
    exits(&run(&tried, "file")?, 0)
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_which_modules_would_run() -> Result<()> {
    let world = World::start().await?;
    let wasm = guests::component("unruly")?;
    let check = |arguments: &[&str]| {
        let arguments = ["check"].iter().chain(arguments).copied();
        world.home.command(arguments).output().context("running slipring")
    };
    world.home.add_module("good", &wasm, &unruly_toml(""))?;
    std::fs::copy(&wasm, world.home.modules().join("lonely.wasm"))?;
    let output = check(&[])?;
    exits(&output, 0)?;
    let lines = stdout(&output);
    let line = |name: &str| {
        lines
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default()
            .to_owned()
    };
    ensure!(line("good").contains("stream UNRULY, sha256 "), "{lines}");
    ensure!(
        line("lonely").contains("waiting") && line("lonely").contains("lonely.toml is missing"),
        "{lines}"
    );

    world
        .home
        .add_module("bad", &wasm, &unruly_toml("settings.fail = \"no such room\""))?;
    let output = check(&[])?;
    exits(&output, 1)?;
    ensure!(stdout(&output).contains("no such room"), "{}", stdout(&output));
    ensure!(
        stderr(&output) == "1 of 3 modules would not run\n",
        "{}",
        stderr(&output)
    );
    let output = check(&["--json"])?;
    exits(&output, 1)?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let states = report["modules"].as_array().context("modules")?;
    let states: Vec<_> = states
        .iter()
        .map(|module| (module["name"].as_str(), module["state"].as_str()))
        .collect();
    let expected = [("bad", "bad"), ("good", "good"), ("lonely", "waiting")];
    ensure!(
        states == expected.map(|(name, state)| (Some(name), Some(state))),
        "{report}"
    );

    world.home.remove_module("bad")?;
    let refused_online = |because: &str| -> Result<()> {
        let output = check(&["--online"])?;
        exits(&output, 1)?;
        ensure!(stdout(&output).contains(because), "{}", stdout(&output));
        Ok(())
    };
    refused_online("stream UNRULY            bad      the stream does not exist")?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    exits(&check(&["--online"])?, 0)?;
    world
        .home
        .configure_module("good", &unruly_toml("subjects = [\"orders.>\"]"))?;
    refused_online("the stream `UNRULY` cannot hold messages of the subject `orders.>`")?;

    world.home.configure_more("[shutdown]\ngrace = \"soon\"\ngrave = 1")?;
    let output = check(&[])?;
    exits(&output, 78)?;
    let problems = stderr(&output);
    ensure!(
        problems.contains("slipring.toml:") && problems.contains("shutdown.grave") && problems.contains("\"soon\""),
        "{problems}"
    );
    let output = check(&["--json"])?;
    exits(&output, 78)?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(
        report["problems"]
            .as_array()
            .is_some_and(|problems| problems.len() == 2),
        "{report}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_metrics_tell_how_each_module_does() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.home.configure_module("lonely", &unruly_toml(""))?;
    world.add_unruly("")?;
    let relay = world.run().await?;
    let wishes = [("unruly.drop", ""), ("unruly.reject", "no"), ("unruly.ok", "1")];
    world.publish(wishes).await?;
    counts(&relay, "unruly", "published", 1).await?;
    counts(&relay, "unruly", "rejected", 1).await?;
    state(&relay, "lonely", "waiting").await?;

    let status = |arguments: &[&str]| {
        let arguments = ["status", "--url", relay.url()]
            .into_iter()
            .chain(arguments.iter().copied());
        world.home.command(arguments).output().context("running slipring")
    };
    let output = status(&[])?;
    exits(&output, 0)?;
    let text = stdout(&output);
    let row = |name: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    };
    ensure!(
        text.lines().next().is_some_and(|line| line.contains(" ready, since ")),
        "{text}"
    );
    ensure!(row("nats")[..3] == ["nats", "connected", "to"], "{text}");
    let unruly = row("unruly");
    ensure!(unruly[1] == "running" && unruly[3..7] == ["3", "1", "1", "1"], "{text}");
    ensure!(text.contains("lonely is waiting: lonely.wasm is missing\n"), "{text}");
    let output = status(&["--json"])?;
    exits(&output, 0)?;
    let json: Value = serde_json::from_slice(&output.stdout)?;
    let unruly = module(&json, "unruly");
    ensure!(
        unruly["stream"] == "UNRULY" && unruly["consumer"] == "slipring-unruly",
        "{json}"
    );
    let nobody = world.home.command(["status", "--url", "http://127.0.0.1:1"]).output()?;
    exits(&nobody, 1)?;
    ensure!(stderr(&nobody).contains("no relay answers at"), "{}", stderr(&nobody));

    // The server is asked for the backlog now and then.
    let is_known = |status: &Value| !module(status, "unruly")["backlog"].is_null();
    relay.status_when(SOON, "the backlog", is_known).await?;
    let metrics = relay.metrics().await?;
    let families: Vec<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        // There was no swap.
        .filter(|family| *family != "slipring_last_swap_timestamp_seconds")
        .collect();
    ensure!(families.len() > 20, "{families:?}");
    for family in families {
        // The metrics of the process have no module.
        let of_the_process = [
            "admin_",
            "log_",
            "memory_",
            "nats_",
            "centrifugo_up",
            "build_info",
            "ready",
        ];
        let of_the_process = of_the_process
            .iter()
            .any(|start| family.starts_with(&format!("slipring_{start}")))
            || family.starts_with("process_");
        let of_the_module =
            |line: &str| line.starts_with(family) && (of_the_process || line.contains("{module=\"unruly\""));
        ensure!(
            metrics.lines().any(of_the_module),
            "{family} has no sample of the module:\n{metrics}"
        );
    }
    for sample in [
        "slipring_messages_received_total{module=\"unruly\"} 3",
        "slipring_messages_transformed_total{module=\"unruly\"} 3",
        "slipring_messages_dropped_total{module=\"unruly\"} 1",
        "slipring_messages_rejected_total{module=\"unruly\",stage=\"transform\"} 1",
        "slipring_publications_total{module=\"unruly\"} 1",
        "slipring_halted{module=\"unruly\"} 0",
    ] {
        ensure!(
            metrics.lines().any(|line| line == sample),
            "{sample} is not in\n{metrics}"
        );
    }
    Ok(())
}
