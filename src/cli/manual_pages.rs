//! `slipring manual-pages`: writes a man page for each command, for packages.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;

use super::failure::Failure;

/// Write a man page for each command, for packages
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub struct Args {
    /// The directory for the pages
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

pub fn execute(args: &Args, commands: clap::Command) -> Result<(), Failure> {
    let dir = &args.dir;
    fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(commands, dir))
        .with_context(|| format!("cannot write the man pages to {}", dir.display()))?;
    Ok(())
}
