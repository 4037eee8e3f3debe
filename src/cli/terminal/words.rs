//! What is written to standard error while a screen is open. On the terminal it would be written over the screen.

use std::io::{self, BufRead, BufReader, IsTerminal, PipeWriter};
use std::os::fd::{AsFd, OwnedFd};
use std::panic;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use anstream::adapter::strip_str;
use anyhow::Context;

/// Lines that may wait. Those beyond are lost, because whoever writes to standard error must not wait for the screen.
const WAITING: usize = 1_000;

/// Keeps what is written to standard error from the terminal until it is dropped, or until a panic.
#[derive(Debug)]
pub struct Words {
    terminal: Arc<OwnedFd>,
    writer: PipeWriter,
    lines: Receiver<String>,
}

impl Words {
    /// Returns `None` if standard error goes elsewhere, such as to a file. It then stays as it is.
    pub fn keep() -> anyhow::Result<Option<Self>> {
        let stderr = io::stderr();
        if !stderr.is_terminal() {
            return Ok(None);
        }
        let doing = "redirecting standard error failed";
        let terminal = Arc::new(stderr.as_fd().try_clone_to_owned().context(doing)?);
        let (reader, writer) = io::pipe().context(doing)?;
        let (sender, lines) = sync_channel(WAITING);
        let read = move || {
            for line in BufReader::new(reader).split(b'\n') {
                let Ok(line) = line else { break };
                // A screen that is gone reads no more, but whoever writes must not fail. Colours are those of the screen.
                let _ = sender.try_send(strip_str(&String::from_utf8_lossy(&line)).to_string());
            }
        };
        thread::Builder::new()
            .name("stderr".to_owned())
            .spawn(read)
            .context(doing)?;
        rustix::stdio::dup2_stderr(&writer).context(doing)?;
        // The text of a panic is for whoever sits at the terminal.
        let hook = panic::take_hook();
        let for_panic = Arc::clone(&terminal);
        panic::set_hook(Box::new(move |info| {
            let _ = rustix::stdio::dup2_stderr(&*for_panic);
            hook(info);
        }));
        Ok(Some(Self {
            terminal,
            writer,
            lines,
        }))
    }

    /// Returns the lines since the last call.
    pub fn take(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// Leaves the terminal to something else while that runs.
    pub fn aside<T>(&self, other: impl FnOnce() -> T) -> anyhow::Result<T> {
        let doing = "redirecting standard error failed";
        rustix::stdio::dup2_stderr(&*self.terminal).context(doing)?;
        let done = other();
        rustix::stdio::dup2_stderr(&self.writer).context(doing)?;
        Ok(done)
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        let _ = rustix::stdio::dup2_stderr(&*self.terminal);
    }
}
