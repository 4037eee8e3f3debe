//! `slipring check`: is the configuration right, and would every module run? Asks no server.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde::Serialize;

use super::table::align;
use super::{ConfigFile, Failure};
use crate::config::{self, ModuleConfig, Problem};
use crate::transform::{Engine, Limits, Module};

/// Check the configuration and every module, without a server
///
/// Reads slipring.toml and each NAME.toml of the modules directory, and says all that is wrong with them; compiles each NAME.wasm
/// and runs its `init` with its settings. One line a module: `good`, `bad`, or `waiting` for the other of its two files.
///
/// Exits with 78 if the configuration is wrong, with 1 if a module is bad.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  slipring check
  slipring check --config /etc/slipring/slipring.toml
  slipring check --json | jq '.modules[] | select(.state == \"bad\")'")]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Print one JSON object, for programs
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Of slipring.toml. If there are any, the modules were not looked at.
    problems: Vec<Problem>,
    modules: Vec<Checked>,
}

#[derive(Debug, Serialize)]
struct Checked {
    name: String,
    state: State,
    stream: Option<String>,
    consumer: Option<String>,
    sha256: Option<String>,
    /// Why it is not good; a sentence each.
    reasons: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Good,
    Bad,
    Waiting,
}

/// The two files of a module, as far as they are there.
#[derive(Debug, Default)]
struct Files {
    wasm: Option<PathBuf>,
    toml: Option<PathBuf>,
}

pub fn execute(args: &Args, output: &mut dyn Write) -> Result<(), Failure> {
    let config = match args.config.load() {
        Ok(config) => config,
        Err(Failure::Config(problems)) => {
            if args.json {
                print_json(
                    &Report {
                        problems: problems.iter().cloned().collect(),
                        modules: Vec::new(),
                    },
                    output,
                )?;
            }
            return Err(Failure::Config(problems));
        }
        Err(failure) => return Err(failure),
    };
    // Compiled anew instead of taken from the cache: a check leaves nothing behind.
    let engine = Engine::new(None).context("cannot check modules")?;
    let found = find(&config.modules.dir)?;
    let mut modules: Vec<Checked> = found
        .into_iter()
        .map(|(name, files)| check(&engine, &name, &files))
        .collect();
    refuse_shared_consumers(&mut modules);

    let bad = modules.iter().filter(|module| module.state == State::Bad).count();
    let count = modules.len();
    if args.json {
        print_json(
            &Report {
                problems: Vec::new(),
                modules,
            },
            output,
        )?;
    } else if modules.is_empty() {
        writeln!(
            output,
            "the configuration is good; there are no modules in {}",
            config.modules.dir.display()
        )?;
    } else {
        write!(output, "{}", render(&modules))?;
    }
    if bad > 0 {
        return Err(anyhow!("{bad} of {count} modules would not run").into());
    }
    Ok(())
}

