//! The body of `/api/batch`, in its sequential form, written once into one buffer.
//!
//! `{"commands":[{"publish":{"channel":"a","data":1}},{"broadcast":{"channels":["a","b"],"data":2}}]}`

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;

use crate::message::{Body as Data, Publication};

/// What a command takes beside its data, tags, key and channels, at most: field names, numbers and braces.
const COMMAND_BYTES: usize = 160;

const HEAD: &[u8] = b"{\"commands\":[";
const TAIL: &[u8] = b"]}";

#[derive(Debug)]
pub(super) struct Body {
    buffer: Vec<u8>,
}

impl Body {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(HEAD.len() + bytes + TAIL.len());
        buffer.extend_from_slice(HEAD);
        Self { buffer }
    }

    /// Adds a command for `channels`, one or more.
    pub(super) fn push(&mut self, channels: &[&str], publication: &Publication, key: Option<&str>) {
        if self.buffer.len() > HEAD.len() {
            self.buffer.push(b',');
        }
        if let [channel] = channels {
            self.raw(b"{\"publish\":{\"channel\":");
            self.json(channel);
        } else {
            self.raw(b"{\"broadcast\":{\"channels\":");
            self.json(channels);
        }
        self.data(&publication.body);
        if !publication.tags.is_empty() {
            self.tags(&publication.tags);
        }
        if let Some(key) = key {
            self.raw(b",\"idempotency_key\":");
            self.json(key);
        }
        if let Some(version) = publication.version {
            self.raw(b",\"version\":");
            self.json(&version);
        }
        if let Some(epoch) = &publication.version_epoch {
            self.raw(b",\"version_epoch\":");
            self.json(epoch);
        }
        if publication.delta {
            self.raw(b",\"delta\":true");
        }
        if publication.skip_history {
            self.raw(b",\"skip_history\":true");
        }
        self.raw(b"}}");
    }

    pub(super) fn finish(mut self) -> Bytes {
        self.raw(TAIL);
        self.buffer.into()
    }

    fn data(&mut self, data: &Data) {
        match data {
            Data::Json(json) => {
                self.raw(b",\"data\":");
                self.raw(json.get().as_bytes());
            }
            Data::Binary(bytes) => {
                self.raw(b",\"b64data\":\"");
                self.raw(STANDARD.encode(bytes).as_bytes());
                self.raw(b"\"");
            }
        }
    }

    fn tags(&mut self, tags: &[(String, String)]) {
        self.raw(b",\"tags\":{");
        for (index, (name, value)) in tags.iter().enumerate() {
            if index > 0 {
                self.raw(b",");
            }
            self.json(name);
            self.raw(b":");
            self.json(value);
        }
        self.raw(b"}");
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Strings and numbers, with whatever escaping they need.
    fn json<T: Serialize + ?Sized>(&mut self, value: &T) {
        serde_json::to_writer(&mut self.buffer, value).expect("writing a string or a number into memory cannot fail");
    }
}

/// What the publication's command will take in a body, in bytes, but for strings that need escaping.
pub(super) fn size(publication: &Publication) -> usize {
    let channels: usize = publication.channels.iter().map(|channel| channel.len() + 3).sum();
    let tags: usize = publication
        .tags
        .iter()
        .map(|(name, value)| name.len() + value.len() + 6)
        .sum();
    let data = match &publication.body {
        Data::Json(json) => json.get().len(),
        Data::Binary(bytes) => bytes.len().div_ceil(3) * 4,
    };
    let key = publication.idempotency_key.as_ref().map_or(0, String::len);
    let epoch = publication.version_epoch.as_ref().map_or(0, String::len);
    COMMAND_BYTES + channels + tags + data + key + epoch
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::value::RawValue;
    use serde_json::{Value, json};

    use super::*;

    fn publication(json: &str) -> Publication {
        Publication {
            channels: vec![Arc::from("orders:1")],
            body: Data::Json(RawValue::from_string(json.to_owned()).unwrap()),
            version: None,
            version_epoch: None,
            tags: Vec::new(),
            idempotency_key: None,
            delta: false,
            skip_history: false,
        }
    }

    fn written(commands: &[(&[&str], Publication, Option<&str>)]) -> String {
        let mut body = Body::with_capacity(0);
        for (channels, publication, key) in commands {
            body.push(channels, publication, *key);
        }
        String::from_utf8(body.finish().to_vec()).unwrap()
    }

    #[test]
    fn one_channel_is_a_publish_and_more_are_a_broadcast() {
        assert_eq!(
            written(&[
                (&["orders:1"], publication("1"), None),
                (&["a", "b"], publication("2"), None)
            ]),
            r#"{"commands":[{"publish":{"channel":"orders:1","data":1}},{"broadcast":{"channels":["a","b"],"data":2}}]}"#
        );
    }

    #[test]
    fn json_is_copied_as_it_is() {
        let odd = r#"{ "a" : 1.0e+2, "a":[ ], "ü":"\u00fc" }"#;
        assert!(written(&[(&["c"], publication(odd), None)]).contains(odd));
    }

    #[test]
    fn every_field_is_written_under_its_name() {
        let full = Publication {
            body: Data::Binary(vec![0, 1, 2, 255]),
            version: Some(7),
            version_epoch: Some("e\"1".to_owned()),
            tags: vec![("k".to_owned(), "v".to_owned()), ("ü\n".to_owned(), "\\".to_owned())],
            delta: true,
            skip_history: true,
            ..publication("0")
        };
        let body: Value = serde_json::from_str(&written(&[(&["a\"b\\c\u{1}"], full, Some("k\"ey"))])).unwrap();
        let expected = json!({ "commands": [{ "publish": {
            "channel": "a\"b\\c\u{1}",
            "b64data": "AAEC/w==",
            "tags": { "k": "v", "ü\n": "\\" },
            "idempotency_key": "k\"ey",
            "version": 7,
            "version_epoch": "e\"1",
            "delta": true,
            "skip_history": true,
        } }] });
        assert_eq!(body, expected);
    }

    #[test]
    fn the_size_is_enough_and_not_far_too_much() {
        let full = Publication {
            body: Data::Binary(vec![7; 1000]),
            version: Some(u64::MAX),
            version_epoch: Some("1790000000123456789".to_owned()),
            tags: vec![("name".to_owned(), "value".to_owned())],
            delta: true,
            skip_history: true,
            ..publication("0")
        };
        for publication in [publication("{\"a\":1}"), full] {
            let key = "0123456789abcdef";
            let written = written(&[(&["orders:1"], publication.clone(), Some(key))]).len();
            let size = HEAD.len() + size(&publication) + key.len() + TAIL.len();
            assert!(
                written <= size && size - written < COMMAND_BYTES,
                "written {written}, expected {size}"
            );
        }
    }
}
