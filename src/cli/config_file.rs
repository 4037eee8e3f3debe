//! Selects the configuration that a command reads.

use std::env;
use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;
use crate::config::{self, Bounds, Config};

/// Which configuration a command reads.
#[derive(Debug, Default, Args)]
pub struct ConfigFile {
    /// The configuration file [default: ./slipring.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE", env = "SLIPRING_CONFIG")]
    pub config: Option<PathBuf>,
}

impl ConfigFile {
    /// Returns true if no configuration was named and the default does not exist.
    pub fn is_absent(&self) -> bool {
        self.config.is_none() && !Path::new(config::DEFAULT_FILE).exists()
    }

    /// Returns the limits for commands that also work without a configuration.
    pub fn bounds(&self) -> Bounds {
        self.load()
            .map_or_else(|_| Bounds::default(), |config| config.modules.bounds)
    }

    pub fn load(&self) -> Result<Config, Failure> {
        let config = config::load(self.config.as_deref(), env::vars_os())?;
        for variable in &config.unknown_variables {
            tracing::warn!(variable, "unknown variable: it matches no key of the configuration");
        }
        Ok(config)
    }
}
