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
use crate::message::{Message, Outcome};
use crate::transform::Module;

/// What a module did with a message.
#[derive(Debug)]
pub struct Ran {
    pub outcome: Outcome,
    /// The outcome in the form of a case.
    pub made: Expectation,
    /// The lines that the module printed meanwhile.
    pub output: Vec<String>,
}

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

    /// Runs the module on the case's message.
    pub fn run(&mut self, case: &Case) -> anyhow::Result<Ran> {
        let module = match &case.settings {
            Some(settings) => self.module_with(settings)?,
            None => self.module()?,
        };
        Ok(self.call(&module, &case.message))
    }

    /// Returns the module's outcome for a message, with the settings of its `.toml`.
    pub fn make(&mut self, message: &Message) -> anyhow::Result<Expectation> {
        Ok(self.show(message)?.made)
    }

    /// Runs the module on a message, with the settings of its `.toml`.
    pub fn show(&mut self, message: &Message) -> anyhow::Result<Ran> {
        let module = self.module()?;
        Ok(self.call(&module, message))
    }

    /// Uses a new instance for each message, so that no message depends on another.
    fn call(&self, module: &Arc<Module>, message: &Message) -> Ran {
        let outcome = module.instance().call(message);
        let stamp = try_module::stamp(module.name(), None, self.config.version);
        let outcome = stamp.outcome(message, outcome);
        Ran {
            made: Expectation::of(&outcome),
            outcome,
            output: module.take_output(),
        }
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
            ConfigFile::default().compiling(),
        )?;
        module.keep_output();
        self.modules.insert(settings.to_owned(), Arc::clone(&module));
        Ok(module)
    }
}
