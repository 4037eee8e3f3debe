//! Runs two modules over the same messages, one by one, and collects how their outcomes differ. Nothing is published.

mod compare;
pub mod show;
mod speed;
mod tally;

use std::path::Path;

use anyhow::Context;
use slipring_core::read::Incarnation;
use tokio::runtime::Runtime;

pub use self::tally::Tally;
use super::held::Held;
use super::input::Lines;
use super::report::Source;
use super::selection::Selection;
use super::timing::timed;
use super::try_module;
use crate::config::{Config, ModuleConfig};
use crate::message::Message;
use crate::pipeline::Stamp;
use crate::transform::Instance;

/// One of the two modules.
#[derive(Debug)]
pub struct Side {
    pub instance: Instance,
    pub config: ModuleConfig,
}

#[derive(Debug)]
pub struct Comparison {
    old: Side,
    new: Side,
    /// That of the stream. `None` if the messages are from a file.
    incarnation: Option<Incarnation>,
    pub tally: Tally,
}

impl Comparison {
    /// At most so many examples are kept for each kind of change.
    pub fn new(old: Side, new: Side, max_examples: usize) -> Self {
        Self {
            old,
            new,
            incarnation: None,
            tally: Tally::new(max_examples),
        }
    }

    /// Returns an error as the inner result if some lines were not messages.
    pub fn run_file(&mut self, file: &Path, notes: &mut dyn std::io::Write) -> anyhow::Result<anyhow::Result<()>> {
        let mut lines = Lines::open(Some(file), &self.old.config.stream)?;
        while let Some((number, message)) = lines.next(notes)? {
            self.add(Source::Line(number), &message);
        }
        Ok(lines.verdict())
    }

    /// Compares the last messages of what is selected. `named` is the module whose `.toml` names what is read. If there is
    /// no message, returns a sentence that says so.
    pub fn run_stream(
        &mut self,
        relay: &Config,
        selection: Selection<'_>,
        named: Option<&ModuleConfig>,
        last: u64,
    ) -> anyhow::Result<Option<String>> {
        let runtime = Runtime::new().context("starting the tokio runtime failed")?;
        let (stored, mut messages) = runtime.block_on(async {
            let stored = Held::open(relay, selection, named).await?;
            let messages = stored.last(last, selection.subjects).await?;
            anyhow::Ok((stored, messages))
        })?;
        self.incarnation = Some(stored.incarnation());
        let nothing = stored.holds_nothing(selection.subjects);
        // Calls block, so they are made here and not in a task.
        while let Some(message) = runtime.block_on(messages.next())? {
            self.add(message.place.into(), &message);
        }
        Ok((self.tally.messages == 0).then_some(nothing))
    }

    fn add(&mut self, source: Source, message: &Message) {
        let Self { old, new, tally, .. } = self;
        if tally.messages == 0 {
            // The first call also starts the instance.
            old.instance.call(message);
            new.instance.call(message);
        }
        // Each module goes first equally often, because the second one finds the message in the processor's cache.
        let ((old_outcome, old_took), (new_outcome, new_took)) = match tally.messages % 2 {
            0 => {
                let first = timed(&mut old.instance, message);
                (first, timed(&mut new.instance, message))
            }
            _ => {
                let first = timed(&mut new.instance, message);
                (timed(&mut old.instance, message), first)
            }
        };
        if let (Some(old), Some(new)) = (old_took, new_took) {
            tally.speed.add(old, new);
        }
        tally.old_memory = tally.old_memory.max(old.instance.memory());
        tally.new_memory = tally.new_memory.max(new.instance.memory());
        let old_outcome = old.stamp(self.incarnation).outcome(message, old_outcome);
        let new_outcome = new.stamp(self.incarnation).outcome(message, new_outcome);
        tally.add(source, message, &old_outcome, &new_outcome);
    }
}

impl Side {
    fn stamp(&self, incarnation: Option<Incarnation>) -> Stamp<'_> {
        try_module::stamp(self.instance.module().name(), incarnation, self.config.version)
    }
}
