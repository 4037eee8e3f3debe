//! Runs other commands of this program, which do the same as when a person types them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::super::deployment::Options;

/// Returns `slipring dev` on one case until it passes or a person leaves.
pub fn dev(module: &Path, case: &str) -> Command {
    let mut command = itself();
    command.arg("dev").arg(module).args(["--case", case, "--until-passed"]);
    command
}

/// Returns the command that publishes a dead letter.
pub fn replay(number: u64, options: &Options) -> anyhow::Result<Command> {
    let mut command = itself();
    command.args(["dead-letters", "replay", &number.to_string()]);
    if let Some(config) = options.relay.config().path() {
        command.arg("--config").arg(config);
    }
    if let Some(dir) = &options.dir {
        let dir = std::path::absolute(dir).with_context(|| format!("cannot find {}", dir.display()))?;
        command.env("SLIPRING_MODULES__DIR", dir);
    }
    Ok(command)
}

fn itself() -> Command {
    // The program may have been replaced by an upgrade.
    let own = env::current_exe().ok().filter(|path| path.exists());
    Command::new(own.unwrap_or_else(|| PathBuf::from("/proc/self/exe")))
}
