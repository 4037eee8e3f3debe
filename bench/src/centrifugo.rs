//! Centrifugo as every way uses it: freshly started, with its memory engine and both APIs. Its histories keep
//! everything, so that versions work and the results can be read afterwards.

use anyhow::Result;
use serde_json::{Value, json};
pub use slipring_support::Api;
use slipring_support::servers::Centrifugo;

use crate::delay::Link;

#[derive(Debug)]
pub struct Target {
    pub centrifugo: Centrifugo,
}

impl Target {
    /// Starts it with a history of `history` publications per channel. `edit` changes its configuration.
    pub async fn start(history: usize, edit: impl FnOnce(&mut Value)) -> Result<Self> {
        Self::start_in(&[], history, edit).await
    }

    /// Does the same with these environment variables.
    pub async fn start_in(
        environment: &[(&'static str, &'static str)],
        history: usize,
        edit: impl FnOnce(&mut Value),
    ) -> Result<Self> {
        let configure = |config: &mut Value| {
            let namespace = json!({ "name": "bench", "history_size": history, "history_ttl": "1h" });
            config["channel"] = json!({ "namespaces": [namespace] });
            edit(config);
        };
        let centrifugo = Centrifugo::start_in(environment, configure).await?;
        Ok(Self { centrifugo })
    }

    /// Returns the URL of an API in the form of the relay's `endpoints`, behind `link` if there is one.
    pub fn endpoint(&self, api: Api, link: Option<&Link>) -> String {
        match (link, api) {
            (None, _) => self.centrifugo.endpoint(api),
            (Some(link), Api::Http) => format!("http://{}", link.address()),
            (Some(link), Api::Grpc) => format!("grpc://{}", link.address()),
        }
    }
}
