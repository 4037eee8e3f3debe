//! A publication as Centrifugo hands it out: the same shape in a channel's history and in a subscriber's push.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

#[derive(Debug, Clone, Deserialize)]
pub struct Publication {
    /// As it was published, without white space between its parts.
    pub data: Box<RawValue>,
    /// From 1, per channel; 0 in a channel without history.
    #[serde(default)]
    pub offset: u64,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// The publication's own version, where Centrifugo hands it out.
    #[serde(default)]
    pub version: u64,
}

impl Publication {
    /// The data, read as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(self.data.get()).with_context(|| format!("reading the publication {}", self.data))
    }
}
