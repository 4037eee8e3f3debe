//! The modules of a folder: where they are, what they read, and what their cases and samples show about them.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::Value;

use super::super::case::{self, Case};
use super::super::failure::Failure;
use super::super::project::{Built, CASES, Project};
use super::super::wasm_file::read_wasm;
use super::centrifugo::namespace;
use crate::config::{Config, ModuleConfig, Source, covers};
use crate::json;
use crate::message::{Message, Outcome};
use crate::transform::{Engine, Limits, Module};

/// Messages for `slipring try`, one in a line. The examples have such a file.
const SAMPLES: &str = "samples.jsonl";

/// The most messages that a module is run on.
const MOST: usize = 200;

/// A module that is built.
#[derive(Debug)]
pub struct Found {
    pub name: String,
    /// The folder or file as the user named it.
    pub place: PathBuf,
    pub wasm: Vec<u8>,
    /// The text of its `.toml`.
    pub toml: String,
    pub config: ModuleConfig,
    /// Set if it has no `.toml`.
    pub has_no_toml: bool,
    pub is_built_here: bool,
    /// The subjects of its cases and samples that it reads.
    subjects: BTreeSet<String>,
    /// The namespaces of the channels that it publishes to.
    pub namespaces: BTreeSet<String>,
    /// A message that it publishes something for.
    pub example: Option<Example>,
}

#[derive(Debug)]
pub struct Example {
    pub subject: String,
    pub payload: Vec<u8>,
    pub has_headers: bool,
    /// The case, unless it is a sample.
    pub case: Option<PathBuf>,
}

/// Returns the modules of a folder, which may be a module's own, one of several modules, or one of built modules; or a
/// single built module.
pub fn find(path: &Path) -> anyhow::Result<Vec<Project>> {
    if let Some(project) = Project::find(path)? {
        return Ok(vec![project]);
    }
    let doing = || format!("cannot list {}", path.display());
    let mut projects = Vec::new();
    let entries: Result<Vec<_>, _> = fs::read_dir(path).with_context(doing)?.collect();
    let mut names: Vec<_> = entries
        .with_context(doing)?
        .iter()
        .map(fs::DirEntry::file_name)
        .collect();
    names.sort();
    for name in names {
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let inner = match path == Path::new(".") {
            true => PathBuf::from(name),
            false => path.join(name),
        };
        let counts = match inner.is_dir() {
            true => builds_a_module(&inner),
            false => inner.extension().is_some_and(|extension| extension == "wasm"),
        };
        if counts {
            projects.extend(Project::find(&inner)?);
        }
    }
    if projects.is_empty() {
        bail!(
            "there is no module in {}, nor in a folder in it: create one with `slipring new NAME`, or name a folder with a \
             module or with built modules (NAME.wasm)",
            path.display()
        );
    }
    Ok(projects)
}

/// Returns false for the folder of another kind of crate.
fn builds_a_module(dir: &Path) -> bool {
    if dir.join("build").is_file() {
        return true;
    }
    let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap_or_default();
    let manifest: toml::Table = manifest.parse().unwrap_or_default();
    let kinds = manifest.get("lib").and_then(|lib| lib.get("crate-type")?.as_array());
    kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind.as_str() == Some("cdylib")))
}

