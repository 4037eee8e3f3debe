//! Sends a message to the stream of its subject.

use super::super::connection::connect;
use super::super::publishing::{Outgoing, publish};
use crate::config::Config;
use crate::message::Message;

/// Returns what JetStream says about it.
pub async fn send(config: &Config, message: &Message) -> anyhow::Result<String> {
    let outgoing = Outgoing::of_message(message)?;
    let nats = connect(&config.nats).await?;
    let stored = publish(&nats, &outgoing, &config.dead_letters.stream).await?;
    let (stream, sequence) = (&stored.stream, stored.sequence);
    Ok(match stored.duplicate {
        false => format!("published: stored in {stream} as {sequence}"),
        true => format!("not stored: {stream} has a message with this Nats-Msg-Id already, as {sequence}"),
    })
}
