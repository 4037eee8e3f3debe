//! Shows a session on a full screen, until the user or a signal ends it.

use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use ratatui::crossterm::event::{self, Event as Input};
use rustix::process::{Signal, kill_current_process_group};

use super::super::failure::Failure;
use super::super::terminal::{Look, Screen, Words};
use super::editor;
use super::event::Event;
use super::model::Next;
use super::news::News;
use super::session::{self, Setup};
use super::shared::Shared;

/// How often it looks whether anything is new while no key is pressed.
const LOOK: Duration = Duration::from_millis(50);

/// How often the screen is drawn while a build runs, whose seconds it shows.
const TICK: Duration = Duration::from_secs(1);

pub fn run(mut setup: Setup, events: Receiver<Event>, shared: &Shared) -> Result<(), Failure> {
    let (sender, news) = mpsc::channel();
    setup.words = Some(sender.clone());
    let (orders, stop) = (setup.events.clone(), setup.stop.clone());
    let wake = setup.events.clone();
    // Before the screen, so that the terminal is restored before a panic is told.
    let words = Words::keep()?;
    let mut screen = Screen::open()?;
    screen.take_pastes()?;
    let session = thread::Builder::new()
        .name("session".to_owned())
        .spawn(move || session::run(setup, events, &mut { sender }))
        .context("starting a thread failed")?;
    let mut show = Show {
        shared,
        screen,
        look: Look::of_stdout(),
        orders,
        words,
    };
    let shown = show.until_the_end(&news, &|| stop.is_cancelled());
    drop(show);
    stop.cancel();
    // A full channel wakes it as well.
    let _ = wake.try_send(Event::Stop);
    let ended = session.join().map_err(|_| anyhow!("the session has failed"))?;
    shown?;
    ended
}

struct Show<'a> {
    shared: &'a Shared,
    screen: Screen,
    look: Look,
    orders: SyncSender<Event>,
    words: Option<Words>,
}

impl Show<'_> {
    fn until_the_end(&mut self, news: &Receiver<News>, is_stopped: &dyn Fn() -> bool) -> anyhow::Result<()> {
        let mut drawn = None;
        let mut changes = self.shared.follow();
        while !is_stopped() {
            let is_due = drawn.is_none_or(|drawn: Instant| drawn.elapsed() >= TICK);
            if is_due {
                let (screen, look) = (&mut self.screen, &self.look);
                changes.borrow_and_update();
                self.shared
                    .look(|model| screen.draw(|buffer, area| model.draw(buffer, area, look, Instant::now())))?;
                drawn = Some(Instant::now());
            }
            let mut is_new = false;
            if event::poll(LOOK).context("the keys cannot be read")? {
                is_new = true;
                let next = match event::read().context("the keys cannot be read")? {
                    Input::Key(key) => {
                        let area = self.screen.area()?;
                        self.shared.change(|model| model.press(key, model.page(area)))
                    }
                    Input::Paste(text) => self.shared.change(|model| model.paste(&text)),
                    // The next drawing has the new size.
                    _ => Next::Stay,
                };
                if !self.follow(next)? {
                    return Ok(());
                }
            }
            loop {
                match news.try_recv() {
                    Ok(news) => self.shared.hear(news, &self.orders),
                    Err(TryRecvError::Empty) => break,
                    // The session tells why.
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            for line in self.words.iter().flat_map(Words::take) {
                self.note(line);
            }
            // Whatever the page has changed is new as well.
            if is_new || changes.has_changed().unwrap_or(false) {
                drawn = None;
            }
        }
        Ok(())
    }

    fn note(&self, text: String) {
        self.shared.change(|model| model.note(text, true));
    }

    /// Returns false at the end.
    fn follow(&mut self, next: Next) -> anyhow::Result<bool> {
        match next {
            Next::Stay => {}
            Next::Quit => return Ok(false),
            Next::Suspend => self.aside(|| {
                // It goes on here once the shell continues it.
                let _ = kill_current_process_group(Signal::TSTP);
            })?,
            Next::Order(order) => self.shared.order(order, &self.orders),
            Next::Edit { name, text } => match self.aside(|| editor::edit(&text))? {
                Ok(Some(edited)) => {
                    let next = self.shared.change(|model| model.edited(name, edited));
                    return self.follow(next);
                }
                Ok(None) => {}
                Err(error) => self.note(format!("{error:#}")),
            },
        }
        Ok(true)
    }

    /// Leaves the terminal to something else while that runs.
    fn aside<T>(&mut self, other: impl FnOnce() -> T) -> anyhow::Result<T> {
        let words = self.words.as_ref();
        self.screen.aside(|| match words {
            Some(words) => words.aside(other),
            None => Ok(other()),
        })?
    }
}
