//! The connection to NATS for short-lived commands.

use std::time::Duration;

use crate::config;
use crate::nats::{self, Nats};

/// How long the connection may take. The relay itself would wait for ever.
pub const TIMEOUT: Duration = Duration::from_secs(10);

pub async fn connect(config: &config::Nats) -> anyhow::Result<Nats> {
    Ok(nats::connect_within(config, TIMEOUT).await?)
}
