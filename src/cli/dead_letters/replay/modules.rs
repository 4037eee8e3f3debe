//! The modules that a replay needs, as they are now.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};

use super::super::super::Failure;
use super::super::count;
use super::Chosen;
use crate::config;
use crate::pipeline::Assignment;
use crate::transform::{Engine, Limits, Module};

/// In the order of their names, one for each module that has letters.
pub fn load(dir: &Path, chosen: &Chosen) -> Result<Vec<Assignment>, Failure> {
    let engine = Engine::new(None).context("cannot load modules")?;
    chosen
        .iter()
        .map(|(name, letters)| load_one(&engine, dir, name, letters.len()))
        .collect()
}

fn load_one(engine: &Engine, dir: &Path, name: &str, letters: usize) -> Result<Assignment, Failure> {
    // It comes from a subject, which may hold what no file of ours is called.
    let toml = Path::new(&format!("{name}.toml")).to_owned();
    let is_name = config::module_name(&toml).is_ok_and(|found| found == name);
    let (wasm, toml) = (dir.join(format!("{name}.wasm")), dir.join(&toml));
    if !is_name || !wasm.exists() || !toml.exists() {
        let (letters, dir) = (count(letters), dir.display());
        return Err(anyhow!(
            "the module {name} of {letters} is not in the modules directory {dir}, where {name}.wasm and {name}.toml should \
             be: put them there, or choose the dead letters of other modules with --module; nothing was replayed"
        )
        .into());
    }
    let config = config::load_module(&toml)?;
    let doing = || format!("cannot load the module {}", wasm.display());
    let bytes = fs::read(&wasm).with_context(doing)?;
    let limits = Limits::new(config.timeout, config.memory);
    let module = Module::load(engine, name, &bytes, &config.settings, limits).with_context(doing)?;
    Ok(Assignment {
        module,
        config: Arc::new(config),
    })
}
