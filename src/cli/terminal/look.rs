//! The colours of a screen. They only repeat what is there as text.

use std::io;

use anstream::{AutoStream, ColorChoice};
use ratatui::style::{Color, Modifier, Style};

#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    pub good: Style,
    pub note: Style,
    pub bad: Style,
    pub added: Style,
    pub removed: Style,
    pub faint: Style,
    pub strong: Style,
}

impl Look {
    /// Returns the colours for standard output. `NO_COLOR` and similar variables are respected.
    pub fn of_stdout() -> Self {
        let strong = Style::new().add_modifier(Modifier::BOLD);
        match AutoStream::choice(&io::stdout()) {
            ColorChoice::Never => Self {
                strong,
                ..Self::default()
            },
            _ => Self {
                good: Style::new().fg(Color::Green),
                note: Style::new().fg(Color::Yellow),
                bad: Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
                added: Style::new().fg(Color::Green),
                removed: Style::new().fg(Color::Red),
                faint: Style::new().add_modifier(Modifier::DIM),
                strong,
            },
        }
    }
}
