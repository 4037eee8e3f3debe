//! Takes versions from clients of the admin server, if the configuration allows it, and puts them into the modules directory.
//! From there they go the way of every version: probe, swap and trial.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tokio::task::spawn_blocking;

use super::install::{self, Installed, New};
use super::loading::{Loading, Wanted};
use super::names;
use super::versions::Id;
use crate::config;
use crate::transform::{Engine, Limits};

/// Where uploaded versions go, or nothing if the configuration allows none. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct Uploads(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    loading: Arc<Loading>,
    config: config::Modules,
}

/// A version that was put into the directory.
#[derive(Debug)]
pub struct Uploaded {
    /// The name that the module has there.
    pub name: String,
    pub installed: Installed,
}

/// Why a version was not taken. Each is a sentence.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The request makes no sense.
    #[error("{0}")]
    Wrong(String),
    /// No relay would run these files.
    #[error("{0}")]
    Unusable(String),
    /// They cannot be kept.
    #[error("{0}")]
    Unkept(String),
}

impl Uploads {
    pub fn new(engine: Engine, loading: Arc<Loading>, config: config::Modules) -> Self {
        Self(Some(Arc::new(Inner {
            engine,
            loading,
            config,
        })))
    }

    pub fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the most bytes of a `.wasm`.
    pub fn longest(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.config.bounds.file_size)
    }

    /// Checks the files as the keeper of the module would, and puts them into the directory.
    pub async fn take(&self, name: String, wasm: Arc<[u8]>, toml: String) -> Result<Uploaded, Refused> {
        let Some(inner) = &self.0 else {
            return Err(Refused::Unkept("this relay takes no uploads".to_owned()));
        };
        let Inner {
            engine,
            loading,
            config,
        } = &**inner;
        let dir = config.dir.clone();
        let name = spawn_blocking(move || name_in(&dir, name)).await;
        let name = name.map_err(|error| Refused::Unkept(error.to_string()))??;
        let toml_path = PathBuf::from(format!("{name}.toml"));
        let unusable = |error: anyhow::Error| Refused::Unusable(format!("{error:#}"));
        let parsed = config::parse_module(&toml_path, &toml).map_err(|problems| unusable(anyhow!(problems)))?;
        let id = Id::of(&wasm, &toml);
        config::check_sha256(&name, &parsed, &id.wasm_sha256).map_err(unusable)?;
        let wanted = Wanted {
            name: name.clone(),
            wasm: Arc::clone(&wasm),
            sha256: id.wasm_sha256.clone(),
            settings: parsed.settings.clone(),
            limits: Limits::from(&parsed),
        };
        let loaded = loading.load(engine, wanted).await.map_err(unusable)?;
        loaded
            .with_context(|| format!("{name}.wasm cannot be used"))
            .map_err(unusable)?;

        let dir = config.dir.clone();
        let installing = spawn_blocking(move || {
            let new = New {
                wasm: &wasm,
                toml: &toml,
            };
            let installed = install::install(&dir, &name, &new);
            installed.map(|installed| Uploaded { name, installed })
        });
        let installed = installing.await.map_err(anyhow::Error::from);
        let installed = installed.and_then(|installed| installed.map_err(anyhow::Error::from));
        installed.map_err(|error| Refused::Unkept(format!("{error:#}")))
    }
}

/// Returns the name that the module has in the directory, in whichever spelling. A name from a client must not lead out of it.
fn name_in(dir: &Path, name: String) -> Result<String, Refused> {
    let file = PathBuf::from(format!("{name}.toml"));
    match config::module_name(&file) {
        Ok(valid) if valid == name => {}
        Ok(_) => {
            return Err(Refused::Wrong(format!(
                "{name:?} is not the name of a module: it must have no `.` and no `/`"
            )));
        }
        Err(error) => return Err(Refused::Wrong(error)),
    }
    let existing = names::existing(dir, &name).map_err(|error| {
        let error = anyhow::Error::new(error);
        Refused::Unkept(format!("{error:#}"))
    })?;
    Ok(existing.map_or(name, |existing| existing.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let name = |name: &str| name_in(dir.path(), name.to_owned());
        assert_eq!(name("my_shop").unwrap(), "my_shop");
        std::fs::write(dir.path().join("my-shop.toml"), "").unwrap();
        assert_eq!(name("my_shop").unwrap(), "my-shop");
        for wrong in [
            "",
            ".",
            "..",
            "../shop",
            "/etc/shop",
            "a/b",
            "a\\b",
            "a.b",
            ".shop",
            "a b",
            "a*",
            "sh\0op",
            "sh\nop",
        ] {
            assert!(matches!(name(wrong), Err(Refused::Wrong(_))), "{wrong:?}");
        }
    }
}
