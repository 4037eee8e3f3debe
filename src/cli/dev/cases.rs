//! Runs messages and cases, and keeps what there is to show of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::case::{self, Case, Difference, Expectation};
use super::super::runner::{Ran, Runner};
use super::layout::pretty;
use super::told::Told;
use crate::json::Sample;
use crate::message::Message;

/// All cases of a round, by their names.
pub type Cases = BTreeMap<String, Shown>;

/// What there is to show of a case, or of another message.
#[derive(Debug, Clone, PartialEq)]
pub enum Shown {
    Made(Box<Made>),
    /// It could not be run.
    Broken {
        text: String,
        error: String,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    pub subject: String,
    /// The message in the form of a case.
    pub message: String,
    pub told: Told,
    pub made: Expectation,
    pub verdict: Verdict,
    /// The lines that the module printed.
    pub output: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is no expectation.
    Sample,
    Passed,
    Failed(Difference),
}

/// Says what the signs of a difference from the expectation mean.
pub fn signs(difference: &Difference) -> &'static str {
    match difference.is_ruled_out {
        true => "+ what `expect_not` rules out",
        false => "- expected, + actual",
    }
}

impl Shown {
    /// A sample has no expectation to fail.
    pub fn passed(&self) -> bool {
        match self {
            Self::Made(made) => !matches!(made.verdict, Verdict::Failed(_)),
            Self::Broken { .. } => false,
        }
    }

    /// Returns true if the module did the same. The expectation may have changed.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Made(one), Self::Made(other)) => one.made == other.made,
            (one, other) => one == other,
        }
    }

    /// Returns the message in the form of a case.
    pub fn message(&self) -> &str {
        match self {
            Self::Made(made) => &made.message,
            Self::Broken { text, .. } => text,
        }
    }

    /// Returns how much memory the texts take, approximately.
    pub fn size(&self) -> usize {
        match self {
            // The outcome is there twice.
            Self::Made(made) => made.message.len() + 2 * made.made.pretty().len(),
            Self::Broken { text, error } => text.len() + error.len(),
        }
    }
}

impl Made {
    fn of(message: &Message, text: String, ran: Ran) -> Self {
        Self {
            subject: message.subject.clone(),
            message: text,
            told: Told::of(&ran.outcome),
            made: ran.made,
            verdict: Verdict::Sample,
            output: ran.output,
        }
    }
}

/// Runs the cases in these files.
pub fn run(files: &[PathBuf], runner: &mut Runner) -> Cases {
    files.iter().map(|file| (case::name(file), one(file, runner))).collect()
}

fn one(file: &Path, runner: &mut Runner) -> Shown {
    let made = Case::read(file, runner.stream()).and_then(|case| {
        let ran = runner.run(&case)?;
        let mut made = Made::of(&case.message, written(file)?, ran);
        if let Some(expected) = &case.expect {
            made.verdict = match expected.difference(&made.made) {
                None => Verdict::Passed,
                Some(difference) => Verdict::Failed(difference),
            };
        }
        Ok(made)
    });
    made.map_or_else(
        |error| Shown::Broken {
            text: fs::read_to_string(file).unwrap_or_default(),
            error: format!("{error:#}"),
        },
        |made| Shown::Made(Box::new(made)),
    )
}

/// Returns the message of a case as it is written there.
fn written(file: &Path) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct Written<'a> {
        #[serde(borrow)]
        message: &'a RawValue,
    }
    let text = fs::read_to_string(file).with_context(|| format!("cannot read the case {}", file.display()))?;
    let written: Written<'_> = serde_json::from_str(&text).context("a case has a `message`")?;
    Ok(pretty(written.message.get()))
}

/// Runs a message of a source.
pub fn live(message: &Message, runner: &mut Runner) -> anyhow::Result<Made> {
    let text = text_of(message, runner.stream());
    let ran = runner.show(message)?;
    Ok(Made::of(message, text, ran))
}

fn text_of(message: &Message, stream: &str) -> String {
    let sample = serde_json::to_string(&Sample::of(message, stream));
    sample.map_or_else(|error| error.to_string(), |json| pretty(&json))
}

/// Runs a message that a person has written.
pub fn tried(text: &str, runner: &mut Runner) -> Shown {
    let made = read(text, runner.stream()).and_then(|message| {
        let ran = runner.show(&message)?;
        Ok(Made::of(&message, pretty(text.trim()), ran))
    });
    made.map_or_else(
        |error| Shown::Broken {
            text: text.to_owned(),
            error: format!("{error:#}"),
        },
        |made| Shown::Made(Box::new(made)),
    )
}

/// Parses a message that a person has written: the `message` of a case.
pub fn read(text: &str, stream: &str) -> anyhow::Result<Message> {
    sample(text)?.message(1, stream)
}

/// Parses a message, or a whole case.
pub fn sample(text: &str) -> anyhow::Result<Sample> {
    serde_json::from_str(text)
        .context("this is not a message, such as {\"subject\": \"shop.7\", \"data\": {\"id\": 7}}")
}
