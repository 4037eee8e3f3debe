//! Splits what a NATS server sends into operations. A message's bounds depend only on the lengths that the server
//! states, so no subject, header block or payload can make it fail. No I/O.

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};

use crate::nats::headers;

/// The longest line. A server that knows thousands of others sends their addresses in one line.
const MAX_LINE: usize = 1 << 20;

/// The largest message. nats-server's own limit, `max_payload`, cannot be set higher. Stored messages may be larger
/// than the current `max_payload`.
const MAX_MESSAGE: usize = 64 << 20;

/// The most bytes of a message beside its payload: JetStream accepts 64 KiB of headers and adds its own when it
/// delivers.
const MAX_HEADERS: usize = 1 << 20;

/// Up to this size, a payload costs no more to copy than to share.
const SMALL: usize = 1024;

/// One operation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Message(Frame),
    /// JSON.
    Info(Bytes),
    Error(String),
    Ping,
    Pong,
    Ok,
}

/// A message as it arrived. It shares its bytes with the messages around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The ID of the subscription.
    pub(super) sid: u64,
    /// The message's line without its verb, the line's end, and everything after it.
    bytes: Bytes,
    subject: Range<usize>,
    /// Empty if there is none.
    reply: Range<usize>,
    headers: Range<usize>,
    payload: Range<usize>,
}

impl Frame {
    pub fn subject(&self) -> &[u8] {
        &self.bytes[self.subject.clone()]
    }

    /// Returns the reply subject. A stream message always has one; a server's reply to a pull never does.
    pub fn reply(&self) -> Option<&[u8]> {
        (!self.reply.is_empty()).then(|| &self.bytes[self.reply.clone()])
    }

    /// Returns the header block, or an empty slice if there is none.
    pub fn headers(&self) -> &[u8] {
        &self.bytes[self.headers.clone()]
    }

    /// Returns the payload. A small payload is copied, because it may be kept for long and would keep everything that
    /// was read with it.
    pub fn payload(&self) -> Bytes {
        if self.payload.len() <= SMALL {
            return Bytes::copy_from_slice(&self.bytes[self.payload.clone()]);
        }
        self.bytes.slice(self.payload.clone())
    }

    /// Returns the size in bytes as the server counts it: subject, reply, headers and payload.
    pub fn size(&self) -> usize {
        self.subject.len() + self.reply.len() + self.headers.len() + self.payload.len()
    }

    /// Returns the code and description if this is a server's reply to a pull. Returns `None` for a stream message,
    /// whatever its headers contain.
    pub fn status(&self) -> Option<(u16, &str)> {
        match self.reply() {
            Some(_) => None,
            None => headers::status(self.headers()),
        }
    }
}

/// The bytes are not the NATS protocol, so the start of the next operation is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server sent something that is not the NATS protocol: {0}")]
pub struct Malformed(String);

/// Splits operations off the front of a buffer.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// How many bytes the buffer must hold before it is worth another look.
    due: usize,
    /// There is no line end before this index.
    searched: usize,
}

impl Decoder {
    /// Returns the next operation once the buffer holds all of it.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Operation>, Malformed> {
        if buffer.len() < self.due {
            return Ok(None);
        }
        let Some(end) = self.line_end(buffer)? else {
            return Ok(None);
        };
        let line = &buffer[..end];
        let message = match line {
            [b'M', b'S', b'G', b' ', ..] => Some(Arguments::parse(line, 4, false)?),
            [b'H', b'M', b'S', b'G', b' ', ..] => Some(Arguments::parse(line, 5, true)?),
            _ => None,
        };
        if let Some(arguments) = message {
            let whole = end + 2 + arguments.total + 2;
            if buffer.len() < whole {
                // The line is parsed again when the rest has arrived.
                self.due = whole;
                return Ok(None);
            }
            *self = Self::default();
            let mut bytes = buffer.split_to(whole).freeze();
            bytes.truncate(whole - 2);
            return Ok(Some(Operation::Message(arguments.frame(bytes, end + 2))));
        }
        *self = Self::default();
        let operation = match line {
            [b'+', b'O', b'K', ..] => Operation::Ok,
            [b'P', b'I', b'N', b'G', ..] => Operation::Ping,
            [b'P', b'O', b'N', b'G', ..] => Operation::Pong,
            [b'-', b'E', b'R', b'R', rest @ ..] => {
                let text = String::from_utf8_lossy(rest);
                Operation::Error(text.trim().trim_matches('\'').to_owned())
            }
            [b'I', b'N', b'F', b'O', b' ', ..] => {
                let mut info = buffer.split_to(end + 2).freeze();
                info.truncate(end);
                info.advance(5);
                return Ok(Some(Operation::Info(info)));
            }
            other => {
                return Err(Malformed(format!(
                    "an operation that begins with {:?}",
                    beginning(other)
                )));
            }
        };
        buffer.advance(end + 2);
        Ok(Some(operation))
    }

    /// Returns at least how many bytes are missing.
    pub(super) fn missing(&self, buffer: &BytesMut) -> usize {
        self.due.saturating_sub(buffer.len())
    }

    fn line_end(&mut self, buffer: &BytesMut) -> Result<Option<usize>, Malformed> {
        let found = memchr::memmem::find(&buffer[self.searched..], b"\r\n");
        if let Some(index) = found {
            let end = self.searched + index;
            // Usually this completes the operation. If not, the line need not be searched again.
            self.searched = end;
            return Ok(Some(end));
        }
        if buffer.len() > MAX_LINE {
            return Err(Malformed(format!("a line of more than {MAX_LINE} bytes")));
        }
        self.searched = buffer.len().saturating_sub(1);
        Ok(None)
    }
}

