//! What must not be in an outcome: a case's `expect_not`.

use anyhow::ensure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::JSON_AGAIN;
use super::expectation::{Expectation, Fields};
use super::partial;
use super::written::Part;
use crate::json::{Kind, held};

/// An outcome must have none of this.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unexpected {
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Kind>,
    /// Parts of publications.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    publications: Vec<Fields>,
    /// Texts that no publication contains, nor the reason of a rejection.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contains: Vec<String>,
}

/// The form that people write.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    outcome: Option<Kind>,
    #[serde(default)]
    publications: Vec<Part>,
    #[serde(default)]
    contains: Vec<String>,
}

impl Written {
    pub fn check(&self) -> anyhow::Result<Unexpected> {
        let parts = self.publications.iter().enumerate();
        let publications = parts
            .map(|(index, part)| part.fields(index))
            .collect::<Result<_, _>>()?;
        let not = Unexpected {
            outcome: self.outcome,
            publications,
            contains: self.contains.clone(),
        };
        ensure!(
            not.outcome.is_some() || !not.publications.is_empty() || !not.contains.is_empty(),
            "it rules nothing out; it takes `outcome`, `publications` and `contains`"
        );
        ensure!(
            not.contains.iter().all(|text| !text.is_empty()),
            "a text in `contains` is empty, and every text contains that"
        );
        Ok(not)
    }
}

impl Unexpected {
    /// Returns the lines of the outcome without those that it must not have. `None` if it has none of them.
    pub fn without(&self, made: &Expectation) -> Option<String> {
        if self.outcome == Some(made.outcome) {
            return Some(String::new());
        }
        let is_in_reason = made.reason.as_deref().is_some_and(|reason| self.is_in_text(reason));
        let is_out = |publication: &Fields| self.is_part_of(publication) || self.is_in(publication);
        if !is_in_reason && !made.publications().iter().any(is_out) {
            return None;
        }
        let pretty = made.pretty();
        let mut publications = made.publications().iter();
        let mut publication = None;
        let mut kept = Vec::new();
        for line in pretty.lines() {
            if line == "    {" {
                publication = publications.next();
            }
            if !publication.is_some_and(|publication| self.is_part_of(publication)) && !self.is_in_text(line) {
                kept.push(line);
            }
            if matches!(line, "    }" | "    },") {
                publication = None;
            }
        }
        // Base64 and escapes hide a text in the lines.
        let is_seen = kept.len() < pretty.lines().count();
        Some(if is_seen { kept.join("\n") } else { String::new() })
    }

    fn is_part_of(&self, publication: &Fields) -> bool {
        self.publications.iter().any(|part| partial::is_met(part, publication))
    }

    fn is_in_text(&self, text: &str) -> bool {
        self.contains.iter().any(|forbidden| text.contains(forbidden.as_str()))
    }

    fn is_in(&self, publication: &Fields) -> bool {
        if self.contains.is_empty() {
            return false;
        }
        publication.iter().any(|(name, json)| {
            let text = serde_json::to_string(json).expect(JSON_AGAIN);
            match held(&text) {
                Some(Value::String(base64)) if name == "binary_base64" => {
                    let bytes = STANDARD.decode(base64).unwrap_or_default();
                    self.is_in_text(&String::from_utf8_lossy(&bytes))
                }
                Some(value) => self.is_in_value(&value),
                None => self.is_in_text(&text),
            }
        })
    }

    /// Looks into keys, texts and numbers, so that it does not matter how the JSON escapes them.
    fn is_in_value(&self, value: &Value) -> bool {
        match value {
            Value::Null | Value::Bool(_) => false,
            Value::Number(number) => self.is_in_text(&number.to_string()),
            Value::String(text) => self.is_in_text(text),
            Value::Array(values) => values.iter().any(|value| self.is_in_value(value)),
            Value::Object(object) => object
                .iter()
                .any(|(key, value)| self.is_in_text(key) || self.is_in_value(value)),
        }
    }
}
