//! The colours of what a relay tells.

use ratatui::style::Style;

use super::super::terminal::Look;
use crate::status::{MarkKind, State};

pub fn of_state(look: &Look, state: State) -> Style {
    match state {
        State::Running => look.good,
        State::Failed | State::Halted => look.bad,
        State::Waiting | State::Starting | State::Draining | State::Unknown => look.note,
        State::Standby => Style::new(),
    }
}

pub fn of_mark(look: &Look, kind: MarkKind) -> Style {
    use MarkKind as Kind;
    match kind {
        Kind::Started | Kind::Swap | Kind::Resumed | Kind::NatsBack | Kind::CentrifugoBack | Kind::Unknown => {
            Style::new()
        }
        Kind::Rollback | Kind::Refused => look.note,
        Kind::Halted | Kind::Failed | Kind::NatsLost | Kind::CentrifugoLost => look.bad,
    }
}
