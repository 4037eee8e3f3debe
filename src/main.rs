//! Parses the command line, starts logging, does what was asked, prints the error once, exits. All else is in the library, so
//! that a test can do what this does.

use std::env;
use std::io;
use std::process::ExitCode;

use clap::Parser;
use slipring::cli::{Cli, Failure};
use slipring::transform::compile;

/// A message is some thirty small allocations, many of them freed on another thread than the one that made them. glibc's allocator
/// took an eighth of the relay's processor time for that; this one takes half of it, and no more memory to speak of.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Not a command for people: this program starts itself to compile a file.
    if let Some(order) = compile::Order::from_arguments(env::args_os()) {
        return compile::work(order, io::stdin(), &mut io::stdout());
    }
    compile::in_processes();
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
