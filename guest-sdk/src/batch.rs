//! Many messages in one call. The format is described in `wit/transform-batch.wit`.

use std::str;

use crate::{Body, Error, Message, Output, Publication, Result};

/// A call ends early when its results have become this large, in bytes.
const ENOUGH: usize = 256 * 1024;

/// Transforms messages until all are done, or until the results are large. `begin` is called before each message.
///
/// # Panics
/// Panics if `messages` does not have the format. After such a trap, the relay transforms one message on its own, then
/// tries the rest as a batch.
pub fn transform(messages: &[u8], begin: impl Fn(u32), transform: impl Fn(&Message) -> Result<Output>) -> Vec<u8> {
    let mut reader = Reader(messages);
    let count = reader.u32();
    let mut results = Vec::with_capacity(messages.len());
    number(&mut results, 0);
    let mut done = 0;
    // Its strings are used again for each message.
    let mut message = Message::new("", "");
    while done < count && results.len() < ENOUGH {
        reader.message(&mut message);
        begin(done);
        write(&mut results, transform(&message));
        done += 1;
    }
    results[..4].copy_from_slice(&done.to_le_bytes());
    results
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (array, rest) = self.0.split_first_chunk().expect("the messages end too early");
        self.0 = rest;
        *array
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = self.u32() as usize;
        let (bytes, rest) = self.0.split_at_checked(length).expect("the messages end too early");
        self.0 = rest;
        bytes
    }

    fn text(&mut self, into: &mut String) {
        into.clear();
        into.push_str(str::from_utf8(self.bytes()).expect("a text of a message is not UTF-8"));
    }

    fn message(&mut self, message: &mut Message) {
        self.text(&mut message.subject);
        message.payload.clear();
        message.payload.extend_from_slice(self.bytes());
        message.headers.clear();
        for _ in 0..self.u32() {
            let mut header = (String::new(), String::new());
            self.text(&mut header.0);
            self.text(&mut header.1);
            message.headers.push(header);
        }
        self.text(&mut message.stream);
        message.sequence = self.u64();
        message.timestamp = self.u64();
        message.deliveries = self.u32();
    }
}

const BINARY: u8 = 1;
const VERSION: u8 = 2;
const EPOCH: u8 = 4;
const KEY: u8 = 8;
const DELTA: u8 = 16;
const SKIP_HISTORY: u8 = 32;

fn write(results: &mut Vec<u8>, result: Result<Output, Error>) {
    match result {
        Ok(output) => {
            results.push(0);
            number(results, output.publications().len());
            for publication in output.publications() {
                write_publication(results, publication);
            }
        }
        Err(error) => {
            results.push(1);
            text(results, &error.to_string());
        }
    }
}

fn write_publication(results: &mut Vec<u8>, publication: &Publication) {
    number(results, publication.channels.len());
    for channel in &publication.channels {
        text(results, channel);
    }
    let flag = |set, flag| if set { flag } else { 0 };
    results.push(
        flag(matches!(publication.body, Body::Binary(_)), BINARY)
            | flag(publication.version.is_some(), VERSION)
            | flag(publication.version_epoch.is_some(), EPOCH)
            | flag(publication.idempotency_key.is_some(), KEY)
            | flag(publication.delta, DELTA)
            | flag(publication.skip_history, SKIP_HISTORY),
    );
    match &publication.body {
        Body::Json(json) => text(results, json),
        Body::Binary(binary) => bytes(results, binary),
    }
    if let Some(version) = publication.version {
        results.extend_from_slice(&version.to_le_bytes());
    }
    if let Some(epoch) = &publication.version_epoch {
        text(results, epoch);
    }
    number(results, publication.tags.len());
    for (name, value) in &publication.tags {
        text(results, name);
        text(results, value);
    }
    if let Some(key) = &publication.idempotency_key {
        text(results, key);
    }
}

fn text(results: &mut Vec<u8>, text: &str) {
    bytes(results, text.as_bytes());
}

fn bytes(results: &mut Vec<u8>, bytes: &[u8]) {
    number(results, bytes.len());
    results.extend_from_slice(bytes);
}

/// A module has at most 4 GiB of memory, so each length fits.
fn number(results: &mut Vec<u8>, number: usize) {
    let number = u32::try_from(number).expect("a length fits into 32 bits");
    results.extend_from_slice(&number.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Messages as the relay writes them, each with this payload.
    fn messages(payloads: &[&[u8]]) -> Vec<u8> {
        let mut buffer = Vec::new();
        number(&mut buffer, payloads.len());
        for (payload, sequence) in payloads.iter().zip(1_u64..) {
            text(&mut buffer, "orders.paid");
            bytes(&mut buffer, payload);
            number(&mut buffer, 1);
            text(&mut buffer, "Trace");
            text(&mut buffer, "4bf9");
            text(&mut buffer, "ORDERS");
            buffer.extend_from_slice(&sequence.to_le_bytes());
            buffer.extend_from_slice(&(sequence * 1_000).to_le_bytes());
            buffer.extend_from_slice(&7_u32.to_le_bytes());
        }
        buffer
    }

    #[test]
    fn each_message_is_begun_and_seen_in_full() {
        let (begun, seen) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()));
        let results = super::transform(
            &messages(&[b"one", b""]),
            |index| begun.borrow_mut().push(index),
            |message| {
                assert_eq!(begun.borrow().len(), seen.borrow().len() + 1);
                seen.borrow_mut().push(message.clone());
                Ok(Output::drop())
            },
        );
        let expected = |payload: &str, sequence| {
            let message = Message::new("orders.paid", payload)
                .with_header("Trace", "4bf9")
                .with_stream("ORDERS");
            message
                .with_sequence(sequence)
                .with_timestamp(sequence * 1_000)
                .with_deliveries(7)
        };
        assert_eq!(seen.into_inner(), [expected("one", 1), expected("", 2)]);
        assert_eq!(begun.into_inner(), [0, 1]);
        assert_eq!(results, [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn results_have_the_documented_format() {
        let output = |message: &Message| match message.payload.as_slice() {
            b"no" => Err(Error::msg("näh")),
            _ => Ok(Publication::binary("a", [9])
                .version(3)
                .version_epoch("e")
                .tag("k", "v")
                .idempotency_key("o")
                .delta(true)
                .skip_history(true)
                .into()),
        };
        let results = super::transform(&messages(&[b"no", b""]), |_| (), output);
        let mut expected = vec![2, 0, 0, 0];
        expected.extend([1, 4, 0, 0, 0, b'n', 0xc3, 0xa4, b'h']);
        expected.extend([0, 1, 0, 0, 0]);
        expected.extend([1, 0, 0, 0, 1, 0, 0, 0, b'a', 63, 1, 0, 0, 0, 9, 3, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([
            1, 0, 0, 0, b'e', 1, 0, 0, 0, 1, 0, 0, 0, b'k', 1, 0, 0, 0, b'v', 1, 0, 0, 0, b'o',
        ]);
        assert_eq!(results, expected);
    }

    #[test]
    fn large_results_end_the_call() {
        let large = |_: &Message| Ok(Publication::json_text("a", "1".repeat(ENOUGH / 2)).into());
        let results = super::transform(&messages(&[b"", b"", b"", b""]), |_| (), large);
        assert_eq!(results[0], 2);
    }
}
