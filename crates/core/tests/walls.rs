//! Checks what the core and the simulator depend on. cargo-deny rejects indirect dependencies (`deny.toml`).

use std::fs;
use std::path::{Path, PathBuf};

/// Each dependency needs a comment that says why the core cannot do without it.
const CORE: [&str; 7] = [
    // Keys are short texts.
    "base64",
    // Payloads are shared, not copied.
    "bytes",
    // Pauses have jitter.
    "fastrand",
    // The results of a message are written as JSON, and JSON data is passed on unchanged.
    "serde",
    "serde_json",
    // Queues find waiting items without a search.
    "slab",
    // Keys are hashes.
    "xxhash-rust",
];

/// The parts of the standard library that do I/O, start threads or processes, wait, or read a clock.
const FORBIDDEN: [&str; 10] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "println!",
    "async fn",
];

#[test]
fn the_core_depends_on_few_and_on_nothing_of_ours() {
    assert_eq!(names(&crates().join("core"), "[dependencies]"), CORE);
}

#[test]
fn the_simulator_depends_on_the_core_and_on_nothing_else_of_ours() {
    let sim = crates().join("sim");
    let all = ["[dependencies]", "[dev-dependencies]"]
        .map(|section| names(&sim, section))
        .concat();
    let ours: Vec<_> = all.iter().filter(|name| name.starts_with("slipring")).collect();
    assert_eq!(ours, ["slipring-core"]);
}

#[test]
fn the_core_neither_does_io_nor_reads_a_clock() {
    let mut found = Vec::new();
    for file in sources(&crates().join("core/src")) {
        let text = fs::read_to_string(&file).expect("a text");
        // The rest of the file is tests.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let is_test = file.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "tests");
        for forbidden in FORBIDDEN.iter().filter(|_| !is_test) {
            if code
                .lines()
                .any(|line| !line.trim_start().starts_with("//") && line.contains(forbidden))
            {
                found.push(format!("{}: {forbidden}", file.display()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the dependencies in this section of a manifest, in order.
fn names(of: &Path, section: &str) -> Vec<String> {
    let manifest = fs::read_to_string(of.join("Cargo.toml")).expect("a manifest");
    let lines = manifest.lines().skip_while(|line| *line != section).skip(1);
    let names = lines
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .filter(|(name, _)| !name.starts_with('#'));
    names.map(|(name, _)| name.to_owned()).collect()
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(sources(&path)),
            false => found.push(path),
        }
    }
    found
}
