//! `slipring compile-module`: not for people. It is the process in which the other commands have a file compiled.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::exit;
use std::time::Duration;

use super::Failure;
use crate::config::Bounds;
use crate::transform::compile::{Order, work};

#[derive(Debug, clap::Args)]
pub struct Args {
    scratch: PathBuf,
    #[arg(long)]
    cpu_seconds: u64,
    #[arg(long)]
    memory_bytes: usize,
    #[arg(long)]
    file_bytes: usize,
    #[arg(long)]
    nesting: usize,
}

pub fn execute(args: &Args, output: &mut dyn Write) -> Result<(), Failure> {
    let order = Order {
        scratch: args.scratch.clone(),
        bounds: Bounds {
            file_size: args.file_bytes,
            cpu: Duration::from_secs(args.cpu_seconds),
            memory: args.memory_bytes,
            nesting: args.nesting,
        },
    };
    let (code, words) = work(order, io::stdin());
    write!(output, "{words}")?;
    output.flush()?;
    // With its code, which says which error it was; and at once, whatever threads there are.
    exit(i32::from(code))
}
