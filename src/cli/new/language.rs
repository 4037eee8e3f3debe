//! What `slipring new` knows of a language. Each language has a folder of templates beside this file, and an entry in
//! `rust` or `others`.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

#[derive(Debug)]
pub struct Language {
    pub name: &'static str,
    /// Other words for it on the command line.
    pub aliases: &'static [&'static str],
    /// True if a module needs the crate slipring-sdk.
    pub needs_sdk: bool,
    pub templates: &'static [Template],
    /// Checks a module's name beyond the rule for all modules. The error completes "NAME must …".
    pub check: fn(&str) -> Result<(), String>,
    /// The commands to type in the new folder, in order.
    pub steps: fn() -> Vec<String>,
}

/// A file to create. `{{name}}` and similar placeholders in its path and its text are replaced.
#[derive(Debug)]
pub struct Template {
    pub path: &'static str,
    pub text: &'static str,
    pub executable: bool,
}

/// Accepts a name that is valid in any language and any shell.
pub fn plain_name(name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(fits) {
        true => Ok(()),
        false => Err("start with a letter and contain only letters, digits, `-` and `_`".to_owned()),
    }
}

impl Template {
    pub const fn file(path: &'static str, text: &'static str) -> Self {
        Self {
            path,
            text,
            executable: false,
        }
    }

    pub const fn script(path: &'static str, text: &'static str) -> Self {
        Self {
            path,
            text,
            executable: true,
        }
    }

    /// Writes the file below `dir`.
    pub fn write(&self, dir: &Path, fill: impl Fn(&str) -> String) -> io::Result<()> {
        let path = dir.join(fill(self.path));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, fill(self.text))?;
        if self.executable {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }
}
