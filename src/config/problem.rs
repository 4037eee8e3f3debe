//! What is wrong with a configuration, in words: the place, what was found, and what would be right. All mistakes are
//! collected, so that a person can fix them at once.

use std::fmt;

use serde::Serialize;

/// At least one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    pub place: Place,
    /// The key with its sections. Empty if the problem concerns the whole file.
    pub key: String,
    /// A sentence without a full stop.
    pub message: String,
}

/// The place of a mistake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    File {
        path: String,
        /// From 1. `None` if the problem concerns the whole file.
        #[serde(skip_serializing_if = "Option::is_none")]
        line: Option<usize>,
        /// In characters, from 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        column: Option<usize>,
    },
    Variable {
        name: String,
    },
}

impl Problems {
    /// Sorts the problems by place. Returns `Ok` if the list is empty.
    pub(super) fn from_list(mut problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort();
        problems.dedup();
        Err(Self(problems))
    }

    pub(crate) fn one(place: Place, message: impl Into<String>) -> Self {
        Self(vec![Problem {
            place,
            key: String::new(),
            message: message.into(),
        }])
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let end_of_previous = if index == 0 { "" } else { "\n" };
            write!(f, "{end_of_previous}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl Place {
    pub(super) fn file(path: &std::path::Path) -> Self {
        Self::File {
            path: path.display().to_string(),
            line: None,
            column: None,
        }
    }

    /// Returns the place of a byte offset in the file's text.
    pub(super) fn in_text(path: &std::path::Path, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self::File {
            path: path.display().to_string(),
            line: Some(before.matches('\n').count() + 1),
            column: Some(before[line_start..].chars().count() + 1),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File {
                path,
                line: Some(line),
                column: Some(column),
            } => write!(f, "{path}:{line}:{column}"),
            Self::File { path, .. } => f.write_str(path),
            Self::Variable { name } => f.write_str(name),
        }
    }
}
