use std::fs;

use insta::assert_snapshot;
use tempfile::TempDir;

use super::*;
use crate::transform::tests::wat::Guest;

fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("modules")).unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

/// Returns the output and how the command ended. The directory is shown as `/etc/slipring`.
fn run(dir: &TempDir, json: bool) -> String {
    let args = Args {
        config: ConfigFile {
            config: Some(dir.path().join("slipring.toml")),
        },
        online: false,
        json,
        permissions: false,
        user: User::Relay,
    };
    let mut output = Vec::new();
    let end = match execute(&args, &mut output) {
        Ok(()) => "exit code 0".to_owned(),
        Err(failure) => format!("{failure}\nexit code {}", failure.exit_code()),
    };
    let text = format!("{}{end}", String::from_utf8(output).unwrap());
    let text = text.replace(&dir.path().display().to_string(), "/etc/slipring");
    // The hash belongs to a guest that changes with other tests.
    match text.split_once("sha256 ") {
        Some((before, after)) => format!("{before}sha256 (12 digits){}", &after[12..]),
        None => text,
    }
}

#[test]
fn every_module_has_its_line() {
    let wasm = Guest::default().wasm();
    let refuses = Guest {
        init: "(call $result (i32.const 1) (i32.const 16) (i32.const 1))",
        ..Guest::default()
    }
    .wasm();
    let dir = directory(&[
        ("slipring.toml", b""),
        ("modules/good.wasm", &wasm),
        ("modules/good.toml", b"stream = 'ORDERS'"),
        ("modules/lonely.wasm", &wasm),
        ("modules/early.toml", b"stream = 'ORDERS'"),
        ("modules/broken.wasm", b"<html>"),
        ("modules/broken.toml", b"stream = 'ORDERS'"),
        ("modules/refuses.wasm", &refuses),
        ("modules/refuses.toml", b"stream = 'ORDERS'"),
        ("modules/typo.wasm", &wasm),
        ("modules/typo.toml", b"steam = 'ORDERS'\nwindow = 0"),
        ("modules/second.wasm", &wasm),
        ("modules/second.toml", b"stream = 'ORDERS'\nconsumer = 'slipring-good'"),
        ("modules/.good.toml.swp", b""),
        ("modules/README.md", b""),
    ]);
    assert_snapshot!(run(&dir, false), @r#"
    broken   bad      /etc/slipring/modules/broken.wasm: the file is not a WebAssembly binary but text that begins with "<html>"
    early    waiting  /etc/slipring/modules/early.wasm is missing
    good     good     stream ORDERS, sha256 (12 digits)
    lonely   waiting  /etc/slipring/modules/lonely.toml is missing
    refuses  bad      /etc/slipring/modules/refuses.wasm: the module failed in a test call: `init` refused its settings: a
    second   bad      its consumer `slipring-good` of the stream `ORDERS` is also read by good; set another `consumer` in its .toml
    typo     bad      3 problems
        /etc/slipring/modules/typo.toml: `stream` is missing; it must be the name of a JetStream stream
        /etc/slipring/modules/typo.toml:1:1: there is no key `steam`; did you mean `stream`?
        /etc/slipring/modules/typo.toml:2:10: `window` is 0; it must be a whole number from 1 to 65536
    4 of 7 modules would not run
    exit code 1
    "#);
}

#[test]
fn two_halves_whose_names_differ_in_a_dash_are_recognized() {
    let dir = directory(&[
        ("slipring.toml", b""),
        ("modules/my-shop.toml", b"stream = 'ORDERS'"),
        ("modules/my_shop.wasm", b""),
        ("modules/other.toml", b"stream = 'OTHERS'"),
    ]);
    assert_snapshot!(run(&dir, false), @r#"
    my-shop  waiting  /etc/slipring/modules/my-shop.wasm is missing; is my_shop the same module? Then give both files one name, as `slipring deploy` does
    my_shop  waiting  /etc/slipring/modules/my_shop.toml is missing; is my-shop the same module? Then give both files one name, as `slipring deploy` does
    other    waiting  /etc/slipring/modules/other.wasm is missing
    no module would run: each waits for one of its files
    exit code 1
    "#);
}

#[test]
fn where_nothing_would_run_the_check_fails() {
    let dir = directory(&[("slipring.toml", b""), ("modules/early.toml", b"stream = 'ORDERS'")]);
    assert_snapshot!(run(&dir, true), @r#"
    {
      "problems": [],
      "modules": [
        {
          "name": "early",
          "state": "waiting",
          "stream": "ORDERS",
          "consumer": "slipring-early",
          "sha256": null,
          "reasons": [
            "/etc/slipring/modules/early.wasm is missing"
          ]
        }
      ],
      "servers": []
    }
    no module would run: each waits for one of its files
    exit code 1
    "#);
    let dir = directory(&[("slipring.toml", b"")]);
    assert_snapshot!(run(&dir, false), @r#"
    the configuration is good
    no module would run: there is none in /etc/slipring/modules
    exit code 1
    "#);
    let dir = directory(&[
        ("slipring.toml", b""),
        ("modules/early.toml", b"stream = 'ORDERS'"),
        ("modules/broken.wasm", b"<html>"),
        ("modules/broken.toml", b"stream = 'ORDERS'"),
    ]);
    let told = run(&dir, false);
    assert!(told.ends_with("\nno module would run\nexit code 1"), "{told}");
    let wasm = Guest::default().wasm();
    let dir = directory(&[
        ("slipring.toml", b""),
        ("modules/good.wasm", &wasm),
        ("modules/good.toml", b"stream = 'ORDERS'"),
        ("modules/lonely.wasm", &wasm),
    ]);
    let told = run(&dir, false);
    assert!(
        told.ends_with("\nexit code 0"),
        "a waiting module beside a good one is no failure: {told}"
    );
}

#[test]
fn a_wrong_configuration_is_told_to_people_and_programs() {
    let dir = directory(&[("slipring.toml", b"[publish]\nmax_batch = 0\n")]);
    assert_snapshot!(run(&dir, true), @r#"
    {
      "problems": [
        {
          "place": {
            "file": {
              "path": "/etc/slipring/slipring.toml",
              "line": 2,
              "column": 13
            }
          },
          "key": "publish.max_batch",
          "message": "`publish.max_batch` is 0; it must be a whole number from 1 to 5000"
        }
      ],
      "modules": [],
      "servers": []
    }
    /etc/slipring/slipring.toml:2:13: `publish.max_batch` is 0; it must be a whole number from 1 to 5000
    exit code 78
    "#);
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let dir = directory(&[("slipring.toml", b"modules.dir = 'nowhere'")]);
    assert_snapshot!(run(&dir, false), @r#"
    the modules directory /etc/slipring/nowhere does not exist. Create it, or set `modules.dir` in slipring.toml
    exit code 1
    "#);
}

fn permissions(dir: &TempDir, user: User) -> String {
    let args = Args {
        config: ConfigFile {
            config: Some(dir.path().join("slipring.toml")),
        },
        online: false,
        json: false,
        permissions: true,
        user,
    };
    let mut output = Vec::new();
    match execute(&args, &mut output) {
        Ok(()) => String::from_utf8(output).unwrap(),
        Err(failure) => failure
            .to_string()
            .replace(&dir.path().display().to_string(), "/etc/slipring"),
    }
}

#[test]
fn permissions_say_what_each_subject_is_for() {
    let dir = directory(&[
        ("slipring.toml", b"standby.enabled = true"),
        ("modules/orders.toml", b"stream = 'ORDERS'\nsubjects = ['orders.>']"),
        ("modules/audit.toml", b"stream = 'ORDERS'"),
    ]);
    assert_snapshot!("permissions_of_the_relay", permissions(&dir, User::Relay));
    assert_snapshot!("permissions_of_people", permissions(&dir, User::People));
}

#[test]
fn permissions_without_a_modules_settings_are_no_permissions() {
    let dir = directory(&[
        ("slipring.toml", b""),
        ("modules/typo.toml", b"steam = 'ORDERS'"),
        ("modules/lonely.wasm", b""),
    ]);
    assert_snapshot!(permissions(&dir, User::Relay), @r"
    the permissions of some modules are unknown, correct their .toml first:
    /etc/slipring/modules/lonely.toml is missing
    /etc/slipring/modules/typo.toml: `stream` is missing; it must be the name of a JetStream stream
    /etc/slipring/modules/typo.toml:1:1: there is no key `steam`; did you mean `stream`?
    ");
}