/// The modules of a directory, by name. Hidden files are not modules: editors and `ConfigMap`s keep theirs there.
fn find(dir: &Path) -> anyhow::Result<BTreeMap<String, Files>> {
    let doing = || {
        format!(
            "cannot list the modules directory {} (`modules.dir` of the configuration)",
            dir.display()
        )
    };
    let mut found: BTreeMap<String, Files> = BTreeMap::new();
    for entry in fs::read_dir(dir).with_context(doing)? {
        let path = entry.with_context(doing)?.path();
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

fn check(engine: &Engine, name: &str, files: &Files) -> Checked {
    let mut checked = Checked {
        name: name.to_owned(),
        state: State::Good,
        stream: None,
        consumer: None,
        sha256: None,
        reasons: Vec::new(),
    };
    let config = match &files.toml {
        None => None,
        Some(path) => match config::load_module(path) {
            Ok(config) => Some(config),
            Err(problems) => {
                checked.fail(problems.iter().map(ToString::to_string));
                None
            }
        },
    };
    // A wrong `.toml` does not keep the `.wasm` from being looked at, though without its settings `init` can't be judged.
    if let (Some(path), Some(config)) = (&files.wasm, &config) {
        match load(engine, name, path, config) {
            Ok(module) => checked.sha256 = Some(module.sha256().to_owned()),
            Err(error) => checked.fail([format!("{}: {error:#}", path.display())]),
        }
    }
    if let Some(config) = config {
        checked.stream = Some(config.stream);
        checked.consumer = Some(config.consumer);
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
        checked.reasons.push(format!("{} is not there", missing.display()));
    }
    checked
}

fn load(engine: &Engine, name: &str, path: &Path, config: &ModuleConfig) -> anyhow::Result<std::sync::Arc<Module>> {
    let wasm = fs::read(path).context("the file can't be read")?;
    let limits = Limits::new(config.timeout, config.memory);
    Ok(Module::load(engine, name, &wasm, &config.settings, limits)?)
}

/// Two pipelines on one durable would each get a part of the messages, and reset one another.
fn refuse_shared_consumers(modules: &mut [Checked]) {
    let mut owners: BTreeMap<(String, String), String> = BTreeMap::new();
    for module in modules {
        let (Some(stream), Some(consumer)) = (module.stream.clone(), module.consumer.clone()) else {
            continue;
        };
        match owners.get(&(stream.clone(), consumer.clone())) {
            None => {
                owners.insert((stream, consumer), module.name.clone());
            }
            Some(owner) => {
                module.fail([format!(
                    "its consumer {consumer} of the stream {stream} is also that of {owner}; each module must have its own"
                )]);
            }
        }
    }
}

impl Checked {
    fn fail(&mut self, reasons: impl IntoIterator<Item = String>) {
        self.state = State::Bad;
        self.reasons.extend(reasons);
    }
}

fn render(modules: &[Checked]) -> String {
    let row = |module: &Checked| {
        let state = match module.state {
            State::Good => "good",
            State::Bad => "bad",
            State::Waiting => "waiting",
        };
        let detail = match (module.reasons.as_slice(), &module.stream, &module.sha256) {
            ([], Some(stream), Some(sha256)) => {
                format!("stream {stream}, sha256 {}", sha256.get(..12).unwrap_or(sha256))
            }
            ([], ..) => String::new(),
            ([reason], ..) => reason.clone(),
            (reasons, ..) => format!("{} problems", reasons.len()),
        };
        vec![module.name.clone(), state.to_owned(), detail]
    };
    let mut text = String::new();
    for (line, module) in align(&modules.iter().map(row).collect::<Vec<_>>()).lines().zip(modules) {
        text.push_str(line);
        text.push('\n');
        if module.reasons.len() > 1 {
            for reason in &module.reasons {
                text.push_str(&format!("    {reason}\n"));
            }
        }
    }
    text
}

fn print_json(report: &Report, output: &mut dyn Write) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *output, report).map_err(std::io::Error::from)?;
    writeln!(output)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use tempfile::TempDir;

    use super::*;
    use crate::transform::tests::wat::Guest;

    fn directory(files: &[(&str, &[u8])]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("modules")).unwrap();
        for (name, content) in files {
            fs::write(dir.path().join(name), content).unwrap();
        }
        dir
    }

    /// What is printed, and how it ends; the directory is `/etc/slipring`.
    fn run(dir: &TempDir, json: bool) -> String {
        let args = Args {
            config: ConfigFile {
                config: Some(dir.path().join("slipring.toml")),
            },
            json,
        };
        let mut output = Vec::new();
        let end = match execute(&args, &mut output) {
            Ok(()) => "exit code 0".to_owned(),
            Err(failure) => format!("{failure}\nexit code {}", failure.exit_code()),
        };
        let text = format!("{}{end}", String::from_utf8(output).unwrap());
        let text = text.replace(&dir.path().display().to_string(), "/etc/slipring");
        // The hash of a guest that other tests change as well.
        match text.split_once("sha256 ") {
            Some((before, after)) => format!("{before}sha256 (12 digits){}", &after[12..]),
            None => text,
        }
    }

    #[test]
    fn every_module_has_its_line() {
        let wasm = Guest::default().wasm();
        let refuses = Guest {
            init: "(call $result (i32.const 1) (i32.const 16) (i32.const 1))",
            ..Guest::default()
        }
        .wasm();
        let dir = directory(&[
            ("slipring.toml", b""),
            ("modules/good.wasm", &wasm),
            ("modules/good.toml", b"stream = 'ORDERS'"),
            ("modules/lonely.wasm", &wasm),
            ("modules/early.toml", b"stream = 'ORDERS'"),
            ("modules/broken.wasm", b"<html>"),
            ("modules/broken.toml", b"stream = 'ORDERS'"),
            ("modules/refuses.wasm", &refuses),
            ("modules/refuses.toml", b"stream = 'ORDERS'"),
            ("modules/typo.wasm", &wasm),
            ("modules/typo.toml", b"steam = 'ORDERS'\nwindow = 0"),
            ("modules/second.wasm", &wasm),
            ("modules/second.toml", b"stream = 'ORDERS'\nconsumer = 'slipring-good'"),
            ("modules/.good.toml.swp", b""),
            ("modules/README.md", b""),
        ]);
        assert_snapshot!(run(&dir, false), @r#"
        broken   bad      /etc/slipring/modules/broken.wasm: the file is not WebAssembly but text that begins with "<html>"
        early    waiting  /etc/slipring/modules/early.wasm is not there
        good     good     stream ORDERS, sha256 (12 digits)
        lonely   waiting  /etc/slipring/modules/lonely.toml is not there
        refuses  bad      /etc/slipring/modules/refuses.wasm: the module failed when it was tried: `init` refused its settings: a
        second   bad      its consumer slipring-good of the stream ORDERS is also that of good; each module must have its own
        typo     bad      3 problems
            /etc/slipring/modules/typo.toml: `stream` is missing; it must be the name of a JetStream stream
            /etc/slipring/modules/typo.toml:1:1: there is no key `steam`; did you mean `stream`?
            /etc/slipring/modules/typo.toml:2:10: `window` is 0; it must be a whole number from 1 to 65536
        4 of 7 modules would not run
        exit code 1
        "#);
    }

    #[test]
    fn good_and_waiting_modules_are_no_failure() {
        let dir = directory(&[("slipring.toml", b""), ("modules/early.toml", b"stream = 'ORDERS'")]);
        assert_snapshot!(run(&dir, true), @r#"
        {
          "problems": [],
          "modules": [
            {
              "name": "early",
              "state": "waiting",
              "stream": "ORDERS",
              "consumer": "slipring-early",
              "sha256": null,
              "reasons": [
                "/etc/slipring/modules/early.wasm is not there"
              ]
            }
          ]
        }
        exit code 0
        "#);
        let dir = directory(&[("slipring.toml", b"")]);
        assert_snapshot!(run(&dir, false), @r#"
        the configuration is good; there are no modules in /etc/slipring/modules
        exit code 0
        "#);
    }

    #[test]
    fn a_wrong_configuration_is_told_to_people_and_programs() {
        let dir = directory(&[("slipring.toml", b"[publish]\nmax_batch = 0\n")]);
        assert_snapshot!(run(&dir, true), @r#"
        {
          "problems": [
            {
              "place": {
                "file": {
                  "path": "/etc/slipring/slipring.toml",
                  "line": 2,
                  "column": 13
                }
              },
              "key": "publish.max_batch",
              "message": "`publish.max_batch` is 0; it must be a whole number from 1 to 5000"
            }
          ],
          "modules": []
        }
        /etc/slipring/slipring.toml:2:13: `publish.max_batch` is 0; it must be a whole number from 1 to 5000
        exit code 78
        "#);
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let dir = directory(&[("slipring.toml", b"modules.dir = 'nowhere'")]);
        assert_snapshot!(run(&dir, false), @r#"
        cannot list the modules directory /etc/slipring/nowhere (`modules.dir` of the configuration): No such file or directory (os error 2)
        exit code 1
        "#);
    }
}
