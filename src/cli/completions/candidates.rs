//! What completes a word: the modules of the configuration, and the versions that the relay keeps. Whatever fails, nothing
//! completes the word, because a message would end up in the middle of the command line.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use clap_complete::CompletionCandidate;
use serde::Deserialize;

use super::super::address::Address;
use super::super::config_file::ConfigFile;
use crate::status::Versions;

/// Returns the modules in the modules directory.
pub fn modules() -> Vec<CompletionCandidate> {
    let names = config(&words()).load().ok().and_then(|config| {
        let entries = fs::read_dir(&config.modules.dir).ok()?;
        let files = entries.filter_map(|entry| Some(PathBuf::from(entry.ok()?.file_name())));
        let ours = files.filter(|file| {
            file.extension()
                .is_some_and(|extension| extension == "wasm" || extension == "toml")
        });
        let names = ours.filter_map(|file| Some(file.file_stem()?.to_owned()));
        // Hidden files are not modules. Both files of a module have one name.
        Some(
            names
                .filter(|name| !name.to_string_lossy().starts_with('.'))
                .collect::<BTreeSet<_>>(),
        )
    });
    names
        .unwrap_or_default()
        .into_iter()
        .map(CompletionCandidate::new)
        .collect()
}

/// Returns the versions to which the module before the word can be rolled back.
pub fn versions() -> Vec<CompletionCandidate> {
    let words = words();
    let kept = module(&words).and_then(|module| {
        let relay = Address::of(config(&words)).find().ok()?;
        Versions::deserialize(relay.versions(&module).ok()?).ok()
    });
    let kept = kept.map(|kept| kept.versions).unwrap_or_default();
    let others = kept.into_iter().filter(|version| !version.running);
    others
        .map(|version| CompletionCandidate::new(version.version).help(Some(format!("since {}", version.since).into())))
        .collect()
}

/// Returns the command line that is being written. The shell gives it after `--`.
fn words() -> Vec<OsString> {
    env::args_os().skip_while(|word| word != "--").skip(1).collect()
}

/// Returns the configuration that the command line names, or else the default one.
fn config(words: &[OsString]) -> ConfigFile {
    let option = words.iter().position(|word| word == "--config");
    let named = option.and_then(|at| words.get(at + 1)).cloned();
    ConfigFile {
        config: named.or_else(|| env::var_os("SLIPRING_CONFIG")).map(PathBuf::from),
    }
}

/// Returns the word after `rollback`.
fn module(words: &[OsString]) -> Option<String> {
    let verb = words.iter().position(|word| word == "rollback")?;
    words.get(verb + 1)?.to_str().map(str::to_owned)
}
