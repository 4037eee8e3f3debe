//! The cases of modules in this repository, run on the built modules as people run them.

use anyhow::{Context, Result, ensure};
use slipring_support::{guests, workspace};

use super::{exits, in_repository, stderr};

/// Runs the cases of a folder, on the module as it was built.
fn pass(guest: &str, folder: &str, count: usize) -> Result<()> {
    guests::component(guest)?;
    let output = in_repository(&["test", "--no-build", folder])?;
    exits(&output, 0)?;
    let expected = format!("{count} cases: {count} passed\n");
    ensure!(stderr(&output).ends_with(&expected), "{}", stderr(&output));
    Ok(())
}

/// Among them are partial ones, and ones that rule something out.
#[test]
fn the_cases_of_order_updates_pass() -> Result<()> {
    pass("order-updates", "examples/order-updates", 5)
}

/// A realistic transform is short, its test included.
#[test]
fn order_updates_has_80_lines() -> Result<()> {
    let source = std::fs::read_to_string(workspace().join("examples/order-updates/src/lib.rs"))?;
    ensure!(source.contains("#[test]") && source.lines().count() <= 80);
    Ok(())
}

#[test]
fn the_crates_that_work_do() -> Result<()> {
    pass("crates-that-work", "tests/guests/crates", 5)
}

/// The page shows the code that the cases and the unit tests of the guest run.
#[test]
fn the_page_of_the_crates_shows_their_code() -> Result<()> {
    let page = std::fs::read_to_string(workspace().join("docs/crates-that-work.md"))?;
    let folder = workspace().join("tests/guests/crates");
    let mut blocks = page.split("\n```rust\n").skip(1).map(|rest| rest.split("```").next());
    for file in ["protobuf", "messagepack", "base64", "decimal"] {
        let source = std::fs::read_to_string(folder.join(format!("src/{file}.rs")))?;
        let block = blocks.next().flatten().with_context(|| format!("a block for {file}"))?;
        ensure!(
            source.starts_with(block),
            "docs/crates-that-work.md shows\n{block}\nand {file}.rs is\n{source}"
        );
    }
    ensure!(blocks.next().is_none(), "the page has more code than the guest");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml"))?;
    let dependencies = page
        .split("```toml\n[dependencies]\n")
        .nth(1)
        .context("a block of TOML")?;
    for line in dependencies.lines().take_while(|line| *line != "```") {
        ensure!(manifest.contains(line), "{line:?} is not in the guest's Cargo.toml");
    }
    Ok(())
}
