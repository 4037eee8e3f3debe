//! Reads JetStream's deliveries.

use std::sync::Arc;

use async_nats::Subject;

use super::super::{Delivery, Receipt};
use super::pin::PIN_ID;
use crate::message::Message;
use crate::nats::headers::{self, Contents};
use crate::nats::wire::{Delivered, Frame};

/// Reads the deliveries of one stream.
#[derive(Debug)]
pub struct Reader {
    stream: Arc<str>,
}

impl Reader {
    pub fn new(stream: &str) -> Self {
        Self {
            stream: Arc::from(stream),
        }
    }

    /// Returns the consumer sequence and the delivery, whatever its subject, headers and payload are. The error says
    /// what is wrong with a delivery that is not JetStream's.
    pub fn read(&self, frame: &Frame) -> Result<(u64, Delivery), String> {
        self.read_with(frame, frame.headers())
    }

    /// Does the same for a delivery with headers added by JetStream. `own_headers` are the message's own.
    pub(super) fn read_with(&self, frame: &Frame, own_headers: &[u8]) -> Result<(u64, Delivery), String> {
        let reply = frame.reply().and_then(|reply| std::str::from_utf8(reply).ok());
        let reply = reply.ok_or("it has no ack subject")?;
        let facts = Delivered::parse(reply).ok_or_else(|| format!("{reply:?} is not an ack subject"))?;
        let Contents {
            subject,
            mut headers,
            unreadable,
        } = headers::read(frame.subject(), own_headers);
        // This header is the server's, not the message's.
        headers.retain(|(name, _)| name != PIN_ID);
        let message = Message {
            subject,
            payload: frame.payload(),
            headers,
            stream: Arc::clone(&self.stream),
            place: facts.sequence.into(),
            timestamp: facts.timestamp,
            deliveries: facts.deliveries,
            unreadable,
        };
        let delivery = Delivery {
            message: Arc::new(message),
            receipt: Receipt::JetStream(Subject::from(reply)),
            pending: facts.pending,
        };
        Ok((facts.consumer_sequence, delivery))
    }
}
