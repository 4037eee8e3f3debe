//! Gets one message of a stream by its sequence, without a consumer.
//!
//! async-nats 0.51 can do this too, but it keeps only the last of several values of a header. When it removes a
//! message, it also has the server overwrite it on disk, which takes nats-server several times as long.

use async_nats::header::HeaderMap;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::Context;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::RawMessage;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::headers::{self, Contents};
use crate::message::Unreadable;

#[derive(Debug)]
pub struct Message {
    pub sequence: u64,
    pub stored: Timestamp,
    pub subject: String,
    /// The header block as stored.
    pub block: Bytes,
    pub payload: Bytes,
}

impl Message {
    /// Returns subject and headers. JetStream answers in JSON, which replaces bytes of a subject that are not UTF-8.
    /// The original bytes are lost.
    pub fn contents(&self) -> Contents {
        let mut contents = headers::read(self.subject.as_bytes(), &self.block);
        if self.has_replaced_bytes() && contents.unreadable.is_none() {
            contents.unreadable = Some(Box::new(Unreadable {
                reason: "its subject is not UTF-8".to_owned(),
                subject: Bytes::copy_from_slice(self.subject.as_bytes()),
                headers: self.block.clone(),
            }));
        }
        contents
    }

    /// Returns true if bytes of the subject may have been replaced. The replacement character can also be part of the
    /// original.
    pub fn has_replaced_bytes(&self) -> bool {
        self.subject.contains(char::REPLACEMENT_CHARACTER)
    }

    /// Returns the readable headers.
    pub fn headers(&self) -> HeaderMap {
        headers::map(&self.block)
    }
}

/// Returns `None` if the stream does not hold the message.
pub async fn get(jetstream: &Context, stream: &str, sequence: u64) -> Result<Option<Message>, async_nats::Error> {
    ask(jetstream, stream, &json!({ "seq": sequence })).await
}

/// Returns the first message from this sequence on, or `None` if the stream holds none.
pub async fn next(jetstream: &Context, stream: &str, sequence: u64) -> Result<Option<Message>, async_nats::Error> {
    next_of(jetstream, stream, sequence, ">").await
}

/// Returns the first message from this sequence on whose subject matches. The subject may contain wildcards.
pub async fn next_of(
    jetstream: &Context,
    stream: &str,
    sequence: u64,
    subject: &str,
) -> Result<Option<Message>, async_nats::Error> {
    ask(jetstream, stream, &json!({ "seq": sequence, "next_by_subj": subject })).await
}

async fn ask(
    jetstream: &Context,
    stream: &str,
    request: &serde_json::Value,
) -> Result<Option<Message>, async_nats::Error> {
    #[derive(Deserialize)]
    struct Got {
        message: RawMessage,
    }
    let subject = format!("STREAM.MSG.GET.{stream}");
    match jetstream.request(subject, request).await? {
        Response::Ok(Got { message }) => decode(message).map(Some),
        Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
        Response::Err { error } => Err(error.into()),
    }
}

/// Removes a message. Returns true if the stream held it.
pub async fn remove(jetstream: &Context, stream: &str, sequence: u64) -> Result<bool, async_nats::Error> {
    #[derive(Deserialize)]
    struct Removed {
        success: bool,
    }
    let subject = format!("STREAM.MSG.DELETE.{stream}");
    let request = json!({ "seq": sequence, "no_erase": true });
    match jetstream.request(subject, &request).await? {
        Response::Ok(Removed { success }) => Ok(success),
        Response::Err { error } if is_absent(error.error_code(), &error.to_string()) => Ok(false),
        Response::Err { error } => Err(error.into()),
    }
}

fn decode(message: RawMessage) -> Result<Message, async_nats::Error> {
    Ok(Message {
        sequence: message.sequence,
        stored: Timestamp::from_nanosecond(message.time.unix_timestamp_nanos())?,
        subject: message.subject,
        block: STANDARD.decode(message.headers.unwrap_or_default())?.into(),
        payload: STANDARD.decode(message.payload)?.into(),
    })
}

/// nats-server has several codes for a missing message. The last of them also covers other failures.
fn is_absent(code: ErrorCode, text: &str) -> bool {
    matches!(code, ErrorCode::SEQUENCE_NOT_FOUND | ErrorCode::NO_MESSAGE_FOUND)
        || (code == ErrorCode::STREAM_MESSAGE_DELETE_FAILED && text.contains("no message found"))
}

#[cfg(test)]
mod tests {
    use async_nats::header::HeaderValue;

    use super::*;

    #[test]
    fn every_value_of_a_header_is_kept() {
        let headers = |block: &'static [u8]| {
            let message = Message {
                sequence: 1,
                stored: Timestamp::UNIX_EPOCH,
                subject: "orders".to_owned(),
                block: Bytes::from_static(block),
                payload: Bytes::new(),
            };
            message.headers()
        };
        for block in [
            &b"NATS/1.0\r\nTrace: 1\r\nTrace:2\r\nUrl: nats://a:4222 \r\n\r\n"[..],
            b"NATS/1.0\r\nTrace: 1\r\nTrace:2\r\nnonsense\r\nCity: M\xfcnchen\r\nUrl: nats://a:4222 \r\n\r\n",
        ] {
            let headers = headers(block);
            let values = |name: &str| -> Vec<&str> { headers.get_all(name).map(HeaderValue::as_str).collect() };
            assert_eq!(values("Trace"), ["1", "2"]);
            assert_eq!(values("Url"), ["nats://a:4222"]);
            assert_eq!(headers.len(), 2);
        }
        assert!(headers(b"").is_empty());
    }
}
