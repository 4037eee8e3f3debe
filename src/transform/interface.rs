//! Checks by name whether a component fits the world `slipring:transform`, so an error can name what is missing or
//! superfluous. wasmtime checks the types behind the names.

use std::cmp::Ordering;

use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use super::bindings::{BATCH, DIAGNOSTICS, INIT, TRANSFORM, TYPES, WORLD};
use super::error::LoadError;

/// The allowed packages of WASI 0.2, with nothing behind them. `wasi:http` is not one of them.
const WASI: [&str; 6] = [
    "wasi:cli",
    "wasi:clocks",
    "wasi:filesystem",
    "wasi:io",
    "wasi:random",
    "wasi:sockets",
];

pub(super) fn check(engine: &wasmtime::Engine, component: &Component) -> Result<(), LoadError> {
    let ty = component.component_type();
    let unknown: Vec<String> = ty
        .imports(engine)
        .map(|(name, _)| name)
        .filter(|name| !provided(name))
        .map(str::to_owned)
        .collect();
    if let Some((found, age)) = unknown.iter().find_map(|import| other_version(import)) {
        return Err(LoadError::Interface { found, age });
    }
    if !unknown.is_empty() {
        return Err(LoadError::Imports(unknown));
    }
    for name in [INIT, TRANSFORM] {
        match ty.get_export(engine, name).map(|export| export.ty) {
            Some(ComponentItem::ComponentFunc(_)) => {}
            Some(_) => return Err(LoadError::ExportType(format!("`{name}` is not a function"))),
            None => {
                let found = ty.exports(engine).map(|(name, _)| name.to_owned()).collect();
                return Err(LoadError::MissingExport { name, found });
            }
        }
    }
    Ok(())
}

/// Returns the other version of our world that this import belongs to, if any, and whether it is older or newer.
fn other_version(import: &str) -> Option<(String, &'static str)> {
    let (package, own) = WORLD.split_once('@')?;
    let (_, version) = import.strip_prefix(package)?.strip_prefix('/')?.split_once('@')?;
    let numbers = |version: &str| version.split('.').map(str::parse).collect::<Result<Vec<u64>, _>>();
    let age = match numbers(version).ok()?.cmp(&numbers(own).ok()?) {
        Ordering::Less => "an older",
        Ordering::Equal => return None,
        Ordering::Greater => "a newer",
    };
    Some((format!("`{package}@{version}`"), age))
}

fn provided(import: &str) -> bool {
    if [TYPES, DIAGNOSTICS, BATCH].contains(&import) {
        return true;
    }
    let Some((interface, version)) = import.split_once('@') else {
        return false;
    };
    let package = interface.split('/').next().unwrap_or_default();
    WASI.contains(&package) && version.starts_with("0.2.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_of_the_interface_is_told_from_an_unknown_import() {
        let told = |import: &str| other_version(import).map(|(world, age)| format!("{age} {world}"));
        assert_eq!(
            told("slipring:transform/types@0.2.0").as_deref(),
            Some("a newer `slipring:transform@0.2.0`")
        );
        assert_eq!(
            told("slipring:transform/types@0.0.9").as_deref(),
            Some("an older `slipring:transform@0.0.9`")
        );
        for import in [
            "slipring:transform/other@0.1.0",
            "slipring:transform/types",
            "wasi:io/poll@0.3.0",
        ] {
            assert_eq!(told(import), None, "{import}");
        }
    }

    #[test]
    fn provides_wasi_0_2_and_its_own_interfaces_of_this_version() {
        for import in [
            TYPES,
            DIAGNOSTICS,
            BATCH,
            "wasi:cli/environment@0.2.6",
            "wasi:io/poll@0.2.0",
        ] {
            assert!(provided(import), "{import}");
        }
        for import in [
            "slipring:transform/types@0.2.0",
            "wasi:http/types@0.2.0",
            "wasi:cli/environment@0.3.0",
            "wasi:cli/environment",
            "wasi:clocksmith/hammer@0.2.0",
            "env",
        ] {
            assert!(!provided(import), "{import}");
        }
    }
}