/// Returns the namespaces that the modules will probably need. It is known before they are built: their names, and the
/// channels in their cases.
pub fn guess(projects: &[Project]) -> BTreeSet<String> {
    let mut namespaces = BTreeSet::new();
    for project in projects {
        let named = match project.file() {
            Some(file) => file.file_stem().map(|name| name.to_string_lossy().into_owned()),
            None => fs::canonicalize(&project.dir)
                .ok()
                .and_then(|dir| Some(dir.file_name()?.to_string_lossy().into_owned())),
        };
        let own = named.map(|name| format!("{name}:"));
        let files = case::list(&project.path(CASES)).unwrap_or_default();
        let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
        let cases: Vec<Value> = texts.filter_map(|text| serde_json::from_str(&text).ok()).collect();
        let publications = cases.iter().flat_map(|case| list(&case["expect"]["publications"]));
        let channels = publications.flat_map(|publication| list(&publication["channels"]));
        let channels = channels.filter_map(Value::as_str).chain(own.as_deref());
        namespaces.extend(channels.filter_map(namespace).map(str::to_owned));
    }
    namespaces
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Builds the modules, unless `stop` returns true before. Then the result is `None`.
pub fn build(projects: &[Project], stop: impl Fn() -> bool) -> Result<Option<Vec<Built>>, Failure> {
    let mut all = Vec::new();
    for project in projects {
        if project.build_until(&stop)?.is_none() {
            return Ok(None);
        }
        all.push(project.built()?);
    }
    Ok(Some(all))
}

/// Loads the module and runs it on its cases and samples. What is compiled is kept for the relay.
pub fn look(project: &Project, built: &Built, config: &Config) -> Result<Found, Failure> {
    let (name, shown) = (built.name.clone(), built.wasm.display().to_string());
    let stream = name.to_uppercase().replace('-', "_");
    let module_config = built.config(&stream)?;
    let has_no_toml = !built.toml.exists();
    let toml = match has_no_toml {
        true => format!("# {shown} has no .toml, so `slipring up` has written this one.\nstream = \"{stream}\"\n"),
        false => fs::read_to_string(&built.toml).with_context(|| format!("cannot read {}", built.toml.display()))?,
    };
    let doing = || format!("cannot load the module {shown}");
    let bounds = config.modules.bounds;
    let wasm = read_wasm(&built.wasm, &bounds).with_context(doing)?;
    let engine = Engine::bounded(config.modules.cache_dir.as_deref(), bounds);
    let engine = engine.or_else(|_| Engine::bounded(None, bounds)).with_context(doing)?;
    let limits = Limits::from(&module_config);
    let module = Module::load(&engine, &name, &wasm, &module_config.settings, limits).with_context(doing)?;
    // These lines are not those of a message in the stream.
    module.keep_output();
    let mut found = Found {
        namespaces: namespace(&format!("{name}:")).map(str::to_owned).into_iter().collect(),
        name,
        place: project.file().map_or_else(|| project.dir.clone(), Path::to_owned),
        wasm,
        toml,
        config: module_config,
        has_no_toml,
        is_built_here: project.is_built_here(),
        subjects: BTreeSet::new(),
        example: None,
    };
    for (case, message) in messages(project, &found.config.stream).into_iter().take(MOST) {
        if found.reads(&message) {
            let outcome = module.instance().call(&message);
            found.learn(case, message, &outcome);
        }
    }
    Ok(found)
}

/// Returns the messages of the cases and samples beside the module, each with its case. What cannot be read is left out:
/// `slipring test` says why.
fn messages(project: &Project, stream: &str) -> Vec<(Option<PathBuf>, Message)> {
    let mut messages = Vec::new();
    for file in case::list(&project.path(CASES)).unwrap_or_default() {
        // The settings of a case are not those of the module that runs.
        if let Ok(case) = Case::read(&file, stream)
            && case.settings.is_none()
        {
            messages.push((Some(file), case.message));
        }
    }
    let samples = fs::read_to_string(project.path(SAMPLES)).unwrap_or_default();
    for (line, number) in samples.lines().zip(1..) {
        let message = json::parse(line.as_bytes(), number, stream);
        messages.extend(message.ok().map(|message| (None, message)));
    }
    messages
}

impl Found {
    pub fn reads_nats(&self) -> bool {
        self.config.source == Source::JetStream
    }

    /// Returns the subjects that the module's stream must store: those in its `.toml`, or else those of its cases.
    pub fn subjects(&self) -> Vec<String> {
        if !self.config.subjects.is_empty() {
            return self.config.subjects.clone();
        }
        if self.subjects.is_empty() {
            return vec![format!("{}.>", self.config.stream.to_lowercase())];
        }
        self.subjects.iter().cloned().collect()
    }

    fn reads(&self, message: &Message) -> bool {
        let filters = &self.config.subjects;
        let is_ours = &*message.stream == self.config.stream.as_str();
        let fits = filters.is_empty() || filters.iter().any(|filter| covers(filter, &message.subject));
        is_ours && fits && message.unreadable.is_none()
    }

    fn learn(&mut self, case: Option<PathBuf>, message: Message, outcome: &Outcome) {
        self.subjects.insert(family(&message.subject));
        let Outcome::Publish(publications) = outcome else {
            return;
        };
        for publication in publications {
            let channels = publication.channels.iter();
            let names = channels.filter_map(|channel| namespace(channel));
            self.namespaces.extend(names.map(str::to_owned));
        }
        let example = Example {
            subject: message.subject,
            payload: message.payload.to_vec(),
            has_headers: !message.headers.is_empty(),
            case,
        };
        self.example.get_or_insert(example);
    }
}

/// Returns all subjects with the same first token.
fn family(subject: &str) -> String {
    match subject.split_once('.') {
        Some((first, _)) => format!("{first}.>"),
        None => subject.to_owned(),
    }
}
