//! Builds a version and checks what can be checked without a relay.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, anyhow, bail, ensure};

use super::super::case;
use super::super::failure::Failure;
use super::super::project::build_cache::{self, Goal};
use super::super::project::{CASES, Project, cargo};
use super::super::runner::Runner;
use super::super::test_cases;
use super::super::try_module;
use super::super::wasm_file::read_wasm;
use super::lines::Lines;
use super::options::Options;
use super::target::Target;
use crate::config::{self, Config, ModuleConfig};
use crate::modules::versions::Id;
use crate::transform::Module;

/// A version that may go out.
#[derive(Debug)]
pub struct Ready {
    /// The name of the module where it goes.
    pub name: String,
    pub wasm: Vec<u8>,
    pub toml: String,
    pub config: ModuleConfig,
    pub id: Id,
    /// Loaded with its settings, under its name.
    pub module: Arc<Module>,
}

impl Ready {
    pub fn make(
        project: &Project,
        target: &Target,
        options: &Options,
        config: &Config,
        lines: &mut Lines<'_>,
    ) -> Result<Self, Failure> {
        if project.is_built_here() {
            lines.say(format_args!("building {}", project.dir.display()))?;
            project.build()?;
        }
        let mut runner = Runner::new(project.built()?)?;
        let built = runner.built();
        let wasm_path = built.wasm.clone();
        let bounds = config.modules.bounds;
        let wasm = read_wasm(&wasm_path, &bounds);
        let wasm = wasm.with_context(|| format!("cannot read the module {}", wasm_path.display()))?;
        lines.say(format_args!(
            "{}, {} KiB",
            wasm_path.display(),
            wasm.len().div_ceil(1024)
        ))?;

        let name = target.name_of(&built.name, lines)?;
        let own_toml = built.toml.exists().then(|| built.toml.clone());
        let (toml, toml_path) = settings(own_toml.as_deref(), &built.toml, target, &name, lines)?;
        let module_config = config::parse_module(&toml_path, &toml)?;
        let is_loaded_as_it_will_be = own_toml.is_some() && built.name == name;
        // A module that does not load fails here, before any test.
        let module = match is_loaded_as_it_will_be {
            true => runner.module()?,
            false => try_module::load(&wasm_path, &name, &module_config, bounds)?,
        };
        config::check_sha256(&name, &module_config, module.sha256())?;
        let id = Id::of(&wasm, &toml);
        ensure(&id, &module, &wasm_path)?;

        if !options.no_test {
            run_unit_tests(project, lines)?;
            run_cases(project, &mut runner, lines)?;
        }
        Ok(Self {
            name,
            wasm,
            toml,
            config: module_config,
            id,
            module,
        })
    }
}

/// Another build may have replaced the file in between.
fn ensure(id: &Id, module: &Module, path: &Path) -> anyhow::Result<()> {
    ensure!(
        *id.wasm_sha256 == **module.sha256(),
        "{} changed while it was being read; try again when nothing else builds it",
        path.display()
    );
    Ok(())
}

/// Returns the text of the `.toml` that goes out, and the path to name in errors.
fn settings(
    own: Option<&Path>,
    expected: &Path,
    target: &Target,
    name: &str,
    lines: &mut Lines<'_>,
) -> anyhow::Result<(String, PathBuf)> {
    if let Some(own) = own {
        let text = fs::read_to_string(own).with_context(|| format!("cannot read {}", own.display()))?;
        // The module is named after the file.
        return Ok((text, own.with_file_name(format!("{name}.toml"))));
    }
    let file = format!("{name}.toml");
    match target.toml_of(name)? {
        Some(text) => {
            lines.say(format_args!(
                "{} does not exist, so {file} stays as it is there",
                expected.display()
            ))?;
            Ok((text, file.into()))
        }
        None => bail!(
            "{} does not exist, and a relay runs no module without one. Create it, with at least `stream = \"NAME\"`",
            expected.display()
        ),
    }
}

/// Runs what the language has for tests, if the folder is in a language whose tests are known.
fn run_unit_tests(project: &Project, lines: &mut Lines<'_>) -> Result<(), Failure> {
    let dir = &project.dir;
    let mut command = match () {
        () if !project.is_built_here() => return Ok(()),
        () if dir.join("Cargo.toml").is_file() => {
            let mut command = Command::new(cargo());
            command.arg("test");
            command
        }
        () if dir.join("go.mod").is_file() => {
            let mut command = Command::new("go");
            command.args(["test", "./..."]);
            command
        }
        () => return Ok(()),
    };
    lines.say("running the unit tests")?;
    let begun = Instant::now();
    if dir.join("Cargo.toml").is_file() {
        build_cache::fill(dir, Goal::Tests, &mut |command| command.status().map(Some));
    }
    // Standard output is only for this program's results.
    command
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::from(io::stderr()));
    let what = command.get_program().display().to_string();
    let status = command.status().with_context(|| format!("cannot start {what}"))?;
    if !status.success() {
        return Err(anyhow!("nothing was deployed: the unit tests failed, as {what} shows above").into());
    }
    lines.say(format_args!(
        "the unit tests passed in {:.1} s",
        begun.elapsed().as_secs_f64()
    ))?;
    Ok(())
}

fn run_cases(project: &Project, runner: &mut Runner, lines: &mut Lines<'_>) -> Result<(), Failure> {
    let files = case::list(&project.path(CASES))?;
    if files.is_empty() {
        lines.say("there are no cases")?;
        return Ok(());
    }
    test_cases::check(&files, runner, lines.output)?;
    lines.say(format_args!("{} passed", test_cases::cases(files.len())))?;
    Ok(())
}
