//! Runs messages through a module as the relay would, with the real engine and the limits and settings of the module's
//! `.toml`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::case::{Case, Expectation};
use super::config_file::ConfigFile;
use super::failure::Failure;
use super::project::Built;
use super::try_module::{self, STREAM};
use crate::config::ModuleConfig;
use crate::message::Message;
use crate::transform::Module;

#[derive(Debug)]
pub struct Runner {
    built: Built,
    config: ModuleConfig,
    /// Modules by their settings. A module is loaded once for each.
    modules: BTreeMap<String, Arc<Module>>,
}

impl Runner {
    pub fn new(built: Built) -> Result<Self, Failure> {
        Ok(Self {
            config: built.config(STREAM)?,
            built,
            modules: BTreeMap::new(),
        })
    }

    /// Returns the stream of a message that does not name its own.
    pub fn stream(&self) -> &str {
        &self.config.stream
    }

    pub fn config(&self) -> &ModuleConfig {
        &self.config
    }

    pub fn built(&self) -> &Built {
        &self.built
    }

    /// Returns the module with the settings of its `.toml`.
    pub fn module(&mut self) -> anyhow::Result<Arc<Module>> {
        let settings = self.config.settings.clone();
        self.module_with(&settings)
    }

    /// Returns the module's outcome for the case's message.
    pub fn run(&mut self, case: &Case) -> anyhow::Result<Expectation> {
        let module = match &case.settings {
            Some(settings) => self.module_with(settings)?,
            None => self.module()?,
        };
        Ok(self.call(&module, &case.message))
    }

    /// Returns the module's outcome for a message, with the settings of its `.toml`.
    pub fn make(&mut self, message: &Message) -> anyhow::Result<Expectation> {
        let module = self.module()?;
        Ok(self.call(&module, message))
    }

    /// Uses a new instance for each message, so that no message depends on another.
    fn call(&self, module: &Arc<Module>, message: &Message) -> Expectation {
        let outcome = module.instance().call(message);
        let stamp = try_module::stamp(module.name(), None, self.config.version);
        Expectation::of(&stamp.outcome(message, outcome))
    }

    fn module_with(&mut self, settings: &str) -> anyhow::Result<Arc<Module>> {
        if let Some(module) = self.modules.get(settings) {
            return Ok(Arc::clone(module));
        }
        let config = ModuleConfig {
            settings: settings.to_owned(),
            ..self.config.clone()
        };
        let module = try_module::load(
            &self.built.wasm,
            &self.built.name,
            &config,
            ConfigFile::default().bounds(),
        )?;
        self.modules.insert(settings.to_owned(), Arc::clone(&module));
        Ok(module)
    }
}
