//! Reads messages as lines of JSON from a file or standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Split, Write};
use std::path::Path;

use anyhow::{Context, anyhow};

use crate::json;
use crate::message::Message;

pub struct Lines {
    lines: Split<Box<dyn BufRead>>,
    /// The number of the last line read.
    number: u64,
    unreadable: u64,
    /// The stream of messages that do not name theirs.
    stream: String,
}

impl Lines {
    /// Reads standard input if no file or `-` is named.
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

    /// Returns the next message with the number of its line. A line that is not a message is reported to `notes` and
    /// skipped.
    pub fn next(&mut self, notes: &mut dyn Write) -> io::Result<Option<(u64, Message)>> {
        while let Some(line) = self.lines.next().transpose()? {
            self.number += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            match json::parse(&line, self.number, &self.stream) {
                Ok(message) => return Ok(Some((self.number, message))),
                Err(error) => {
                    self.unreadable += 1;
                    writeln!(notes, "line {}: {error:#}", self.number)?;
                }
            }
        }
        Ok(None)
    }

    /// Returns an error if some lines were not messages.
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
