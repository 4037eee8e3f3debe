//! A shown message in JSON, for clients. It is written in the client's own task.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::ser::Error;
use serde::{Serialize, Serializer};
use serde_json::value::to_raw_value;
use slipring_core::place::Place;

use super::shown::{Cut, Shown};
use crate::clock;
use crate::json::{Kind, Published, Report};
use crate::message::{Body, Outcome, Publication};

/// A message, and what the module made of it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TapMessage")]
struct Line<'a> {
    /// When the call of the module was over, in seconds since 1970.
    time: f64,
    module: &'a str,
    /// The version of the module that made the outcome.
    version: &'a str,
    subject: &'a str,
    stream: &'a str,
    sequence: Sequence,
    /// When the source stored the message, in RFC 3339.
    timestamp: String,
    headers: BTreeMap<&'a str, Vec<&'a str>>,
    /// How many headers are not shown, because all of them together are longer than 64 KiB.
    #[serde(skip_serializing_if = "is_zero")]
    more_headers: usize,
    /// The payload, or its first 64 KiB. `null` if it is not UTF-8.
    payload: Option<&'a str>,
    /// The payload, or its first 64 KiB, if it is not UTF-8.
    payload_base64: Option<String>,
    /// The size of the whole payload, in bytes.
    size: usize,
    /// The payload is longer than what is shown.
    truncated: bool,
    /// How long the module took, in microseconds.
    micros: u64,
    outcome: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    publications: Option<Vec<Part<'a>>>,
    /// How many publications are not shown, because all of them together are longer than 256 KiB.
    #[serde(skip_serializing_if = "is_zero")]
    more_publications: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    /// How many messages that pass the filter were not shown since the last one that was.
    skipped: u64,
}

/// A number in JetStream, an ID in Redis.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum Sequence {
    Number(u64),
    Id(String),
}

/// A publication.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TapPublication")]
struct Part<'a> {
    #[serde(flatten)]
    published: Published<'a>,
    /// How many channels are not shown, because there are more than 100.
    #[serde(skip_serializing_if = "is_zero")]
    more_channels: usize,
    /// The size of the data in bytes, if it is longer than 64 KiB. Only its beginning is shown then, of JSON as a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<usize>,
    /// The data is longer than what is shown.
    #[serde(skip_serializing_if = "is_false")]
    truncated: bool,
}

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let line = Line::of(self).map_err(S::Error::custom)?;
        line.serialize(serializer)
    }
}

impl JsonSchema for Shown {
    fn schema_name() -> Cow<'static, str> {
        Line::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Line::json_schema(generator)
    }
}

impl<'a> Line<'a> {
    fn of(shown: &'a Shown) -> serde_json::Result<Self> {
        let message = &shown.message;
        let (payload, payload_base64) = match text(&message.payload, shown.is_truncated()) {
            Some(text) => (Some(text), None),
            None => (None, Some(STANDARD.encode(&message.payload))),
        };
        let mut headers = BTreeMap::<_, Vec<_>>::new();
        for (name, value) in &message.headers {
            headers.entry(name.as_str()).or_default().push(value.as_str());
        }
        let Report {
            outcome,
            publications,
            code,
            channel,
            reason,
        } = Report::of(&shown.outcome);
        Ok(Self {
            time: time(shown),
            module: &shown.module,
            version: &shown.version,
            subject: &message.subject,
            stream: &message.stream,
            sequence: match message.place {
                Place::Sequence(sequence) => Sequence::Number(sequence),
                Place::Id(..) => Sequence::Id(message.place.to_string()),
            },
            timestamp: timestamp(message.timestamp),
            headers,
            more_headers: shown.more_headers,
            payload,
            payload_base64,
            size: shown.size,
            truncated: shown.is_truncated(),
            micros: u64::try_from(shown.took.as_micros()).unwrap_or(u64::MAX),
            outcome,
            publications: publications.map(|published| parts(shown, published)).transpose()?,
            more_publications: shown.more_publications,
            code,
            channel,
            reason,
            skipped: shown.skipped,
        })
    }
}

fn parts<'a>(shown: &'a Shown, published: Vec<Published<'a>>) -> serde_json::Result<Vec<Part<'a>>> {
    let publications: &[Publication] = match &shown.outcome {
        Outcome::Publish(publications) => publications,
        Outcome::Drop | Outcome::Reject(_) => &[],
    };
    let parts = published.into_iter().zip(publications).zip(&shown.cuts);
    parts
        .map(|((published, publication), cut)| part(published, publication, cut))
        .collect()
}

fn part<'a>(mut published: Published<'a>, publication: &Publication, cut: &Cut) -> serde_json::Result<Part<'a>> {
    if let (Some(data), Body::Binary(begin)) = (&cut.data, &publication.body)
        && data.is_json
    {
        published.binary_base64 = None;
        published.data = Some(Cow::Owned(to_raw_value(&String::from_utf8_lossy(begin))?));
    }
    Ok(Part {
        published,
        more_channels: cut.channels,
        size: cut.data.as_ref().map(|data| data.size),
        truncated: cut.data.is_some(),
    })
}

/// Returns the bytes as text, without a letter that was cut in two. `None` if they are no text.
fn text(bytes: &[u8], is_cut: bool) -> Option<&str> {
    match str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if is_cut && error.error_len().is_none() => str::from_utf8(&bytes[..error.valid_up_to()]).ok(),
        Err(_) => None,
    }
}

fn time(shown: &Shown) -> f64 {
    let now = clock::now();
    let time = now.unix.saturating_sub(now.instant.saturating_duration_since(shown.at));
    // What is finer than a millisecond would be noise of two clocks.
    time.as_millis() as f64 / 1_000.0
}

fn timestamp(nanoseconds: u64) -> String {
    let time = jiff::Timestamp::from_nanosecond(nanoseconds.into());
    time.map(|time| time.to_string()).unwrap_or_default()
}

/// The signature is the one that serde requires.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_zero(value: &usize) -> bool {
    *value == 0
}

/// The signature is the one that serde requires.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}
