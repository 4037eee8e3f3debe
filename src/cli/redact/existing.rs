//! Searches an existing case for fields to redact.

use std::collections::BTreeMap;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::search::Search;

/// The parts of a case that come from a message. All others are ignored, because their keys belong to cases.
#[derive(Deserialize)]
struct Case<'a> {
    #[serde(borrow)]
    message: Message<'a>,
    #[serde(borrow, default)]
    expect: Expect<'a>,
}

#[derive(Deserialize)]
struct Message<'a> {
    payload: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    payload_base64: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
}

#[derive(Default, Deserialize)]
struct Expect<'a> {
    #[serde(borrow, default)]
    publications: Vec<Publication<'a>>,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Publication<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    binary_base64: Option<String>,
    #[serde(borrow)]
    tags: Option<&'a RawValue>,
}

/// Searches the text of the case and counts the fields in `search`.
pub fn search(case: &str, search: &mut Search<'_>) -> anyhow::Result<()> {
    let Case { message, expect } = serde_json::from_str(case).context("it is not a case")?;
    let mut texts: Vec<String> = Vec::new();
    let mut raw = |json: Option<&RawValue>| texts.extend(json.map(|json| json.get().to_owned()));
    raw(message.data);
    for publication in &expect.publications {
        raw(publication.data);
        raw(publication.tags);
    }
    let binary = expect
        .publications
        .iter()
        .filter_map(|publication| publication.binary_base64.as_ref());
    for base64 in binary.chain(&message.payload_base64) {
        let bytes = STANDARD.decode(base64).context("it is not a case")?;
        texts.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    texts.extend(message.payload);
    texts.extend(expect.reason);
    for text in texts {
        search.any(&text)?;
    }
    for (name, value) in &message.headers {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values {
            search.header(name, value.as_str().unwrap_or_default())?;
        }
    }
    Ok(())
}
