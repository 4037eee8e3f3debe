//! `slipring fix`: from a dead letter to a version that accepts its message, as a person does it, but without a terminal.

mod remote;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use slipring_support::process::Process;
use slipring_support::relay::Relay;
use slipring_support::servers::Centrifugo;
use slipring_support::{Api, workspace};

use super::commands::new::A_BUILD;
use super::commands::{exits, stderr, stdout};
use super::world::{SOON, World, know, module};

/// Returns a command of `slipring` that shares the build directory with other tests.
fn slipring(world: &World, arguments: &[&str]) -> Command {
    let mut command = world.home.command(arguments.iter().copied());
    command.env("CARGO_TARGET_DIR", workspace().join("target/new-modules"));
    command
}

fn done(world: &World, arguments: &[&str], code: i32) -> Result<String> {
    let output = slipring(world, arguments).output().context("running slipring")?;
    exits(&output, code)?;
    Ok(stdout(&output) + &stderr(&output))
}

fn contains(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part:?} is not in {text}");
    }
    Ok(())
}

/// Accepts what the module rejects.
const MENDED: &str = "
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Number(u64),
    Text(String),
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, \"{number}\"),
            Self::Text(text) => write!(f, \"{text}\"),
        }
    }
}
";

fn mend(garage: &Path) -> Result<()> {
    let source = garage.join("src/lib.rs");
    let text = fs::read_to_string(&source)?;
    ensure!(text.contains("    id: u64,"), "{text}");
    fs::write(&source, text.replacen("    id: u64,", "    id: Id,", 1) + MENDED).context("saving")
}

async fn dead_letters(relay: &Relay, count: u64) -> Result<()> {
    let rejected = |status: &Value| module(status, "garage")["rejected"] == count;
    relay.status_when(SOON, "a dead letter", rejected).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_becomes_a_case_then_a_version_and_then_a_publication() -> Result<()> {
    let centrifugo = Centrifugo::start_with(|config| know("garage", config)).await?;
    let (url, key) = (centrifugo.endpoint(Api::Http), centrifugo.api_key().to_owned());
    let world = World::start_with(centrifugo, &url, &key).await?;
    world.stream("GARAGE", &["garage.>"]).await?;
    done(&world, &["new", "garage"], 0)?;
    let garage = world.home.path().join("garage");
    // Pins the versions that the rest of the workspace uses, and needs no network.
    fs::copy(workspace().join("Cargo.lock"), garage.join("Cargo.lock"))?;
    let toml = garage.join("garage.toml");
    fs::write(
        &toml,
        fs::read_to_string(&toml)? + "deliver = \"all\"\nwatch = \"1s\"\n",
    )?;
    let relay = world.home.run().await?;
    let at = ["--url", relay.url()];
    let deployed = done(&world, &[&["deploy", "garage", "--no-test"], &at[..]].concat(), 0)?;
    contains(&deployed, &["building garage", "garage is deployed"])?;
    let secret = r#"{"id":"8","revision":1,"status":"paid","email":"somebody@example.com"}"#;
    world
        .publish([
            ("garage.7", r#"{"id":7,"revision":3,"status":"paid"}"#),
            ("garage.8", secret),
        ])
        .await?;
    dead_letters(&relay, 1).await?;

    let fix = |more: &[&'static str]| [&["fix", "1", "garage", "--redact", "email"], &at[..], more].concat();
    contains(
        &done(&world, &["fix", "7", "garage"], 1)?,
        &["there is no dead letter 7 any more", "no case"],
    )?;
    done(&world, &["new", "other"], 0)?;
    contains(
        &done(&world, &["fix", "1", "other"], 1)?,
        &["the dead letter 1 is of the module garage, but other has other: name the folder of garage"],
    )?;
    ensure!(!garage.join("cases/dead-letter-1.json").exists());

    // Who stops it is told how to go on, and `dev` does not stay behind.
    let mut stopped = Process::spawn("slipring fix", &mut slipring(&world, &fix(&["--yes"])))?;
    stopped
        .line(A_BUILD, "`dev`", |line| line.contains("watching for changes"))
        .await?;
    let ended = stopped.stop(A_BUILD).await?;
    let log = stopped.log().join("\n");
    ensure!(ended.code() == Some(1), "{ended}: {log}");
    contains(
        &log,
        &[
            "dead-letter-1 does not pass yet (",
            "`slipring fix 1 garage` goes on with it",
        ],
    )?;

    // `dev` runs on the case until it passes. There is nobody to ask, so nothing is deployed yet.
    let mut fixing = Process::spawn("slipring fix", &mut slipring(&world, &fix(&[])))?;
    fixing
        .line(A_BUILD, "the failing case", |line| {
            line.contains("running `slipring dev` until it passes")
        })
        .await?;
    let case: Value = serde_json::from_str(&fs::read_to_string(garage.join("cases/dead-letter-1.json"))?)?;
    ensure!(
        case["message"]["data"]["email"] == "redacted" && case["expect_not"]["outcome"] == "reject",
        "{case}"
    );
    mend(&garage)?;
    let ended = fixing.wait(A_BUILD).await?;
    let log = fixing.log().join("\n");
    ensure!(ended.code() == Some(1), "{ended}: {log}");
    contains(
        &log,
        &[
            "going on with the case ",
            "dead-letter-1 does not pass yet",
            "dead-letter-1 passes",
            "no longer rejected  1",
            "not deployed: there is no terminal to ask at, and --yes was not given; `slipring fix 1 garage` goes on",
        ],
    )?;

    let misspelt = done(&world, &fix(&["--redact", "e_mail"]), 1)?;
    contains(
        &misspelt,
        &["exists already, but without a field that --redact names: the case has no `e_mail`; did you mean `email`?"],
    )?;

    // It goes on with the case that is there, and the rest follows.
    let fixed = done(&world, &fix(&["--yes"]), 0)?;
    contains(
        &fixed,
        &[
            "going on with the case ",
            "dead-letter-1 passes",
            "the unit tests passed",
            "4 cases passed",
            "it passed its trial",
            "replaying the dead letter 1",
            "1 published, 0 dropped by the module, 0 rejected again, 0 not tried",
            "done: keep ",
        ],
    )?;
    ensure!(!fixed.contains("running `slipring dev`"), "{fixed}");
    let published = world.centrifugo.history("garage:8").await?;
    ensure!(published.len() == 1, "{published:?}");
    let again = done(&world, &fix(&["--yes"]), 0)?;
    contains(
        &again,
        &[
            "there is no dead letter 1 any more",
            "Its case stays in garage/cases/dead-letter-1.json",
        ],
    )?;
    Ok(())
}
