//! Colours for a terminal, unless the user has turned them off.

use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

#[derive(Debug, Clone, Copy, Default)]
pub struct Palette {
    pub good: Style,
    pub bad: Style,
    /// For text that needs attention but is neither good nor bad.
    pub note: Style,
    pub added: Style,
    pub removed: Style,
    pub faint: Style,
}

impl Palette {
    /// Returns the colours for standard output. `NO_COLOR`, `CLICOLOR_FORCE` and similar variables are respected.
    pub fn of_stdout() -> Self {
        match AutoStream::choice(&io::stdout()) {
            ColorChoice::Never => Self::default(),
            _ => Self::coloured(),
        }
    }

    pub fn coloured() -> Self {
        let colour = |colour: AnsiColor| colour.on_default();
        Self {
            good: colour(AnsiColor::Green),
            bad: colour(AnsiColor::Red).bold(),
            note: colour(AnsiColor::Yellow),
            added: colour(AnsiColor::Green),
            removed: colour(AnsiColor::Red),
            faint: Style::new().dimmed(),
        }
    }
}
