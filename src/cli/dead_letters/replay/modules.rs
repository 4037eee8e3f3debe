//! Loads the current versions of the modules that a replay needs.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tracing::warn;

use super::super::super::failure::Failure;
use super::super::super::wasm_file::read_wasm;
use super::super::count;
use crate::config;
use crate::modules::versions::{self, Id, Version};
use crate::pipeline::Assignment;
use crate::pipeline::replay::Plan;
use crate::transform::{Engine, Limits, Module};

/// Returns the modules that have letters, sorted by name.
///
/// A version that was rolled back is not used, even if the directory holds it.
pub fn load(config: &config::Modules, plan: &Plan) -> Result<Vec<Assignment>, Failure> {
    let engine = Engine::bounded(None, config.bounds).context("cannot load modules")?;
    plan.modules()
        .map(|(name, letters)| load_one(&engine, config, name, letters))
        .collect()
}

fn load_one(engine: &Engine, modules: &config::Modules, name: &str, letters: usize) -> Result<Assignment, Failure> {
    let dir = &modules.dir;
    // The name comes from a subject, which may contain names that no module file can have.
    let toml = Path::new(&format!("{name}.toml")).to_owned();
    let is_name = config::module_name(&toml).is_ok_and(|found| found == name);
    let (wasm_path, toml_path) = (dir.join(format!("{name}.wasm")), dir.join(&toml));
    if !is_name || !wasm_path.exists() || !toml_path.exists() {
        let (letters, dir) = (count(letters), dir.display());
        return Err(anyhow!(
            "nothing was replayed: the module {name} ({letters}) is not in the modules directory {dir}. Put \
             {name}.wasm and {name}.toml there, or replay another module with --module"
        )
        .into());
    }
    let doing = || format!("cannot load the module {}", wasm_path.display());
    let wasm = read_wasm(&wasm_path, &modules.bounds).with_context(doing)?;
    let toml = fs::read_to_string(&toml_path).with_context(|| format!("cannot read {}", toml_path.display()))?;
    let present = Id::of(&wasm, &toml);
    let running_version = versions::instead_of(modules, name, &present);
    let running_version =
        running_version.with_context(|| format!("cannot find out which version of {name} is running"))?;
    let (id, wasm, toml) = match running_version {
        Some(Version { id, wasm, toml }) => {
            warn!(
                module = name,
                version = id.name(),
                "the version in the modules directory was rolled back: replaying with the running version instead"
            );
            (id, wasm, toml)
        }
        None => (present, wasm.into(), toml),
    };
    let config = config::parse_module(&toml_path, &toml)?;
    let limits = Limits::from(&config);
    let module =
        Module::load_hashed(engine, name, &wasm, &id.wasm_sha256, &config.settings, limits).with_context(doing)?;
    Ok(Assignment {
        module,
        config: Arc::new(config),
        version: id.name().into(),
        trial: None,
    })
}
