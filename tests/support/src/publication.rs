//! A publication as Centrifugo returns it, in a channel's history and to a subscriber.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Publication {
    /// The published data. JSON has no white space between its parts.
    #[serde(deserialize_with = "json_as_written")]
    pub data: Vec<u8>,
    /// From 1, per channel; 0 in a channel without history.
    #[serde(default)]
    pub offset: u64,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

impl Publication {
    /// Parses the data as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.data).with_context(|| format!("reading the publication {:?}", self.text()))
    }

    /// Returns the data as text, with invalid UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.data).into_owned()
    }
}

fn json_as_written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let json = <Box<RawValue>>::deserialize(deserializer)?;
    Ok(String::from(Box::<str>::from(json)).into_bytes())
}
