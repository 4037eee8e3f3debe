//! The terminal: a full screen while it is open, and afterwards as it was before.

use std::io;
use std::thread;

use anyhow::Context;
use ratatui::DefaultTerminal;
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, DisableBracketedPaste, EnableBracketedPaste, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, enable_raw_mode};
use ratatui::layout::{Position, Rect};
use tokio::sync::mpsc::{self, Receiver};

/// Keys that may wait while the screen is drawn.
const WAITING: usize = 64;

/// Restores the terminal when it is dropped, and on a panic.
#[derive(Debug)]
pub struct Screen {
    terminal: DefaultTerminal,
    /// Pasted text comes as one event instead of as keys.
    takes_pastes: bool,
}

impl Screen {
    pub fn open() -> anyhow::Result<Self> {
        let terminal = ratatui::try_init().inspect_err(|_| drop(ratatui::try_restore()));
        let terminal = terminal.context("this terminal cannot show a full screen")?;
        Ok(Self {
            terminal,
            takes_pastes: false,
        })
    }

    /// Returns pasted text as one event from now on.
    pub fn take_pastes(&mut self) -> anyhow::Result<()> {
        self.takes_pastes = true;
        execute!(io::stdout(), EnableBracketedPaste).context("setting up the terminal failed")
    }

    /// Draws what has changed.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Buffer, Rect)) -> anyhow::Result<()> {
        let drawn = self.terminal.draw(|frame| {
            let area = frame.area();
            draw(frame.buffer_mut(), area);
        });
        drawn.map(drop).context("drawing failed")
    }

    /// Returns where the next drawing goes.
    pub fn area(&self) -> anyhow::Result<Rect> {
        let size = self.terminal.size().context("the size of the terminal is unknown")?;
        Ok(Rect::from((Position::ORIGIN, size)))
    }

    /// Leaves the terminal to something else while that runs.
    pub fn aside<T>(&mut self, other: impl FnOnce() -> T) -> anyhow::Result<T> {
        self.restore();
        let done = other();
        let doing = "the screen cannot be shown again";
        enable_raw_mode().context(doing)?;
        execute!(io::stdout(), EnterAlternateScreen, Clear(ClearType::All)).context(doing)?;
        if self.takes_pastes {
            execute!(io::stdout(), EnableBracketedPaste).context(doing)?;
        }
        // It knows nothing that could be left out when it draws.
        self.terminal = DefaultTerminal::new(CrosstermBackend::new(io::stdout())).context(doing)?;
        Ok(done)
    }

    /// Ignores errors. There is nothing else to try, and nobody to tell: the terminal may be gone.
    fn restore(&mut self) {
        if self.takes_pastes {
            let _ = execute!(io::stdout(), DisableBracketedPaste);
        }
        let _ = ratatui::try_restore();
        let _ = self.terminal.show_cursor();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Returns the columns and lines of the terminal, or `None` without one.
pub fn size() -> Option<(u16, u16)> {
    ratatui::crossterm::terminal::size().ok()
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
