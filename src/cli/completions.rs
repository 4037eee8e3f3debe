//! `slipring completions`: prints a script that completes the commands in a shell.

use std::io::Write;

use clap_complete::Shell;

use super::failure::Failure;

/// Print a shell's completion script
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  source <(slipring completions bash)            # in ~/.bashrc
  slipring completions zsh > ~/.zfunc/_slipring  # a directory of zsh's $fpath
  slipring completions fish > ~/.config/fish/completions/slipring.fish")]
pub struct Args {
    /// The shell
    shell: Shell,
}

pub fn execute(args: &Args, mut commands: clap::Command, output: &mut dyn Write) -> Result<(), Failure> {
    // Writing directly to the output would panic if the reader has gone.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut commands, "slipring", &mut script);
    output.write_all(&script)?;
    Ok(output.flush()?)
}
