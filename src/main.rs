//! Parses the command line, starts logging, does what was asked, prints the error once, exits. All else is in the library, so
//! that a test can do what this does.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use slipring::cli::{Cli, Failure};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    cli.start_logging()?;
    cli.execute(&mut io::stdout(), &mut io::stderr())
}
