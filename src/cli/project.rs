//! The folder that a module is written in: how it is built, what comes out, and what lies beside it.

#[cfg(test)]
mod tests;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use super::failure::Failure;
use crate::config::{self, ModuleConfig};

/// What Rust modules are built for.
pub const TARGET: &str = "wasm32-wasip2";

/// Where a module's cases are, below its folder.
pub const CASES: &str = "cases";

/// How often a build is asked whether it has ended.
const BUILD_POLL: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub struct Project {
    /// As the user named it.
    pub dir: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// An executable `build`, which leaves NAME.wasm beside it. It goes before a Cargo.toml: who has both wants more than
    /// cargo does.
    Script,
    Crate,
    /// It is there, and nothing builds it.
    File(PathBuf),
}

/// What a build made.
#[derive(Debug, PartialEq, Eq)]
pub struct Built {
    /// Of the module: that of the crate, or of the file.
    pub name: String,
    pub wasm: PathBuf,
    /// The module's own configuration, which need not be there.
    pub toml: PathBuf,
}

impl Project {
    /// In a folder, or of a module that is built already.
    pub fn at(path: &Path) -> anyhow::Result<Self> {
        Self::find(path)?.ok_or_else(|| {
            anyhow!(
                "there is no module in {}: it has neither a Cargo.toml nor an executable file `build`. `slipring new NAME` makes \
                 one; a module that is built already can be named: NAME.wasm",
                path.display()
            )
        })
    }

    /// `None`: it is a folder, and there is no module in it.
    pub fn find(path: &Path) -> anyhow::Result<Option<Self>> {
        let shown = path.display();
        let metadata = fs::metadata(path).with_context(|| format!("cannot look at {shown}"))?;
        if metadata.is_file() {
            let wasm = path.extension().is_some_and(|extension| extension == "wasm");
            ensure!(
                wasm,
                "{shown} is neither a folder nor a module, which is called NAME.wasm"
            );
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            return Ok(Some(Self {
                dir: dir.unwrap_or(Path::new(".")).to_owned(),
                kind: Kind::File(path.to_owned()),
            }));
        }
        let kind = if is_executable(&path.join("build")) {
            Kind::Script
        } else if path.join("Cargo.toml").is_file() {
            Kind::Crate
        } else {
            return Ok(None);
        };
        Ok(Some(Self {
            dir: path.to_owned(),
            kind,
        }))
    }

