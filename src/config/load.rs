//! Loads configurations from files.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use super::checked::Config;
use super::module::parse as parse_module;
use super::pipeline::ModuleConfig;
use super::problem::{Place, Problems};
use super::relay::parse as parse_config;

/// The file to read if no other is given.
pub const DEFAULT_FILE: &str = "slipring.toml";

/// Reads `slipring.toml` and applies `env` on top. With `None`, reads the one in the working directory, if there is
/// one.
pub fn load<N: Into<OsString>, V: Into<OsString>>(
    path: Option<&Path>,
    env: impl IntoIterator<Item = (N, V)>,
) -> Result<Config, Problems> {
    let file = path.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_none() => String::new(),
        other => other.map_err(|error| unreadable(file, &error))?,
    };
    parse_config(file, &text, env)
}

/// Reads a module's own `.toml`.
pub fn load_module(path: &Path) -> Result<ModuleConfig, Problems> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    parse_module(path, &text)
}

fn unreadable(path: &Path, error: &io::Error) -> Problems {
    Problems::one(Place::file(path), format!("the configuration cannot be read: {error}"))
}
