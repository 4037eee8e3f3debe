//! People who look at the relay while it is measured: one has its page open, another a tap.

use anyhow::{Context, Result, ensure};
use slipring_support::relay::{Home, Relay};
use tokio::task::JoinSet;

/// They look until this is dropped.
#[derive(Debug)]
pub struct Onlookers(#[expect(dead_code, reason = "it only lives")] JoinSet<()>);

impl Onlookers {
    /// Returns once both have an answer.
    pub async fn arrive(home: &Home, relay: &Relay) -> Result<Self> {
        let address = relay.url().strip_prefix("http://").context("an address")?;
        let file = format!("slipring/{}.token", address.replace(':', "-"));
        let token = std::fs::read_to_string(home.path().join(file)).context("reading the relay's token")?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        let mut streams = JoinSet::new();
        for path in ["api/v1/events", "api/v1/tap?rate=50"] {
            let request = client.get(format!("{}/{path}", relay.url())).bearer_auth(token.trim());
            let mut response = request.send().await?;
            ensure!(response.status().is_success(), "{path}: {}", response.status());
            streams.spawn(async move { while let Ok(Some(_)) = response.chunk().await {} });
        }
        Ok(Self(streams))
    }
}
