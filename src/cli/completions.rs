//! `slipring completions`: prints a script that completes the command line in a shell. The script asks the program, each
//! time, what completes a word, so it knows the modules of the configuration.

mod candidates;

use std::io::Write;

use anyhow::Context;
use clap_complete::env::{CompleteEnv, Shells};
use clap_complete::{ArgValueCandidates, Shell};

use super::failure::Failure;

/// Print a shell's completion script
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Tab completes commands, options, files, and the modules of the configuration.
After an update of slipring, print a script in a file again.

Examples:
  source <(slipring completions bash)            # in ~/.bashrc
  source <(slipring completions zsh)             # in ~/.zshrc, after compinit
  slipring completions zsh > ~/.zfunc/_slipring  # or in a directory of $fpath
  slipring completions fish > ~/.config/fish/completions/slipring.fish")]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// In the environment, the shell that asks.
const VARIABLE: &str = "_SLIPRING_COMPLETE";

/// zsh reads a file in its `$fpath` when Tab is pressed for the first time, and takes the file for the function.
const ZSH_FIRST_TIME: &str = "\
[[ ${funcstack[1]} != _slipring ]] || _clap_dynamic_completer_slipring \"$@\"
";

pub fn execute(args: &Args, output: &mut dyn Write) -> Result<(), Failure> {
    let shells = Shells::builtins();
    let shell = shells
        .completer(&args.shell.to_string())
        .context("this shell cannot be completed")?;
    // Writing directly to the output would leave half a script if the reader has gone.
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "slipring", "slipring", "slipring", &mut script)?;
    if args.shell == Shell::Zsh {
        script.extend_from_slice(ZSH_FIRST_TIME.as_bytes());
    }
    output.write_all(&script)?;
    Ok(output.flush()?)
}

/// Answers a shell that asks what completes a word, and exits. Otherwise does nothing.
pub fn answer(commands: impl Fn() -> clap::Command) {
    CompleteEnv::with_factory(|| taught(commands()))
        .var(VARIABLE)
        .bin("slipring")
        .complete();
}

/// Adds what completes the values of all arguments: the name of a value says what it is.
fn taught(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| {
        let names = arg.get_value_names().unwrap_or_default();
        match names.first().map(|name| name.as_str()) {
            Some("MODULE") => arg.add(ArgValueCandidates::new(candidates::modules)),
            Some("VERSION") => arg.add(ArgValueCandidates::new(candidates::versions)),
            _ => arg,
        }
    });
    command.mut_subcommands(taught)
}
