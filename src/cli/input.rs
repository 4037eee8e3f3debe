//! Messages as lines of JSON, from a file or standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Split, Write};
use std::path::Path;

use anyhow::{Context, anyhow};

use super::sample;
use crate::message::Message;

pub struct Lines {
    lines: Split<Box<dyn BufRead>>,
    /// Of the line that was read last.
    number: u64,
    unreadable: u64,
    /// Of messages that do not name theirs.
    stream: String,
}

impl Lines {
    /// Standard input, if no file is named or `-`.
    pub fn open(path: Option<&Path>, stream: &str) -> anyhow::Result<Self> {
        let input: Box<dyn BufRead> = match path {
            Some(path) if path.as_os_str() != "-" => {
                let doing = || format!("cannot read messages from {}", path.display());
                Box::new(BufReader::new(File::open(path).with_context(doing)?))
            }
            _ => Box::new(io::stdin().lock()),
        };
        Ok(Self {
            lines: input.split(b'\n'),
            number: 0,
            unreadable: 0,
            stream: stream.to_owned(),
        })
    }

    /// The next message, with the number of its line. One that is none is named in `notes`, and passed over.
    pub fn next(&mut self, notes: &mut dyn Write) -> io::Result<Option<(u64, Message)>> {
        while let Some(line) = self.lines.next().transpose()? {
            self.number += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            match sample::parse(&line, self.number, &self.stream) {
                Ok(message) => return Ok(Some((self.number, message))),
                Err(error) => {
                    self.unreadable += 1;
                    writeln!(notes, "line {}: {error:#}", self.number)?;
                }
            }
        }
        Ok(None)
    }

    /// An error if there were lines that are not messages.
    pub fn verdict(&self) -> anyhow::Result<()> {
        match self.unreadable {
            0 => Ok(()),
            1 => Err(anyhow!("1 line is not a message")),
            lines => Err(anyhow!("{lines} lines are not messages")),
        }
    }
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("number", &self.number)
            .field("unreadable", &self.unreadable)
            .finish_non_exhaustive()
    }
}
