//! The terminal: a full screen while it is open, and afterwards as it was before.

use std::io;
use std::thread;

use anyhow::Context;
use ratatui::DefaultTerminal;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event};
use ratatui::layout::{Position, Rect};
use tokio::sync::mpsc::{self, Receiver};

/// Keys that may wait while the screen is drawn.
const WAITING: usize = 64;

/// Restores the terminal when it is dropped, and on a panic.
#[derive(Debug)]
pub struct Screen(DefaultTerminal);

impl Screen {
    pub fn open() -> anyhow::Result<Self> {
        let terminal = ratatui::try_init().inspect_err(|_| drop(ratatui::try_restore()));
        terminal.map(Self).context("this terminal cannot show a full screen")
    }

    /// Draws what has changed.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Buffer, Rect)) -> anyhow::Result<()> {
        let drawn = self.0.draw(|frame| {
            let area = frame.area();
            draw(frame.buffer_mut(), area);
        });
        drawn.map(drop).context("drawing failed")
    }

    /// Returns where the next drawing goes.
    pub fn area(&self) -> anyhow::Result<Rect> {
        let size = self.0.size().context("the size of the terminal is unknown")?;
        Ok(Rect::from((Position::ORIGIN, size)))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // There is nothing else to try, and nobody to tell: the terminal may be gone.
        let _ = ratatui::try_restore();
    }
}

/// Returns the keys and changes of size. They are read on a thread of their own, which ends with the process.
pub fn events() -> anyhow::Result<Receiver<io::Result<Event>>> {
    let (sender, events) = mpsc::channel(WAITING);
    let read = move || {
        loop {
            let event = event::read();
            let is_end = event.is_err();
            if sender.blocking_send(event).is_err() || is_end {
                break;
            }
        }
    };
    let thread = thread::Builder::new().name("keys".to_owned()).spawn(read);
    thread.context("starting a thread for the keys failed")?;
    Ok(events)
}
