//! The connection to NATS of a command that ends by itself.

use std::time::Duration;

use crate::config;
use crate::nats::{self, Nats};

/// How long NATS may take to let us in. The relay itself would wait for ever.
const TIMEOUT: Duration = Duration::from_secs(10);

pub async fn connect(config: &config::Nats) -> anyhow::Result<Nats> {
    Ok(nats::connect_within(config, TIMEOUT).await?)
}
