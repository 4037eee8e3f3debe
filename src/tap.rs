//! The tap: shows messages, and what the module made of them, to people who look.
//!
//! The thread that transformed a message offers it to the open taps, and never waits for one. A tap shows so many messages
//! a second, and fewer while its client does not keep up. It counts the others. While no tap is open, a call of a module
//! costs one look at a flag. Nothing here turns a message into text before the client's own task does.

mod json;
mod rate;
mod shown;
#[cfg(test)]
mod tests;
mod viewer;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::message::{Message, Outcome};

pub use self::shown::Shown;
pub use self::viewer::Filter;
use self::viewer::Viewer;

/// The most taps that may be open at once, so that all of them together take little time and memory.
pub const MOST_OPEN: usize = 8;

/// All taps of a relay. A clone has the same ones.
#[derive(Debug, Clone, Default)]
pub struct Taps(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    /// By module. A line lives as long as something of its pipeline.
    lines: BTreeMap<Arc<str>, Weak<Line>>,
    viewers: Vec<Arc<Viewer>>,
}

/// Where a pipeline offers its messages. A clone is the same place, and the default is one that nobody can look at.
#[derive(Debug, Clone, Default)]
pub struct Tap(Arc<Line>);

#[derive(Debug, Default)]
struct Line {
    module: Arc<str>,
    is_watched: AtomicBool,
    viewers: RwLock<Arc<[Arc<Viewer>]>>,
}

/// A message that was transformed.
#[derive(Debug, Clone, Copy)]
struct Made<'a> {
    module: &'a Arc<str>,
    version: &'a Arc<str>,
    message: &'a Message,
    outcome: &'a Outcome,
    took: Duration,
    at: Instant,
}

/// Eight taps are open already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} taps are open already, which is the limit; close one of them first", MOST_OPEN)]
pub struct TooMany;

/// An open tap. Dropping it closes it.
#[derive(Debug)]
pub struct View {
    taps: Taps,
    viewer: Arc<Viewer>,
    shown: mpsc::Receiver<Shown>,
}

impl Taps {
    /// Returns the place where the module's pipeline offers its messages.
    pub fn of(&self, module: &str) -> Tap {
        let mut book = self.book();
        if let Some(line) = book.lines.get(module).and_then(Weak::upgrade) {
            return Tap(line);
        }
        book.lines.retain(|_, line| line.strong_count() > 0);
        let line = Arc::new(Line {
            module: module.into(),
            ..Line::default()
        });
        line.connect(&book.viewers);
        book.lines.insert(Arc::clone(&line.module), Arc::downgrade(&line));
        Tap(line)
    }

    /// Opens a tap that shows at most `rate` messages in any second. It follows all modules that the filter names, also
    /// those that start later.
    pub fn open(&self, filter: Filter, rate: usize) -> Result<View, TooMany> {
        let mut book = self.book();
        if book.viewers.len() >= MOST_OPEN {
            return Err(TooMany);
        }
        let (viewer, shown) = Viewer::new(filter, rate);
        let viewer = Arc::new(viewer);
        book.viewers.push(Arc::clone(&viewer));
        book.connect();
        drop(book);
        Ok(View {
            taps: self.clone(),
            viewer,
            shown,
        })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn connect(&self) {
        for line in self.lines.values().filter_map(Weak::upgrade) {
            line.connect(&self.viewers);
        }
    }
}

impl Line {
    /// Connects the line with those viewers that want to see its module.
    fn connect(&self, viewers: &[Arc<Viewer>]) {
        let viewers = viewers.iter().filter(|viewer| viewer.follows(&self.module));
        let viewers: Arc<[_]> = viewers.cloned().collect();
        let is_watched = !viewers.is_empty();
        *self.viewers.write().unwrap_or_else(PoisonError::into_inner) = viewers;
        // A thread that sees the old flag misses a message around the time when the tap opens, or finds nobody there.
        self.is_watched.store(is_watched, Ordering::Relaxed);
    }
}

impl Tap {
    /// Returns true if somebody looks at the module. This is all that happens while nobody does: one relaxed load of a flag
    /// that stays in the cache of each core. It is asked once per call, because calls of quick modules take up to 64
    /// messages.
    pub fn wants(&self) -> bool {
        self.0.is_watched.load(Ordering::Relaxed)
    }

    /// Offers the messages of a call, which is just over, and what this version of the module made of them. Each has the time
    /// that it took. Does not wait for those who look.
    pub fn offer<'a>(&self, version: &Arc<str>, made: impl IntoIterator<Item = (&'a Message, &'a Outcome, Duration)>) {
        self.offer_at(Instant::now(), version, made);
    }

    fn offer_at<'a>(
        &self,
        at: Instant,
        version: &Arc<str>,
        made: impl IntoIterator<Item = (&'a Message, &'a Outcome, Duration)>,
    ) {
        let Line { module, viewers, .. } = &*self.0;
        // The lock is written only when somebody opens or closes a tap, and only while one pointer is exchanged. Threads
        // that read it do not wait for each other.
        let viewers = Arc::clone(&viewers.read().unwrap_or_else(PoisonError::into_inner));
        for (message, outcome, took) in made {
            let made = Made {
                module,
                version,
                message,
                outcome,
                took,
                at,
            };
            for viewer in &*viewers {
                viewer.offer(&made);
            }
        }
    }
}

impl View {
    /// Waits for the next message. Cancel-safe.
    pub async fn next(&mut self) -> Option<Shown> {
        let shown = self.shown.recv().await?;
        self.viewer.taken(&shown);
        Some(shown)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let mut book = self.taps.book();
        book.viewers.retain(|viewer| !Arc::ptr_eq(viewer, &self.viewer));
        book.connect();
    }
}
