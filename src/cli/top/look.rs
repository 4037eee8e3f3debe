//! The colours of the screen. They only repeat what is there as text.

use std::io;

use anstream::{AutoStream, ColorChoice};
use ratatui::style::{Color, Modifier, Style};

use crate::status::{MarkKind, State};

#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    pub good: Style,
    pub note: Style,
    pub bad: Style,
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
                faint: Style::new().add_modifier(Modifier::DIM),
                strong,
            },
        }
    }

    pub fn state(&self, state: State) -> Style {
        match state {
            State::Running => self.good,
            State::Failed | State::Halted => self.bad,
            State::Waiting | State::Starting | State::Draining | State::Unknown => self.note,
            State::Standby => Style::new(),
        }
    }

    pub fn mark(&self, kind: MarkKind) -> Style {
        use MarkKind as Kind;
        match kind {
            Kind::Started | Kind::Swap | Kind::Resumed | Kind::NatsBack | Kind::CentrifugoBack | Kind::Unknown => {
                Style::new()
            }
            Kind::Rollback | Kind::Refused => self.note,
            Kind::Halted | Kind::Failed | Kind::NatsLost | Kind::CentrifugoLost => self.bad,
        }
    }
}
