//! Builds of the same module whose bytes differ, as those of a new version do. The relay has not seen these bytes
//! before, so it has to compile, check and try them. They behave the same, so the results can be checked as always.

use std::path::PathBuf;

use anyhow::{Context, Result};
use slipring_support::guests;
use slipring_support::relay::Home;

/// Returns the guest of the bench with `number` in it.
pub fn another(home: &Home, number: usize) -> Result<PathBuf> {
    let guest = guests::component("bench-guest")?;
    let mut wasm = std::fs::read(&guest).with_context(|| format!("reading {}", guest.display()))?;
    wasm.extend(custom_section("build", &number.to_string()));
    let file = home.path().join("another.wasm");
    std::fs::write(&file, wasm).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}

/// Returns a section without meaning, which may be anywhere between others:
/// <https://webassembly.github.io/spec/core/binary/modules.html#custom-section>. Both texts are short, so that lengths
/// fit into a byte.
fn custom_section(name: &str, content: &str) -> Vec<u8> {
    let length = |text: &str, more: usize| u8::try_from(text.len() + more).unwrap_or(u8::MAX).min(127);
    let mut section = vec![0, length(&format!("{name}{content}"), 1), length(name, 0)];
    section.extend(name.as_bytes());
    section.extend(content.as_bytes());
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_custom_section_has_its_lengths() {
        assert_eq!(custom_section("build", "12"), b"\0\x08\x05build12");
    }
}
