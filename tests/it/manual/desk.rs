//! The desk of a reader of the manual: an empty folder, a shell that knows `slipring` and `nats`, more terminals,
//! and both servers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use slipring_support::eventually;
use slipring_support::process::Process;
use slipring_support::servers::{Centrifugo, NatsServer, tool};
use slipring_support::workspace;
use tempfile::TempDir;

use super::super::world::binary;
use super::expected::{contains, matches};
use super::page::{Block, Kind, Page};

/// How long a terminal or command may take to print what the page says. It is long, because a build of everything may
/// come first, beside all other tests.
const PATIENCE: Duration = Duration::from_secs(300);

/// Centrifugo's key in the manual.
const API_KEY: &str = "keep-this-secret";

pub struct Desk {
    // Declared before the servers, because they must be dropped first.
    terminals: BTreeMap<String, Terminal>,
    folder: TempDir,
    /// The shell's working directory.
    here: PathBuf,
    /// The addresses in the manual, and the actual ones.
    addresses: [(&'static str, String); 3],
    /// Where the relay saves the token for commands.
    runtime: TempDir,
    begun: Instant,
    transcript: String,
    _servers: (NatsServer, Centrifugo),
}

struct Terminal {
    process: Process,
    /// Lines that were compared.
    seen: usize,
}

impl Desk {
    pub async fn open() -> Result<Self> {
        let nats = NatsServer::start().await?;
        let channels = centrifugo_of_the_manual()?["channel"].take();
        let mut centrifugo = Centrifugo::prepare(|config| config["channel"] = channels)?;
        centrifugo.restart_with_key(API_KEY).await?;
        let folder = TempDir::with_prefix("slipring-manual-")?;
        // The kernel chooses a free port, and the relay takes it a moment later.
        let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let host = |url: String| url.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Self {
            terminals: BTreeMap::new(),
            here: std::fs::canonicalize(folder.path())?,
            addresses: [
                ("127.0.0.1:4222", host(nats.url())),
                ("127.0.0.1:8000", host(centrifugo.url())),
                ("127.0.0.1:8787", admin),
            ],
            runtime: TempDir::with_prefix("slipring-manual-run-")?,
            begun: Instant::now(),
            transcript: String::new(),
            _servers: (nats, centrifugo),
            folder,
        })
    }

    /// Returns what was typed and printed, and every difference from the page.
    pub async fn follow(mut self, page: &Page) -> Result<(String, Vec<String>)> {
        let mut wrong = Vec::new();
        let mut blocks = page.blocks.iter().peekable();
        while let Some(block) = blocks.next() {
            let output = blocks.next_if(|next| next.kind == Kind::Output);
            if let Err(error) = self.block(block, output).await {
                wrong.push(format!("{}:{}: {error:#}", page.name, block.line));
            }
        }
        if !wrong.is_empty() {
            wrong.extend(self.terminals.values().map(|terminal| terminal.process.tail()));
        }
        Ok((self.transcript, wrong))
    }

    async fn block(&mut self, block: &Block, output: Option<&Block>) -> Result<()> {
        match &block.kind {
            Kind::Command { until: true, .. } => {
                let output = output.context("it must be followed by what is waited for")?;
                let mut last = String::new();
                let typed = async || -> Result<()> {
                    last = self.shell(&block.text, false)?;
                    ensure!(matches(&output.text, &last), "it printed\n{last}");
                    Ok(())
                };
                let waited = eventually(PATIENCE, "what the page says", typed).await;
                self.note(&block.text, &last);
                waited
            }
            Kind::Command { fails, .. } => {
                let printed = self.shell(&block.text, *fails)?;
                self.note(&block.text, &printed);
                match output {
                    Some(output) if !matches(&output.text, &printed) => bail!("it printed\n{printed}"),
                    _ => Ok(()),
                }
            }
            Kind::Terminal(name) => {
                self.note(&block.text, "");
                // `exec` replaces the shell, so that the command itself is ended with the terminal.
                let mut command = self.command(&format!("exec {}", block.text));
                let process = Process::spawn(name, &mut command)?;
                self.terminals.insert(name.clone(), Terminal { process, seen: 0 });
                Ok(())
            }
            Kind::TerminalOutput(name) => self.appears(name, &block.text).await,
            Kind::File(path) => self.save(path, &block.text),
            Kind::Change(path) => self.change(path, &block.text),
            Kind::Output => bail!("there is no command before it"),
            Kind::NotRun => Ok(()),
        }
    }

    /// Runs a script where the one before ended, and returns its output of both streams.
    fn shell(&mut self, script: &str, fails: bool) -> Result<String> {
        self.pin_versions()?;
        let left = self.folder.path().join(".left-in");
        let script = format!("exec 2>&1\ntrap 'pwd >{}' EXIT\n{script}", left.display());
        let output = self.command(&script).output().context("starting sh")?;
        let printed = self.as_in_the_manual(&String::from_utf8_lossy(&output.stdout));
        let code = output.status.code();
        ensure!(
            code == Some(i32::from(fails)),
            "it exited with {code:?} and printed\n{printed}"
        );
        self.here = std::fs::read_to_string(left)?.trim_end().into();
        Ok(printed)
    }

    fn command(&self, script: &str) -> Command {
        let mut script = script.to_owned();
        for (manual, here) in &self.addresses {
            script = script.replace(manual, here);
        }
        let [(_, nats), (_, centrifugo), (_, admin)] = &self.addresses;
        let mut command = Command::new("sh");
        command
            .args(["-ec", &script])
            .current_dir(&self.here)
            .env("PATH", path())
            .env("NO_COLOR", "1")
            .env("XDG_RUNTIME_DIR", self.runtime.path())
            .env("NATS_URL", format!("nats://{nats}"))
            .env("SLIPRING_NATS__SERVERS", format!("nats://{nats}"))
            .env("SLIPRING_CENTRIFUGO__ENDPOINTS", format!("http://{centrifugo}"))
            .env("SLIPRING_ADMIN__LISTEN", admin)
            // Shares builds between runs. The results still go below the crate's own `target`.
            .env("CARGO_BUILD_BUILD_DIR", workspace().join("target/manual"));
        command
    }

    /// Pins the versions that the rest of the workspace uses, and needs no network.
    fn pin_versions(&self) -> Result<()> {
        for entry in std::fs::read_dir(self.folder.path())? {
            let dir = entry?.path();
            if dir.join("Cargo.toml").exists() && !dir.join("Cargo.lock").exists() {
                std::fs::copy(workspace().join("Cargo.lock"), dir.join("Cargo.lock"))?;
            }
        }
        Ok(())
    }

    async fn appears(&mut self, name: &str, expected: &str) -> Result<()> {
        let addresses = self.addresses.clone();
        let terminal = self
            .terminals
            .get_mut(name)
            .with_context(|| format!("no terminal {name}"))?;
        let seen = terminal.seen;
        let shown = eventually(PATIENCE, format!("that in the terminal {name}"), async || {
            let log = terminal.process.log();
            let lines = manual_addresses(&addresses, &log[seen.min(log.len())..].join("\n"));
            terminal.seen = log.len();
            contains(expected, &lines)
                .then(|| lines.clone())
                .ok_or_else(|| anyhow!("it shows\n{lines}"))
        })
        .await?;
        let at = self.begun.elapsed().as_secs_f64();
        let _ = writeln!(self.transcript, "[{at:5.1} s, terminal {name}]\n{shown}\n");
        Ok(())
    }

    fn save(&mut self, path: &Path, text: &str) -> Result<()> {
        let file = self.here.join(path);
        std::fs::create_dir_all(file.parent().context("a folder")?)?;
        std::fs::write(&file, text).with_context(|| format!("writing {}", path.display()))?;
        self.note_edit(path, text);
        Ok(())
    }

    /// Lines with `-` are removed, lines with `+` are added, and the others say where. `@@` begins another place.
    fn change(&mut self, path: &Path, change: &str) -> Result<()> {
        let file = self.here.join(path);
        let mut text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", path.display()))?;
        for place in change.split("@@\n") {
            let (before, after) = (side(place, '+'), side(place, '-'));
            ensure!(
                text.matches(&before).count() == 1,
                "{} does not hold once\n{before}",
                path.display()
            );
            text = text.replace(&before, &after);
        }
        std::fs::write(&file, text)?;
        self.note_edit(path, change);
        Ok(())
    }

    fn note_edit(&mut self, path: &Path, text: &str) {
        let at = self.begun.elapsed().as_secs_f64();
        let _ = writeln!(
            self.transcript,
            "[{at:5.1} s] an editor saves {}:\n{text}",
            path.display()
        );
    }

    fn note(&mut self, typed: &str, printed: &str) {
        let at = self.begun.elapsed().as_secs_f64();
        let typed: String = typed.lines().map(|line| format!("$ {line}\n")).collect();
        let _ = writeln!(self.transcript, "[{at:5.1} s]\n{typed}{printed}");
    }

    fn as_in_the_manual(&self, printed: &str) -> String {
        let folder = self.folder.path().display().to_string();
        manual_addresses(&self.addresses, printed).replace(&folder, "~")
    }
}

/// Returns a change without the lines that begin with `other`.
fn side(change: &str, other: char) -> String {
    let lines = change.lines().filter(|line| !line.starts_with(other));
    lines
        .map(|line| format!("{}\n", line.get(1..).unwrap_or_default()))
        .collect()
}

fn manual_addresses(addresses: &[(&'static str, String)], printed: &str) -> String {
    let known = addresses.iter();
    known.fold(printed.to_owned(), |text, (manual, here)| text.replace(here, manual))
}

/// Returns the PATH: the built `slipring`, the stand-in for `nats`, the servers' own programs, and this
/// machine's own PATH.
fn path() -> std::ffi::OsString {
    let programs = [
        Path::new(binary()).parent().map(Path::to_owned),
        Some(workspace().join("tests/it/manual")),
        tool("centrifugo")
            .ok()
            .and_then(|program| program.parent().map(Path::to_owned)),
    ];
    let machine = std::env::var_os("PATH").unwrap_or_default();
    let all = programs.into_iter().flatten().chain(std::env::split_paths(&machine));
    std::env::join_paths(all).unwrap_or(machine)
}

/// Returns the file that the first page has its reader write.
fn centrifugo_of_the_manual() -> Result<Value> {
    let page = Page::read(&workspace().join("docs/first-transform.md"))?;
    let file = Kind::File("centrifugo.json".into());
    let block = page.blocks.into_iter().find(|block| block.kind == file);
    let text = block.context("centrifugo.json is not in docs/first-transform.md")?.text;
    serde_json::from_str(&text).context("reading centrifugo.json")
}
