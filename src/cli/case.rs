//! A case is a message with the expected outcome of a module, in one JSON document per file. People write and review
//! cases, so every error names its place.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::json::{Json, Kind, Published, Report, Sample};
use crate::message::{Message, Outcome};

#[derive(Debug)]
pub struct Case {
    pub message: Message,
    /// A JSON object that replaces the settings in the module's `.toml`.
    pub settings: Option<String>,
    /// `None` until someone has written an expectation.
    pub expect: Option<Expectation>,
}

/// The expected or actual outcome of a module for a message, in the form of a case's `expect`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Expectation {
    outcome: Kind,
    /// The fields of each publication, as in [`Report`].
    #[serde(skip_serializing_if = "Option::is_none")]
    publications: Option<Vec<BTreeMap<String, Json>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// The file when it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    message: Sample,
    settings: Option<Map<String, Value>>,
    expect: Option<Report<'static>>,
}

/// The file when it is rewritten. Everything that was there stays byte for byte.
#[derive(Serialize, Deserialize)]
struct Text<'a> {
    #[serde(borrow)]
    message: &'a RawValue,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    settings: Option<&'a RawValue>,
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    expect: Option<&'a Expectation>,
}

/// A new file.
#[derive(Serialize)]
struct Fresh<'a> {
    message: &'a Sample,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<&'a Expectation>,
}

/// Returns the case files in a directory by name. Hidden files belong to editors.
pub fn list(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot list the cases in {}", dir.display()))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot list the cases in {}", dir.display()))?
            .path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Returns the name of the file for a list.
pub fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

impl Case {
    /// `stream` is used for a message that does not name its own.
    pub fn read(path: &Path, stream: &str) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read the case {}", path.display()))?;
        Self::parse(path, &text, stream)
    }

    fn parse(path: &Path, text: &str, stream: &str) -> anyhow::Result<Self> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let document: Document = serde_path_to_error::deserialize(&mut deserializer)
            .map_err(|error| misplaced(path, &error.path().to_string(), error.inner()))?;
        deserializer.end().map_err(|error| misplaced(path, ".", &error))?;
        let place = || path.display().to_string();
        let message = document
            .message
            .message(1, stream)
            .with_context(|| format!("{}: in `message`", place()))?;
        let expect = document
            .expect
            .as_ref()
            .map(Expectation::written)
            .transpose()
            .with_context(|| format!("{}: in `expect`", place()))?;
        Ok(Self {
            message,
            settings: document.settings.map(|settings| Value::Object(settings).to_string()),
            expect,
        })
    }
}

impl Expectation {
    pub fn of(outcome: &Outcome) -> Self {
        Self::from_report(&Report::of(outcome))
    }

    /// Checks what a person wrote. It may have the right form and still describe something impossible.
    fn written(report: &Report<'_>) -> anyhow::Result<Self> {
        let given = [
            ("publications", report.publications.is_some()),
            ("code", report.code.is_some()),
            ("channel", report.channel.is_some()),
            ("reason", report.reason.is_some()),
        ];
        let allowed = match report.outcome {
            Kind::Publish => &["publications"][..],
            Kind::Drop => &[],
            Kind::Reject => &["code", "channel", "reason"],
        };
        if let Some((field, _)) = given.iter().find(|(field, given)| *given && !allowed.contains(field)) {
            bail!(
                "`{field}` does not belong to this `outcome`: publish takes `publications`; reject takes `code`, \
                 `channel` and `reason`"
            );
        }
        for (index, publication) in report.publications.iter().flatten().enumerate() {
            let one = publication.data.is_some() != publication.binary_base64.is_some();
            ensure!(
                one,
                "`publications[{index}]` must have either `data` or `binary_base64`"
            );
            ensure!(
                !publication.channels.is_empty(),
                "`publications[{index}].channels` must name a channel"
            );
        }
        let none = report.publications.as_ref().is_none_or(Vec::is_empty);
        ensure!(
            report.outcome != Kind::Publish || !none,
            "the `outcome` publish needs at least one entry in `publications`"
        );
        Ok(Self::from_report(report))
    }

    fn from_report(report: &Report<'_>) -> Self {
        let publications = report.publications.as_deref();
        let publications = publications.map(|publications| publications.iter().map(fields).collect());
        let text = |text: &Option<std::borrow::Cow<'_, str>>| text.as_deref().map(str::to_owned);
        Self {
            outcome: report.outcome,
            publications,
            code: text(&report.code),
            channel: text(&report.channel),
            reason: text(&report.reason),
        }
    }

