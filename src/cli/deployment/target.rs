//! Where a version goes: into a modules directory, or to a relay that takes uploads.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow};

use super::super::address::GivenToken;
use super::super::failure::Failure;
use super::super::wasm_file::read_wasm;
use super::follow::Changed;
use super::lines::Lines;
use super::options::Options;
use super::version::Ready;
use crate::admin::Client;
use crate::config::{self, Config, Secret};
use crate::modules::install::{self, New};
use crate::modules::names;
use crate::modules::versions::{self, Id, Version};
use crate::status::Status;

#[derive(Debug)]
pub enum Target {
    Directory(config::Modules),
    Relay(Box<Client>),
}

impl Target {
    pub fn new(options: &Options, config: &Config) -> Result<Self, Failure> {
        if let Some(client) = options.remote()? {
            return Ok(Self::Relay(Box::new(client)));
        }
        let mut modules = config.modules.clone();
        if let Some(dir) = &options.dir {
            modules.versions_dir = dir.join(".versions");
            modules.dir.clone_from(dir);
        }
        if !modules.dir.is_dir() {
            return Err(anyhow!(
                "the modules directory {} does not exist. Create it, name another one with --dir, or set `modules.dir` \
                 in slipring.toml",
                modules.dir.display()
            )
            .into());
        }
        Ok(Self::Directory(modules))
    }

    /// Returns the name under which the module goes there: the one that it has there already, in whichever spelling.
    pub fn name_of(&self, name: &str, lines: &mut Lines<'_>) -> anyhow::Result<String> {
        let known = match self {
            Self::Directory(modules) => {
                let existing = names::existing(&modules.dir, name)?;
                for stray in existing.iter().flat_map(|existing| &existing.strays) {
                    let stray = modules.dir.join(stray);
                    lines.say(format_args!(
                        "{} is another spelling of the name and does not count; remove it",
                        stray.display()
                    ))?;
                }
                existing.map(|existing| existing.name)
            }
            Self::Relay(client) => {
                let status: Status = client.block_on(client.get("api/v1/status"))?;
                let mut modules = status.modules.into_iter().map(|module| module.name);
                modules.find(|known| names::same(known, name))
            }
        };
        let chosen = known.unwrap_or_else(|| name.to_owned());
        let file = format!("{chosen}.toml");
        config::module_name(Path::new(&file)).map_err(|error| anyhow!(error))?;
        Ok(chosen)
    }

    /// Returns the settings that the module has there.
    pub fn toml_of(&self, name: &str) -> anyhow::Result<Option<String>> {
        let Self::Directory(modules) = self else {
            return Ok(None);
        };
        let file = modules.dir.join(format!("{name}.toml"));
        match file.exists() {
            true => {
                let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
                Ok(Some(text))
            }
            false => Ok(None),
        }
    }

    /// Returns the version that a relay would run now.
    pub fn running(&self, name: &str) -> anyhow::Result<Option<Version>> {
        let Self::Directory(modules) = self else {
            return Ok(None);
        };
        let wasm_path = modules.dir.join(format!("{name}.wasm"));
        let (Some(toml), true) = (self.toml_of(name)?, wasm_path.exists()) else {
            return Ok(None);
        };
        let wasm = read_wasm(&wasm_path, &modules.bounds);
        let wasm = wasm.with_context(|| format!("cannot read {}", wasm_path.display()))?;
        let id = Id::of(&wasm, &toml);
        let running = versions::instead_of(modules, name, &id);
        let running = running.with_context(|| format!("cannot find out which version of {name} is running"))?;
        Ok(Some(running.unwrap_or(Version {
            id,
            wasm: wasm.into(),
            toml,
        })))
    }

    /// Puts the version there.
    pub fn put(&self, ready: &Ready, lines: &mut Lines<'_>) -> Result<Changed, Failure> {
        let Ready { name, wasm, toml, .. } = ready;
        let changed = match self {
            Self::Directory(modules) => {
                let new = New { wasm, toml };
                let installed = install::install(&modules.dir, name, &new).map_err(anyhow::Error::from)?;
                let dir = modules.dir.display();
                match installed.changed.as_slice() {
                    [] => lines.say(format_args!("{dir} has both files already"))?,
                    changed => lines.say(format_args!("copied {} to {dir}", changed.join(" and ")))?,
                }
                !installed.changed.is_empty()
            }
            Self::Relay(client) => {
                let uploaded = client.upload(name, wasm, toml)?;
                match uploaded.changed.as_slice() {
                    [] => lines.say(format_args!("the relay at {} has both files already", client.address()))?,
                    changed => lines.say(format_args!(
                        "uploaded {} to the relay at {}",
                        changed.join(" and "),
                        client.address()
                    ))?,
                }
                !uploaded.changed.is_empty()
            }
        };
        Ok(Changed(changed))
    }
}

/// Reads the token of the relay.
pub fn token(file: Option<&Path>) -> anyhow::Result<Option<GivenToken>> {
    let Some(file) = file else { return Ok(None) };
    let text = fs::read_to_string(file).with_context(|| format!("cannot read the token in {}", file.display()))?;
    anyhow::ensure!(!text.trim().is_empty(), "the token file {} is empty", file.display());
    Ok(Some(GivenToken {
        token: Secret::new(text.trim()),
        file: file.to_owned(),
    }))
}
