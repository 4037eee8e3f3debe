//! A module that needs no code: a ready `.wasm` that publishes Centrifugo's own commands.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Context;

use super::super::failure::Failure;
use super::quoted;

/// `make pass-through` builds it from `examples/pass-through`.
const WASM: &[u8] = include_bytes!("../../../examples/pass-through/pass-through.wasm");
const TOML: &str = include_str!("../../../examples/pass-through/pass-through.toml");
const SAMPLES: &str = include_str!("../../../examples/pass-through/samples.jsonl");

/// Creates the folder, and prints what to type next.
pub(super) fn create(path: &Path, name: &str, output: &mut dyn Write, notes: &mut dyn Write) -> Result<(), Failure> {
    let unfinished = path.with_file_name(format!(".{name}.{:08x}.unfinished", fastrand::u32(..)));
    let toml = TOML.replace("pass-through.wasm", &format!("{name}.wasm"));
    let made = fs::create_dir(&unfinished)
        .and_then(|()| fs::write(unfinished.join(format!("{name}.wasm")), WASM))
        .and_then(|()| fs::write(unfinished.join(format!("{name}.toml")), toml))
        .and_then(|()| fs::write(unfinished.join("samples.jsonl"), SAMPLES))
        .and_then(|()| fs::rename(&unfinished, path));
    if made.is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    made.with_context(|| format!("cannot create the folder {}", path.display()))?;
    writeln!(
        notes,
        "created the module {name} in {}. Set what it reads in {name}.toml, then copy {name}.wasm and {name}.toml into the \
         relay's modules directory. To see what it publishes for sample messages:",
        path.display()
    )?;
    writeln!(output, "cd {}", quoted(path))?;
    writeln!(output, "slipring try {name}.wasm samples.jsonl")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    /// The file that was built has to follow the source: run `make pass-through`.
    #[test]
    fn the_ready_module_is_built_from_the_source() {
        let source = include_bytes!("../../../examples/pass-through/src/lib.rs");
        let built_from = include_str!("../../../examples/pass-through/built-from");
        let hash: String = Sha256::digest(source)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(built_from.trim(), hash);
        // It shows no path of the machine that built it.
        let text = String::from_utf8_lossy(super::WASM);
        assert!(!text.contains("/root/") && !text.contains("/home/") && !text.contains("/work/"));
    }
}
