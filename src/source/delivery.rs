//! Reads what JetStream delivered.

use std::sync::Arc;

use async_nats::header::HeaderMap;
use async_nats::jetstream;

use super::Delivery;
use super::pin::PIN_ID;
use crate::message::Message;

/// Reads the deliveries of one stream.
#[derive(Debug)]
pub struct Reader {
    stream: Arc<str>,
    /// What the client wants to have beside a message before it reads its ack subject. A clone of it for each message cost as much
    /// as the reading, so that there is one, which is lent and comes back.
    context: Option<jetstream::Context>,
}

impl Reader {
    pub fn new(stream: &str, context: jetstream::Context) -> Self {
        Self {
            stream: Arc::from(stream),
            context: Some(context),
        }
    }

    /// The consumer sequence and the delivery. What is wrong with one that is not JetStream's, in words.
    pub fn read(&mut self, message: async_nats::Message) -> Result<(u64, Delivery), String> {
        let Some(context) = self.context.take() else {
            return Err("reading the one before it was broken off".to_owned());
        };
        let message = jetstream::Message { message, context };
        let info = message.info().map(Facts::from).map_err(|error| error.to_string());
        self.context = Some(message.context);
        let Facts {
            consumer_sequence,
            sequence,
            timestamp,
            deliveries,
            pending,
        } = info?;
        let message = message.message;
        let Some(reply) = message.reply else {
            return Err("it has no ack subject".to_owned());
        };
        let message = Message {
            subject: message.subject.into_string(),
            payload: message.payload,
            headers: message.headers.as_ref().map(headers).unwrap_or_default(),
            stream: Arc::clone(&self.stream),
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
}

/// What the ack subject says.
struct Facts {
    consumer_sequence: u64,
    sequence: u64,
    timestamp: u64,
    deliveries: u32,
    pending: u64,
}

impl From<jetstream::message::Info<'_>> for Facts {
    fn from(info: jetstream::message::Info<'_>) -> Self {
        Self {
            consumer_sequence: info.consumer_sequence,
            sequence: info.stream_sequence,
            timestamp: u64::try_from(info.published.unix_timestamp_nanos()).unwrap_or(0),
            deliveries: u32::try_from(info.delivered).unwrap_or(u32::MAX),
            pending: info.pending,
        }
    }
}

/// The headers by name, since the client does not keep their order; values of one name stay in theirs.
pub fn headers(map: &HeaderMap) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = map
        .iter()
        // The server's, not the message's.
        .filter(|(name, _)| name.to_string() != PIN_ID)
        .flat_map(|(name, values)| values.iter().map(move |value| (name.to_string(), value.to_string())))
        .collect();
    headers.sort_by(|(left, _), (right, _)| left.cmp(right));
    headers
}
