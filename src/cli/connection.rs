//! The connection to NATS of a command that ends by itself.

use std::time::Duration;

use anyhow::Context;

use crate::config;
use crate::nats::{self, Nats};

/// How long NATS may take to let us in. The relay itself would wait for ever.
const TIMEOUT: Duration = Duration::from_secs(10);

pub async fn connect(config: &config::Nats) -> anyhow::Result<Nats> {
    let connecting = tokio::time::timeout(TIMEOUT, nats::connect(config)).await;
    let nats = connecting.with_context(|| {
        let servers = config.servers.join(", ");
        format!("no connection to NATS at {servers} within {TIMEOUT:?}")
    })??;
    Ok(nats)
}
