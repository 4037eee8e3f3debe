//! What the user has chosen to see, and the keys that change it.

use std::cmp::{Ordering, Reverse};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::columns::Column;
use super::relay::{Relay, Row};
use crate::status::State;

#[derive(Debug, Default)]
pub struct View {
    /// The name of the module, or `None` for the first.
    selected: Option<String>,
    sort: Sort,
    pub filter: String,
    /// The keys are letters of the filter.
    pub is_typing: bool,
    pub is_help: bool,
}

/// The order of the modules. Those that need attention come first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Sort {
    #[default]
    Name,
    State,
    Published,
    Backlog,
    P99,
    Rejected,
}

/// What follows a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Stay,
    Quit,
}

impl View {
    /// Follows a key. `page` is the number of modules that the screen shows.
    pub fn press(&mut self, key: KeyEvent, relay: &Relay, page: usize) -> Next {
        if !key.is_press() && !key.is_repeat() {
            return Next::Stay;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => return Next::Quit,
            _ if self.is_help => self.is_help = false,
            code if self.is_typing => self.type_into_filter(code),
            KeyCode::Esc if !self.filter.is_empty() => self.filter.clear(),
            KeyCode::Char('q') | KeyCode::Esc => return Next::Quit,
            KeyCode::Char('?') => self.is_help = true,
            KeyCode::Char('/') => self.is_typing = true,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            code => self.go(code, relay, page),
        }
        Next::Stay
    }

    fn type_into_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Esc => {
                self.filter.clear();
                self.is_typing = false;
            }
            KeyCode::Enter => self.is_typing = false,
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => {}
        }
    }

    fn go(&mut self, code: KeyCode, relay: &Relay, page: usize) {
        let rows = self.rows(relay);
        let at = self.place(&rows);
        let to = match code {
            KeyCode::Up | KeyCode::Char('k') => at.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => at + 1,
            KeyCode::PageUp => at.saturating_sub(page),
            KeyCode::PageDown => at + page,
            KeyCode::Home => 0,
            KeyCode::End => usize::MAX,
            _ => return,
        };
        let row = rows.get(to.min(rows.len().saturating_sub(1)));
        self.selected = row.map(|row| row.status.name.clone());
    }

    /// Returns the modules to show, in their order.
    pub fn rows<'a>(&self, relay: &'a Relay) -> Vec<Row<'a>> {
        let wanted = self.filter.to_lowercase();
        let is_wanted = |row: &Row<'_>| row.status.name.to_lowercase().contains(&wanted);
        let mut rows: Vec<Row<'_>> = relay.rows().filter(is_wanted).collect();
        // Those that are equal stay in the order of their names.
        rows.sort_by(|one, other| self.sort.compare(one, other));
        rows
    }

    /// Returns where the selected module is. One that is gone gives way to the first.
    pub fn place(&self, rows: &[Row<'_>]) -> usize {
        let selected = self.selected.as_ref();
        let place = selected.and_then(|name| rows.iter().position(|row| row.status.name == *name));
        place.unwrap_or(0)
    }

    /// Returns the column that the modules are sorted by.
    pub fn sorted_by(&self) -> Column {
        match self.sort {
            Sort::Name => Column::Name,
            Sort::State => Column::State,
            Sort::Published => Column::Published,
            Sort::Backlog => Column::Backlog,
            Sort::P99 => Column::P99,
            Sort::Rejected => Column::Rejected,
        }
    }

    /// Returns true if the highest value is the first.
    pub fn is_descending(&self) -> bool {
        !matches!(self.sort, Sort::Name | Sort::State)
    }
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::Name => Self::State,
            Self::State => Self::Published,
            Self::Published => Self::Backlog,
            Self::Backlog => Self::P99,
            Self::P99 => Self::Rejected,
            Self::Rejected => Self::Name,
        }
    }

    fn compare(self, one: &Row<'_>, other: &Row<'_>) -> Ordering {
        fn highest_first(one: Option<f32>, other: Option<f32>) -> Ordering {
            let known = |value: Option<f32>| value.unwrap_or(f32::NEG_INFINITY);
            known(other).total_cmp(&known(one))
        }
        match self {
            Self::Name => Ordering::Equal,
            Self::State => urgency(one.status.state).cmp(&urgency(other.status.state)),
            Self::Published => highest_first(one.sample.published, other.sample.published),
            Self::Backlog => Reverse(one.backlog()).cmp(&Reverse(other.backlog())),
            Self::P99 => highest_first(one.sample.latency_p99_ms, other.sample.latency_p99_ms),
            Self::Rejected => Reverse(one.status.rejected).cmp(&Reverse(other.status.rejected)),
        }
    }
}

