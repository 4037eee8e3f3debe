//! Tab, in a real bash: it knows the commands, and the modules and versions of this configuration.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use slipring_support::relay::Relay;

use super::super::world::{SOON, World, binary, module, unruly_toml};
use super::{exits, in_repository, stderr, stdout};

/// Presses Tab after these words, the last of which may be begun or empty. Returns what bash would offer.
fn tab(dir: &Path, relay: Option<&Relay>, words: &[&str]) -> Result<Vec<String>> {
    let script = in_repository(&["completions", "bash"])?;
    exits(&script, 0)?;
    let last = words.len() - 1;
    let typed: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let press = format!(
        "COMP_WORDS=({}) COMP_CWORD={last} COMP_TYPE=9; _clap_complete_slipring slipring '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        typed.join(" "),
        words[last],
        words[last - 1],
    );
    let mut bash = Command::new("bash");
    let own = Path::new(binary()).parent().context("a folder")?.to_owned();
    let machine = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([own].into_iter().chain(std::env::split_paths(&machine)))?;
    bash.args(["-c", &format!("{}\n{press}", stdout(&script))])
        .current_dir(dir)
        .env("PATH", path)
        .env("XDG_RUNTIME_DIR", dir);
    if let Some(relay) = relay {
        let address = relay.url().trim_start_matches("http://").trim_end_matches('/');
        bash.env("SLIPRING_ADMIN__LISTEN", address);
    }
    let output = bash.output().context("running bash")?;
    ensure!(stderr(&output).is_empty(), "{output:?}");
    Ok(stdout(&output).split_whitespace().map(str::to_owned).collect())
}

#[test]
fn every_shell_gets_a_script_and_tab_completes_commands() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let completed = tab(dir.path(), None, &["slipring", "modules", "ro"])?;
    ensure!(completed == ["rollback"], "{completed:?}");
    let completed = tab(dir.path(), None, &["slipring", "dead"])?;
    ensure!(completed == ["dead-letters"], "{completed:?}");
    // Nothing is known, so nothing is said.
    let completed = tab(dir.path(), None, &["slipring", "modules", "rollback", ""])?;
    ensure!(!completed.iter().any(|word| !word.starts_with('-')), "{completed:?}");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let script = in_repository(&["completions", shell])?;
        exits(&script, 0)?;
        ensure!(stdout(&script).contains("_SLIPRING_COMPLETE"), "{shell}: {script:?}");
    }
    exits(&in_repository(&["completions", "csh"])?, 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn tab_knows_modules_and_versions() -> Result<()> {
    let world = World::start().await?;
    world.stream("UNRULY", &["unruly.>"]).await?;
    world.add_unruly("[settings]\nmark = \"1\"")?;
    // Not complete yet, and a module all the same. The hidden one is none.
    world.home.configure_module("orders", "")?;
    world.home.configure_module(".orders-draft", "")?;
    let dir = world.home.path();
    let positional = |words: Vec<String>| {
        words
            .into_iter()
            .filter(|word| !word.starts_with('-'))
            .collect::<Vec<_>>()
    };
    for words in [
        &["slipring", "modules", "rollback", ""][..],
        &["slipring", "modules", "versions", ""],
        &["slipring", "tap", "--module", ""],
        &["slipring", "dead-letters", "replay", "--module", ""],
    ] {
        let completed = positional(tab(dir, None, words)?);
        ensure!(completed == ["orders", "unruly"], "{words:?}: {completed:?}");
    }
    let completed = tab(dir, None, &["slipring", "tap", "--module", "un"])?;
    ensure!(completed == ["unruly"], "{completed:?}");
    let config = world.home.config_file();
    let elsewhere = tempfile::tempdir()?;
    let named = [
        "slipring",
        "tap",
        "--config",
        config.to_str().context("a path")?,
        "--module",
        "un",
    ];
    let completed = tab(elsewhere.path(), None, &named)?;
    ensure!(completed == ["unruly"], "{completed:?}");

    let relay = world.run().await?;
    let swaps = |expected: u64| move |status: &serde_json::Value| module(status, "unruly")["swaps"] == expected;
    relay.status_when(SOON, "the module", swaps(0)).await?;
    world
        .home
        .configure_module("unruly", &unruly_toml("[settings]\nmark = \"2\""))?;
    relay.status_when(SOON, "the swap", swaps(1)).await?;
    let completed = positional(tab(
        dir,
        Some(&relay),
        &["slipring", "modules", "rollback", "unruly", ""],
    )?);
    let listed = world
        .home
        .command(["modules", "versions", "unruly", "--url", relay.url()])
        .output()?;
    exits(&listed, 0)?;
    let text = stdout(&listed);
    let before = text.lines().nth(2).and_then(|line| line.split_whitespace().next());
    ensure!(
        completed.iter().map(String::as_str).collect::<Vec<_>>() == [before.context("two versions")?],
        "{completed:?} of {text}"
    );
    Ok(())
}
