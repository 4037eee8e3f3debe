//! The languages of `slipring new`. Each has a folder of templates beside this file and one entry here.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::super::project::{TARGET, target_is_installed};
use super::others::{C, GO, JAVASCRIPT, PYTHON};

#[derive(Debug)]
pub struct Language {
    pub name: &'static str,
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

pub const LANGUAGES: [Language; 5] = [RUST, JAVASCRIPT, PYTHON, GO, C];

const RUST: Language = Language {
    name: "rust",
    needs_sdk: true,
    templates: &[
        Template::file("Cargo.toml", include_str!("rust/Cargo.toml.in")),
        Template::file("src/lib.rs", include_str!("rust/lib.rs.in")),
        Template::file("{{name}}.toml", include_str!("rust/NAME.toml.in")),
        Template::file("cases/paid.json", include_str!("rust/cases/paid.json.in")),
        Template::file("cases/draft.json", include_str!("rust/cases/draft.json.in")),
        Template::file("cases/no-status.json", include_str!("rust/cases/no-status.json.in")),
        Template::file("README.md", include_str!("rust/README.md.in")),
        Template::file(".gitignore", include_str!("rust/gitignore.in")),
    ],
    check: crate_name,
    steps: || {
        let target = (!target_is_installed(Path::new("."))).then(|| format!("rustup target add {TARGET}"));
        let always = ["cargo test", "slipring test", "slipring dev"];
        target.into_iter().chain(always.map(str::to_owned)).collect()
    },
};

/// Keywords of the language, and crates that the new one uses or that every crate has.
const NOT_FOR_CRATES: [&str; 61] = [
    "Self",
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "serde",
    "slipring-sdk",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
    "proc_macro",
    "slipring_sdk",
];

fn crate_name(name: &str) -> Result<(), String> {
    plain_name(name).map_err(|rule| format!("{rule}: it becomes the name of a crate"))?;
    if NOT_FOR_CRATES.contains(&name) {
        return Err("be a different one: Rust or the new crate needs this one itself".to_owned());
    }
    Ok(())
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
