//! Any number of modules, all with the guest of the bench.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use slipring_support::guests;
use slipring_support::relay::{Home, Relay};

/// How long a hundred modules may take to compile on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Puts module files into a directory, each slightly different. The cache of compiled modules would treat equal files
/// as one and compile only the first of a hundred.
pub fn distinct(dir: &Path, count: u32) -> Result<Vec<PathBuf>> {
    let guest = guests::component("bench-guest")?;
    let wasm = std::fs::read(&guest).with_context(|| format!("reading {}", guest.display()))?;
    let one = |number: u32| {
        let file = dir.join(format!("{number}.wasm"));
        std::fs::write(&file, numbered(&wasm, number)).with_context(|| format!("writing {}", file.display()))?;
        Ok(file)
    };
    (0..count).map(one).collect()
}

/// Appends a custom section with a number, which has no effect.
fn numbered(wasm: &[u8], number: u32) -> Vec<u8> {
    const NAME: &[u8] = b"bench";
    let mut section = vec![NAME.len() as u8];
    section.extend(NAME);
    section.extend(number.to_le_bytes());
    // The ID of custom sections, and a length that fits into seven bits.
    [wasm, &[0, section.len() as u8], &section].concat()
}

/// Waits until this many modules run.
pub async fn running(relay: &Relay, count: u32) -> Result<()> {
    let run = |status: &serde_json::Value| {
        let modules = status["modules"].as_array().map_or(&[][..], Vec::as_slice);
        let running = modules.iter().filter(|module| module["state"] == "running").count();
        running == count as usize
    };
    let what = format!("{count} modules to run");
    relay.status_when(PATIENCE, &what, run).await.map(drop)
}

/// Adds idle modules. Each reads a subject of its own, without any messages, from a stream that other modules work on.
pub fn add_idle(home: &Home, stream: &str, files: &[PathBuf]) -> Result<()> {
    for (number, wasm) in files.iter().enumerate() {
        let toml = format!("stream = \"{stream}\"\nsubjects = [\"{stream}.idle.{number}\"]\n");
        home.add_module(&format!("idle-{number}"), wasm, &toml)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbered_module_has_one_more_section() {
        let numbered = numbered(b"\0asm\x0d\0\x01\0", 7);
        assert_eq!(numbered, b"\0asm\x0d\0\x01\0\0\x0a\x05bench\x07\0\0\0");
    }
}
