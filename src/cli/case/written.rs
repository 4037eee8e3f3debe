//! The form in which people write an `expect`, and the checks that it describes something possible.

use std::collections::BTreeMap;

use anyhow::{bail, ensure};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::expectation::{Expectation, Fields, fields_of};
use crate::json::Kind;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    outcome: Option<Kind>,
    #[serde(default)]
    partial: bool,
    publications: Option<Vec<Part>>,
    code: Option<String>,
    channel: Option<String>,
    reason: Option<String>,
}

/// A publication, or a part of one.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<Vec<String>>,
    #[serde(default, deserialize_with = "null_is_data", skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_epoch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skip_history: Option<bool>,
}

impl Written {
    /// Checks what a person wrote. It may have the right form and still describe something impossible.
    pub fn check(&self) -> anyhow::Result<Expectation> {
        let outcome = match self.outcome {
            Some(outcome) => outcome,
            None if self.partial && self.publications.is_some() => Kind::Publish,
            None => bail!("`outcome` is missing: publish, drop or reject"),
        };
        self.check_fields(outcome)?;
        let parts = self.publications.as_ref().map(|parts| parts.iter().enumerate());
        let publications = parts.map(|parts| parts.map(|(index, part)| self.publication(index, part)).collect());
        Ok(Expectation {
            outcome,
            partial: self.partial,
            publications: publications.transpose()?,
            code: self.code.clone(),
            channel: self.channel.clone(),
            reason: self.reason.clone(),
        })
    }

    fn check_fields(&self, outcome: Kind) -> anyhow::Result<()> {
        let given = [
            ("publications", self.publications.is_some()),
            ("code", self.code.is_some()),
            ("channel", self.channel.is_some()),
            ("reason", self.reason.is_some()),
        ];
        let allowed = match outcome {
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
        let none = self.publications.as_ref().is_none_or(Vec::is_empty);
        ensure!(
            outcome != Kind::Publish || !none || (self.partial && self.publications.is_none()),
            "the `outcome` publish needs at least one entry in `publications`"
        );
        ensure!(
            !self.partial || outcome == Kind::Publish,
            "`partial` is only for the `outcome` publish: of a rejection, only the fields given here are compared anyway"
        );
        Ok(())
    }

    fn publication(&self, index: usize, part: &Part) -> anyhow::Result<Fields> {
        if self.partial {
            return part.fields(index);
        }
        ensure!(
            part.data.is_some() != part.binary_base64.is_some(),
            "`publications[{index}]` must have either `data` or `binary_base64`; to compare only what is written, add \
             `\"partial\": true` to `expect`"
        );
        ensure!(
            part.channels.as_ref().is_some_and(|channels| !channels.is_empty()),
            "`publications[{index}].channels` must name a channel; to compare only what is written, add `\"partial\": \
             true` to `expect`"
        );
        // An outcome leaves the defaults out.
        Ok(fields_of(&Part {
            channels: part.channels.clone(),
            data: part.data.clone(),
            binary_base64: part.binary_base64.clone(),
            version: part.version,
            version_epoch: part.version_epoch.clone(),
            tags: part.tags.clone().filter(|tags| !tags.is_empty()),
            idempotency_key: part.idempotency_key.clone(),
            delta: part.delta.filter(|delta| *delta),
            skip_history: part.skip_history.filter(|skip| *skip),
        }))
    }
}

impl Part {
    /// Returns the fields of a part. Each publication would have an empty one.
    pub fn fields(&self, index: usize) -> anyhow::Result<Fields> {
        let fields = fields_of(self);
        ensure!(
            !fields.is_empty(),
            "`publications[{index}]` is empty: give it `channels`, `data` or another field"
        );
        ensure!(
            self.channels.as_ref().is_none_or(|channels| !channels.is_empty()),
            "`publications[{index}].channels` must name a channel"
        );
        Ok(fields)
    }
}

/// Accepts `null` as JSON. serde would take it for a missing field.
fn null_is_data<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::deserialize(deserializer).map(Some)
}