    /// A file below the folder, as it is shown.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        match self.dir == Path::new(".") {
            true => name.as_ref().to_owned(),
            false => self.dir.join(name),
        }
    }

    /// Whether [`Project::build`] does anything.
    pub fn is_built_here(&self) -> bool {
        !matches!(self.kind, Kind::File(_))
    }

    /// The module that something else builds.
    pub fn file(&self) -> Option<&Path> {
        match &self.kind {
            Kind::File(wasm) => Some(wasm),
            Kind::Script | Kind::Crate => None,
        }
    }

    /// Builds it. What the compiler says goes to standard error as it comes.
    pub fn build(&self) -> anyhow::Result<()> {
        self.run_build(|command| command.status().map(Some)).map(|_| ())
    }

    /// The same, until `stop` says that nobody waits for it any more: then all that it started is killed, and this is `None`.
    pub fn build_until(&self, stop: impl Fn() -> bool) -> anyhow::Result<Option<()>> {
        self.run_build(|command| run_until(command, stop))
    }

    fn run_build(
        &self,
        run: impl FnOnce(&mut Command) -> io::Result<Option<ExitStatus>>,
    ) -> anyhow::Result<Option<()>> {
        let mut command = match self.kind {
            Kind::File(_) => return Ok(Some(())),
            // A path with a slash is not looked up in PATH, and is relative to where we are, not to the folder.
            Kind::Script => Command::new(fs::canonicalize(self.dir.join("build")).context("cannot find `build`")?),
            Kind::Crate => {
                let mut cargo = Command::new(cargo());
                cargo.args(["build", "--release", "--target", TARGET]);
                cargo
            }
        };
        // Results of ours go to standard output, what a build says doesn't.
        command
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::from(io::stderr()));
        let what = command.get_program().display().to_string();
        let Some(status) = run(&mut command).with_context(|| cannot_start(&what))? else {
            return Ok(None);
        };
        if status.success() {
            return Ok(Some(()));
        }
        let dir = self.dir.display();
        match self.kind {
            Kind::Crate if !target_is_installed(&self.dir) => bail!(
                "the crate in {dir} does not build, since Rust's target {TARGET} is not installed: `rustup target add {TARGET}`"
            ),
            Kind::Crate => bail!("the crate in {dir} does not build: mend what cargo names above"),
            _ => bail!(
                "{} failed ({status}): mend what it says above",
                self.path("build").display()
            ),
        }
    }

    /// What the last build made.
    pub fn built(&self) -> anyhow::Result<Built> {
        match &self.kind {
            Kind::File(wasm) => Ok(Built::of_file(wasm.clone())),
            Kind::Script => self.only_wasm().map(Built::of_file),
            Kind::Crate => {
                let (name, wasm) = self.artifact()?;
                ensure!(
                    wasm.is_file(),
                    "{} is not there: the crate has not been built, `cargo build --release --target {TARGET}` does it",
                    wasm.display()
                );
                let toml = self.path(format!("{name}.toml"));
                Ok(Built { name, wasm, toml })
            }
        }
    }

    /// The module that a `build` left. Of several, the one that has a configuration.
    fn only_wasm(&self) -> anyhow::Result<PathBuf> {
        let doing = || format!("cannot list {}", self.dir.display());
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).with_context(doing)? {
            let name = PathBuf::from(entry.with_context(doing)?.file_name());
            if name.extension() == Some(OsStr::new("wasm")) {
                found.push(self.path(name));
            }
        }
        found.sort();
        let configured: Vec<&PathBuf> = found
            .iter()
            .filter(|wasm| wasm.with_extension("toml").exists())
            .collect();
        match (found.as_slice(), configured.as_slice()) {
            ([only], _) => Ok(only.clone()),
            (_, [only]) => Ok((*only).clone()),
            ([], _) => bail!(
                "there is no .wasm file in {}: its `build` must leave the module there, as NAME.wasm",
                self.dir.display()
            ),
            _ => {
                let names: Vec<String> = found.iter().map(|wasm| wasm.display().to_string()).collect();
                bail!(
                    "which of these is the module? {}; give one of them its .toml, or name it on the command line",
                    names.join(", ")
                )
            }
        }
    }

    /// The crate's name, and where cargo puts what it makes of it.
    fn artifact(&self) -> anyhow::Result<(String, PathBuf)> {
        let manifest = self.dir.join("Cargo.toml");
        let shown = self.path("Cargo.toml").display().to_string();
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .output()
            .with_context(|| cannot_start("cargo"))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            bail!("cargo can't read {shown}: {}", words.trim());
        }
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).context("reading what cargo says of the crate")?;
        let manifest = fs::canonicalize(&manifest).with_context(|| format!("cannot look at {shown}"))?;
        let package = metadata
            .packages
            .into_iter()
            .find(|package| fs::canonicalize(&package.manifest_path).is_ok_and(|path| path == manifest))
            .ok_or_else(|| {
                anyhow!("{shown} is a workspace without a crate of its own: name the folder of one of its crates")
            })?;
        let library = package
            .targets
            .iter()
            .find(|target| target.crate_types.iter().any(|kind| kind == "cdylib"));
        let library = library.ok_or_else(|| {
            anyhow!(
                "the crate {} makes no module: add `[lib]` with `crate-type = [\"cdylib\", \"rlib\"]` to {shown}",
                package.name
            )
        })?;
        // Files are named with underscores.
        let file = format!("{}.wasm", library.name.replace('-', "_"));
        let wasm = metadata.target_directory.join(TARGET).join("release").join(file);
        Ok((package.name, relative(wasm)))
    }
}

impl Built {
    fn of_file(wasm: PathBuf) -> Self {
        Self {
            name: wasm.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            toml: wasm.with_extension("toml"),
            wasm,
        }
    }

    /// The module's own configuration; the defaults if there is none.
    pub fn config(&self, stream: &str) -> Result<ModuleConfig, Failure> {
        match self.toml.exists() {
            true => Ok(config::load_module(&self.toml)?),
            false => Ok(ModuleConfig::new(&self.name, stream)),
        }
    }
}

/// See <https://doc.rust-lang.org/cargo/commands/cargo-metadata.html>.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<CargoTarget>,
}

#[derive(Deserialize)]
struct CargoTarget {
    name: String,
    crate_types: Vec<String>,
}

/// Whether Rust can build for [`TARGET`] in this folder, which may choose a toolchain of its own (`rust-toolchain.toml`); yes if it
/// can't be found out.
pub fn target_is_installed(dir: &Path) -> bool {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(dir)
        .stderr(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir(),
        _ => true,
    }
}

/// The one that runs us, if one does: a toolchain is chosen by it.
fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn cannot_start(what: &str) -> String {
    match what {
        "cargo" => "cannot start cargo, which comes with Rust: https://rustup.rs".to_owned(),
        other => format!("cannot start {other}"),
    }
}

/// To the end, or until `stop`. In a process group of its own, so that what a script started ends with it; Ctrl-C in a terminal
/// does not reach that group, which is why `stop` must know of it.
fn run_until(command: &mut Command, stop: impl Fn() -> bool) -> io::Result<Option<ExitStatus>> {
    let mut child = command.process_group(0).spawn()?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if stop() {
            // Not waited for yet, so its id is still its own.
            kill_process_group(Pid::from_child(&child), Signal::KILL)?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(BUILD_POLL);
    }
}

/// Shorter to read, where it is below the working directory.
fn relative(path: PathBuf) -> PathBuf {
    let here = env::current_dir().and_then(fs::canonicalize);
    let below = here
        .ok()
        .and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    below.unwrap_or(path)
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