/// The arguments of a message's line: `MSG subject sid [reply] size`, or `HMSG subject sid [reply] headers size`.
/// Ranges are relative to the line.
struct Arguments {
    subject: Range<usize>,
    reply: Range<usize>,
    sid: u64,
    headers: usize,
    total: usize,
}

impl Arguments {
    /// Parses from the end of the line, so that a subject may contain anything.
    fn parse(line: &[u8], begin: usize, has_headers: bool) -> Result<Self, Malformed> {
        let mut words = Words {
            line,
            rest: begin..line.len(),
        };
        let mut arguments = || -> Option<Self> {
            let total = words.last_size()?;
            let headers = if has_headers { words.last_size()? } else { 0 };
            if headers > total || headers > MAX_HEADERS || total > MAX_MESSAGE + MAX_HEADERS {
                return None;
            }
            let (last, before) = (words.last()?, words.last()?);
            let (subject, sid, reply) = match words.all() {
                None => (before, last, 0..0),
                Some(subject) => (subject, before, last),
            };
            Some(Self {
                subject,
                reply,
                sid: number(&line[sid])?,
                headers,
                total,
            })
        };
        arguments().ok_or_else(|| Malformed(format!("a message that begins with {:?}", beginning(line))))
    }

    /// `bytes` is the line followed by the body, which begins at `body`.
    fn frame(self, bytes: Bytes, body: usize) -> Frame {
        let Self {
            subject,
            reply,
            sid,
            headers,
            total,
        } = self;
        Frame {
            sid,
            bytes,
            subject,
            reply,
            headers: body..body + headers,
            payload: body + headers..body + total,
        }
    }
}

/// The words of a line, last word first.
struct Words<'a> {
    line: &'a [u8],
    rest: Range<usize>,
}

impl Words<'_> {
    fn last(&mut self) -> Option<Range<usize>> {
        let all = self.all()?;
        let begin = memchr::memrchr(b' ', &self.line[all.clone()]).map_or(all.start, |space| all.start + space + 1);
        self.rest.end = begin;
        Some(begin..all.end)
    }

    fn last_size(&mut self) -> Option<usize> {
        let word = self.last()?;
        usize::try_from(number(&self.line[word])?).ok()
    }

    /// Returns all remaining words as one range.
    fn all(&self) -> Option<Range<usize>> {
        let rest = &self.line[self.rest.clone()];
        let end = rest.iter().rposition(|byte| *byte != b' ')? + 1;
        let begin = rest.iter().position(|byte| *byte != b' ')?;
        Some(self.rest.start + begin..self.rest.start + end)
    }
}

/// Parses digits into a number, if it fits.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits.iter().try_fold(0, |number: u64, digit| {
        let value = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(value)
    })
}

/// Returns enough of the line to recognize it.
fn beginning(line: &[u8]) -> String {
    String::from_utf8_lossy(&line[..line.len().min(40)]).into_owned()
}

