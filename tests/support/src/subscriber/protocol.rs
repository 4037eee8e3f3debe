//! The few messages of Centrifugo's client protocol that a subscriber needs, in Protobuf form. This form carries binary
//! data as well as JSON. Centrifugo disconnects a client of the JSON form if anything else would have to be sent to it.
//!
//! Field numbers: <https://github.com/centrifugal/protocol/blob/master/definitions/client.proto>. Each message in a
//! frame follows its length, a varint. An empty message is a ping or its answer.

use anyhow::{Context, Result, bail};

use crate::Publication;

/// A ping, and its answer: an empty message.
pub(super) const PING: &[u8] = &[0];

/// The parts of a server's message that are needed here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    /// The ID of the command that it answers; 0 in a push.
    pub(super) id: u64,
    pub(super) error: Option<String>,
    pub(super) push: Option<Push>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Push {
    pub(super) channel: String,
    pub(super) publication: Option<Publication>,
    /// Why the server ended the subscription or the connection.
    pub(super) end: Option<String>,
}

/// Returns the command that begins a connection.
pub(super) fn connect(id: u64) -> Vec<u8> {
    command(id, 4, &[])
}

pub(super) fn subscribe(id: u64, channel: &str) -> Vec<u8> {
    let mut request = Vec::new();
    put_bytes(&mut request, 1, channel.as_bytes());
    command(id, 5, &request)
}

/// Returns the replies in a frame. A ping is an empty reply.
pub(super) fn read_frame(mut frame: &[u8]) -> Result<Vec<Reply>> {
    let mut replies = Vec::new();
    while !frame.is_empty() {
        let length = take_varint(&mut frame)?;
        replies.push(read_reply(take_bytes(&mut frame, length)?)?);
    }
    Ok(replies)
}

fn read_reply(message: &[u8]) -> Result<Reply> {
    let mut reply = Reply::default();
    for field in Fields(message) {
        match field? {
            (1, Value::Number(id)) => reply.id = id,
            (2, Value::Bytes(error)) => reply.error = Some(read_reason(error, 1, 2)?),
            (4, Value::Bytes(push)) => reply.push = Some(read_push(push)?),
            _ => {}
        }
    }
    Ok(reply)
}

fn read_push(message: &[u8]) -> Result<Push> {
    let mut push = Push::default();
    for field in Fields(message) {
        match field? {
            (2, Value::Bytes(channel)) => push.channel = text(channel)?,
            (4, Value::Bytes(publication)) => push.publication = Some(read_publication(publication)?),
            (7, Value::Bytes(unsubscribe)) => push.end = Some(read_reason(unsubscribe, 2, 3)?),
            (11, Value::Bytes(disconnect)) => push.end = Some(read_reason(disconnect, 1, 2)?),
            _ => {}
        }
    }
    Ok(push)
}

fn read_publication(message: &[u8]) -> Result<Publication> {
    let mut publication = Publication::default();
    for field in Fields(message) {
        match field? {
            (4, Value::Bytes(data)) => publication.data = data.to_vec(),
            (6, Value::Number(offset)) => publication.offset = offset,
            (7, Value::Bytes(tag)) => {
                let (mut key, mut value) = (String::new(), String::new());
                for field in Fields(tag) {
                    match field? {
                        (1, Value::Bytes(bytes)) => key = text(bytes)?,
                        (2, Value::Bytes(bytes)) => value = text(bytes)?,
                        _ => {}
                    }
                }
                publication.tags.insert(key, value);
            }
            _ => {}
        }
    }
    Ok(publication)
}

/// Reads a code and a reason from the fields with these numbers.
fn read_reason(message: &[u8], code_field: u64, reason_field: u64) -> Result<String> {
    let (mut code, mut reason) = (0, String::new());
    for field in Fields(message) {
        match field? {
            (number, Value::Number(value)) if number == code_field => code = value,
            (number, Value::Bytes(bytes)) if number == reason_field => reason = text(bytes)?,
            _ => {}
        }
    }
    Ok(format!("{code} {reason}"))
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, with their numbers.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| {
            let tag = take_varint(&mut self.0)?;
            let value = match tag & 7 {
                0 => Value::Number(take_varint(&mut self.0)?),
                2 => {
                    let length = take_varint(&mut self.0)?;
                    Value::Bytes(take_bytes(&mut self.0, length)?)
                }
                other => bail!("wire type {other}, which the protocol does not use"),
            };
            Ok((tag >> 3, value))
        })
    }
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = take_bytes(bytes, 1)? else { break };
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    bail!("a varint of more than ten bytes")
}

fn take_bytes<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8]> {
    let (taken, rest) = bytes
        .split_at_checked(usize::try_from(length)?)
        .context("a message that is cut off")?;
    *bytes = rest;
    Ok(taken)
}

fn text(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).context("a text that is not UTF-8")
}

fn command(id: u64, request_field: u64, request: &[u8]) -> Vec<u8> {
    let mut command = Vec::new();
    put_varint(&mut command, 1 << 3);
    put_varint(&mut command, id);
    put_bytes(&mut command, request_field, request);
    let mut framed = Vec::new();
    put_varint(&mut framed, command.len() as u64);
    framed.extend(command);
    framed
}

fn put_bytes(message: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(message, field << 3 | 2);
    put_varint(message, bytes.len() as u64);
    message.extend(bytes);
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_is_read_as_it_was_written() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(take_varint(&mut bytes.as_slice()).unwrap(), value);
        }
    }

    #[test]
    fn a_frame_may_hold_pings_and_several_replies() {
        let mut frame = [PING, &connect(300), &subscribe(2, "orders:1")].concat();
        let ids: Vec<u64> = read_frame(&frame).unwrap().into_iter().map(|reply| reply.id).collect();
        assert_eq!(ids, [0, 300, 2]);
        frame.pop();
        assert!(read_frame(&frame).is_err());
    }
}
