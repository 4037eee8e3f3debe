//! The crate slipring-sdk, which a module in Rust needs. It is not on crates.io yet. Its sources are embedded in this
//! program and written into the module's folder, so the module builds on any machine.

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use toml::{Table, Value};

use super::super::project::SDK_FOLDER;
use super::Failure;

/// Where a new module gets the crate.
#[derive(Debug, PartialEq, Eq)]
pub enum Sdk {
    /// A copy in the module's own folder.
    Vendored,
    /// The crate's folder. The path is absolute because the module may be moved.
    At(PathBuf),
}

/// The workspace manifest that the crates inherit from.
const WORKSPACE: &str = include_str!("../../../Cargo.toml");

macro_rules! files {
    ($($path:literal,)*) => { [$(($path, include_str!(concat!("../../../guest-sdk/", $path))),)*] };
}

const MANIFESTS: [(&str, &str); 3] = files!["Cargo.toml", "bindings/Cargo.toml", "macros/Cargo.toml",];

const SOURCES: [(&str, &str); 29] = files![
    "bindings/src/component.rs",
    "bindings/src/core_module.rs",
    "bindings/src/lib.rs",
    "macros/src/init.rs",
    "macros/src/lib.rs",
    "macros/src/signature.rs",
    "macros/src/transform.rs",
    "src/batch.rs",
    "src/channel.rs",
    "src/cloud_event.rs",
    "src/cloud_event/tests.rs",
    "src/context.rs",
    "src/debezium.rs",
    "src/debezium/tests.rs",
    "src/error.rs",
    "src/expansion.rs",
    "src/guest.rs",
    "src/json.rs",
    "src/lib.rs",
    "src/message.rs",
    "src/output.rs",
    "src/prelude.rs",
    "src/publication.rs",
    "src/samples.rs",
    "src/settings.rs",
    "src/time.rs",
    "wit/transform-batch.wit",
    "wit/transform-core.wit",
    "wit/transform.wit",
];

/// Keeps `cargo fmt --all` from changing the copy.
const FORMAT: (&str, &str) = ("rustfmt.toml", include_str!("../../../rustfmt.toml"));

impl Sdk {
    /// `given` is the crate's folder or a checkout of Slipring.
    pub fn find(given: Option<&Path>) -> Result<Self, Failure> {
        let Some(dir) = given else {
            return Ok(Self::Vendored);
        };
        let checkout = dir.join("guest-sdk");
        let found = [dir, &checkout].into_iter().find(|dir| is_sdk(dir));
        let absolute = found.and_then(|dir| fs::canonicalize(dir).ok());
        absolute.map(Self::At).ok_or_else(|| {
            Failure::Usage(format!(
                "the crate slipring-sdk is not in {}: name its folder or a checkout of Slipring with --sdk DIR, or leave --sdk \
                 out for a copy in the module's own folder",
                dir.display()
            ))
        })
    }

    /// Returns the dependency in TOML.
    pub fn dependency(&self) -> String {
        match self {
            Self::Vendored => format!("{{ path = \"{SDK_FOLDER}\" }} # a copy, since it is not on crates.io yet"),
            Self::At(path) => format!("{{ path = {} }}", Value::from(path.display().to_string())),
        }
    }

    /// Writes the files that the module's folder needs.
    pub fn write(&self, module: &Path) -> anyhow::Result<()> {
        match self {
            Self::Vendored => write_copy(&module.join(SDK_FOLDER)),
            Self::At(_) => Ok(()),
        }
    }
}

fn is_sdk(dir: &Path) -> bool {
    let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap_or_default();
    let manifest: Result<Table, _> = manifest.parse();
    manifest.is_ok_and(|manifest| {
        manifest
            .get("package")
            .and_then(|package| package.get("name")?.as_str())
            == Some("slipring-sdk")
    })
}

fn write_copy(dir: &Path) -> anyhow::Result<()> {
    for (path, text) in SOURCES.into_iter().chain([FORMAT]) {
        write(&dir.join(path), text)?;
    }
    for (path, text) in MANIFESTS {
        write(&dir.join(path), &standalone(text)?)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    Ok(fs::write(path, text)?)
}

/// Returns a manifest without inheritance, as `cargo package` writes it.
fn standalone(manifest: &str) -> anyhow::Result<String> {
    let root: Table = WORKSPACE.parse()?;
    let workspace = root
        .get("workspace")
        .context("the workspace manifest has no [workspace]")?;
    let mut manifest: Table = manifest.parse()?;
    manifest.remove("lints");
    manifest.remove("dev-dependencies");
    for section in ["package", "dependencies"] {
        let keys = manifest.get_mut(section).and_then(Value::as_table_mut);
        for (key, value) in keys.into_iter().flatten() {
            if value.get("workspace") == Some(&Value::Boolean(true)) {
                let inherited = workspace.get(section).and_then(|keys| keys.get(key));
                *value = inherited
                    .with_context(|| format!("the workspace has no {key}"))?
                    .clone();
            }
        }
    }
    Ok(toml::to_string(&manifest)?)
}
