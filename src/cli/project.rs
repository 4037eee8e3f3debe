//! The folder of a module: how it is built, what the build produces, and which files are beside it.

pub mod build_cache;
pub mod spelling;
#[cfg(test)]
mod tests;

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, PipeWriter};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use self::build_cache::Goal;
use super::failure::Failure;
use crate::config::{self, ModuleConfig};

/// The target that Rust modules are built for.
pub const TARGET: &str = "wasm32-wasip2";

/// The folder of the SDK's sources, below that of a crate which `slipring new` made.
pub const SDK_FOLDER: &str = "vendor/slipring-sdk";

/// The folder of a module's cases, below its own folder.
pub const CASES: &str = "cases";

/// How often a running build is checked.
const BUILD_POLL: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub struct Project {
    /// The path as the user gave it.
    pub dir: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// An executable `build`, which leaves NAME.wasm beside it. It has precedence over a Cargo.toml, because a module
    /// with both needs more than cargo does.
    Script,
    Crate,
    /// A prebuilt module that nothing here builds.
    File(PathBuf),
}

/// The result of a build.
#[derive(Debug, PartialEq, Eq)]
pub struct Built {
    /// The name of the module, taken from the crate or the file.
    pub name: String,
    pub wasm: PathBuf,
    /// The module's own configuration, which is optional.
    pub toml: PathBuf,
}

impl Project {
    /// Opens a folder or a prebuilt module.
    pub fn at(path: &Path) -> anyhow::Result<Self> {
        Self::find(path)?.ok_or_else(|| {
            anyhow!(
                "there is no module in {}: it has neither a Cargo.toml nor an executable file `build`. {}",
                path.display(),
                advice(path)
            )
        })
    }

    /// Returns `None` for a folder without a module.
    pub fn find(path: &Path) -> anyhow::Result<Option<Self>> {
        let shown = path.display();
        let metadata = fs::metadata(path).with_context(|| format!("cannot access {shown}"))?;
        if metadata.is_file() {
            let wasm = path.extension().is_some_and(|extension| extension == "wasm");
            ensure!(wasm, "{shown} is neither a folder nor a module (NAME.wasm)");
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

    /// Returns a file below the folder, in the form in which it is shown.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        match self.dir == Path::new(".") {
            true => name.as_ref().to_owned(),
            false => self.dir.join(name),
        }
    }

    /// Returns true if [`Project::build`] does anything.
    pub fn is_built_here(&self) -> bool {
        !matches!(self.kind, Kind::File(_))
    }

    /// Returns the name of the module, which need not be built yet.
    pub fn name(&self) -> anyhow::Result<String> {
        match &self.kind {
            Kind::File(wasm) => Ok(Built::of_file(wasm.clone()).name),
            Kind::Crate => Ok(self.artifact()?.0),
            // Its `build` leaves a file with the name, which most often is that of the folder.
            Kind::Script => self.only_wasm().map(|wasm| Built::of_file(wasm).name).or_else(|error| {
                let dir = fs::canonicalize(&self.dir).context("cannot find the module's folder")?;
                let name = dir.file_name().and_then(OsStr::to_str);
                name.map(str::to_owned).ok_or(error)
            }),
        }
    }

    /// Returns the path of a prebuilt module.
    pub fn file(&self) -> Option<&Path> {
        match &self.kind {
            Kind::File(wasm) => Some(wasm),
            Kind::Script | Kind::Crate => None,
        }
    }

    /// Builds the module. The compiler's output goes to standard error as it comes.
    pub fn build(&self) -> anyhow::Result<()> {
        self.run_build(|command| command.status().map(Some)).map(|_| ())
    }

    /// Builds the module until `stop` returns true. Then everything that the build started is killed, and the result is
    /// `None`.
    pub fn build_until(&self, stop: impl Fn() -> bool) -> anyhow::Result<Option<()>> {
        self.run_build(|command| run_until(command, &stop))
    }

    /// Does the same, and the compiler's output goes to `output`.
    pub fn build_into(&self, output: &PipeWriter, stop: impl Fn() -> bool) -> anyhow::Result<Option<()>> {
        self.run_build(|command| {
            command.stdout(output.try_clone()?).stderr(output.try_clone()?);
            run_until(command, &stop)
        })
    }

