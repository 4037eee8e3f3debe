//! Reads the file of a module for commands that load one.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::config::Bounds;

/// Returns the content of the file unless it is too large.
pub fn read_wasm(path: &Path, bounds: &Bounds) -> anyhow::Result<Vec<u8>> {
    let max = bounds.file_size as u64;
    let mut wasm = Vec::new();
    // One more byte reveals a file that is too large, whatever size the system reports.
    File::open(path)?.take(max + 1).read_to_end(&mut wasm)?;
    anyhow::ensure!(
        wasm.len() as u64 <= max,
        "it has more than {max} bytes; `modules.max_file_size` sets the limit"
    );
    Ok(wasm)
}
