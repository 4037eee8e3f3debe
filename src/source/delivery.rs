//! Reads what JetStream delivered.

use std::sync::Arc;

use async_nats::header::HeaderMap;
use async_nats::jetstream;

use super::Delivery;
use super::pin::PIN_ID;
use crate::message::Message;

/// The consumer sequence and the delivery. What is wrong with one that is not JetStream's, in words.
pub(super) fn read(
    message: async_nats::Message,
    context: &jetstream::Context,
    stream: &Arc<str>,
) -> Result<(u64, Delivery), String> {
    let message = jetstream::Message {
        message,
        context: context.clone(),
    };
    let info = message.info().map_err(|error| error.to_string())?;
    let consumer_sequence = info.consumer_sequence;
    let pending = info.pending;
    let sequence = info.stream_sequence;
    let timestamp = u64::try_from(info.published.unix_timestamp_nanos()).unwrap_or(0);
    let deliveries = u32::try_from(info.delivered).unwrap_or(u32::MAX);
    let message = message.message;
    let Some(reply) = message.reply else {
        return Err("it has no ack subject".to_owned());
    };
    let message = Message {
        subject: message.subject.into_string(),
        payload: message.payload,
        headers: message.headers.as_ref().map(headers).unwrap_or_default(),
        stream: Arc::clone(stream),
        sequence,
        timestamp,
        deliveries,
    };
    let delivery = Delivery {
        message: Arc::new(message),
        reply,
        pending,
    };
    Ok((consumer_sequence, delivery))
}

/// The headers by name, since the client does not keep their order; values of one name stay in theirs.
fn headers(map: &HeaderMap) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = map
        .iter()
        // The server's, not the message's.
        .filter(|(name, _)| name.to_string() != PIN_ID)
        .flat_map(|(name, values)| values.iter().map(move |value| (name.to_string(), value.to_string())))
        .collect();
    headers.sort_by(|(left, _), (right, _)| left.cmp(right));
    headers
}
