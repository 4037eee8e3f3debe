//! Checks which part of the relay may import which. Everything that is not listed is forbidden.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A file or folder of `src`, and the other parts that it may import.
const WALLS: &[(&str, &[&str])] = &[
    ("hash", &[]),
    ("cause", &[]),
    ("load", &[]),
    ("message", &[]),
    ("clock", &[]),
    ("config", &[]),
    ("memory", &[]),
    ("shutdown", &[]),
    ("telemetry", &["config"]),
    ("status", &["memory", "message", "telemetry"]),
    ("nats", &["cause", "config", "message"]),
    ("json", &["message", "nats"]),
    ("redis", &["cause", "config"]),
    ("source", &["clock", "config", "message", "nats", "redis"]),
    ("tap", &["clock", "json", "message"]),
    ("transform", &["config", "hash", "load", "message", "tap"]),
    ("publish", &["cause", "config", "message"]),
    ("dead_letter", &["config", "message", "nats", "redis"]),
    (
        "pipeline",
        &[
            "config",
            "dead_letter",
            "load",
            "memory",
            "message",
            "clock",
            "nats",
            "publish",
            "shutdown",
            "source",
            "status",
            "tap",
            "transform",
        ],
    ),
    (
        "modules",
        &[
            "config",
            "hash",
            "message",
            "pipeline",
            "shutdown",
            "status",
            "transform",
        ],
    ),
    (
        "admin",
        &[
            "cause",
            "config",
            "dead_letter",
            "json",
            "message",
            "modules",
            "nats",
            "pipeline",
            "publish",
            "shutdown",
            "status",
            "tap",
        ],
    ),
    (
        "relay",
        &[
            "admin",
            "config",
            "dead_letter",
            "memory",
            "modules",
            "nats",
            "pipeline",
            "publish",
            "redis",
            "shutdown",
            "source",
            "status",
            "tap",
            "telemetry",
            "transform",
        ],
    ),
    (
        "cli",
        &[
            "admin",
            "cause",
            "config",
            "dead_letter",
            "json",
            "message",
            "modules",
            "nats",
            "pipeline",
            "publish",
            "redis",
            "relay",
            "shutdown",
            "source",
            "status",
            "telemetry",
            "transform",
        ],
    ),
];

/// Files that belong to no part.
const APART: [&str; 4] = ["fuzzing", "lib", "main", "walls"];

#[test]
fn no_part_imports_what_it_may_not() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut broken = BTreeSet::new();
    for file in sources(&src) {
        let path = file.strip_prefix(&src).expect("it is in there").with_extension("");
        let part = path.iter().next().expect("a name").to_string_lossy().into_owned();
        if APART.contains(&part.as_str()) {
            continue;
        }
        let Some((_, may)) = WALLS.iter().find(|(name, _)| *name == part) else {
            broken.insert(format!("{part} is not listed"));
            continue;
        };
        for named in named(&fs::read_to_string(&file).expect("a text")) {
            let is_part = WALLS.iter().any(|(name, _)| *name == named);
            if is_part && named != part && !may.contains(&named.as_str()) {
                broken.insert(format!("{} imports {named}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn what_a_text_names_is_found() {
    let text = "use crate::nats::Nats;\n// crate::cli\nfn f(a: crate::config::Nats) {}\nuse crate::{memory, message::Stage};\n";
    assert_eq!(named(text), ["nats", "config", "memory", "message"]);
}

/// Returns the parts that the code in `text` names: `crate::nats`, `crate::{config, nats::Nats}`.
fn named(text: &str) -> Vec<String> {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let code: Vec<&str> = code.collect();
    let code = code.join("\n");
    let word = |text: &str| {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        text[..end.unwrap_or(text.len())].to_owned()
    };
    let mut found = Vec::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            Some(list) => {
                let list = list.split('}').next().unwrap_or_default();
                found.extend(list.split(',').map(|name| word(name.trim_start())));
            }
            None => found.push(word(after)),
        }
    }
    found
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
