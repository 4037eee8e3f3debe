//! What the page is sent: the model in JSON. All texts in it are shown as texts.

use std::borrow::Cow;

use serde::Serialize;

use super::super::super::case::Expectation;
use super::super::cases::{Shown, Verdict, signs};
use super::super::model::{Build, Entry, Model, Units};
use super::super::news::Loaded;
use super::super::units::Tested;

/// Everything but the messages and their outcomes, which the page asks for when it shows them.
#[derive(Debug, Serialize)]
pub struct State<'a> {
    module: Option<Module<'a>>,
    build: Stage<'a>,
    /// What the compiler printed.
    output: String,
    passed: usize,
    failed: usize,
    entries: Vec<Line<'a>>,
    /// Changes when the entries do.
    revision: u64,
    /// Says how to write a case, if there are none.
    advice: Option<&'a str>,
    units: Option<UnitTests<'a>>,
    /// What was told last.
    note: Option<Told<'a>>,
}

#[derive(Debug, Serialize)]
struct Module<'a> {
    name: &'a str,
    wasm: &'a str,
    kib: u64,
    at: &'a str,
    how: String,
}

#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
enum Stage<'a> {
    Watching,
    Running,
    Failed {
        at: &'a str,
        error: &'a str,
        /// Says which module stays in use.
        stays: Option<String>,
    },
}

/// A line of the list.
#[derive(Debug, Serialize)]
struct Line<'a> {
    name: &'a str,
    is_case: bool,
    verdict: &'static str,
    subject: &'a str,
    brief: String,
    /// The last round has changed the outcome.
    changed: bool,
}

#[derive(Debug, Serialize)]
struct UnitTests<'a> {
    line: String,
    /// `None` while they run.
    passed: Option<bool>,
    output: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Told<'a> {
    text: &'a str,
    is_trouble: bool,
}

/// A message, and what became of it.
#[derive(Debug, Serialize)]
pub struct Detail<'a> {
    name: &'a str,
    is_case: bool,
    verdict: &'static str,
    message: &'a str,
    /// Why it could not be run.
    error: Option<&'a str>,
    outcome: Option<&'a Expectation>,
    difference: Option<Difference<'a>>,
    /// The lines that the module printed.
    output: &'a [String],
}

#[derive(Debug, Serialize)]
struct Difference<'a> {
    /// What the signs of the lines mean.
    signs: &'static str,
    old: Cow<'a, str>,
    new: Cow<'a, str>,
}

impl<'a> State<'a> {
    pub fn of(model: &'a Model) -> Self {
        let (passed, failed) = model.counts();
        Self {
            module: model.loaded.as_ref().map(Module::of),
            build: match &model.build {
                Build::Watching => Stage::Watching,
                Build::Running { .. } => Stage::Running,
                Build::Failed { at, error } => Stage::Failed {
                    at,
                    error,
                    stays: model.loaded.as_ref().map(Loaded::stays),
                },
            },
            output: model.words.join("\n"),
            passed,
            failed,
            entries: model.entries.iter().map(Line::of).collect(),
            revision: model.revision,
            advice: model.advice.as_deref(),
            units: UnitTests::of(&model.units),
            note: model.notes.back().map(|note| Told {
                text: &note.text,
                is_trouble: note.is_trouble,
            }),
        }
    }
}

impl<'a> Module<'a> {
    fn of(loaded: &'a Loaded) -> Self {
        Self {
            name: &loaded.name,
            wasm: &loaded.wasm,
            kib: loaded.kib,
            at: &loaded.at,
            how: loaded.how(),
        }
    }
}

impl<'a> Line<'a> {
    fn of(entry: &'a Entry) -> Self {
        let (subject, brief) = match &entry.shown {
            Shown::Made(made) => (made.subject.as_str(), made.told.brief()),
            Shown::Broken { error, .. } => ("", error.clone()),
        };
        Self {
            name: &entry.name,
            is_case: entry.is_case,
            verdict: verdict(entry),
            subject,
            brief,
            changed: entry.before.is_some(),
        }
    }
}

impl<'a> UnitTests<'a> {
    fn of(units: &'a Units) -> Option<Self> {
        let (tested, is_running) = match units {
            Units::Off | Units::Unknown => return None,
            Units::Running(tested) => (tested.as_ref(), true),
            Units::Done(tested) => (Some(tested), false),
        };
        Some(Self {
            line: match tested {
                Some(tested) if !is_running => tested.line(),
                _ => "unit tests: running".to_owned(),
            },
            passed: tested.filter(|_| !is_running).map(Tested::is_good),
            output: tested.and_then(Tested::output),
        })
    }
}

impl<'a> Detail<'a> {
    pub fn of(entry: &'a Entry) -> Self {
        let (error, made) = match &entry.shown {
            Shown::Made(made) => (None, Some(made)),
            Shown::Broken { error, .. } => (Some(error.as_str()), None),
        };
        Self {
            name: &entry.name,
            is_case: entry.is_case,
            verdict: verdict(entry),
            message: entry.shown.message(),
            error,
            outcome: made.map(|made| &made.made),
            difference: Difference::of(entry),
            output: made.map_or(&[], |made| &made.output),
        }
    }
}

impl<'a> Difference<'a> {
    /// The difference from the expectation, or else from what the module made before the last save.
    fn of(entry: &'a Entry) -> Option<Self> {
        let Shown::Made(made) = &entry.shown else { return None };
        match (&made.verdict, &entry.before) {
            (Verdict::Failed(wrong), _) => Some(Self {
                signs: signs(wrong),
                old: wrong.expected.as_str().into(),
                new: wrong.actual.as_str().into(),
            }),
            (_, Some(Shown::Made(before))) => Some(Self {
                signs: "- before, + now",
                old: before.made.pretty().into(),
                new: made.made.pretty().into(),
            }),
            _ => None,
        }
    }
}

fn verdict(entry: &Entry) -> &'static str {
    match &entry.shown {
        Shown::Broken { .. } => "broken",
        Shown::Made(made) => match made.verdict {
            Verdict::Failed(_) => "failed",
            Verdict::Passed => "passed",
            Verdict::Sample => "sample",
        },
    }
}
