//! Selects the configuration that a command reads.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;
use crate::config::{self, Bounds, Config};
use crate::transform::Engine;

/// The folder in which `slipring up` keeps everything, its configuration too.
pub const UP_FOLDER: &str = ".slipring";

/// Where compiled code is kept, and the limits on compiling.
#[derive(Debug, Clone, Default)]
pub struct Compiling {
    pub bounds: Bounds,
    pub cache_dir: Option<PathBuf>,
}

impl From<Bounds> for Compiling {
    /// Keeps nothing.
    fn from(bounds: Bounds) -> Self {
        Self {
            bounds,
            cache_dir: None,
        }
    }
}

impl Compiling {
    /// Creates an engine. Code that cannot be kept is compiled each time.
    pub fn engine(&self) -> anyhow::Result<Engine> {
        match Engine::bounded(self.cache_dir.as_deref(), self.bounds) {
            Err(_) if self.cache_dir.is_some() => Ok(Engine::bounded(None, self.bounds)?),
            engine => Ok(engine?),
        }
    }
}

/// Which configuration a command reads.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigFile {
    /// The configuration file [default: slipring.toml or .slipring/slipring.toml, in this folder or the one above]
    #[arg(long, global = true, value_name = "FILE", env = "SLIPRING_CONFIG")]
    pub config: Option<PathBuf>,
}

impl ConfigFile {
    /// Returns the file that is named, or else the default one, if it exists.
    pub fn path(&self) -> Option<PathBuf> {
        self.config.clone().or_else(|| search(Path::new("")))
    }

    /// Returns true if no configuration was named and no default exists.
    pub fn is_absent(&self) -> bool {
        self.path().is_none()
    }

    /// Returns how commands compile that also work without a configuration.
    pub fn compiling(&self) -> Compiling {
        self.load().map_or_else(
            |_| Compiling::default(),
            |config| Compiling {
                bounds: config.modules.bounds,
                cache_dir: config.modules.cache_dir,
            },
        )
    }

    pub fn load(&self) -> Result<Config, Failure> {
        let path = self.path();
        let mut config = config::load(path.as_deref(), env::vars_os())?;
        if path.is_some_and(|path| is_of_up(&path)) {
            // An address from the environment is of another server.
            config.nats.from_up = env::var_os("SLIPRING_NATS__SERVERS").is_none();
            config.admin.from_up = env::var_os("SLIPRING_ADMIN__LISTEN").is_none();
        }
        for variable in &config.unknown_variables {
            tracing::warn!(variable, "unknown variable: it matches no key of the configuration");
        }
        Ok(config)
    }
}

/// Looks in `dir`, which is empty for the working directory, and then in the folder above: a module's folder is often below
/// the one where `slipring up` runs.
fn search(dir: &Path) -> Option<PathBuf> {
    let candidates = |dir: &Path| {
        let file = Path::new(config::DEFAULT_FILE);
        [dir.join(file), dir.join(UP_FOLDER).join(file)]
    };
    let here = candidates(dir).into_iter().find(|file| file.exists());
    here.or_else(|| {
        let above = candidates(&dir.join(".."));
        above.into_iter().find(|file| is_trusted(file))
    })
}

/// Returns true for the file that `slipring up` writes.
fn is_of_up(file: &Path) -> bool {
    let folder = file.parent().and_then(Path::file_name);
    folder.is_some_and(|folder| folder == UP_FOLDER)
}

/// Returns true for a file of this user or of root. In a folder such as `/tmp`, anybody can leave one above.
fn is_trusted(file: &Path) -> bool {
    let own = [0, rustix::process::geteuid().as_raw()];
    fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && own.contains(&metadata.uid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_up_is_known_by_its_folder() {
        for (file, expected) in [
            (".slipring/slipring.toml", true),
            ("../.slipring/slipring.toml", true),
            ("slipring.toml", false),
            ("/etc/slipring/slipring.toml", false),
        ] {
            assert_eq!(is_of_up(Path::new(file)), expected, "{file}");
        }
    }

    #[test]
    fn the_nearest_file_is_taken_and_one_folder_above_is_near_enough() {
        let top = tempfile::tempdir().unwrap();
        let below = top.path().join("shop");
        let deep = below.join("src");
        fs::create_dir_all(&deep).unwrap();
        let found = |dir: &Path| search(dir).map(|file| fs::canonicalize(file).unwrap());
        let write = |dir: &Path, name: &str| {
            let file = dir.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, "").unwrap();
            fs::canonicalize(file).unwrap()
        };
        assert_eq!(found(&deep), None);
        let up = write(top.path(), ".slipring/slipring.toml");
        assert_eq!(found(top.path()), Some(up.clone()));
        assert_eq!(found(&below), Some(up));
        assert_eq!(found(&deep), None, "two folders above");
        let plain = write(top.path(), "slipring.toml");
        assert_eq!(found(&below), Some(plain));
        let own = write(&below, ".slipring/slipring.toml");
        assert_eq!(found(&below), Some(own));
    }
}
