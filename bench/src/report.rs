//! All results, in the form that is written to a file and read again.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::behind;
use crate::growth;
use crate::machine::Machine;
use crate::{latency, pairs, redis, swap, throughput, tuning};

#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub machine: Machine,
    /// The results of each benchmark that was run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub throughput: Option<throughput::Results>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cluster: Option<throughput::Results>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latency: Option<latency::Results>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub swap: Option<swap::Results>,
    pub growth: Option<growth::Results>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub behind: Option<behind::Results>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pairs: Option<pairs::Results>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tuning: Option<tuning::Results>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub redis: Option<redis::Results>,
}

impl Report {
    pub fn new(machine: Machine) -> Self {
        Self {
            machine,
            throughput: None,
            cluster: None,
            latency: None,
            swap: None,
            growth: None,
            behind: None,
            pairs: None,
            tuning: None,
            redis: None,
        }
    }

    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("writing the results as JSON")?;
        std::fs::write(file, text + "\n").with_context(|| format!("writing {}", file.display()))
    }
}