    fn run_build(
        &self,
        mut run: impl FnMut(&mut Command) -> io::Result<Option<ExitStatus>>,
    ) -> anyhow::Result<Option<()>> {
        let mut command = match self.kind {
            Kind::File(_) => return Ok(Some(())),
            // A path with a slash is not looked up in PATH, and is relative to the working directory, not to the
            // folder.
            Kind::Script => Command::new(fs::canonicalize(self.dir.join("build")).context("cannot find `build`")?),
            Kind::Crate => {
                if build_cache::fill(&self.dir, Goal::Module, &mut run).is_none() {
                    return Ok(None);
                }
                let mut cargo = Command::new(cargo());
                cargo.args(["build", "--release", "--target", TARGET]);
                cargo
            }
        };
        // Standard output is only for this program's results, so the output of the build goes elsewhere.
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
                "the crate in {dir} does not build, because Rust's target {TARGET} is not installed: run `rustup \
                 target add {TARGET}`"
            ),
            Kind::Crate => bail!("the crate in {dir} does not build: fix the errors that cargo shows above"),
            _ => bail!(
                "{} failed ({status}): fix the errors above",
                self.path("build").display()
            ),
        }
    }

    /// Returns the result of the last build.
    pub fn built(&self) -> anyhow::Result<Built> {
        match &self.kind {
            Kind::File(wasm) => Ok(Built::of_file(wasm.clone())),
            Kind::Script => self.only_wasm().map(Built::of_file),
            Kind::Crate => {
                let (name, wasm) = self.artifact()?;
                ensure!(
                    wasm.is_file(),
                    "{} does not exist: build the crate with `cargo build --release --target {TARGET}`",
                    wasm.display()
                );
                let toml = spelling::toml(self.path(format!("{name}.toml")));
                Ok(Built { name, wasm, toml })
            }
        }
    }

    /// Returns the module that a `build` left. If there are several, returns the one with a configuration.
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
            .filter(|wasm| spelling::toml(wasm.with_extension("toml")).exists())
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
                    "cannot tell which of these is the module: {}. Put a .toml beside one of them, or name it on the \
                     command line",
                    names.join(", ")
                )
            }
        }
    }

    /// Returns the crate's name and the path of its build artifact.
    fn artifact(&self) -> anyhow::Result<(String, PathBuf)> {
        let manifest = self.dir.join("Cargo.toml");
        let shown = self.path("Cargo.toml").display().to_string();
        let metadata = metadata(&self.dir)?;
        let manifest = fs::canonicalize(&manifest).with_context(|| format!("cannot access {shown}"))?;
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
                "the crate {} does not build a module: add `[lib]` with `crate-type = [\"cdylib\", \"rlib\"]` to {shown}",
                package.name
            )
        })?;
        // File names have underscores.
        let file = format!("{}.wasm", library.name.replace('-', "_"));
        let wasm = metadata.target_directory.join(TARGET).join("release").join(file);
        Ok((package.name, relative(wasm)))
    }
}

impl Built {
    fn of_file(wasm: PathBuf) -> Self {
        Self {
            name: wasm.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            toml: spelling::toml(wasm.with_extension("toml")),
            wasm,
        }
    }

    /// Reads the module's own configuration, or returns the defaults if there is none.
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
    /// For intermediate files, since cargo 1.91.
    build_directory: Option<PathBuf>,
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

fn metadata(dir: &Path) -> anyhow::Result<Metadata> {
    let output = Command::new(cargo())
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .with_context(|| cannot_start("cargo"))?;
    if !output.status.success() {
        let manifest = if dir == Path::new(".") {
            PathBuf::from("Cargo.toml")
        } else {
            dir.join("Cargo.toml")
        };
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("cargo cannot read {}: {}", manifest.display(), words.trim());
    }
    serde_json::from_slice(&output.stdout).context("reading cargo's description of the crate")
}

/// Returns what to do in a folder that is not that of a module.
fn advice(path: &Path) -> String {
    let is_module = |dir: &PathBuf| dir.is_dir() && matches!(Project::find(dir), Ok(Some(_)));
    let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let mut modules: Vec<String> = entries
        .map(|entry| entry.path())
        .filter(is_module)
        .filter_map(|dir| Some(dir.file_name()?.to_str()?.to_owned()))
        .filter(|name| !name.starts_with('.'))
        .collect();
    modules.sort();
    match modules.as_slice() {
        [] => "Create one with `slipring new NAME`, or name a module that is already built: NAME.wasm".to_owned(),
        [only] => format!("Name the folder of the one in it: {only}"),
        several => format!("Name the folder of one of those in it: {}", several.join(", ")),
    }
}

/// Returns true if Rust can build for [`TARGET`] in this folder, which may choose its own toolchain
/// (`rust-toolchain.toml`). Also returns true if this cannot be determined.
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

/// Returns the cargo that runs this program, if any, because it determines the toolchain.
pub(super) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn cannot_start(what: &str) -> String {
    match what {
        "cargo" => "cannot start cargo, which comes with Rust: https://rustup.rs".to_owned(),
        other => format!("cannot start {other}"),
    }
}

/// Runs the command to its end or until `stop` returns true. It runs in its own process group, so everything that a
/// script starts ends with it. Ctrl-C in a terminal does not reach that group, so `stop` must handle it.
pub(super) fn run_until(command: &mut Command, stop: impl Fn() -> bool) -> io::Result<Option<ExitStatus>> {
    let mut child = command.process_group(0).spawn()?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if stop() {
            // The process was not waited for yet, so its id cannot belong to another one.
            kill_process_group(Pid::from_child(&child), Signal::KILL)?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(BUILD_POLL);
    }
}

/// Shortens a path below the working directory.
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
