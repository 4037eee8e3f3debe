//! The messages of `api.proto`. Replies are read into the generated types in `api.rs`. Requests are written straight
//! into the send buffer: the generated types would have to be built first, with a copy of every string.

use std::borrow::Cow;

use bytes::BufMut;
use prost::encoding::{encode_varint, encoded_len_varint};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;

use crate::message::{Body, Publication};
use crate::publish::replies::{Broadcast, CommandReply, Failure, Published, Response};
use slipring_core::publish::{Command, Request};

use super::api::{self, BatchResponse};

/// The bytes that precede a message in GRPC.
const FRAME: usize = 5;

/// How the messages of the method `Batch` are written and read.
#[derive(Debug)]
pub(super) struct Batch {
    buffer: usize,
}

impl Batch {
    pub(super) fn of(request: &Request) -> Self {
        Self {
            buffer: FRAME + request.size(),
        }
    }

    fn settings(&self) -> BufferSettings {
        BufferSettings::new(self.buffer, self.buffer)
    }
}

impl Codec for Batch {
    type Encode = Request;
    type Decode = BatchResponse;
    type Encoder = Writer;
    type Decoder = ProstDecoder<BatchResponse>;

    fn encoder(&mut self) -> Writer {
        Writer(self.settings())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

#[derive(Debug)]
pub(super) struct Writer(BufferSettings);

impl Encoder for Writer {
    type Item = Request;
    type Error = Status;

    fn encode(&mut self, request: Request, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        write(&request, buffer);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0
    }
}

/// Field numbers, as in `api.proto`.
mod field {
    pub(super) const COMMANDS: u8 = 1;
    pub(super) const PUBLISH: u8 = 4;
    pub(super) const BROADCAST: u8 = 5;

    /// The channel of a publish, or the channels of a broadcast.
    pub(super) const CHANNEL: u8 = 1;
    pub(super) const DATA: u8 = 2;
    pub(super) const SKIP_HISTORY: u8 = 4;
    pub(super) const TAGS: u8 = 5;
    pub(super) const IDEMPOTENCY_KEY: u8 = 6;
    pub(super) const DELTA: u8 = 7;
    pub(super) const VERSION: u8 = 8;
    pub(super) const VERSION_EPOCH: u8 = 9;

    pub(super) const TAG_NAME: u8 = 1;
    pub(super) const TAG_VALUE: u8 = 2;
}

/// The encodings of a field's value (<https://protobuf.dev/programming-guides/encoding/>).
const NUMBER: u8 = 0;
const LENGTH_AND_BYTES: u8 = 2;

/// Writes the `BatchRequest`.
fn write(request: &Request, buffer: &mut impl BufMut) {
    for command in request.commands() {
        let kind = match command.channels() {
            [_] => field::PUBLISH,
            _ => field::BROADCAST,
        };
        let params = Params::of(command);
        let len = params.len();
        put_head(field::COMMANDS, bytes_len(len), buffer);
        put_head(kind, len, buffer);
        params.write(buffer);
    }
}

/// A `PublishRequest` or a `BroadcastRequest`, which have the same fields.
struct Params<'a> {
    command: &'a Command,
    publication: &'a Publication,
    data: &'a [u8],
    key: Option<Cow<'a, str>>,
}

impl<'a> Params<'a> {
    fn of(command: &'a Command) -> Self {
        let publication = command.publication();
        Self {
            command,
            publication,
            data: match &publication.body {
                Body::Json(json) => json.get().as_bytes(),
                Body::Binary(bytes) => bytes,
            },
            key: command.key(),
        }
    }

    /// Returns the length in bytes, which precedes a message.
    fn len(&self) -> usize {
        let publication = self.publication;
        let channels = self.command.channels().iter();
        let tags = publication.tags.iter();
        let strings = [self.key.as_deref(), publication.version_epoch.as_deref()];
        let version = publication.version.map_or(0, |version| 1 + encoded_len_varint(version));
        let flags = [publication.skip_history, publication.delta];
        channels.map(|channel| bytes_len(channel.len())).sum::<usize>()
            + bytes_len(self.data.len())
            + tags.map(|tag| bytes_len(tag_len(tag))).sum::<usize>()
            + strings
                .iter()
                .flatten()
                .map(|text| bytes_len(text.len()))
                .sum::<usize>()
            + version
            + flags.iter().filter(|flag| **flag).count() * 2
    }