fn urgency(state: State) -> u8 {
    match state {
        State::Failed => 0,
        State::Halted => 1,
        State::Waiting => 2,
        State::Starting => 3,
        State::Draining => 4,
        State::Unknown => 5,
        State::Standby => 6,
        State::Running => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::relay::News;
    use super::*;

    const PAGE: usize = 2;

    fn relay() -> Relay {
        let sample = r#"{"time":1.0,"status":{"modules":[
            {"name":"bills","state":"running","rejected":3},{"name":"mail","state":"failed","rejected":9},
            {"name":"Orders","state":"running"},{"name":"orders-old","state":"standby","lag_messages":1}]},
            "samples":{"bills":{"published":1.0,"lag_messages":5,"latency_p99_ms":1.0},
                "Orders":{"published":70.0,"lag_messages":0,"latency_p99_ms":4.0}}}"#;
        let mut relay = Relay::new(Instant::now());
        let sample = Box::new(serde_json::from_str(sample).unwrap());
        relay.hear(News::Sample(sample), Instant::now());
        relay
    }

    fn press(view: &mut View, relay: &Relay, keys: &str) -> Next {
        let mut next = Next::Stay;
        for key in keys.chars() {
            let code = match key {
                '⎋' => KeyCode::Esc,
                '⏎' => KeyCode::Enter,
                '⌫' => KeyCode::Backspace,
                '↓' => KeyCode::Down,
                '↑' => KeyCode::Up,
                '⇟' => KeyCode::PageDown,
                '⇞' => KeyCode::PageUp,
                '⇥' => KeyCode::End,
                key => KeyCode::Char(key),
            };
            next = view.press(code.into(), relay, PAGE);
        }
        next
    }

    /// Returns the names in their order, the selected one in brackets.
    fn shown(view: &View, relay: &Relay) -> String {
        let rows = view.rows(relay);
        let selected = view.place(&rows);
        let name = |(place, row): (usize, &Row<'_>)| match place == selected {
            true => format!("[{}]", row.status.name),
            false => row.status.name.clone(),
        };
        rows.iter().enumerate().map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_module_is_selected_and_stays_selected() {
        let (mut view, relay) = (View::default(), relay());
        assert_eq!(shown(&view, &relay), "[bills] mail Orders orders-old");
        for (keys, expected) in [
            ("↓j", "bills mail [Orders] orders-old"),
            ("⇟⇟↓", "bills mail Orders [orders-old]"),
            ("k⇞", "[bills] mail Orders orders-old"),
            ("↑⇞", "[bills] mail Orders orders-old"),
            ("⇥", "bills mail Orders [orders-old]"),
            ("s", "mail [orders-old] bills Orders"),
            ("s", "Orders bills mail [orders-old]"),
            ("s", "bills [orders-old] Orders mail"),
            ("s", "Orders bills mail [orders-old]"),
            ("s", "mail bills Orders [orders-old]"),
            ("s", "bills mail Orders [orders-old]"),
        ] {
            assert_eq!(press(&mut view, &relay, keys), Next::Stay);
            assert_eq!(shown(&view, &relay), expected, "{keys}");
        }
    }

    #[test]
    fn a_filter_is_typed_and_cleared() {
        let (mut view, relay) = (View::default(), relay());
        for (keys, expected) in [
            ("/oRq⌫d", "[Orders] orders-old"),
            ("⏎↓", "Orders [orders-old]"),
            ("/x", ""),
            ("⎋", "bills mail Orders [orders-old]"),
            ("/s⏎⎋", "bills mail Orders [orders-old]"),
        ] {
            assert_eq!(press(&mut view, &relay, keys), Next::Stay);
            assert_eq!(shown(&view, &relay), expected, "{keys}");
        }
        assert_eq!(press(&mut view, &relay, "⎋"), Next::Quit);
    }

    #[test]
    fn it_is_left_in_three_ways() {
        let (mut view, relay) = (View::default(), relay());
        assert_eq!(press(&mut view, &relay, "?q"), Next::Stay, "that closes the help");
        assert!(!view.is_help);
        assert_eq!(press(&mut view, &relay, "q"), Next::Quit);
        assert_eq!(press(&mut view, &relay, "/"), Next::Stay);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(view.press(control_c, &relay, PAGE), Next::Quit);
    }
}
