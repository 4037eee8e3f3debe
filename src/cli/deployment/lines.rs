//! The lines that say how far a deployment is, each with the time since it began.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Instant;

use super::super::printable::printable;

pub struct Lines<'a> {
    start: Instant,
    pub output: &'a mut dyn Write,
    pub notes: &'a mut dyn Write,
}

impl<'a> Lines<'a> {
    pub fn new(output: &'a mut dyn Write, notes: &'a mut dyn Write) -> Self {
        Self {
            start: Instant::now(),
            output,
            notes,
        }
    }

    pub fn say(&mut self, text: impl Display) -> io::Result<()> {
        let seconds = self.start.elapsed().as_secs_f64();
        writeln!(self.output, "{seconds:6.1}s  {}", printable(&text.to_string()))?;
        self.output.flush()
    }

    /// Writes lines below the last one, as they are.
    pub fn below(&mut self, text: &str) -> io::Result<()> {
        for line in text.lines() {
            let indent = if line.is_empty() { "" } else { "         " };
            writeln!(self.output, "{indent}{line}")?;
        }
        self.output.flush()
    }
}

impl std::fmt::Debug for Lines<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}