    fn write(&self, buffer: &mut impl BufMut) {
        let publication = self.publication;
        for channel in self.command.channels() {
            put_bytes(field::CHANNEL, channel.as_bytes(), buffer);
        }
        put_bytes(field::DATA, self.data, buffer);
        if publication.skip_history {
            put_number(field::SKIP_HISTORY, 1, buffer);
        }
        for tag in &publication.tags {
            put_head(field::TAGS, tag_len(tag), buffer);
            put_bytes(field::TAG_NAME, tag.0.as_bytes(), buffer);
            put_bytes(field::TAG_VALUE, tag.1.as_bytes(), buffer);
        }
        if let Some(key) = &self.key {
            put_bytes(field::IDEMPOTENCY_KEY, key.as_bytes(), buffer);
        }
        if publication.delta {
            put_number(field::DELTA, 1, buffer);
        }
        if let Some(version) = publication.version {
            put_number(field::VERSION, version, buffer);
        }
        if let Some(epoch) = &publication.version_epoch {
            put_bytes(field::VERSION_EPOCH, epoch.as_bytes(), buffer);
        }
    }
}

/// Returns the size of a field that holds `len` bytes.
fn bytes_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

fn tag_len((name, value): &(String, String)) -> usize {
    bytes_len(name.len()) + bytes_len(value.len())
}

fn put_bytes(field: u8, bytes: &[u8], buffer: &mut impl BufMut) {
    put_head(field, bytes.len(), buffer);
    buffer.put_slice(bytes);
}

fn put_number(field: u8, number: u64, buffer: &mut impl BufMut) {
    buffer.put_u8(field << 3 | NUMBER);
    encode_varint(number, buffer);
}

/// Writes what precedes `len` bytes. A field number up to 15 takes one byte together with the type of its value.
fn put_head(field: u8, len: usize, buffer: &mut impl BufMut) {
    buffer.put_u8(field << 3 | LENGTH_AND_BYTES);
    encode_varint(len as u64, buffer);
}

impl From<api::Reply> for CommandReply<'_> {
    fn from(reply: api::Reply) -> Self {
        Self {
            error: reply.error.map(Into::into),
            publish: reply.publish.map(Into::into),
            broadcast: reply.broadcast.map(|broadcast| Broadcast {
                responses: broadcast.responses.into_iter().map(Into::into).collect(),
            }),
        }
    }
}

impl From<api::PublishResponse> for Response<'_> {
    fn from(response: api::PublishResponse) -> Self {
        Self {
            error: response.error.map(Into::into),
            result: response.result.map(Into::into),
        }
    }
}

impl From<api::PublishResult> for Published<'_> {
    fn from(result: api::PublishResult) -> Self {
        Self {
            offset: result.offset,
            epoch: Cow::Owned(result.epoch),
        }
    }
}

