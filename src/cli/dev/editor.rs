//! Lets a person edit a text with their own editor.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

/// The editor if no variable names one.
const DEFAULT: &str = "vi";

/// Returns the text as it was left, or `None` if nothing was changed.
pub fn edit(text: &str) -> anyhow::Result<Option<String>> {
    let set = |name: &&str| env::var(name).is_ok_and(|value| !value.trim().is_empty());
    let variable = ["VISUAL", "EDITOR"].into_iter().find(set);
    let editor = variable.and_then(|name| env::var(name).ok());
    let editor = editor.unwrap_or_else(|| DEFAULT.to_owned());
    let dir = tempfile::tempdir().context("a temporary folder for the message cannot be created")?;
    let file = dir.path().join("message.json");
    write(&file, text)?;
    // The variable is a command line, such as `code --wait`.
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(&file)
        .status()
        .with_context(|| format!("the editor `{editor}` cannot be started"))?;
    ensure!(
        status.success(),
        "the editor `{editor}` failed ({status}): set VISUAL or EDITOR to another one"
    );
    let edited = fs::read_to_string(&file).context("the edited message cannot be read")?;
    Ok((edited.trim() != text.trim()).then_some(edited))
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text.to_owned() + "\n").with_context(|| format!("cannot write {}", file.display()))
}
