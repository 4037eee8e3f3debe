//! Formats the cases after a save: their outcomes and the changes since the last save.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::case::{self, Case, Expectation};
use super::super::difference;
use super::super::palette::Palette;
use super::super::printable::printable;
use super::super::runner::Runner;
use super::super::test_cases::cases;
use crate::message::Message;

#[derive(Debug)]
pub struct Screen {
    palette: Palette,
    /// The last outcome of each case, or why there was none. `None` until something was shown.
    last: Option<BTreeMap<String, Shown>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Shown {
    Made {
        made: Expectation,
        expected: Option<Expectation>,
    },
    Broken(String),
}

impl Screen {
    pub fn new(palette: Palette) -> Self {
        Self { palette, last: None }
    }

    /// Runs the cases and returns what to show. Cases that pass and have not changed are only counted.
    pub fn show(&mut self, files: &[PathBuf], runner: &mut Runner) -> String {
        let now: BTreeMap<String, Shown> = files.iter().map(|file| (case::name(file), run(file, runner))).collect();
        let mut text = String::new();
        for (name, shown) in &now {
            let before = self.last.as_ref().map(|last| last.get(name));
            text.push_str(&self.one(name, shown, before));
        }
        text.push_str(&summary(&now, self.last.as_ref()));
        self.last = Some(now);
        text
    }

    /// `before` is `None` the first time, and `Some(None)` if the case is new.
    fn one(&self, name: &str, shown: &Shown, before: Option<Option<&Shown>>) -> String {
        let Palette { good, bad, note, .. } = &self.palette;
        let (made, expected) = match shown {
            Shown::Broken(error) => return format!("{bad}FAILED{bad:#}  {name}: {}\n", printable(error)),
            Shown::Made { made, expected } => (made, expected),
        };
        let passed = shown.passed();
        let state = match expected {
            None => format!("{note}sample{note:#}"),
            Some(_) if passed => format!("{good}ok{good:#}    "),
            Some(_) => format!("{bad}FAILED{bad:#}"),
        };
        match before.flatten() {
            Some(Shown::Made { made: before, .. }) if before != made => format!(
                "{state}  {name}: - before, + now\n{}",
                difference::render(&before.pretty(), &made.pretty(), &self.palette)
            ),
            Some(same) if same == shown && passed => String::new(),
            Some(same) if same == shown => format!("{state}  {name}: unchanged\n"),
            _ => match expected {
                Some(expected) if !passed => format!(
                    "{state}  {name}: - expected, + actual\n{}",
                    difference::render(&expected.pretty(), &made.beside(expected).pretty(), &self.palette)
                ),
                _ => format!("{state}  {name}\n{}", indented(&made.lines())),
            },
        }
    }
}

impl Shown {
    /// A sample has no expectation to fail.
    fn passed(&self) -> bool {
        match self {
            Self::Made { made, expected } => expected.as_ref().is_none_or(|expected| expected.allows(made)),
            Self::Broken(_) => false,
        }
    }
}

fn run(file: &Path, runner: &mut Runner) -> Shown {
    let ran = Case::read(file, runner.stream()).and_then(|case| {
        Ok(Shown::Made {
            made: runner.run(&case)?,
            expected: case.expect,
        })
    });
    ran.unwrap_or_else(|error| Shown::Broken(format!("{error:#}")))
}

fn summary(now: &BTreeMap<String, Shown>, last: Option<&BTreeMap<String, Shown>>) -> String {
    let failed = now.values().filter(|shown| !shown.passed()).count();
    let mut text = format!("{}: {} passed, {failed} failed", cases(now.len()), now.len() - failed);
    if let Some(last) = last {
        let as_before = now
            .iter()
            .filter(|(name, shown)| last.get(*name).is_some_and(|before| same(before, shown)));
        text.push_str(&format!(", {} changed", now.len() - as_before.count()));
    }
    text.push('\n');
    text
}

/// Returns true if the module did the same. The expectation may have changed.
fn same(before: &Shown, now: &Shown) -> bool {
    match (before, now) {
        (Shown::Made { made: before, .. }, Shown::Made { made: now, .. }) => before == now,
        (before, now) => before == now,
    }
}

/// Formats a message of the stream and its outcome.
pub fn live(message: &Message, made: &Expectation) -> String {
    // Subjects may contain characters that move a terminal's cursor.
    let subject = message.subject.replace(char::is_control, "?");
    format!(
        "{}:{}  {subject}\n{}",
        message.stream,
        message.place,
        indented(&made.lines())
    )
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("    {}\n", printable(line))).collect()
}
