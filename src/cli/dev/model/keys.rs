//! What the keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::event::Order;
use super::{Build, Model, Panel, Prompt, Shown, Units};

/// What follows a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Stay,
    Quit,
    /// Stops the process, as Ctrl-Z does.
    Suspend,
    Order(Order),
    /// Opens an editor. What comes back is run under this name.
    Edit {
        name: String,
        text: String,
    },
}

impl Model {
    /// Follows a key. `page` is the number of lines that the panes have.
    pub fn press(&mut self, key: KeyEvent, page: usize) -> Next {
        if !key.is_press() && !key.is_repeat() {
            return Next::Stay;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => return Next::Quit,
            KeyCode::Char('z') if is_control => return Next::Suspend,
            _ if is_control => return Next::Stay,
            _ if self.view.is_help => {
                self.view.is_help = false;
                return Next::Stay;
            }
            code => {
                if let Some(prompt) = self.view.prompt.take() {
                    return self.answer(prompt, code);
                }
            }
        }
        match key.code {
            KeyCode::Char('q') => return Next::Quit,
            KeyCode::Esc => self.escape(),
            KeyCode::Char('?') => self.view.is_help = true,
            KeyCode::Char('r') => return Next::Order(Order::Run),
            KeyCode::Char('a') => return self.accept(),
            KeyCode::Char('e') => return self.edit(),
            KeyCode::Char('s') => self.save(),
            KeyCode::Char('p') => self.publish(),
            KeyCode::Char('u') => return self.toggle_units(),
            KeyCode::Char('d') => self.view.is_plain = !self.view.is_plain,
            KeyCode::Char('o') => self.next_panel(),
            KeyCode::Tab if self.stream.is_some() => {
                self.view.is_live = !self.view.is_live;
                self.show(Panel::Outcome);
            }
            KeyCode::Char(' ') => {
                if let Some(stream) = self.stream.as_mut().filter(|_| self.view.is_live) {
                    stream.pause();
                }
            }
            KeyCode::PageDown => self.view.scroll += page,
            KeyCode::PageUp => self.view.scroll = self.view.scroll.saturating_sub(page),
            code => self.select(code),
        }
        Next::Stay
    }

    /// Takes a text that was pasted as a message.
    pub fn paste(&mut self, text: &str) -> Next {
        if let Some(Prompt::Save { name, .. }) = &mut self.view.prompt {
            name.push_str(text.trim());
            return Next::Stay;
        }
        let name = self.free_name("pasted");
        self.choose(&name);
        Next::Order(Order::Try {
            name,
            text: text.to_owned(),
        })
    }

    /// Takes a text that comes back from the editor.
    pub fn edited(&mut self, name: String, text: String) -> Next {
        self.choose(&name);
        Next::Order(Order::Try { name, text })
    }

    /// Shows an entry that will come.
    fn choose(&mut self, name: &str) {
        self.view.is_live = false;
        self.view.selected = Some(name.to_owned());
        self.show(Panel::Outcome);
    }

    fn escape(&mut self) {
        self.show(Panel::Outcome);
        self.notes.clear();
    }

    fn select(&mut self, code: KeyCode) {
        let (at, count) = match self.stream.as_ref().filter(|_| self.view.is_live) {
            Some(stream) => (stream.place(), stream.kept.len()),
            None => (self.place(), self.entries.len()),
        };
        let to = match code {
            KeyCode::Up | KeyCode::Char('k') => at.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => at + 1,
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => count,
            _ => return,
        };
        let to = to.min(count.saturating_sub(1));
        match self.stream.as_mut().filter(|_| self.view.is_live) {
            Some(stream) => stream.select(to),
            None => self.view.selected = self.entries.get(to).map(|entry| entry.name.clone()),
        }
        self.show(Panel::Outcome);
    }

