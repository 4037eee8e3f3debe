//! A case is a message with the expected outcome of a module, in one JSON document per file. People write and review
//! cases, so every error names its place.

mod expectation;
mod expected;
mod partial;
#[cfg(test)]
mod tests;
mod unexpected;
mod written;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

pub use self::expectation::Expectation;
pub use self::expected::{Difference, Expected};
pub use self::unexpected::Unexpected;
use crate::json::{self, Sample};
use crate::message::Message;

#[derive(Debug)]
pub struct Case {
    pub message: Message,
    /// A JSON object that replaces the settings in the module's `.toml`.
    pub settings: Option<String>,
    /// `None` until someone has written an expectation.
    pub expect: Option<Expected>,
}

/// The file when it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    message: Sample,
    settings: Option<Map<String, Value>>,
    expect: Option<written::Written>,
    expect_not: Option<unexpected::Written>,
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
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    expect_not: Option<&'a RawValue>,
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
        let expect = document.expect.as_ref().map(written::Written::check).transpose();
        let expect = expect.with_context(|| format!("{}: in `expect`", place()))?;
        let expect_not = document.expect_not.as_ref().map(unexpected::Written::check).transpose();
        let expect_not = expect_not.with_context(|| format!("{}: in `expect_not`", place()))?;
        Ok(Self {
            message,
            settings: document.settings.map(|settings| Value::Object(settings).to_string()),
            expect: (expect.is_some() || expect_not.is_some()).then_some(Expected { expect, expect_not }),
        })
    }
}

/// Sets the module's outcome as the expectation and changes nothing else in the file. A partial expectation stays
/// partial. An outcome that the case rules out is refused.
pub fn accept(path: &Path, made: &Expectation) -> anyhow::Result<()> {
    let doing = || format!("cannot update the case {}", path.display());
    let text = fs::read_to_string(path).with_context(doing)?;
    let expected = Case::parse(path, &text, "STREAM").with_context(doing)?.expect;
    if expected.as_ref().is_some_and(|expected| expected.rules_out(made)) {
        return Err(anyhow!(
            "its `expect_not` rules the outcome out: change the module or `expect_not`"
        ))
        .with_context(doing);
    }
    let made = expected.map_or_else(|| made.clone(), |expected| expected.updated(made));
    replace(path, &with_expect(&text, &made).with_context(doing)?).with_context(doing)
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

/// Writes a case that does not exist yet. Any outcome but a rejection passes it.
pub fn create_not_rejected(path: &Path, message: &Sample) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct NotRejected<'a> {
        message: &'a Sample,
        expect_not: Value,
    }
    let expect_not = serde_json::json!({ "outcome": "reject" });
    let text = pretty(&NotRejected { message, expect_not }) + "\n";
    replace(path, &text).with_context(|| format!("cannot write the case {}", path.display()))
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

/// serde_json puts the place at the end of a sentence. People and editors look for it at the start.
fn misplaced(path: &Path, field: &str, error: &serde_json::Error) -> anyhow::Error {
    let (line, column) = (error.line(), error.column());
    let what = json::explain(error);
    let of = match (error.is_data(), field) {
        (false, _) | (true, ".") => String::new(),
        (true, field) => format!("`{field}`: "),
    };
    anyhow!("{}:{line}:{column}: {of}{what}", path.display())
}