impl From<api::Error> for Failure {
    fn from(error: api::Error) -> Self {
        Self {
            code: error.code,
            message: error.message,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use proptest::prelude::*;
    use prost::Message;
    use serde_json::value::RawValue;

    use super::*;
    use crate::publish::{Answer, HistoryPosition, Reply, RequestId, replies};

    fn publication(channels: &[&str], json: &str) -> Publication {
        Publication::new(
            channels.iter().map(|channel| Arc::from(*channel)).collect(),
            Body::Json(RawValue::from_string(json.to_owned()).unwrap()),
        )
    }

    /// Returns the commands as Centrifugo reads them.
    fn read(commands: Vec<Command>) -> Vec<api::Command> {
        let request = Request::new(RequestId(0), commands, 0);
        let mut buffer = Vec::new();
        write(&request, &mut buffer);
        api::BatchRequest::decode(&*buffer).unwrap().commands
    }

    fn publish(publish: api::PublishRequest) -> api::Command {
        api::Command {
            publish: Some(publish),
            broadcast: None,
        }
    }

    #[test]
    fn one_channel_is_a_publish_and_more_are_a_broadcast() {
        let odd = r#"{ "a" : 1.0e+2, "a":[ ], "ü":"\u00fc" }"#;
        let commands = [publication(&["orders:1"], "1"), publication(&["a", "b\""], odd)];
        let broadcast = api::BroadcastRequest {
            channels: vec!["a".to_owned(), "b\"".to_owned()],
            data: odd.into(),
            ..Default::default()
        };
        let expected = [
            publish(api::PublishRequest {
                channel: "orders:1".to_owned(),
                data: "1".into(),
                ..Default::default()
            }),
            api::Command {
                publish: None,
                broadcast: Some(broadcast),
            },
        ];
        assert_eq!(read(commands.map(Command::from).into()), expected);
    }

    #[test]
    fn a_broadcast_that_is_done_elsewhere_goes_where_it_is_not() {
        let command = Command {
            remaining: Some(vec![Arc::from("b")]),
            repeats: 2,
            ..Command::from(Publication {
                idempotency_key: Some("key".to_owned()),
                ..publication(&["a", "b"], "3")
            })
        };
        let expected = api::PublishRequest {
            channel: "b".to_owned(),
            data: "3".into(),
            idempotency_key: "key~2".to_owned(),
            ..Default::default()
        };
        assert_eq!(read(vec![command]), [publish(expected)]);
    }

    #[test]
    fn no_commands_are_an_empty_message() {
        assert_eq!(read(Vec::new()), []);
    }

    #[test]
    fn every_field_has_its_number() {
        let full = Publication {
            body: Body::Binary(vec![0, 1, 2, 255]),
            idempotency_key: Some("k\"ey".to_owned()),
            version: Some(1 << 40),
            version_epoch: Some("e1".to_owned()),
            tags: vec![("k".to_owned(), "v".to_owned()), ("ü\n".to_owned(), String::new())],
            delta: true,
            skip_history: true,
            ..publication(&["a\"b\u{1}"], "0")
        };
        let expected = api::PublishRequest {
            channel: "a\"b\u{1}".to_owned(),
            data: vec![0, 1, 2, 255].into(),
            skip_history: true,
            tags: HashMap::from([("k".to_owned(), "v".to_owned()), ("ü\n".to_owned(), String::new())]),
            idempotency_key: "k\"ey".to_owned(),
            delta: true,
            version: 1 << 40,
            version_epoch: "e1".to_owned(),
        };
        assert_eq!(read(vec![full.into()]), [publish(expected)]);
    }

    proptest! {
        /// The lengths of all nested messages are right, however long each one is.
        #[test]
        fn what_is_written_is_what_is_read(
            channels in prop::collection::vec(".{1,300}", 1..4),
            data in prop::collection::vec(any::<u8>(), 0..40_000),
            tags in prop::collection::hash_map(".{0,200}", ".{0,200}", 0..4),
            key in prop::option::of(".{1,200}"),
            version in prop::option::of(any::<u64>()),
            epoch in prop::option::of(".{1,20}"),
            flags in any::<[bool; 2]>(),
        ) {
            let publication = Publication {
                channels: channels.iter().map(|channel| Arc::from(channel.as_str())).collect(),
                body: Body::Binary(data.clone()),
                version,
                version_epoch: epoch.clone(),
                tags: tags.clone().into_iter().collect(),
                idempotency_key: key.clone(),
                delta: flags[0],
                skip_history: flags[1],
            };
            let broadcast = api::BroadcastRequest {
                channels,
                data: data.into(),
                skip_history: flags[1],
                tags,
                idempotency_key: key.unwrap_or_default(),
                delta: flags[0],
                version: version.unwrap_or_default(),
                version_epoch: epoch.unwrap_or_default(),
            };
            for found in read(vec![publication.clone().into(), publication.into()]) {
                // A publish has the fields of a broadcast.
                let found = found.broadcast.unwrap_or_else(|| {
                    let publish = found.publish.unwrap_or_default();
                    api::BroadcastRequest::decode(&*publish.encode_to_vec()).unwrap()
                });
                prop_assert_eq!(&found, &broadcast);
            }
        }
    }

    fn replies_to(response: &api::BatchResponse, channels: &[usize]) -> Result<Answer, replies::Unreadable> {
        let response = BatchResponse::decode(&*response.encode_to_vec()).unwrap();
        replies::gather(response.replies.into_iter().map(Into::into), channels.iter().copied()).map(Answer::Replies)
    }

    fn error(code: u32) -> Option<api::Error> {
        Some(api::Error {
            code,
            message: "why".to_owned(),
        })
    }

    fn result(offset: u64) -> Option<api::PublishResult> {
        Some(api::PublishResult {
            offset,
            epoch: if offset > 0 { "xyz".to_owned() } else { String::new() },
        })
    }

    #[test]
    fn replies_are_read_for_each_channel_of_each_command() {
        let response = |error, result| api::PublishResponse { error, result };
        let broadcast = api::BroadcastResult {
            responses: vec![response(None, result(7)), response(error(102), None)],
        };
        let reply = |error, publish, broadcast| api::Reply {
            error,
            publish,
            broadcast,
        };
        let batch = api::BatchResponse {
            replies: vec![
                reply(None, result(3), None),
                reply(error(100), None, None),
                reply(None, None, Some(broadcast)),
                reply(None, result(0), None),
            ],
        };
        let at = |offset| {
            Reply::Confirmed(Some(HistoryPosition {
                offset,
                epoch: xxhash_rust::xxh3::xxh3_64(b"xyz"),
            }))
        };
        let failed = |code| Reply::Failed {
            code,
            message: "why".to_owned(),
        };
        let expected = [at(3), failed(100), at(7), failed(102), Reply::Confirmed(None)];
        assert_eq!(
            replies_to(&batch, &[1, 1, 2, 1]).unwrap(),
            Answer::Replies(expected.into())
        );
        let unreadable = replies_to(&batch, &[1, 1, 3, 1]).unwrap_err().to_string();
        assert!(unreadable.contains("command 2 has neither"), "{unreadable}");
    }
}
