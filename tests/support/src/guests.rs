//! The guest crates of this workspace, built when a test first asks for one. In most cases `make guests` has built them
//! before, and cargo only checks.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;

/// Keyed by crate name.
type Built = Result<HashMap<String, PathBuf>, String>;

/// The guests that the demo needs. It builds no others.
const EXAMPLES: [&str; 4] = ["orders", "orders-next", "notifications", "telemetry"];

const OTHERS: [&str; 4] = ["unruly", "bench-guest", "order-updates", "crates-that-work"];

/// Returns the guest as a component (`wasm32-wasip2`).
pub fn component(name: &str) -> Result<PathBuf> {
    static EXAMPLES_BUILT: OnceLock<Built> = OnceLock::new();
    static OTHERS_BUILT: OnceLock<Built> = OnceLock::new();
    let target = "wasm32-wasip2";
    if EXAMPLES.contains(&name) {
        find(&EXAMPLES_BUILT, name, target, &EXAMPLES)
    } else {
        find(&OTHERS_BUILT, name, target, &OTHERS)
    }
}

/// Returns the guest as a core module (`wasm32-unknown-unknown`).
pub fn core_module(name: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<Built> = OnceLock::new();
    find(&BUILT, name, "wasm32-unknown-unknown", &["orders", "unruly"])
}

/// The languages of `examples/languages`. Each one has the transform of `orders`.
pub const LANGUAGES: [&str; 4] = ["js", "python", "go", "c"];

/// Returns the transform of `orders` in one of [`LANGUAGES`]. `make test-languages` installs the tools for it.
pub fn in_language(language: &str) -> Result<PathBuf> {
    let file = crate::workspace().join(format!("examples/languages/{language}/orders.wasm"));
    ensure!(
        file.exists(),
        "{} is not there: `make languages` builds it",
        file.display()
    );
    Ok(file)
}

fn find(built: &OnceLock<Built>, name: &str, target: &str, guests: &[&str]) -> Result<PathBuf> {
    let built = built.get_or_init(|| build(target, guests).map_err(|error| format!("{error:#}")));
    let files = built.as_ref().map_err(|error| anyhow!("{error}"))?;
    files
        // Cargo names a library with underscores.
        .get(&name.replace('-', "_"))
        .cloned()
        .with_context(|| format!("{name} is not among the guests for {target}: {}", guests.join(", ")))
}

fn build(target: &str, guests: &[&str]) -> Result<HashMap<String, PathBuf>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let output = Command::new(cargo)
        .current_dir(crate::workspace())
        .args([
            "build",
            "--release",
            "--message-format",
            "json-render-diagnostics",
            "--target",
            target,
        ])
        .args(guests.iter().flat_map(|guest| ["--package", guest]))
        .stdin(Stdio::null())
        .output()
        .context("starting cargo to build the guests")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "building the guests for {target} failed ({}):\n{errors}",
        output.status
    );
    let lines = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    let mut files = HashMap::new();
    for line in lines {
        let message: CargoMessage = serde_json::from_slice(line).context("reading what cargo built")?;
        let name = message.target.map(|target| target.name).unwrap_or_default();
        files.extend(
            message
                .filenames
                .into_iter()
                .filter(|file| file.ends_with(".wasm"))
                .map(|file| (name.clone(), file.into())),
        );
    }
    Ok(files)
}

/// See <https://doc.rust-lang.org/cargo/reference/external-tools.html#json-messages>.
#[derive(Deserialize)]
struct CargoMessage {
    target: Option<CargoTarget>,
    #[serde(default)]
    filenames: Vec<String>,
}

#[derive(Deserialize)]
struct CargoTarget {
    name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the first eight bytes, which tell a component from a core module.
    fn preamble(file: Result<PathBuf>) -> Vec<u8> {
        std::fs::read(file.unwrap()).unwrap()[..8].to_vec()
    }

    #[test]
    fn guests_are_built_for_both_targets() {
        assert_eq!(preamble(component("orders")), b"\0asm\x0d\0\x01\0");
        assert_eq!(preamble(core_module("unruly")), b"\0asm\x01\0\0\0");
        let error = core_module("telemetry").unwrap_err().to_string();
        assert!(
            error.starts_with("telemetry is not among the guests for wasm32-unknown-unknown"),
            "{error}"
        );
    }
}
