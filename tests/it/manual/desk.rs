//! The desk of a reader of the manual: an empty folder, a shell that knows `slipring` and both servers, and more
//! terminals.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use slipring_support::eventually;
use slipring_support::process::Process;
use slipring_support::servers::tool;
use slipring_support::workspace;
use tempfile::TempDir;

use super::super::world::binary;
use super::expected::{contains, matches};
use super::page::{Block, Kind, Page};

/// How long a terminal or command may take to print what the page says. It is long, because a build of everything may
/// come first, beside all other tests.
const PATIENCE: Duration = Duration::from_secs(300);

/// Programs that the reader has on the PATH.
const SERVERS: [&str; 2] = ["nats-server", "centrifugo"];

pub struct Desk {
    terminals: BTreeMap<String, Terminal>,
    folder: TempDir,
    /// The variable that says where builds are shared with other runs, and its value.
    builds: (&'static str, PathBuf),
    /// The shell's working directory.
    here: PathBuf,
    begun: Instant,
    transcript: String,
}

struct Terminal {
    process: Process,
    /// Lines that were compared.
    seen: usize,
}

impl Desk {
    /// The folder `builds` in `target` holds what is compiled, and `variable` tells it cargo or Slipring. Cargo takes crates of
    /// the same name for the same one there, so two desks at once need two folders.
    pub fn open(variable: &'static str, builds: &str) -> Result<Self> {
        let folder = TempDir::with_prefix("slipring-manual-")?;
        Ok(Self {
            terminals: BTreeMap::new(),
            here: std::fs::canonicalize(folder.path())?,
            begun: Instant::now(),
            transcript: String::new(),
            folder,
            builds: (variable, workspace().join("target").join(builds)),
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
                self.pin_versions()?;
                // `exec` replaces the shell, so that the command itself is ended with the terminal.
                let mut command = self.command(&format!("exec {}", block.text))?;
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
        let output = self.command(&script)?.output().context("starting sh")?;
        let printed = self.as_in_the_manual(&String::from_utf8_lossy(&output.stdout));
        let code = output.status.code();
        ensure!(
            code == Some(i32::from(fails)),
            "it exited with {code:?} and printed\n{printed}"
        );
        self.here = std::fs::read_to_string(left)?.trim_end().into();
        Ok(printed)
    }

    fn command(&self, script: &str) -> Result<Command> {
        let mut command = Command::new("sh");
        // The servers of this page are its own, whatever the machine has.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SLIPRING_") {
                command.env_remove(name);
            }
        }
        command
            .args(["-ec", script])
            .current_dir(&self.here)
            .env("PATH", path()?)
            .env("NO_COLOR", "1")
            .env("XDG_RUNTIME_DIR", self.folder.path())
            // The results still go below the crate's own `target`.
            .env(self.builds.0, &self.builds.1);
        Ok(command)
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
        let folder = self.folder.path().display().to_string();
        let terminal = self
            .terminals
            .get_mut(name)
            .with_context(|| format!("no terminal {name}"))?;
        let seen = terminal.seen;
        let shown = eventually(PATIENCE, format!("that in the terminal {name}"), async || {
            let log = terminal.process.log();
            let lines = log[seen.min(log.len())..].join("\n").replace(&folder, "~");
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
        let shared = workspace().display().to_string();
        printed.replace(&folder, "~").replace(&shared, "…")
    }
}

/// Returns a change without the lines that begin with `other`.
fn side(change: &str, other: char) -> String {
    let lines = change.lines().filter(|line| !line.starts_with(other));
    lines
        .map(|line| format!("{}\n", line.get(1..).unwrap_or_default()))
        .collect()
}

/// Returns the PATH: the built `slipring`, the servers' own programs, and this machine's own PATH.
fn path() -> Result<std::ffi::OsString> {
    let mut folders: Vec<PathBuf> = Vec::new();
    folders.extend(Path::new(binary()).parent().map(Path::to_owned));
    // What is only in the comments of the pages.
    folders.push(workspace().join("tests/it/manual"));
    for server in SERVERS {
        folders.extend(tool(server)?.parent().map(Path::to_owned));
    }
    let machine = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&machine));
    Ok(std::env::join_paths(folders)?)
}
