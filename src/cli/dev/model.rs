//! What the screen and the page show, and how news and keys change it. It knows neither the terminal nor the session.

mod keys;
mod live;

use std::collections::VecDeque;
use std::time::Instant;

pub use self::keys::Next;
pub use self::live::{Arrived, Stream};
use super::Work;
use super::cases::{Cases, Shown};
use super::news::{Loaded, News};
use super::units::Tested;

#[derive(Debug)]
pub struct Model {
    /// The last module that was built and loaded.
    pub loaded: Option<Loaded>,
    pub build: Build,
    /// What the compiler said in the last build.
    pub words: Vec<String>,
    pub entries: Vec<Entry>,
    /// Counts the changes of the entries.
    pub revision: u64,
    /// Says how to write a case, if there are none.
    pub advice: Option<String>,
    pub units: Units,
    /// `None` if the messages of the source are not shown.
    pub stream: Option<Stream>,
    /// The last things that were told, the newest at the end.
    pub notes: VecDeque<Note>,
    /// Where the page is, if there is one.
    pub address: Option<String>,
    pub view: View,
}

#[derive(Debug)]
pub enum Build {
    /// It waits for changes.
    Watching,
    Running {
        since: Instant,
    },
    Failed {
        at: String,
        error: String,
    },
}

#[derive(Debug)]
pub enum Units {
    Off,
    /// None have run yet.
    Unknown,
    Running(Option<Tested>),
    Done(Tested),
}

/// A line of the list: a case, or a message that was pasted or edited.
#[derive(Debug)]
pub struct Entry {
    pub name: String,
    pub is_case: bool,
    pub shown: Shown,
    /// What it was before the last round that changed it, for the difference.
    pub before: Option<Shown>,
}

#[derive(Debug)]
pub struct Note {
    pub text: String,
    pub is_trouble: bool,
}

/// What the user has chosen to see.
#[derive(Debug, Default)]
pub struct View {
    /// The name of the entry, or `None` for the first.
    selected: Option<String>,
    /// The messages of the source are listed, not the cases.
    pub is_live: bool,
    pub panel: Panel,
    /// Lines that are above the panes.
    pub scroll: usize,
    /// Outcomes are shown as they are, without the differences.
    pub is_plain: bool,
    pub is_help: bool,
    pub prompt: Option<Prompt>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Panel {
    /// The message and its outcome.
    #[default]
    Outcome,
    /// The compiler's output.
    Build,
    /// What failed unit tests printed.
    Units,
}

/// A question in the last line.
#[derive(Debug, PartialEq, Eq)]
pub enum Prompt {
    Save { name: String, text: String },
    Publish { subject: String, text: String },
}

/// Lines of the compiler, and notes, that are kept.
const MAX_WORDS: usize = 2_000;
const MAX_NOTES: usize = 20;

impl Model {
    pub fn new(units: bool, is_live: bool) -> Self {
        Self {
            loaded: None,
            build: Build::Watching,
            words: Vec::new(),
            entries: Vec::new(),
            revision: 0,
            advice: None,
            units: if units { Units::Unknown } else { Units::Off },
            stream: is_live.then(Stream::default),
            notes: VecDeque::new(),
            address: None,
            view: View {
                is_live,
                ..View::default()
            },
        }
    }

    pub fn hear(&mut self, news: News, now: Instant) {
        if matches!(news, News::Cases(_) | News::NoCases(_) | News::Tried { .. }) {
            self.revision += 1;
        }
        match news {
            News::Begun { work: Work::Build, .. } => {
                self.words.clear();
                self.notes.clear();
                self.build = Build::Running { since: now };
            }
            News::Begun { .. } | News::Stopped => {}
            News::Words(line) => {
                if self.words.len() < MAX_WORDS {
                    self.words.push(line);
                }
            }
            News::Failed { at, error } => {
                self.build = Build::Failed { at, error };
                self.show(Panel::Build);
            }
            News::Loaded(loaded) => {
                self.loaded = Some(loaded);
                self.build = Build::Watching;
                self.leave(Panel::Build);
            }
            News::Cases(cases) => self.ran(cases),
            News::NoCases(advice) => {
                self.entries.retain(|entry| !entry.is_case);
                self.advice = Some(advice);
            }
            // A build that goes on tells its end.
            News::Watching => {}
            News::Testing => {
                let last = match std::mem::replace(&mut self.units, Units::Off) {
                    Units::Done(tested) | Units::Running(Some(tested)) => Some(tested),
                    _ => None,
                };
                self.units = Units::Running(last);
            }
            News::Tested(tested) => self.tested(tested),
            News::Tapped(what) => {
                if let Some(stream) = &mut self.stream {
                    stream.what = Some(what);
                }
            }
            News::Live(live) => {
                if let Some(stream) = &mut self.stream {
                    stream.arrive(*live);
                }
            }
            News::Tried { name, shown } => self.tried(&name, shown),
            News::Done(text) => self.note(text, false),
            News::Trouble(text) => self.note(text, true),
        }
    }

