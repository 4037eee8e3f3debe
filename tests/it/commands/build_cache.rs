//! The first build of a module whose dependencies were compiled for an earlier one.

use slipring_support::workspace;

use super::new::{Desk, replace};
use super::*;

/// Types `slipring test` as on a machine where nothing is set, and with a cache of its own.
fn test(desk: &Desk, dir: &str) -> Result<Output> {
    let mut command = Command::new(binary());
    desk.prepare(&mut command, &desk.path(dir))?;
    command
        .arg("test")
        .env_remove("CARGO_TARGET_DIR")
        .env("XDG_CACHE_HOME", desk.path("cache"))
        .env("CARGO_TERM_COLOR", "never")
        // Quicker to compile.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    command.output().context("running slipring test")
}

/// Returns the crates that cargo compiled.
fn compiled(output: &Output) -> Vec<String> {
    let errors = stderr(output);
    let lines = errors.lines().filter_map(|line| line.trim().strip_prefix("Compiling "));
    let names = lines.filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_module_compiles_only_itself() -> Result<()> {
    let desk = Desk::new()?;
    let new = |dir: &str, name: &str| -> Result<()> {
        std::fs::create_dir_all(desk.path(dir))?;
        exits(&desk.shell(&desk.path(dir), &format!("slipring new {name}"))?, 0)?;
        // Pins the versions that the rest of the workspace uses, and needs no network.
        let lock = desk.path(dir).join(name).join("Cargo.lock");
        std::fs::copy(workspace().join("Cargo.lock"), lock)?;
        Ok(())
    };
    new("", "first")?;
    let first = test(&desk, "first")?;
    exits(&first, 0)?;
    let all = compiled(&first);
    let is_once = |name: &str| all.iter().filter(|other| *other == name).count() == 1;
    ensure!(
        ["serde_json", "slipring-sdk", "dependencies-of-new-modules"]
            .into_iter()
            .all(is_once),
        "{all:?}"
    );
    ensure!(all.last().is_some_and(|last| last == "first"), "{all:?}");

    new("", "second")?;
    let second = test(&desk, "second")?;
    exits(&second, 0)?;
    ensure!(compiled(&second) == ["second"], "{}", stderr(&second));

    // A module of the same name is another one, although the first was built later than this was saved.
    new("elsewhere", "first")?;
    replace(&desk.path("elsewhere/first/src/lib.rs"), "\"draft\"", "\"other\"")?;
    exits(&test(&desk, "first")?, 0)?;
    let third = test(&desk, "elsewhere/first")?;
    exits(&third, 1)?;
    ensure!(compiled(&third) == ["first"], "{}", stderr(&third));
    ensure!(stdout(&third).contains("FAILED   draft"), "{}", stdout(&third));
    exits(&test(&desk, "first")?, 0)
}