    /// Returns true if a module that made `made` meets this expectation. Only the written part of a rejection's reason
    /// counts, because the line of a panic changes with every line above it.
    pub fn allows(&self, made: &Self) -> bool {
        *self == made.beside(self)
    }

    /// Returns what to show next to what was `expected`, without the parts that the expectation leaves open.
    pub fn beside(&self, expected: &Self) -> Self {
        let mut shown = self.clone();
        if (self.outcome, expected.outcome) == (Kind::Reject, Kind::Reject) {
            shown.code = shown.code.filter(|_| expected.code.is_some());
            shown.channel = shown.channel.filter(|_| expected.channel.is_some());
            shown.reason = shown.reason.filter(|_| expected.reason.is_some());
            let is_same = |one: &String, other: &String| without_line(one) == without_line(other);
            if shown
                .reason
                .as_ref()
                .zip(expected.reason.as_ref())
                .is_some_and(|(one, other)| is_same(one, other))
            {
                shown.reason.clone_from(&expected.reason);
            }
        }
        shown
    }

    /// Returns a line for each publication, or one line that says what happened instead.
    pub fn lines(&self) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        match self.outcome {
            Kind::Drop => vec!["dropped".to_owned()],
            Kind::Reject => vec![format!("rejected ({}): {}", text(&self.code), text(&self.reason))],
            Kind::Publish => {
                let line = |publication| serde_json::to_string(publication).expect(JSON_AGAIN);
                self.publications.iter().flatten().map(line).collect()
            }
        }
    }

    /// Returns the form that a case has.
    pub fn pretty(&self) -> String {
        pretty(self)
    }
}

/// A reason may end with the place of a failure, `(app.py:24)`. Its line changes with every line above it.
fn without_line(reason: &str) -> &str {
    let line = reason.strip_suffix(')').and_then(|reason| reason.rsplit_once(':'));
    let is_place = |(rest, line): &(&str, &str)| {
        let file = rest.rsplit_once(" (").map(|(_, file)| file);
        file.is_some_and(|file| !file.contains(char::is_whitespace)) && line.chars().all(|c| c.is_ascii_digit())
    };
    line.filter(is_place).map_or(reason, |(rest, _)| rest)
}

/// Sets the module's outcome as the expectation and changes nothing else in the file.
pub fn accept(path: &Path, made: &Expectation) -> anyhow::Result<()> {
    let doing = || format!("cannot update the case {}", path.display());
    let text = fs::read_to_string(path).with_context(doing)?;
    replace(path, &with_expect(&text, made).with_context(doing)?).with_context(doing)
}

fn with_expect(text: &str, expect: &Expectation) -> serde_json::Result<String> {
    let text = Text {
        expect: Some(expect),
        ..serde_json::from_str(text)?
    };
    Ok(pretty(&text) + "\n")
}

/// Writes a case that does not exist yet.
pub fn create(path: &Path, message: &Sample, expect: Option<&Expectation>) -> anyhow::Result<()> {
    let doing = || format!("cannot write the case {}", path.display());
    replace(path, &(pretty(&Fresh { message, expect }) + "\n")).with_context(doing)
}

/// Replaces the file in one step, so a full disk does not destroy a good case.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let hidden = format!(".{}.new", path.file_name().unwrap_or_default().to_string_lossy());
    let new = path.with_file_name(hidden);
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .inspect_err(|_| drop(fs::remove_file(&new)))
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect(JSON_AGAIN)
}

/// The reason why writing JSON cannot fail here.
const JSON_AGAIN: &str = "texts, numbers and what was JSON before are JSON";

/// This avoids [`Value`], which cannot hold everything that a module may publish.
fn fields(publication: &Published<'_>) -> BTreeMap<String, Json> {
    let text = serde_json::to_string(publication).expect(JSON_AGAIN);
    let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&text).expect(JSON_AGAIN);
    fields.into_iter().map(|(name, value)| (name, value.into())).collect()
}

/// serde_json puts the place at the end of a sentence. People and editors look for it at the start.
fn misplaced(path: &Path, field: &str, error: &serde_json::Error) -> anyhow::Error {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let what = text
        .strip_suffix(&format!(" at line {line} column {column}"))
        .unwrap_or(&text);
    let of = match (error.is_data(), field) {
        (false, _) => "this is not JSON: ".to_owned(),
        (true, ".") => String::new(),
        (true, field) => format!("`{field}`: "),
    };
    anyhow!("{}:{line}:{column}: {of}{what}", path.display())
}
