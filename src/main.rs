//! Parses the command line, starts logging, runs the command, prints the error once, and exits. Everything else is in
//! the library, where tests can reach it.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use slipring::cli::{Cli, Tied, printable};
use slipring::telemetry::Log;
use slipring::transform::compile;

/// A message takes about thirty small allocations, and many are freed on another thread than the one that allocated
/// them. With glibc's allocator this took an eighth of the relay's processor time. jemalloc takes half of that and
/// hardly any more memory.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Not a command for people: the program starts itself to compile a file.
    if let Some(order) = compile::Order::from_arguments(env::args_os()) {
        return compile::work(&order, io::stdin(), &mut io::stdout());
    }
    // Nor this: `up` starts what must not outlive it.
    if let Some(tied) = Tied::from_arguments(env::args_os()) {
        return tied.run();
    }
    // A shell asks what completes a word.
    Cli::complete();
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

/// Messages for people. If they cannot be written, a command that did its work still succeeds.
struct Notes(io::Stderr);

impl Write for Notes {
    /// Nothing in a note is for the terminal itself.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let _ = self.0.write_all(printable(&String::from_utf8_lossy(text)).as_bytes());
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
