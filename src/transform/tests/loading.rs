//! Tests which files become modules, and the errors for the others.

use super::super::{Engine, Module};
use super::wat::{Guest, NOTHING, OK, component, impatient, limits};

#[track_caller]
fn check(wasm: &[u8], beginning: &str) {
    let engine = Engine::new(None).expect("an engine");
    let error = Module::load(&engine, "test", wasm, "{}", impatient())
        .expect_err("refused")
        .to_string();
    assert!(error.starts_with(beginning), "{error}");
}

#[test]
fn a_component_is_loaded_and_has_its_hash() {
    let module = Guest::default().load(limits()).expect("a module");
    assert_eq!(module.name(), "test");
    assert_eq!(module.sha256().len(), 64);
    assert!(module.sha256().bytes().all(|byte| byte.is_ascii_hexdigit()));
}

#[test]
fn each_load_of_a_file_has_a_number_of_its_own() {
    let [one, other] = [(); 2].map(|()| Guest::default().load(limits()).expect("a module"));
    assert_eq!(one.sha256(), other.sha256());
    assert_ne!(one.load_id(), other.load_id());
    assert_eq!(one.loaded(), &one.loaded().clone());
}

#[test]
fn a_component_cut_short_is_refused() {
    let wasm = Guest::default().wasm();
    check(
        &wasm[..wasm.len() / 2],
        "the file is damaged or cut short: it ends after ",
    );
}

#[test]
fn a_missing_export_is_named() {
    let core = r#"(core module $core (func (export "f")))"#;
    check(
        &component(NOTHING, core, ""),
        "the module does not export the function `init` of `slipring:transform@0.1.0`: it exports nothing.",
    );
    let lifted = r#"(func $f (canon lift (core func $guest "f"))) (export "init" (func $f)) (export "main" (func $f))"#;
    check(
        &component(NOTHING, core, lifted),
        "the module does not export the function `transform` of `slipring:transform@0.1.0`; it exports `init`, `main`.",
    );
}

#[test]
fn an_export_of_another_type_is_named() {
    let core = r#"(core module $core (func (export "f")))"#;
    let lifted =
        r#"(func $f (canon lift (core func $guest "f"))) (export "init" (func $f)) (export "transform" (func $f))"#;
    check(
        &component(NOTHING, core, lifted),
        "the module's exports do not match `slipring:transform@0.1.0`: type-checking export func `init`",
    );
    let no_function = r#"(instance $nothing) (export "init" (instance $nothing))"#;
    check(
        &component(NOTHING, core, no_function),
        "the module's exports do not match `slipring:transform@0.1.0`: `init` is not a function",
    );
}

#[test]
fn imports_that_are_not_provided_are_all_named() {
    let imports = r#"
        (import "wasi:http/types@0.2.0" (instance))
        (import "wasi:cli/environment@0.2.0" (instance))
        (import "slipring:transform/other@0.1.0" (instance))
        (core instance $host)"#;
    check(
        &component(imports, "(core module $core)", ""),
        "the module imports `wasi:http/types@0.2.0`, `slipring:transform/other@0.1.0`, which the relay does not provide",
    );
}

#[test]
fn a_module_of_another_interface_version_is_told_what_to_do() {
    let check_version = |version: &str, age: &str| {
        let imports = format!(r#"(import "slipring:transform/types@{version}" (instance)) {NOTHING}"#);
        let expected = format!(
            "the module was built for `slipring:transform@{version}`, {age} interface than `slipring:transform@0.1.0`, which this relay \
             has: build it with the slipring-sdk of this relay, or run it in a relay that has `slipring:transform@{version}`"
        );
        check(&component(&imports, "(core module $core)", ""), &expected);
    };
    check_version("0.2.0", "a newer");
    check_version("0.0.1", "an older");
}

#[test]
fn a_function_missing_in_a_known_interface_is_named() {
    let imports =
        r#"(import "wasi:cli/environment@0.2.0" (instance (export "get-weather" (func)))) (core instance $host)"#;
    let guest = Guest {
        imports,
        ..Guest::default()
    };
    let wasm = guest.wasm();
    check(&wasm, "the module's imports do not match what the relay provides: ");
    let engine = Engine::new(None).expect("an engine");
    let error = Module::load(&engine, "test", &wasm, "{}", limits())
        .expect_err("refused")
        .to_string();
    assert!(error.contains("get-weather"), "{error}");
}

#[test]
fn a_module_whose_init_fails_is_refused_with_its_words() {
    let refuses = Guest {
        init: "(call $result (i32.const 1) (i32.const 16) (i32.const 1))",
        ..Guest::default()
    };
    check(
        &refuses.wasm(),
        "the module failed in a test call: `init` refused its settings: a",
    );
    let traps = Guest {
        init: "unreachable",
        ..Guest::default()
    };
    check(
        &traps.wasm(),
        "the module failed in a test call: `init` failed: trapped: wasm `unreachable` instruction executed",
    );
    let loops = Guest {
        init: "(loop (br 0)) unreachable",
        ..Guest::default()
    };
    check(
        &loops.wasm(),
        "the module failed in a test call: `init` failed: did not return within its timeout of 100ms",
    );
    let large = Guest {
        more: "(memory 10000)",
        init: OK,
        ..Guest::default()
    };
    check(
        &large.wasm(),
        "the module failed in a test call: it cannot be instantiated: needed more memory than its limit of 4 MiB",
    );
}

#[test]
fn compiled_code_is_kept_in_a_private_directory() {
    let parent = tempfile::tempdir().expect("a directory");
    let dir = parent.path().join("cache");
    for _ in 0..2 {
        let engine = Engine::new(Some(&dir)).expect("an engine");
        Module::load(&engine, "test", &Guest::default().wasm(), "{}", limits()).expect("a module");
    }
    assert!(dir.read_dir().expect("readable").next().is_some(), "nothing was kept");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(dir.metadata().expect("metadata").permissions().mode() & 0o777, 0o700);
    }
}

#[cfg(unix)]
#[test]
fn a_directory_that_others_may_write_into_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).expect("permissions");
    let error = Engine::new(Some(dir.path())).expect_err("refused").to_string();
    assert!(error.starts_with("other users can write to the directory"), "{error}");
    assert_eq!(
        dir.path().metadata().expect("metadata").permissions().mode() & 0o777,
        0o777
    );
}
