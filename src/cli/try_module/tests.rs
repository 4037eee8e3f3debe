use insta::assert_snapshot;

use std::fs;

use super::*;
use crate::transform::tests::wat::{Guest, TWICE};

/// A guest that publishes, but drops the second message of the stream and rejects the third.
fn guest() -> Guest<'static> {
    let transform = "(if (i64.eq (local.get $sequence) (i64.const 2))
            (then (return (call $result (i32.const 0) (i32.const 0) (i32.const 0)))))
        (if (i64.eq (local.get $sequence) (i64.const 3))
            (then (return (call $result (i32.const 1) (i32.const 16) (i32.const 1)))))
        (call $result (i32.const 0) (call $publication) (i32.const 1))";
    Guest {
        transform,
        ..Guest::default()
    }
}

/// Returns standard output, standard error, and how the command ended.
fn run(guest: &Guest<'_>, config: Option<&str>, messages: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("orders.wasm"), guest.wasm()).unwrap();
    fs::write(path("samples.jsonl"), messages).unwrap();
    if let Some(config) = config {
        fs::write(path("orders.toml"), config).unwrap();
    }
    let args = Args {
        module: path("orders.wasm"),
        messages: Some(path("samples.jsonl")),
        ..no_args()
    };
    ran(&args, dir.path())
}

fn no_args() -> Args {
    Args {
        module: PathBuf::from("."),
        messages: None,
        seq: None,
        last: None,
        stream: None,
        subject: Vec::new(),
        toml: None,
        set: Vec::new(),
        no_build: false,
        online: false,
        config: ConfigFile { config: None },
    }
}

/// `dir` is shown as `modules`.
fn ran(args: &Args, dir: &Path) -> String {
    let (mut output, mut notes) = (Vec::new(), Vec::new());
    let end = match execute(args, &mut output, &mut notes) {
        Ok(()) => "exit code 0".to_owned(),
        Err(failure) => format!("{failure}\nexit code {}", failure.exit_code()),
    };
    let text = [output, notes]
        .map(|bytes| String::from_utf8(bytes).unwrap())
        .join("---\n")
        + &end;
    text.replace(&dir.display().to_string(), "modules")
}

