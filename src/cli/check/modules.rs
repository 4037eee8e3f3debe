//! Checks every module of a directory as the relay would load it, without running it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use serde::Serialize;

use super::super::wasm_file::read_wasm;
use crate::config::{self, Bounds, ModuleConfig};
use crate::modules::{names, permissions};
use crate::transform::{Engine, Limits, Module};

#[derive(Debug, Serialize)]
pub struct Checked {
    pub name: String,
    pub state: State,
    pub stream: Option<String>,
    /// Set if its `.toml` is valid.
    #[serde(skip)]
    pub config: Option<ModuleConfig>,
    /// Set if it loads.
    #[serde(skip)]
    pub module: Option<Arc<Module>>,
    pub consumer: Option<String>,
    pub sha256: Option<String>,
    /// The reasons why it is bad, one sentence each.
    pub reasons: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Good,
    Bad,
    /// The other one of its two files is missing.
    Waiting,
}

/// The files of a module that exist.
#[derive(Debug, Default)]
struct Files {
    wasm: Option<PathBuf>,
    toml: Option<PathBuf>,
}

/// Returns the modules by name.
pub fn check_all(engine: &Engine, config: &config::Modules) -> anyhow::Result<Vec<Checked>> {
    let dir = &config.dir;
    let found = find(dir).map_err(|error| cannot_list(dir, error))?;
    let mut modules: Vec<Checked> = found
        .iter()
        .map(|(name, files)| check(engine, &config.bounds, name, files))
        .collect();
    refuse_shared_consumers(&mut modules);
    tell_of_spellings(&mut modules);
    if config.strict_permissions {
        let others_write = |path: &Path| {
            let metadata = fs::metadata(path).ok()?;
            let error = permissions::check(&metadata).err()?;
            Some(format!("{} {error}", path.display()))
        };
        if let Some(error) = others_write(dir) {
            anyhow::bail!("the modules directory {error}");
        }
        for (module, files) in modules.iter_mut().zip(found.values()) {
            let paths = [&files.wasm, &files.toml].into_iter().flatten();
            for error in paths.filter_map(|path| others_write(path)) {
                module.fail([error]);
            }
        }
    }
    Ok(modules)
}

/// Returns the settings of the modules by name, and what is wrong with the others. The `.wasm` files do not matter.
pub fn settings(dir: &Path) -> anyhow::Result<(BTreeMap<String, ModuleConfig>, Vec<String>)> {
    let found = find(dir).map_err(|error| cannot_list(dir, error))?;
    let (mut settings, mut bad) = (BTreeMap::new(), Vec::new());
    for (name, files) in found {
        match files.toml.as_deref().map(config::load_module) {
            Some(Ok(config)) => {
                settings.insert(name, config);
            }
            Some(Err(problems)) => bad.extend(problems.iter().map(ToString::to_string)),
            None => bad.push(format!(
                "{} is missing",
                dir.join(name).with_extension("toml").display()
            )),
        }
    }
    Ok((settings, bad))
}

fn cannot_list(dir: &Path, error: io::Error) -> anyhow::Error {
    let shown = dir.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            anyhow!("the modules directory {shown} does not exist. Create it, or set `modules.dir` in slipring.toml")
        }
        _ => anyhow::Error::new(error).context(format!("cannot list the modules directory {shown} (`modules.dir`)")),
    }
}

/// Hidden files are not modules: editors and `ConfigMap`s keep theirs there.
fn find(dir: &Path) -> io::Result<BTreeMap<String, Files>> {
    let mut found: BTreeMap<String, Files> = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let (Some(stem), Some(extension)) = (path.file_stem(), path.extension()) else {
            continue;
        };
        let stem = stem.to_string_lossy().into_owned();
        if stem.starts_with('.') {
            continue;
        }
        match extension.to_str() {
            Some("wasm") => found.entry(stem).or_default().wasm = Some(path),
            Some("toml") => found.entry(stem).or_default().toml = Some(path),
            _ => {}
        }
    }
    Ok(found)
}

fn check(engine: &Engine, bounds: &Bounds, name: &str, files: &Files) -> Checked {
    let mut checked = Checked {
        name: name.to_owned(),
        state: State::Good,
        stream: None,
        config: None,
        module: None,
        consumer: None,
        sha256: None,
        reasons: Vec::new(),
    };
    let config = files
        .toml
        .as_deref()
        .map(config::load_module)
        .transpose()
        .unwrap_or_else(|problems| {
            checked.fail(problems.iter().map(ToString::to_string));
            None
        });
    // Without its settings, `init` cannot be checked.
    if let (Some(path), Some(config)) = (&files.wasm, &config) {
        match load(engine, bounds, name, path, config) {
            Ok(module) => {
                if let Err(error) = config::check_sha256(name, config, module.sha256()) {
                    checked.fail([error.to_string()]);
                }
                checked.sha256 = Some(module.sha256().to_string());
                checked.module = Some(module);
            }
            Err(error) => checked.fail([format!("{}: {error:#}", path.display())]),
        }
    }
    if let Some(config) = config {
        checked.stream = Some(config.stream.clone());
        checked.consumer = Some(config.consumer.clone());
        checked.config = Some(config);
    }
    let missing = match (&files.wasm, &files.toml) {
        (Some(wasm), None) => Some(wasm.with_extension("toml")),
        (None, Some(toml)) => Some(toml.with_extension("wasm")),
        _ => None,
    };
    if let Some(missing) = missing {
        if checked.state == State::Good {
            checked.state = State::Waiting;
        }
        checked.reasons.push(format!("{} is missing", missing.display()));
    }
    checked
}

fn load(
    engine: &Engine,
    bounds: &Bounds,
    name: &str,
    path: &Path,
    config: &ModuleConfig,
) -> anyhow::Result<Arc<Module>> {
    let wasm = read_wasm(path, bounds).context("the file cannot be read")?;
    let limits = Limits::from(config);
    Ok(Module::load(engine, name, &wasm, &config.settings, limits)?)
}

/// Two pipelines on one durable consumer would each get part of the messages and reset each other.
fn refuse_shared_consumers(modules: &mut [Checked]) {
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for module in modules {
        let Some(config) = &module.config else { continue };
        let (reader, change) = (config.reader(), config.another_reader());
        match owners.get(&reader) {
            None => {
                owners.insert(reader, module.name.clone());
            }
            Some(owner) => {
                let reason = format!("its {reader} is also read by {owner}; {change} in its .toml");
                module.fail([reason]);
            }
        }
    }
}

/// Names the half of a module that is there under another spelling, as when somebody copies what cargo has built.
fn tell_of_spellings(modules: &mut [Checked]) {
    let is_waiting = |module: &&Checked| module.state == State::Waiting;
    let waiting: Vec<String> = modules
        .iter()
        .filter(is_waiting)
        .map(|module| module.name.clone())
        .collect();
    for module in modules.iter_mut().filter(|module| module.state == State::Waiting) {
        let is_other = |other: &&String| **other != module.name && names::same(other, &module.name);
        if let (Some(other), Some(reason)) = (waiting.iter().find(is_other), module.reasons.last_mut()) {
            reason.push_str(&format!(
                "; is {other} the same module? Then give both files one name, as `slipring deploy` does"
            ));
        }
    }
}

impl Checked {
    fn fail(&mut self, reasons: impl IntoIterator<Item = String>) {
        self.state = State::Bad;
        self.reasons.extend(reasons);
    }
}
