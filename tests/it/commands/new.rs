//! From an empty folder to a module with passing tests, as a person does it: the output of `slipring new`
//! is run as it is.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use slipring_support::process::Process;
use slipring_support::workspace;

use super::super::world::binary;
use super::{exits, stderr, stdout};

/// How long a build of the crate with its dependencies may take on a busy machine.
pub const A_BUILD: Duration = Duration::from_secs(300);

/// A place to write modules, with a shell that knows `slipring`.
pub struct Desk(tempfile::TempDir);

impl Desk {
    pub fn new() -> Result<Self> {
        Ok(Self(tempfile::TempDir::with_prefix("slipring-new-")?))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Shares a build directory, so that dependencies are built once.
    pub fn prepare(&self, command: &mut Command, dir: &Path) -> Result<()> {
        let programs = Path::new(binary()).parent().context("a directory")?.to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&path)))?;
        command
            .current_dir(dir)
            .env("PATH", path)
            .env("NO_COLOR", "1")
            .env("CARGO_TARGET_DIR", workspace().join("target/new-modules"));
        Ok(())
    }

    pub fn shell(&self, dir: &Path, script: &str) -> Result<Output> {
        let mut command = Command::new("sh");
        command.args(["-ec", script]);
        self.prepare(&mut command, dir)?;
        command.output().context("running a shell")
    }

    fn dev(&self, dir: &Path) -> Result<Process> {
        let mut command = Command::new(binary());
        command.arg("dev");
        self.prepare(&mut command, dir)?;
        Process::spawn("slipring dev", &mut command)
    }
}

