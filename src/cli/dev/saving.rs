//! Makes a case of a message that is shown, without the values that must not be in a repository.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow, ensure};

use super::super::case;
use super::super::redact::{Redaction, field};
use super::super::runner::Runner;
use super::cases;
use super::news::News;
use crate::json::Sample;

/// What is redacted in a message that becomes a case.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Redact {
    /// A field to redact in messages that are saved as cases; can be repeated
    #[arg(long, value_name = "FIELD", value_parser = field)]
    redact: Vec<String>,
    /// Like --redact, but without an error if the message does not have the field; can be repeated
    #[arg(long, value_name = "FIELD", value_parser = field)]
    redact_if_there: Vec<String>,
}

/// Writes a case that expects what the module makes of the message. Says what was redacted.
pub fn save(file: &Path, text: &str, redact: &Redact, runner: &mut Runner) -> anyhow::Result<News> {
    ensure!(!file.exists(), "{} already exists: use another name", file.display());
    let sample = cases::sample(text)?;
    let stream = runner.stream().to_owned();
    let message = sample.clone().message(1, &stream)?;
    let mut redaction = Redaction::new(&redact.redact, &redact.redact_if_there);
    let redacted = redaction
        .apply(&message)
        .map_err(|why| anyhow!("not saved, because the message cannot be searched for fields to redact: {why}"))?;
    redaction.check()?;
    let names = redaction.redacted_in(&redacted);
    let sample = match names.is_empty() {
        // It stays as it was written.
        true => sample,
        false => Sample::of(&redacted.message, &stream),
    };
    // The case is read again later, and a redacted message differs from the one that was shown.
    let made = runner.make(&sample.clone().message(1, &stream)?)?;
    let dir = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(dir).with_context(|| format!("cannot create the folder {}", dir.display()))?;
    case::create(file, &sample, Some(&made))?;

    let mut said = format!("saved as {}", file.display());
    said.push_str(&match names.is_empty() {
        true => "; nothing in it is redacted (--redact): check it before you commit it".to_owned(),
        false => format!("; redacted `{}`", names.join("` and `")),
    });
    let warnings = redaction.elsewhere(&redacted);
    for warning in &warnings {
        said.push_str(&format!("; {warning}"));
    }
    Ok(match warnings.is_empty() {
        true => News::Done(said),
        false => News::Trouble(said),
    })
}
