//! From a version's files to something that could run, and whether it may.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::task::spawn_blocking;
use tracing::info;

use super::super::probe::probe;
use super::super::versions::Version;
use super::{Candidate, Keeper};
use crate::config;
use crate::pipeline::Assignment;
use crate::transform::{Limits, Module};

impl Keeper {
    /// Reads the configuration, compiles and checks the module, and runs `init` once.
    pub(super) async fn load(&self, version: &Version) -> anyhow::Result<Candidate> {
        let name = &self.name;
        let config = Arc::new(config::parse_module(Path::new(&format!("{name}.toml")), &version.toml)?);
        config::check_sha256(name, &config, &version.id.wasm_sha256)?;
        let _one_at_a_time = self.context.compiling.acquire().await?;
        let (engine, wasm) = (self.context.engine.clone(), Arc::clone(&version.wasm));
        let limits = Limits::from(&*config);
        let (name, settings) = (name.clone(), config.settings.clone());
        let loading = move || Module::load(&engine, &name, &wasm, &settings, limits);
        let module = spawn_blocking(loading).await.context("loading the module broke")?;
        let module = module.with_context(|| format!("{}.wasm cannot be used", self.name))?;
        Ok(Candidate {
            id: version.id.clone(),
            assignment: Assignment {
                module,
                config,
                trial: None,
            },
        })
    }

    /// Tries it on what the version at work was given last, beside the last one that is proven. Where that reads other messages, there
    /// is nothing to compare.
    pub(super) async fn probe(&self, candidate: &Candidate) -> anyhow::Result<()> {
        let Some(proven) = self.proven() else { return Ok(()) };
        let (new, old) = (&candidate.assignment, &proven.assignment);
        if new.config.probe == 0 || !new.reads_as(old) {
            return Ok(());
        }
        let mut messages = self.recent.messages();
        let needless = messages.len().saturating_sub(new.config.probe);
        let messages = messages.split_off(needless);
        let (old, new) = (Arc::clone(&old.module), Arc::clone(&new.module));
        let sha256 = Arc::clone(new.sha256());
        let _one_at_a_time = self.context.compiling.acquire().await?;
        let probed = spawn_blocking(move || probe(&old, &new, &messages)).await;
        let tried = probed.context("trying the new version broke")??;
        info!(
            module = self.name,
            sha256 = &*sha256,
            messages = tried,
            "the new version does well on the last messages"
        );
        Ok(())
    }
}
