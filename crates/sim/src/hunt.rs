//! The bugs that the checkers have to find. Each is a patch in `mutants/`. Its head names the setup and what the
//! checker must report.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use super::{SETUPS, driver, scheduler};

/// How many schedules a bug may survive. All of them are found far earlier.
const SCHEDULES: u64 = 4_000;
const SCHEDULES_OF_THE_SCHEDULER: u64 = 200;

/// Plays the schedules of a setup. Returns each violation with the number of schedules played until then.
fn violations(setup: &str) -> Option<Box<dyn Iterator<Item = (u64, String)>>> {
    if let Some(setup) = SETUPS.into_iter().find(|known| known.name == setup) {
        let played = (0..SCHEDULES).filter_map(move |seed| Some((seed + 1, driver::run(setup, seed).err()?)));
        return Some(Box::new(played));
    }
    let violation = scheduler::violation(setup)?;
    let played = (0..SCHEDULES_OF_THE_SCHEDULER).filter_map(move |seed| Some((seed + 1, violation(seed)?)));
    Some(Box::new(played))
}

#[test]
#[ignore = "there is nothing to find but in a copy with a bug: see `make mutants`"]
fn the_bug_is_found() {
    let asked = |name| env::var(name).unwrap_or_else(|_| panic!("{name} is needed: see `make mutants`"));
    let (setup, complaint) = (asked("HUNT_SETUP"), asked("HUNT_SAYS"));
    let found = violations(&setup)
        .unwrap_or_else(|| panic!("there is no setup `{setup}`"))
        .find(|(_, violation)| violation.contains(&complaint));
    let (schedules, said) = found.expect("the checker does not say it");
    println!("\nfound after\t{schedules}\t{}", said.replace(['\n', '\t'], " "));
}

#[test]
fn each_mutant_can_be_put_in_and_says_where_it_is_found() {
    let mutants = mutants("mutants");
    assert!(mutants.len() >= 20, "only {} mutants are there", mutants.len());
    for patch in mutants {
        let name = patch.display();
        can_be_put_in(&patch);
        let text = fs::read_to_string(&patch).expect("it was listed");
        let hunts: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("Hunt: ")).collect();
        assert!(!hunts.is_empty(), "{name} does not say where it is found");
        for hunt in hunts {
            let (setup, complaint) = hunt.split_once(": ").unwrap_or_default();
            assert!(
                violations(setup).is_some() && !complaint.is_empty(),
                "{name}: `{hunt}` is no setup and what the checker says there"
            );
        }
    }
}

/// `tools/relay-mutants` puts them in and runs those tests.
#[test]
fn each_mutant_of_the_relay_can_be_put_in_and_says_which_test_notices() {
    let mutants = mutants("../../tests/mutants");
    assert!(mutants.len() >= 5, "only {} mutants are there", mutants.len());
    for patch in mutants {
        let name = patch.display();
        can_be_put_in(&patch);
        let text = fs::read_to_string(&patch).expect("it was listed");
        let caught = text.lines().filter(|line| line.starts_with("Caught by: --"));
        assert!(caught.count() > 0, "{name} does not say which test notices");
    }
}

fn can_be_put_in(patch: &Path) {
    let checked = Command::new("git")
        .args(["apply", "--check"])
        .arg(patch)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .output()
        .expect("git is there");
    assert!(
        checked.status.success(),
        "{}: {}",
        patch.display(),
        String::from_utf8_lossy(&checked.stderr)
    );
}

fn mutants(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = fs::read_dir(folder).expect("the mutants are there");
    let mut mutants: Vec<_> = files
        .map(|file| file.expect("it can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "patch"))
        .collect();
    mutants.sort();
    mutants
}
