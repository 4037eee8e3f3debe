//! Turns what Redis holds into messages. No I/O.

use std::sync::Arc;

use bytes::Bytes;
use redis::Value;
use slipring_core::place::Place;

use crate::config::{ModuleConfig, RedisSource};
use crate::message::{Message, Unreadable};

/// Names and values, in the order of the entry.
pub(super) type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// What all messages of one source share.
#[derive(Debug, Clone)]
pub(super) struct Entries {
    /// The key of the list or stream, which is also the subject.
    pub(super) key: Arc<str>,
    /// The field of a stream's entry that is the payload.
    pub(super) field: String,
}

impl Entries {
    pub(super) fn of(config: &ModuleConfig, source: &RedisSource) -> Self {
        let field = match source {
            RedisSource::Stream { field } => field.clone(),
            RedisSource::List { .. } => String::new(),
        };
        Self {
            key: config.stream.as_str().into(),
            field,
        }
    }

    /// Returns a message of a list.
    pub(super) fn of_list(&self, id: Place, payload: Vec<u8>, again: bool) -> Message {
        self.message(id, payload.into(), Vec::new(), again, None)
    }

    /// Returns a message of a stream. An entry without the payload's field, or with fields that are not UTF-8, becomes a
    /// message that is rejected.
    pub(super) fn of_stream(&self, id: Place, fields: Fields, again: bool) -> Message {
        let (mut payload, mut headers, mut wrong) = (None, Vec::new(), None);
        let (mut raw, mut names) = (Vec::new(), Vec::new());
        for (name, value) in fields {
            if payload.is_none() && name == self.field.as_bytes() {
                payload = Some(value);
                continue;
            }
            names.push(String::from_utf8_lossy(&name).into_owned());
            raw.extend_from_slice(&name);
            raw.extend_from_slice(b": ");
            raw.extend_from_slice(&value);
            raw.extend_from_slice(b"\r\n");
            match (String::from_utf8(name), String::from_utf8(value)) {
                (Ok(name), Ok(value)) => headers.push((name, value)),
                (Err(_), _) => wrong = Some("the name of a field is not UTF-8".to_owned()),
                (Ok(name), Err(_)) => wrong = Some(format!("the value of the field {name:?} is not UTF-8")),
            }
        }
        headers.sort_by(|(left, _): &(String, String), (right, _)| left.cmp(right));
        if payload.is_none() {
            names.sort();
            wrong = Some(format!(
                "the entry has no field `{}`; its fields are: {}. Set `source.field` in the module's .toml to the one with \
                 the payload. This dead letter has none to replay; to read such entries again, name a new `source.group` \
                 with `deliver = \"all\"`",
                self.field,
                names.join(", ")
            ));
        }
        let unreadable = wrong.map(|reason| {
            Box::new(Unreadable {
                reason,
                subject: Bytes::copy_from_slice(self.key.as_bytes()),
                headers: [b"NATS/1.0\r\n", raw.as_slice(), b"\r\n"].concat().into(),
            })
        });
        self.message(id, payload.unwrap_or_default().into(), headers, again, unreadable)
    }

    fn message(
        &self,
        id: Place,
        payload: Bytes,
        headers: Vec<(String, String)>,
        again: bool,
        unreadable: Option<Box<Unreadable>>,
    ) -> Message {
        let milliseconds = match id {
            Place::Id(milliseconds, _) => milliseconds,
            Place::Sequence(_) => 0,
        };
        Message {
            subject: (*self.key).to_owned(),
            payload,
            headers,
            stream: Arc::clone(&self.key),
            place: id,
            timestamp: milliseconds.saturating_mul(1_000_000),
            deliveries: if again { 2 } else { 1 },
            unreadable,
        }
    }
}

/// Reads an ID.
pub(super) fn id(value: &Value) -> Option<Place> {
    let text = match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
        Value::SimpleString(text) => text,
        _ => return None,
    };
    match text.parse() {
        Ok(id @ Place::Id(..)) => Some(id),
        _ => None,
    }
}

/// Reads an entry: its ID and its fields.
pub(super) fn entry(value: Value) -> Option<(Place, Fields)> {
    let Value::Array(parts) = value else { return None };
    let [at, Value::Array(fields)] = <[Value; 2]>::try_from(parts).ok()? else {
        return None;
    };
    let mut texts = fields.into_iter().map(|field| match field {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    });
    let mut pairs = Vec::new();
    while let Some(name) = texts.next() {
        pairs.push((name?, texts.next()??));
    }
    Some((id(&at)?, pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&[u8], &[u8])]) -> Message {
        let entries = Entries {
            key: "orders".into(),
            field: "payload".to_owned(),
        };
        let fields = fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec()));
        entries.of_stream(Place::Id(5, 1), fields.collect(), false)
    }

    #[test]
    fn one_field_is_the_payload_and_the_others_are_headers() {
        let message = of(&[(b"type", b"paid"), (b"payload", b"{}"), (b"by", b"me")]);
        assert_eq!(&message.payload[..], b"{}");
        let headers: Vec<_> = message
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(headers, [("by", "me"), ("type", "paid")]);
        assert_eq!((message.timestamp, message.subject.as_str()), (5_000_000, "orders"));
        assert!(message.unreadable.is_none());
    }

    #[test]
    fn what_cannot_be_passed_on_says_why() {
        for (fields, reason) in [
            (
                vec![(&b"data"[..], &b"{}"[..])],
                "the entry has no field `payload`; its fields are: data. Set `source.field` in the module's .toml to the one with \
                 the payload. This dead letter has none to replay; to read such entries again, name a new `source.group` \
                 with `deliver = \"all\"`",
            ),
            (
                vec![(b"payload", b"{}"), (b"type", b"\xff")],
                "the value of the field \"type\" is not UTF-8",
            ),
            (
                vec![(b"payload", b"{}"), (b"\xff", b"paid")],
                "the name of a field is not UTF-8",
            ),
        ] {
            let message = of(&fields);
            assert_eq!(message.unreadable.unwrap().reason, reason);
        }
        // A payload may be anything.
        assert!(of(&[(b"payload", b"\xff\0")]).unreadable.is_none());
    }
}
