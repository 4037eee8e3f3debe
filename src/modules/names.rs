//! Matches the names of modules. Cargo calls the crate `my-shop` and its file `my_shop.wasm`, so both are one name.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::directory::{Kind, Part};

/// What the modules directory has under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// The name of the module there.
    pub name: String,
    /// Files with the other spelling of the name, which belong to no complete module.
    pub strays: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot list the modules directory {dir}")]
    List { dir: String, source: io::Error },
    #[error(
        "{dir} has several modules with this name: {names}. `-` and `_` count as the same character, so remove the files of \
         all but one"
    )]
    Several { dir: String, names: String },
}

/// Returns true if both are spellings of one name.
pub fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).all(|(a, b)| fold(a) == fold(b))
}

fn fold(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte }
}

/// Returns the module that the directory has under this name. A complete one is meant rather than half a one, and one with a
/// `.toml` rather than one without.
pub fn existing(dir: &Path, name: &str) -> Result<Option<Existing>, Error> {
    let failed = |source| Error::List {
        dir: dir.display().to_string(),
        source,
    };
    // For each spelling, whether there is a .wasm and a .toml.
    let mut found: BTreeMap<String, [bool; 2]> = BTreeMap::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let Some(part) = Part::of(&entry.map_err(failed)?.file_name()) else {
            continue;
        };
        if same(&part.module, name) {
            found.entry(part.module).or_default()[usize::from(part.kind == Kind::Toml)] = true;
        }
    }
    let complete: Vec<&String> = found
        .iter()
        .filter(|(_, has)| **has == [true, true])
        .map(|(name, _)| name)
        .collect();
    let chosen = match complete.as_slice() {
        [only] => (*only).clone(),
        [] => match found.iter().max_by_key(|(spelling, has)| (has[1], *spelling == name)) {
            Some((spelling, _)) => spelling.clone(),
            None => return Ok(None),
        },
        _ => {
            let names: Vec<String> = complete.into_iter().cloned().collect();
            return Err(Error::Several {
                dir: dir.display().to_string(),
                names: names.join(", "),
            });
        }
    };
    let others = found.iter().filter(|(spelling, _)| **spelling != chosen);
    let file = |(spelling, has): (&String, &[bool; 2])| {
        let ending = if has[1] { "toml" } else { "wasm" };
        format!("{spelling}.{ending}")
    };
    let strays = others.map(file).collect();
    Ok(Some(Existing { name: chosen, strays }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dash_and_an_underscore_are_one_character() {
        assert!(same("my-shop", "my_shop") && same("a_b-c", "a-b_c") && same("shop", "shop"));
        assert!(!same("my-shop", "myshop") && !same("shop", "Shop") && !same("shop", "shops"));
    }

    #[test]
    fn the_name_in_the_directory_stays() {
        let found = |files: &[&str], name: &str| {
            let dir = tempfile::tempdir().unwrap();
            for file in files {
                fs::write(dir.path().join(file), "").unwrap();
            }
            existing(dir.path(), name).map(|found| found.map(|found| (found.name, found.strays.join(" "))))
        };
        let is = |name: &str, strays: &str| Some((name.to_owned(), strays.to_owned()));
        assert_eq!(found(&[], "my_shop").unwrap(), None);
        assert_eq!(found(&["shop.wasm", "shop.toml"], "my_shop").unwrap(), None);
        let pair = ["my-shop.wasm", "my-shop.toml"];
        assert_eq!(found(&pair, "my_shop").unwrap(), is("my-shop", ""));
        // What somebody copied as cargo and `slipring new` name it.
        let halves = ["my_shop.wasm", "my-shop.toml"];
        assert_eq!(found(&halves, "my_shop").unwrap(), is("my-shop", "my_shop.wasm"));
        assert_eq!(
            found(&["my_shop.wasm", "my-shop.wasm", "my-shop.toml"], "my_shop").unwrap(),
            is("my-shop", "my_shop.wasm")
        );
        assert_eq!(
            found(&["my-shop.wasm", "my_shop.wasm"], "my-shop").unwrap(),
            is("my-shop", "my_shop.wasm")
        );
        let both = ["my-shop.wasm", "my-shop.toml", "my_shop.wasm", "my_shop.toml"];
        let error = found(&both, "my_shop").unwrap_err().to_string();
        assert!(
            error.contains("several modules with this name: my-shop, my_shop."),
            "{error}"
        );
    }
}
