//! What a session tells whoever shows it: the screen, the lines or the page.

use std::io;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::Work;
use super::cases::{Cases, Made, Shown};
use super::units::Tested;

#[derive(Debug, Clone)]
pub enum News {
    /// A round begins.
    Begun {
        at: String,
        work: Work,
    },
    /// A line of the compiler's.
    Words(String),
    /// The build failed, or what it made cannot be loaded.
    Failed {
        at: String,
        error: String,
    },
    Loaded(Loaded),
    Cases(Cases),
    /// There are none. The text says how to write one.
    NoCases(String),
    /// The round is over, except for its unit tests.
    Watching,
    Testing,
    Tested(Tested),
    /// Messages of the source are shown from now on.
    Tapped(String),
    Live(Box<Live>),
    /// What became of a message that was pasted or edited.
    Tried {
        name: String,
        shown: Shown,
    },
    /// Something that was asked for is done.
    Done(String),
    Trouble(String),
    Stopped,
}

/// A module that was built and loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub name: String,
    pub wasm: String,
    pub kib: u64,
    /// When, on the local clock.
    pub at: String,
    /// How long the build took, if there was one.
    pub built_in: Option<Duration>,
}

/// A message of the source, and what the module made of it.
#[derive(Debug, Clone)]
pub struct Live {
    /// When it was stored, on the local clock.
    pub time: String,
    pub place: String,
    /// On one line.
    pub payload: String,
    pub made: Made,
    /// Messages before it that were not shown for lack of time.
    pub skipped: u64,
}

/// Shows a session.
pub trait Front {
    fn tell(&mut self, news: News) -> io::Result<()>;
}

/// A screen that is gone needs no news.
impl Front for Sender<News> {
    fn tell(&mut self, news: News) -> io::Result<()> {
        let _ = self.send(news);
        Ok(())
    }
}

impl Loaded {
    /// Says how it came here: `built in 8.3 s`.
    pub fn how(&self) -> String {
        match self.built_in {
            Some(took) => format!("built in {:.1} s", took.as_secs_f64()),
            None => "loaded".to_owned(),
        }
    }

    /// Says which module stays in use after a failure.
    pub fn stays(&self) -> String {
        let made = if self.built_in.is_some() { "built" } else { "loaded" };
        format!("the module {made} at {} stays in use", self.at)
    }
}