    /// Goes on to the next panel that has anything to show.
    fn next_panel(&mut self) {
        let has_units = matches!(&self.units, Units::Done(tested) if tested.output().is_some());
        let has_words = !self.words.is_empty() || matches!(self.build, Build::Failed { .. });
        let next = match self.view.panel {
            Panel::Outcome if has_words => Panel::Build,
            Panel::Outcome | Panel::Build if has_units => Panel::Units,
            _ => Panel::Outcome,
        };
        self.show(next);
    }

    fn accept(&mut self) -> Next {
        let told = match self.entry() {
            Some(entry) if entry.is_case => match &entry.shown {
                Shown::Made(_) => {
                    let name = entry.name.clone();
                    return Next::Order(Order::Accept { name });
                }
                Shown::Broken { .. } => "a case that cannot be read has no outcome to accept: fix it first",
            },
            _ => "only the outcome of a case can be accepted: s saves this message as a case",
        };
        self.note(told.to_owned(), true);
        Next::Stay
    }

    fn edit(&mut self) -> Next {
        let name = match self.entry() {
            Some(entry) if !entry.is_case => entry.name.clone(),
            _ => self.free_name("edited"),
        };
        let text = self.selected().map(|shown| shown.message().to_owned());
        Next::Edit {
            name,
            text: text.unwrap_or_else(|| NEW_MESSAGE.to_owned()),
        }
    }

    fn save(&mut self) {
        if let Some(text) = self.message() {
            self.view.prompt = Some(Prompt::Save {
                name: String::new(),
                text,
            });
        }
    }

    fn publish(&mut self) {
        let subject = match self.selected() {
            Some(Shown::Made(made)) => made.subject.clone(),
            _ => String::new(),
        };
        if let Some(text) = self.message() {
            self.view.prompt = Some(Prompt::Publish { subject, text });
        }
    }

    /// Returns the selected message, if it is one.
    fn message(&mut self) -> Option<String> {
        match self.selected() {
            Some(Shown::Made(made)) => Some(made.message.clone()),
            Some(Shown::Broken { .. }) => {
                self.note("this is not a message: fix it first".to_owned(), true);
                None
            }
            None => {
                self.note("there is no message: e writes one".to_owned(), true);
                None
            }
        }
    }

    fn answer(&mut self, prompt: Prompt, code: KeyCode) -> Next {
        match (prompt, code) {
            (_, KeyCode::Esc) => Next::Stay,
            (Prompt::Publish { .. }, KeyCode::Char('n' | 'N')) => Next::Stay,
            (Prompt::Publish { subject, text }, KeyCode::Enter | KeyCode::Char('y' | 'Y')) => {
                self.note(format!("publishing {subject}"), false);
                Next::Order(Order::Publish { text })
            }
            (Prompt::Save { name, text }, KeyCode::Enter) if !name.is_empty() => {
                Next::Order(Order::Save { name, text })
            }
            (Prompt::Save { mut name, text }, code) => {
                match code {
                    KeyCode::Char(letter) => name.push(letter),
                    KeyCode::Backspace => drop(name.pop()),
                    _ => {}
                }
                self.view.prompt = Some(Prompt::Save { name, text });
                Next::Stay
            }
            (prompt @ Prompt::Publish { .. }, _) => {
                self.view.prompt = Some(prompt);
                Next::Stay
            }
        }
    }

    fn toggle_units(&mut self) -> Next {
        let wanted = matches!(self.units, Units::Off);
        self.units = if wanted { Units::Unknown } else { Units::Off };
        self.leave(Panel::Units);
        Next::Order(Order::Units(wanted))
    }

    pub(super) fn free_name(&self, what: &str) -> String {
        let is_free = |name: &String| !self.entries.iter().any(|entry| entry.name == *name);
        let mut names = (1..).map(|number| format!("{what} {number}"));
        names.find(is_free).unwrap_or_else(|| what.to_owned())
    }
}

/// What the editor begins with if there is no message.
const NEW_MESSAGE: &str = "{\n  \"subject\": \"shop.7\",\n  \"data\": {\n    \"id\": 7\n  }\n}";