    pub fn note(&mut self, text: String, is_trouble: bool) {
        if self.notes.len() == MAX_NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back(Note { text, is_trouble });
    }

    fn ran(&mut self, cases: Cases) {
        self.advice = None;
        let mut old = std::mem::take(&mut self.entries);
        for (name, shown) in cases {
            let at = old.iter().position(|entry| entry.is_case && entry.name == name);
            let before = at.map(|at| old.remove(at));
            let before = before.and_then(|entry| match entry.shown.is_same(&shown) {
                // A round that changes nothing, like that of an accepted case, leaves no difference to show.
                true => None,
                false => Some(entry.shown),
            });
            self.entries.push(Entry {
                name,
                is_case: true,
                shown,
                before,
            });
        }
        self.entries.extend(old.into_iter().filter(|entry| !entry.is_case));
    }

    fn tried(&mut self, name: &str, shown: Shown) {
        let known = self
            .entries
            .iter_mut()
            .find(|entry| !entry.is_case && entry.name == name);
        match known {
            Some(entry) => {
                let before = std::mem::replace(&mut entry.shown, shown);
                entry.before = (!before.is_same(&entry.shown)).then_some(before);
            }
            None => {
                self.entries.push(Entry {
                    name: name.to_owned(),
                    is_case: false,
                    shown,
                    before: None,
                });
            }
        }
    }

    fn tested(&mut self, tested: Tested) {
        let was_bad = match &self.units {
            Units::Running(Some(last)) | Units::Done(last) => !last.is_good(),
            _ => false,
        };
        let is_good = tested.is_good();
        if !matches!(self.units, Units::Off) {
            self.units = Units::Done(tested);
        }
        match (is_good, was_bad) {
            (true, _) => self.leave(Panel::Units),
            // Who has closed them once need not see them each time.
            (false, true) => {}
            (false, false) => self.show(Panel::Units),
        }
    }

    fn show(&mut self, panel: Panel) {
        self.view.panel = panel;
        self.view.scroll = 0;
    }

    fn leave(&mut self, panel: Panel) {
        if self.view.panel == panel {
            self.show(Panel::Outcome);
        }
    }

    /// Returns where the selected entry is. One that is gone gives way to the first.
    pub fn place(&self) -> usize {
        let selected = self.view.selected.as_ref();
        let place = selected.and_then(|name| self.entries.iter().position(|entry| entry.name == *name));
        place.unwrap_or(0)
    }

    /// Returns the selected message, from whichever list is shown.
    pub fn selected(&self) -> Option<&Shown> {
        match self.arrived() {
            Some(arrived) => Some(&arrived.shown),
            None if self.is_live() => None,
            None => self.entries.get(self.place()).map(|entry| &entry.shown),
        }
    }

    /// Returns the selected entry, if the cases are listed.
    pub fn entry(&self) -> Option<&Entry> {
        match self.is_live() {
            true => None,
            false => self.entries.get(self.place()),
        }
    }

    /// Returns the selected message of the source, if they are listed.
    pub fn arrived(&self) -> Option<&Arrived> {
        let stream = self.stream.as_ref().filter(|_| self.view.is_live);
        stream.and_then(Stream::selected)
    }

    pub fn is_live(&self) -> bool {
        self.view.is_live && self.stream.is_some()
    }

    /// Returns the numbers of cases that passed and failed.
    pub fn counts(&self) -> (usize, usize) {
        let cases = || self.entries.iter().filter(|entry| entry.is_case);
        let passed = cases().filter(|entry| entry.shown.passed()).count();
        (passed, cases().count() - passed)
    }

    /// Returns the name under which a message runs that was edited. A case stays as it is.
    pub fn name_for(&self, edited: Option<&str>) -> String {
        let is_edited = |entry: &&Entry| !entry.is_case && Some(entry.name.as_str()) == edited;
        match self.entries.iter().find(is_edited) {
            Some(entry) => entry.name.clone(),
            None => self.free_name("edited"),
        }
    }

    /// Returns the messages that are tried again after each build, because no case holds them.
    pub fn tries(&self) -> Vec<(String, String)> {
        let tries = self.entries.iter().filter(|entry| !entry.is_case);
        tries
            .map(|entry| (entry.name.clone(), entry.shown.message().to_owned()))
            .collect()
    }
}
