//! `slipring up`: everything on one machine, from an empty folder to an event at a subscriber.

mod ended;
mod errors;
mod first_event;
mod lives;
mod publish;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use slipring_support::process::Process;
use slipring_support::servers::tool;
use slipring_support::subscriber::Subscriber;
use slipring_support::{eventually, guests, http_client, workspace};

use super::world::{SOON, binary};

/// How long a build of a new crate with its dependencies may take on a busy machine.
const A_BUILD: Duration = Duration::from_secs(300);

/// An empty folder in which commands are typed.
struct Desk(tempfile::TempDir);

/// `slipring up` after it has said where everything is.
struct Up {
    process: Process,
    nats: String,
    websocket: String,
    page: String,
    /// The line to publish a message.
    publish: Option<String>,
}

impl Desk {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::TempDir::with_prefix("slipring-up-")?))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        let dir = path.parent().context("a folder")?;
        fs::create_dir_all(dir)?;
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }

    /// Puts a guest there, as a module that is built already.
    fn add_guest(&self, guest: &str, wasm: &str, toml: &str) -> Result<()> {
        let target = self.path(wasm);
        fs::create_dir_all(target.parent().context("a folder")?)?;
        fs::copy(guests::component(guest)?, &target)?;
        self.write(&wasm.replace(".wasm", ".toml"), toml)
    }

    /// Returns a command line in this folder or one in it. Both servers are on the PATH, and this `slipring`.
    fn command(&self, dir: &str, program: &str) -> Result<Command> {
        let folder = |program: &Path| program.parent().map(Path::to_owned).context("a folder");
        let mut path = vec![
            folder(Path::new(binary()))?,
            folder(&tool("nats-server")?)?,
            folder(&tool("centrifugo")?)?,
        ];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let mut command = Command::new(program);
        command
            .current_dir(self.path(dir))
            .env("PATH", std::env::join_paths(path)?)
            .env("NO_COLOR", "1")
            // A token of its own, where the relay would save one.
            .env("XDG_RUNTIME_DIR", self.0.path())
            // Dependencies are built once.
            .env("CARGO_TARGET_DIR", workspace().join("target/new-modules"));
        Ok(command)
    }

    fn slipring(&self, dir: &str, arguments: &[&str]) -> Result<Output> {
        self.command(dir, binary())?
            .args(arguments)
            .output()
            .context("running slipring")
    }

    /// Types a line into a shell.
    fn types(&self, dir: &str, line: &str) -> Result<String> {
        let output = self.command(dir, "sh")?.args(["-ec", line]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{line}: {}\n{text}\n{errors}", output.status);
        Ok(text)
    }

    fn start(&self, dir: &str, arguments: &[&str]) -> Result<Process> {
        let mut command = self.command(dir, binary())?;
        command.args(["up", "--no-open"]).args(arguments);
        Process::spawn("slipring up", &mut command)
    }

    async fn up(&self, dir: &str, arguments: &[&str]) -> Result<Up> {
        Up::ready(self.start(dir, arguments)?).await
    }

    /// Returns the processes that work in this folder or in one below it, without those of this test.
    fn processes(&self) -> Vec<String> {
        let Ok(root) = fs::canonicalize(self.0.path()) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let works_here = fs::read_link(process.path().join("cwd")).is_ok_and(|dir| dir.starts_with(&root));
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            if works_here && !line.is_empty() {
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                found.push(format!("{} {line}", process.file_name().display()));
            }
        }
        found
    }

    /// Waits until nothing that was started here is left.
    async fn is_deserted(&self) -> Result<()> {
        let gone = async || match self.processes().as_slice() {
            [] => Ok(()),
            left => Err(format!("{left:#?}")),
        };
        eventually(SOON, "all processes to end", gone).await
    }
}

impl Up {
    async fn ready(mut process: Process) -> Result<Self> {
        process
            .line(A_BUILD, "the introduction", |line| line == "Ctrl-C ends all of it.")
            .await?;
        let log = process.log();
        let address = |name: &str| {
            let row = log.iter().find(|line| line.split_whitespace().next() == Some(name));
            row.and_then(|row| row.split_whitespace().nth(1)).map(str::to_owned)
        };
        let after = |head: &str| {
            let mut lines = log.iter().skip_while(|line| !line.starts_with(head)).skip(1);
            lines.next().map(|line| line.trim().to_owned())
        };
        Ok(Self {
            nats: address("NATS").context("the address of NATS")?,
            websocket: address("Centrifugo").context("the address of Centrifugo")?,
            page: after("The page where events arrive:").context("the address of the page")?,
            publish: after("Next, in another terminal:").filter(|line| line.starts_with("slipring publish")),
            process,
        })
    }

    async fn says(&mut self, text: &str) -> Result<String> {
        self.process.line(A_BUILD, text, |line| line.contains(text)).await
    }

    async fn subscribe(&self, channel: &str) -> Result<Subscriber> {
        Subscriber::connect(&self.websocket, [channel]).await
    }

    /// Returns the reply of the relay to the page, which has its token from its address.
    async fn ask(&self, path: &str) -> Result<Value> {
        let (base, place) = self.page.split_once('#').context("a view")?;
        let (_, token) = place.split_once("?token=").context("a token")?;
        let request = http_client().get(format!("{base}{path}")).bearer_auth(token);
        let text = request.send().await?.error_for_status()?.text().await?;
        serde_json::from_str(&text).with_context(|| format!("reading {text}"))
    }

    /// Does what Ctrl-C does, and waits for the end.
    async fn ctrl_c(mut self) -> Result<Vec<String>> {
        self.process.interrupt()?;
        let status = self.process.wait(SOON).await?;
        ensure!(status.success(), "{status}: {}", self.process.tail());
        Ok(self.process.log())
    }
}

/// Returns standard error of a command that failed with this code.
fn failed(output: &Output, code: i32) -> Result<String> {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(code), "{}: {errors}", output.status);
    Ok(errors)
}

const ORDERS: &str = "stream = \"ORDERS\"\nsubjects = [\"orders.>\"]\n";

/// An order that the example publishes to `orders:7`.
const AN_ORDER: &str = r#"{"id":7,"revision":1,"status":"paid","lines":[]}"#;