/// The first byte is the length of the pieces in which the rest arrives, which must not matter.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(input: &[u8]) {
    use super::delivered::Delivered;

    let decode = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut decoder, mut buffer, mut found) = (Decoder::default(), BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                match decoder.next(&mut buffer) {
                    Ok(Some(operation)) => found.push(operation),
                    Ok(None) => break,
                    Err(error) => return (found, Some(error)),
                }
            }
        }
        (found, None)
    };
    let Some((length, stream)) = input.split_first() else {
        return;
    };
    let (whole, error) = decode(&mut std::iter::once(stream));
    let (pieces, its_error) = decode(&mut stream.chunks(usize::from(*length).max(1)));
    assert_eq!((&whole, error.is_some()), (&pieces, its_error.is_some()));
    for operation in whole {
        let Operation::Message(frame) = operation else { continue };
        let contents = headers::read(frame.subject(), frame.headers());
        let delivered = frame
            .reply()
            .and_then(|reply| Delivered::parse(str::from_utf8(reply).ok()?));
        assert!(frame.status().is_none() || delivered.is_none());
        // Reading strips spaces around a value, but not those that a folded line begins with.
        let is_trimmed = contents.headers.iter().all(|(_, value)| value.trim() == value);
        if contents.unreadable.is_none() && is_trimmed {
            let again = headers::read(frame.subject(), &headers::block(&contents.headers));
            assert_eq!(contents, again);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Decodes all operations of bytes that arrive in pieces.
    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Operation>, Malformed> {
        let (mut decoder, mut buffer, mut operations) = (Decoder::default(), BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let Some(operation) = decoder.next(&mut buffer)? {
                operations.push(operation);
            }
        }
        Ok(operations)
    }

    /// The parts of a frame: sid, subject, reply, headers, payload.
    type Parts = (u64, Vec<u8>, Option<Vec<u8>>, Vec<u8>, Vec<u8>);

    fn parts(frame: &Frame) -> Parts {
        let reply = frame.reply().map(<[u8]>::to_vec);
        (
            frame.sid,
            frame.subject().to_vec(),
            reply,
            frame.headers().to_vec(),
            frame.payload().to_vec(),
        )
    }

    fn one(bytes: &[u8]) -> Parts {
        match decode([bytes]).unwrap().as_slice() {
            [Operation::Message(frame)] => parts(frame),
            other => panic!("one message, and not {other:?}"),
        }
    }

    fn wire((sid, subject, reply, headers, payload): &Parts) -> Vec<u8> {
        let mut bytes = if headers.is_empty() {
            b"MSG ".to_vec()
        } else {
            b"HMSG ".to_vec()
        };
        bytes.extend_from_slice(subject);
        bytes.extend_from_slice(format!(" {sid} ").as_bytes());
        if let Some(reply) = reply {
            bytes.extend_from_slice(reply);
            bytes.push(b' ');
        }
        if !headers.is_empty() {
            bytes.extend_from_slice(format!("{} ", headers.len()).as_bytes());
        }
        bytes.extend_from_slice(format!("{}\r\n", headers.len() + payload.len()).as_bytes());
        bytes.extend_from_slice(headers);
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    #[test]
    fn a_message_is_its_parts_whatever_is_in_them() {
        let plain = one(b"MSG orders.1 7 5\r\nhello\r\n");
        assert_eq!(plain, (7, b"orders.1".to_vec(), None, Vec::new(), b"hello".to_vec()));
        let replied = one(b"MSG orders.1 7 $JS.ACK.x 5\r\nhello\r\n");
        assert_eq!(replied.2.as_deref(), Some(&b"$JS.ACK.x"[..]));
        let empty = one(b"HMSG a 1 b 12 12\r\nNATS/1.0\r\n\r\n\r\n");
        assert_eq!((empty.3.len(), empty.4.len()), (12, 0));
        let odd = one(b"HMSG a \xff\xa0b 1 r 4 6\r\n\r\n\xff\0\r\n\r\n");
        assert_eq!(
            odd,
            (
                1,
                b"a \xff\xa0b".to_vec(),
                Some(b"r".to_vec()),
                b"\r\n\xff\0".to_vec(),
                b"\r\n".to_vec()
            )
        );
    }

    #[test]
    fn what_is_no_message_is_told_apart() {
        let operations =
            decode([&b"INFO {\"a\":1}\r\nPING\r\nPONG\r\n+OK\r\n-ERR 'Stale Connection'\r\n"[..]]).unwrap();
        let expected = [
            Operation::Info(Bytes::from_static(b"{\"a\":1}")),
            Operation::Ping,
            Operation::Pong,
            Operation::Ok,
            Operation::Error("Stale Connection".to_owned()),
        ];
        assert_eq!(operations, expected);
        for no in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"MSG a\r\n",
            b"MSG a 1\r\n",
            b"MSG a x 5\r\n",
            b"HMSG a 1 9 5\r\n",
            b"MSG a 1 99999999999999999999\r\n",
            b"MSG a 1 999999999999\r\n",
            b"\r\n",
        ] {
            assert!(decode([no]).is_err(), "{no:?}");
        }
    }

    #[test]
    fn only_what_a_server_says_has_a_status() {
        let status = |bytes: &[u8]| match decode([bytes]).unwrap().as_slice() {
            [Operation::Message(frame)] => frame.status().map(|(code, words)| (code, words.to_owned())),
            other => panic!("one message, and not {other:?}"),
        };
        let said = status(b"HMSG _INBOX.1 1 28 28\r\nNATS/1.0 408 Request Time\r\n\r\n\r\n");
        assert_eq!(said, Some((408, "Request Time".to_owned())));
        // Old servers store it as a client sent it.
        assert_eq!(status(b"HMSG a 1 $JS.ACK.x 16 16\r\nNATS/1.0 409\r\n\r\n\r\n"), None);
    }

    /// Generates every subject that a server can send: any bytes that do not end it.
    fn subject() -> impl Strategy<Value = Vec<u8>> {
        let byte = any::<u8>().prop_filter("it would end the subject", |byte| !b" \t\r\n".contains(byte));
        vec(byte, 1..20)
    }

    fn message() -> impl Strategy<Value = Parts> {
        let reply = proptest::option::of("[$a-z.]{1,12}".prop_map(String::into_bytes));
        (
            any::<u64>().prop_map(|sid| sid >> 1),
            subject(),
            reply,
            vec(any::<u8>(), 0..40),
            vec(any::<u8>(), 0..40),
        )
    }

    proptest! {
        #[test]
        fn what_is_sent_is_what_comes_however_it_is_cut(messages in vec(message(), 1..6), cuts in vec(any::<prop::sample::Index>(), 0..8)) {
            let bytes: Vec<u8> = messages.iter().flat_map(wire).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
            let operations = decode(pieces).unwrap();
            let found: Vec<Parts> = operations.iter().map(|operation| match operation {
                Operation::Message(frame) => parts(frame),
                other => panic!("a message, and not {other:?}"),
            }).collect();
            prop_assert_eq!(found, messages);
        }

        /// async-nats 0.51 takes the words of a line from the left (`Connection::try_read_op`).
        #[test]
        fn a_line_of_words_is_read_as_async_nats_does(
            words in vec("[a-z.$]{1,4}", 1..3),
            sid in 0_u64..1000,
            has_reply in any::<bool>(),
            spaces in vec(1_usize..3, 5),
            headers in proptest::option::of(0_usize..5),
            total in 0_usize..9,
        ) {
            let mut line = vec![words[0].clone(), sid.to_string()];
            let reply = has_reply.then(|| words.last().cloned().unwrap_or_default());
            line.extend(reply.clone());
            line.extend(headers.map(|headers| headers.min(total).to_string()));
            line.push(total.to_string());
            let mut bytes = if headers.is_some() { b"HMSG".to_vec() } else { b"MSG".to_vec() };
            for (word, spaces) in line.iter().zip(spaces) {
                bytes.extend(vec![b' '; spaces]);
                bytes.extend(word.bytes());
            }
            bytes.extend(b"\r\n");
            bytes.extend(vec![b'x'; total]);
            bytes.extend(b"\r\n");
            let headers = headers.unwrap_or(0).min(total);
            let expected = (
                sid,
                words[0].clone().into_bytes(),
                reply.map(String::into_bytes),
                vec![b'x'; headers],
                vec![b'x'; total - headers],
            );
            prop_assert_eq!(one(&bytes), expected);
        }

        #[test]
        fn nothing_makes_it_panic(verb in "(MSG |HMSG |INFO |-ERR|PI|)", bytes in vec(any::<u8>(), 0..80), end in any::<bool>()) {
            let mut all = verb.into_bytes();
            all.extend(bytes);
            if end {
                all.extend(b"\r\n");
            }
            let whole = decode([&all[..]]);
            let single = decode(all.chunks(1));
            prop_assert_eq!(whole.is_ok(), single.is_ok());
        }
    }
}