#[test]
fn each_message_becomes_a_line() {
    let messages = "{\"subject\":\"a\",\"payload\":\"\"}\n{\"subject\":\"b\",\"payload\":\"\"}\n\n\
                    {\"subject\":\"c\",\"payload\":\"\",\"sequence\":3}\r\n";
    assert_snapshot!(run(&guest(), None, messages), @r#"
    {"line":1,"subject":"a","outcome":"publish","publications":[{"channels":["a"],"data":1}]}
    {"line":2,"subject":"b","outcome":"drop"}
    {"line":4,"subject":"c","outcome":"reject","code":"rejected","reason":"a"}
    ---
    3 read: 1 published (publications: 1), 1 dropped, 1 rejected
    exit code 0
    "#);
}

#[test]
fn a_line_that_is_no_message_is_named_and_the_others_go_on() {
    let messages = "nonsense\n{\"subject\":\"a\"}\n{\"subject\":\"a\",\"data\":[1, 2],\"sequence\":1}";
    assert_snapshot!(run(&guest(), None, messages), @r#"
    {"line":3,"subject":"a","outcome":"publish","publications":[{"channels":["a"],"data":1}]}
    ---
    line 1: this is not JSON (column 2)
    line 2: a message must have exactly one of `data`, `payload` and `payload_base64`
    1 read: 1 published (publications: 1), 0 dropped, 0 rejected
    2 lines are not messages
    exit code 1
    "#);
}

#[test]
fn the_file_beside_the_module_applies() {
    let message = "{\"subject\":\"a\",\"data\":{},\"sequence\":42}";
    let endless = Guest {
        transform: "(loop (br 0)) (i32.const 0)",
        ..Guest::default()
    };
    assert_snapshot!(run(&guest(), Some("stream = 'ORDERS'\nversion = 'sequence'"), message), @r#"
    {"line":1,"subject":"a","outcome":"publish","publications":[{"channels":["a"],"data":1,"version":42}]}
    ---
    1 read: 1 published (publications: 1), 0 dropped, 0 rejected
    exit code 0
    "#);
    assert_snapshot!(run(&endless, Some("stream = 'ORDERS'\ntimeout = '7ms'"), message), @r#"
    {"line":1,"subject":"a","outcome":"reject","code":"timeout","reason":"did not return within its timeout of 7ms"}
    ---
    1 read: 0 published (publications: 0), 0 dropped, 1 rejected
    exit code 0
    "#);
    assert_snapshot!(run(&guest(), Some("stream = 5"), message), @r#"
    ---
    modules/orders.toml:1:10: `stream` is 5; it must be a string that is not empty
    exit code 78
    "#);
}

#[test]
fn what_the_relay_would_reject_is_rejected() {
    let twice = Guest {
        transform: TWICE,
        ..Guest::default()
    };
    let message = "{\"subject\":\"a\",\"data\":{},\"sequence\":42}";
    assert_snapshot!(run(&twice, Some("stream = 'ORDERS'\nversion = 'sequence'"), message), @r#"
    {"line":1,"subject":"a","outcome":"reject","code":"version","channel":"a","reason":"the module returned two publications on the channel `a` for one message, but with `version = \"sequence\"` both would have the same version, and Centrifugo would show only the first"}
    ---
    1 read: 0 published (publications: 0), 0 dropped, 1 rejected
    exit code 0
    "#);
}

#[test]
fn a_module_that_will_not_start_is_told() {
    let refuses = Guest {
        init: "(call $result (i32.const 1) (i32.const 16) (i32.const 1))",
        ..Guest::default()
    };
    assert_snapshot!(run(&refuses, None, ""), @r#"
    ---
    cannot load the module modules/orders.wasm: the module failed in a test call: `init` refused its settings: a
    There is no modules/orders.toml, so the module ran without settings. Name its folder, or its file with --toml, or use --set KEY=VALUE
    exit code 1
    "#);
    let with_file = run(&refuses, Some("stream = 'ORDERS'"), "");
    assert!(!with_file.contains("There is no"), "{with_file}");
}

/// A guest that refuses its settings if they are `{}`, which has two characters.
fn particular() -> Guest<'static> {
    Guest {
        init: "(if (i32.le_u (local.get 1) (i32.const 2))
            (then (return (call $result (i32.const 1) (i32.const 16) (i32.const 1)))))
            (call $result (i32.const 0) (i32.const 0) (i32.const 0))",
        ..Guest::default()
    }
}

#[test]
fn settings_come_from_a_named_file_and_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("orders.wasm"), particular().wasm()).unwrap();
    fs::write(path("samples.jsonl"), "{\"subject\":\"a\",\"payload\":\"\"}").unwrap();
    fs::write(path("other.toml"), "stream = 'ORDERS'\n[settings]\na = 1\n").unwrap();
    let args = || Args {
        module: path("orders.wasm"),
        messages: Some(path("samples.jsonl")),
        ..no_args()
    };
    assert!(ran(&args(), dir.path()).contains("refused its settings"));
    let from_file = Args {
        toml: Some(path("other.toml")),
        ..args()
    };
    assert!(ran(&from_file, dir.path()).ends_with("exit code 0"));
    let set = Args {
        set: vec![Setting::parse("a=1").unwrap()],
        ..args()
    };
    assert!(ran(&set, dir.path()).ends_with("exit code 0"));
    let missing = Args {
        toml: Some(path("none.toml")),
        ..args()
    };
    let told = ran(&missing, dir.path());
    assert!(
        told.contains("modules/none.toml: the configuration cannot be read"),
        "{told}"
    );
}

#[test]
fn a_folder_is_built_and_has_its_settings() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("unbuilt"), particular().wasm()).unwrap();
    fs::write(path("orders.toml"), "stream = 'ORDERS'\n[settings]\na = 1\n").unwrap();
    fs::write(path("samples.jsonl"), "{\"subject\":\"a\",\"payload\":\"\"}").unwrap();
    fs::write(path("build"), "#!/bin/sh\ncp unbuilt orders.wasm\n").unwrap();
    fs::set_permissions(path("build"), fs::Permissions::from_mode(0o755)).unwrap();
    let args = Args {
        module: dir.path().to_owned(),
        messages: Some(path("samples.jsonl")),
        ..no_args()
    };
    assert!(
        ran(
            &Args {
                no_build: true,
                ..args_of(&args)
            },
            dir.path()
        )
        .contains("there is no .wasm file in modules")
    );
    let told = ran(&args, dir.path());
    assert!(
        told.contains("1 read: 1 published") || told.contains("1 read: 0 published"),
        "{told}"
    );
    assert!(told.ends_with("exit code 0"), "{told}");
}

fn args_of(args: &Args) -> Args {
    Args {
        module: args.module.clone(),
        messages: args.messages.clone(),
        ..no_args()
    }
}

#[test]
fn a_file_of_messages_in_place_of_the_module_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("samples.jsonl");
    fs::write(&file, "").unwrap();
    let args = Args {
        module: file,
        ..no_args()
    };
    assert_snapshot!(ran(&args, dir.path()), @r"
    ---
    modules/samples.jsonl is neither a module's folder nor a MODULE.wasm; to run the module of this folder on it: slipring try . modules/samples.jsonl
    exit code 2
    ");
}
