//! Asks Centrifugo about the namespaces that a module publishes to, before the first publication is refused.

use std::time::Duration;

use anyhow::anyhow;

use crate::config::Centrifugo;
use crate::publish::{Client, Namespaces, UnknownNamespace};

/// How long Centrifugo may take. The relay itself would try again and again.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Returns those that Centrifugo does not know.
pub async fn unknown(config: &Centrifugo, namespaces: &Namespaces) -> anyhow::Result<Vec<UnknownNamespace>> {
    let config = Centrifugo {
        timeout: config.timeout.min(TIMEOUT),
        ..config.clone()
    };
    let client = Client::new(&config)?;
    client
        .unknown_namespaces(namespaces)
        .await
        .map_err(|reason| anyhow!(reason))
}
