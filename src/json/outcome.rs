//! The outcome for a message.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::message::{Body, Outcome, Publication, Rejection, Stage};

/// The outcome for a message, as commands print it and as people may write it. Unset fields are left out.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report<'a> {
    pub outcome: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publications: Option<Vec<Published<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Cow<'a, str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "OutcomeKind")]
pub enum Kind {
    Publish,
    Drop,
    Reject,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Published<'a> {
    pub channels: Vec<Cow<'a, str>>,
    #[serde(default, deserialize_with = "null_is_data", skip_serializing_if = "Option::is_none")]
    pub data: Option<Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_epoch: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "is_false")]
    delta: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    skip_history: bool,
}

impl<'a> Report<'a> {
    pub fn of(outcome: &'a Outcome) -> Self {
        let mut report = Self {
            outcome: Kind::Publish,
            publications: None,
            code: None,
            channel: None,
            reason: None,
        };
        match outcome {
            Outcome::Publish(publications) => report.publications = Some(publications.iter().map(published).collect()),
            Outcome::Drop => report.outcome = Kind::Drop,
            Outcome::Reject(rejection) => {
                report.outcome = Kind::Reject;
                report.code = Some(rejection.code.as_ref().into());
                report.channel = rejection.channel.as_deref().map(Cow::from);
                report.reason = Some(rejection.reason.as_str().into());
            }
        }
        report
    }

    /// Returns the outcome that was reported. A report does not tell the stage of a rejection.
    pub fn into_outcome(self) -> anyhow::Result<Outcome> {
        Ok(match self.outcome {
            Kind::Publish => {
                let publications = self.publications.unwrap_or_default().into_iter();
                Outcome::Publish(
                    publications
                        .map(Published::into_publication)
                        .collect::<anyhow::Result<_>>()?,
                )
            }
            Kind::Drop => Outcome::Drop,
            Kind::Reject => Outcome::Reject(Rejection {
                stage: Stage::Transform,
                code: Cow::Owned(self.code.unwrap_or_default().into_owned()),
                channel: self.channel.map(|channel| channel.as_ref().into()),
                reason: self.reason.unwrap_or_default().into_owned(),
            }),
        })
    }
}

impl Published<'_> {
    fn into_publication(self) -> anyhow::Result<Publication> {
        let body = match (self.data, self.binary_base64) {
            (Some(data), None) => Body::Json(data.into_owned()),
            (None, Some(base64)) => {
                let bytes = STANDARD.decode(base64);
                Body::Binary(bytes.context("`binary_base64` is not base64")?)
            }
            _ => bail!("a publication must have either `data` or `binary_base64`"),
        };
        let channels = self.channels.iter().map(|channel| channel.as_ref().into()).collect();
        let text = |text: Cow<'_, str>| text.into_owned();
        Ok(Publication {
            version: self.version,
            version_epoch: self.version_epoch.map(text),
            tags: self
                .tags
                .into_iter()
                .map(|(name, value)| (text(name), text(value)))
                .collect(),
            idempotency_key: self.idempotency_key.map(text),
            delta: self.delta,
            skip_history: self.skip_history,
            ..Publication::new(channels, body)
        })
    }
}

fn published(publication: &Publication) -> Published<'_> {
    let (data, binary_base64) = match &publication.body {
        Body::Json(json) => (Some(on_one_line(json)), None),
        Body::Binary(bytes) => (None, Some(STANDARD.encode(bytes))),
    };
    Published {
        channels: publication
            .channels
            .iter()
            .map(|channel| channel.as_ref().into())
            .collect(),
        data,
        binary_base64,
        version: publication.version,
        version_epoch: publication.version_epoch.as_deref().map(Cow::from),
        tags: publication
            .tags
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        idempotency_key: publication.idempotency_key.as_deref().map(Cow::from),
        delta: publication.delta,
        skip_history: publication.skip_history,
    }
}

/// Puts JSON on one line, because a module may format it over several lines and a line of the output has to be one
/// line. Line breaks can only be between the tokens of JSON, because strings escape them.
pub fn on_one_line(json: &RawValue) -> Cow<'_, RawValue> {
    if !json.get().contains(['\n', '\r']) {
        return Cow::Borrowed(json);
    }
    RawValue::from_string(json.get().replace(['\n', '\r'], " ")).map_or(Cow::Borrowed(json), Cow::Owned)
}

/// Accepts `null` as JSON. serde would take it for a missing field.
fn null_is_data<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'static, RawValue>>, D::Error> {
    Box::deserialize(deserializer).map(|json| Some(Cow::Owned(json)))
}

/// The signature is the one that serde requires.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_the_outcome_again() {
        for json in [
            r#"{"outcome":"publish","publications":[{"channels":["a","b"],"data":{"b":1,"a":1.50},"version":7,"version_epoch":"e","tags":{"k":"v"},"idempotency_key":"i","delta":true,"skip_history":true},{"channels":["c"],"binary_base64":"/w=="}]}"#,
            r#"{"outcome":"drop"}"#,
            r#"{"outcome":"reject","code":"trap","channel":"a","reason":"no"}"#,
        ] {
            let report: Report<'_> = serde_json::from_str(json).unwrap();
            let outcome = report.into_outcome().unwrap();
            assert_eq!(serde_json::to_string(&Report::of(&outcome)).unwrap(), json);
        }
        let both = r#"{"outcome":"publish","publications":[{"channels":["c"],"data":1,"binary_base64":""}]}"#;
        let report: Report<'_> = serde_json::from_str(both).unwrap();
        assert!(report.into_outcome().is_err());
    }
}
