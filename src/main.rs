//! Parses the command line, starts logging, does what was asked, prints the error once, exits. All else is in the library, so
//! that a test can do what this does.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use slipring::cli::Cli;
use slipring::telemetry::Log;
use slipring::transform::compile;

/// A message is some thirty small allocations, many of them freed on another thread than the one that made them. glibc's allocator
/// took an eighth of the relay's processor time for that; this one takes half of it, and no more memory to speak of.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Not a command for people: this program starts itself to compile a file.
    if let Some(order) = compile::Order::from_arguments(env::args_os()) {
        return compile::work(&order, io::stdin(), &mut io::stdout());
    }
    compile::in_processes();
    let cli = Cli::parse();
    let mut log = Log::default();
    let done = cli.start_logging().and_then(|started| {
        log = started;
        cli.execute(&mut io::stdout(), &mut Notes(io::stderr()))
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log.print(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Words for people. A command that did its work has not failed because nobody took them.
struct Notes(io::Stderr);

impl Write for Notes {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let _ = self.0.write_all(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
