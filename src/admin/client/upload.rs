//! Sends a version of a module to a relay.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::StatusCode;
use serde::Deserialize;

use super::Client;
use crate::admin::guard::COMMAND_HEADER;

/// For a large file over a slow network, and for compiling it.
const TIMEOUT: Duration = Duration::from_secs(300);

/// What became of the version.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Uploaded {
    /// The files that changed.
    pub changed: Vec<String>,
}

impl Client {
    pub fn upload(&self, module: &str, wasm: &[u8], toml: &str) -> anyhow::Result<Uploaded> {
        let put = |toml_bytes: usize, body: Vec<u8>| {
            let url = self.path(&format!("api/v1/modules/{module}?toml_bytes={toml_bytes}"))?;
            let request = self.client.put(url.clone()).header(COMMAND_HEADER, "1");
            let (status, said) = self.ask(&url, request.timeout(TIMEOUT).body(body))?;
            anyhow::Ok((url, status, said))
        };
        // Whoever refuses a request before its body has arrived ends the connection, and the reason may be lost.
        let asked = put(0, Vec::new())?;
        let (url, status, said) = match asked.1 {
            // Only the empty body is wrong.
            StatusCode::BAD_REQUEST => put(toml.len(), [toml.as_bytes(), wasm].concat())?,
            _ => asked,
        };
        let said = said.trim_end();
        match status {
            StatusCode::OK => {
                serde_json::from_str(said).with_context(|| format!("the reply from {url} cannot be read"))
            }
            // A relay of an older version lists its paths.
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                bail!("{url} returned {status}: is it a relay of this version?")
            }
            _ => bail!("the relay at {} does not take the version: {said}", self.address()),
        }
    }
}