pub fn replace(file: &Path, from: &str, to: &str) -> Result<()> {
    let text = std::fs::read_to_string(file)?;
    ensure!(text.contains(from), "{from:?} is not in {text}");
    std::fs::write(file, text.replace(from, to)).context("saving")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_new_prints_is_copied_and_works() -> Result<()> {
    let desk = Desk::new()?;
    let made = desk.shell(&desk.path(""), "slipring new my-shop")?;
    exits(&made, 0)?;
    let printed = stdout(&made);
    let steps: Vec<&str> = printed.lines().collect();
    ensure!(
        steps.first() == Some(&"cd my-shop") && steps.last() == Some(&"slipring dev"),
        "{printed}"
    );
    // Pins the versions that the rest of the workspace uses, and needs no network.
    let shop = desk.path("my-shop");
    std::fs::copy(workspace().join("Cargo.lock"), shop.join("Cargo.lock"))?;

    // `slipring up` and `slipring dev` run until they are stopped.
    let until_up = steps.split(|step| *step == "slipring up").next().unwrap_or_default();
    let done = desk.shell(&desk.path(""), &until_up.join("\n"))?;
    exits(&done, 0)?;
    ensure!(stdout(&done).contains("test result: ok. 1 passed"), "{}", stdout(&done));
    ensure!(
        stdout(&done).ends_with("ok       draft\nok       no-status\nok       paid\n"),
        "{}",
        stdout(&done)
    );
    ensure!(stderr(&done).contains("3 cases: 3 passed\n"), "{}", stderr(&done));

    is_small_and_quick_to_build(&desk, &shop)?;
    says_what_a_transform_returns(&desk, &shop)?;
    develops(&desk, &shop).await?;
    refuses_what_is_wrong(&desk, &shop)
}

/// The first build compiles each of these crates, so there are few.
fn is_small_and_quick_to_build(desk: &Desk, shop: &Path) -> Result<()> {
    let wasm = workspace().join("target/new-modules/wasm32-wasip2/release/my_shop.wasm");
    let size = std::fs::metadata(&wasm)?.len();
    ensure!(size < 250_000, "{} has {size} bytes", wasm.display());
    let tree = "cargo tree --offline --target wasm32-wasip2 --edges normal,build --prefix none --format '{p}'";
    let crates = desk.shell(shop, &format!("{tree} | cut -d' ' -f1 | sort -u"))?;
    exits(&crates, 0)?;
    let crates = stdout(&crates);
    ensure!(crates.lines().count() <= 20, "{crates}");
    for heavy in ["wit-bindgen-rust-macro", "wit-parser", "wit-bindgen-core"] {
        ensure!(!crates.contains(heavy), "{crates}");
    }
    Ok(())
}

/// The compiler's errors about a return type, which it reports for the code that the attribute adds.
fn says_what_a_transform_returns(desk: &Desk, shop: &Path) -> Result<()> {
    let source = shop.join("src/lib.rs");
    let before = std::fs::read_to_string(&source)?;
    for (returns, shown) in [
        ("u64", "u64"),
        ("Result<u64>", "std::result::Result<u64, slipring_sdk::Error>"),
    ] {
        let value = if returns == "u64" { "1" } else { "Ok(1)" };
        let wrong = format!(
            "\nmod wrong {{\n    use slipring_sdk::prelude::*;\n\n    #[transform]\n    fn wrong(_message: &Message) -> \
             {returns} {{\n        {value}\n    }}\n}}\n"
        );
        std::fs::write(&source, format!("{before}{wrong}"))?;
        let checked = desk.shell(shop, "cargo check")?;
        exits(&checked, 101)?;
        let error = stderr(&checked);
        for part in [
            &format!("a transform cannot return `{shown}`"),
            &format!("fn wrong(_message: &Message) -> {returns} {{"),
            "this is not an output",
            "a `Publication`, an `Option`, a `Vec` or an array of publications",
        ] {
            ensure!(error.contains(part), "{part:?} is not in\n{error}");
        }
    }
    std::fs::write(&source, before)?;
    Ok(())
}

/// The last step: a save with a change, a save that does not build, and Ctrl-C.
async fn develops(desk: &Desk, shop: &Path) -> Result<()> {
    let source = shop.join("src/lib.rs");
    let mut dev = desk.dev(shop)?;
    let says =
        async |dev: &mut Process, what: &str| dev.line(A_BUILD, what, |line| line.contains(what)).await.map(drop);
    says(&mut dev, "3 cases: 3 passed, 0 failed").await?;
    replace(
        &source,
        "status: order.status }",
        "status: order.status.to_uppercase() }",
    )?;
    says(&mut dev, "3 cases: 2 passed, 1 failed, 1 changed").await?;
    let shown = dev.log();
    ensure!(
        shown
            .iter()
            .any(|line| line.starts_with("    +") && line.contains("\"status\": \"PAID\"")),
        "{shown:#?}"
    );
    replace(&source, "let view = View", "let view: = View")?;
    says(&mut dev, "error: expected type, found `=`").await?;
    says(
        &mut dev,
        "the crate in . does not build: fix the errors that cargo shows above",
    )
    .await?;
    replace(&source, "let view: = View", "let view = View")?;
    replace(&source, "order.status.to_uppercase()", "order.status")?;
    says(&mut dev, "3 cases: 3 passed, 0 failed, 1 changed").await?;
    dev.interrupt()?;
    let status = dev.wait(A_BUILD).await?;
    ensure!(status.code() == Some(0), "{status}");
    Ok(())
}

/// A crate that does not build, and a case with a typo. Each error says what to do.
fn refuses_what_is_wrong(desk: &Desk, shop: &Path) -> Result<()> {
    replace(&shop.join("cases/paid.json"), "\"subject\"", "\"sujbect\"")?;
    let output = desk.shell(shop, "slipring test")?;
    exits(&output, 1)?;
    ensure!(
        stdout(&output).contains("FAILED   paid: cases/paid.json:3:")
            && stdout(&output).contains("unknown field `sujbect`, expected one of `subject`, "),
        "{}",
        stdout(&output)
    );
    ensure!(
        stderr(&output).ends_with("1 of 3 cases failed\n"),
        "{}",
        stderr(&output)
    );

    replace(&shop.join("src/lib.rs"), "fn order(", "fn order")?;
    let output = desk.shell(shop, "slipring test")?;
    exits(&output, 1)?;
    ensure!(stdout(&output).is_empty(), "no case was run: {}", stdout(&output));
    ensure!(
        stderr(&output).contains("error: ")
            && stderr(&output).ends_with("does not build: fix the errors that cargo shows above\n"),
        "{}",
        stderr(&output)
    );
    let again = desk.shell(&desk.path(""), "slipring new my-shop")?;
    exits(&again, 1)?;
    ensure!(
        stderr(&again) == "my-shop already exists: choose another name, or remove it\n",
        "{}",
        stderr(&again)
    );
    Ok(())
}
