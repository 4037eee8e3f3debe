//! The body of `/api/batch` over HTTP, in its sequential form, written once into one buffer.
//!
//! `{"commands":[{"publish":{"channel":"a","data":1}},{"broadcast":{"channels":["a","b"],"data":2}}]}`

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;

use crate::message::Body as Data;
use slipring_core::publish::{Command, Request};

const HEAD: &[u8] = b"{\"commands\":[";
const TAIL: &[u8] = b"]}";

pub fn write(request: &Request) -> Bytes {
    let mut body = Body {
        buffer: Vec::with_capacity(HEAD.len() + request.size() + TAIL.len()),
    };
    body.raw(HEAD);
    for (index, command) in request.commands().iter().enumerate() {
        if index > 0 {
            body.raw(b",");
        }
        body.command(command);
    }
    body.raw(TAIL);
    body.buffer.into()
}

struct Body {
    buffer: Vec<u8>,
}

impl Body {
    fn command(&mut self, command: &Command) {
        let publication = command.publication();
        if let [channel] = command.channels() {
            self.raw(b"{\"publish\":{\"channel\":");
            self.json(&**channel);
        } else {
            self.raw(b"{\"broadcast\":{\"channels\":[");
            for (index, channel) in command.channels().iter().enumerate() {
                if index > 0 {
                    self.raw(b",");
                }
                self.json(&**channel);
            }
            self.raw(b"]");
        }
        self.data(&publication.body);
        if !publication.tags.is_empty() {
            self.tags(&publication.tags);
        }
        if let Some(key) = command.key() {
            self.raw(b",\"idempotency_key\":");
            self.json(&*key);
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

    fn data(&mut self, data: &Data) {
        match data {
            Data::Json(json) => {
                self.raw(b",\"data\":");
                self.raw(json.get().as_bytes());
            }
            Data::Binary(bytes) => {
                self.raw(b",\"b64data\":\"");
                let start = self.buffer.len();
                self.buffer.resize(start + bytes.len().div_ceil(3) * 4, 0);
                STANDARD
                    .encode_slice(bytes, &mut self.buffer[start..])
                    .expect("there is room for a padded text of that length");
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

    /// Writes strings and numbers with the necessary escaping.
    fn json<T: Serialize + ?Sized>(&mut self, value: &T) {
        serde_json::to_writer(&mut self.buffer, value).expect("writing a string or a number into memory cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::value::RawValue;
    use serde_json::{Value, json};

    use slipring_core::publish::{longest_broadcast, written_size};

    use super::*;
    use crate::message::Publication;
    use crate::publish::RequestId;

    fn publication(json: &str) -> Publication {
        Publication::new(
            vec![Arc::from("orders:1")],
            Data::Json(RawValue::from_string(json.to_owned()).unwrap()),
        )
    }

    fn written(publications: impl IntoIterator<Item = Publication>) -> String {
        let commands = publications.into_iter().map(Command::from).collect();
        String::from_utf8(write(&Request::new(RequestId(0), commands, 0)).to_vec()).unwrap()
    }

    #[test]
    fn one_channel_is_a_publish_and_more_are_a_broadcast() {
        assert_eq!(
            written([
                publication("1"),
                Publication {
                    channels: vec![Arc::from("a"), Arc::from("b\"")],
                    ..publication("2")
                }
            ]),
            r#"{"commands":[{"publish":{"channel":"orders:1","data":1}},{"broadcast":{"channels":["a","b\""],"data":2}}]}"#
        );
    }

    #[test]
    fn a_broadcast_that_is_done_elsewhere_goes_where_it_is_not() {
        let command = Command {
            remaining: Some(vec![Arc::from("b")]),
            repeats: 2,
            ..Command::from(Publication {
                channels: vec![Arc::from("a"), Arc::from("b")],
                idempotency_key: Some("key".to_owned()),
                ..publication("3")
            })
        };
        assert_eq!(
            write(&Request::new(RequestId(0), vec![command], 0)),
            r#"{"commands":[{"publish":{"channel":"b","data":3,"idempotency_key":"key~2"}}]}"#
        );
    }

    #[test]
    fn no_commands_are_an_empty_list() {
        assert_eq!(write(&Request::empty(RequestId(0))), r#"{"commands":[]}"#);
    }

    #[test]
    fn json_is_copied_as_it_is() {
        let odd = r#"{ "a" : 1.0e+2, "a":[ ], "ü":"\u00fc" }"#;
        assert!(written([publication(odd)]).contains(odd));
    }

    #[test]
    fn every_field_is_written_under_its_name() {
        let full = Publication {
            channels: vec![Arc::from("a\"b\\c\u{1}")],
            body: Data::Binary(vec![0, 1, 2, 255]),
            idempotency_key: Some("k\"ey".to_owned()),
            version: Some(7),
            version_epoch: Some("e\"1".to_owned()),
            tags: vec![("k".to_owned(), "v".to_owned()), ("ü\n".to_owned(), "\\".to_owned())],
            delta: true,
            skip_history: true,
        };
        let body: Value = serde_json::from_str(&written([full])).unwrap();
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
    fn very_many_channels_are_several_commands_unless_that_repeats_too_much() {
        let longest = |channels, data: usize| {
            longest_broadcast(&Publication {
                channels: vec![Arc::from("a"); channels],
                body: Data::Binary(vec![7; data]),
                ..publication("0")
            })
        };
        assert_eq!([1, 200, 201, 100_000].map(|channels| longest(channels, 1)), [200; 4]);
        assert_eq!(longest(100_000, 96 << 10), 50_000, "twice");
        assert_eq!(longest(100_000, 1 << 20), 100_000, "once");
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
            let publication = Publication {
                idempotency_key: Some("0123456789abcdef".to_owned()),
                ..publication
            };
            let size = HEAD.len() + written_size(&publication) + TAIL.len();
            let written = written([publication]).len();
            assert!(
                written <= size && size - written < 160,
                "written {written}, expected {size}"
            );
        }
    }
}
