//! Rust: a crate that uses slipring-sdk.

use std::path::Path;

use super::super::project::{TARGET, target_is_installed};
use super::language::{Language, Template, plain_name};

pub const RUST: Language = Language {
    name: "rust",
    aliases: &["rs"],
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
        let always = ["cargo test", "slipring test", "slipring up", "slipring dev"];
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
