//! The format of calls with many messages, which `guest-sdk/wit/transform-batch.wit` describes.

use std::sync::Arc;

use super::bindings::slipring::transform::types as wit;
use crate::message::Message;

/// The most messages in one call, and the most bytes of them, unless it is one message. More would not be faster, and
/// what the messages become is counted only when the call returns.
pub(super) const MAX_MESSAGES: usize = 64;
const MAX_BYTES: usize = 64 * 1024;

/// Why results cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Malformed(&'static str),
    TooLarge,
}

use Fault::{Malformed, TooLarge};

/// What a guest returned for one message, as `transform` would.
pub(super) type Returned = Result<Vec<wit::Publication>, String>;

/// Returns how many of the messages go into one call.
pub(super) fn size(messages: impl IntoIterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fits = |size: &usize| {
        bytes += size;
        bytes <= MAX_BYTES
    };
    messages.into_iter().take(MAX_MESSAGES).take_while(fits).count()
}

/// Returns the bytes that a message takes in a call.
pub(super) fn bytes_of(message: &Message) -> usize {
    let headers = message.headers.iter().map(|(name, value)| 8 + name.len() + value.len());
    36 + message.subject.len() + message.payload.len() + message.stream.len() + headers.sum::<usize>()
}

/// Writes messages for the guest.
pub(super) fn write(buffer: &mut Vec<u8>, messages: &[Arc<Message>]) {
    buffer.clear();
    number(buffer, messages.len());
    for message in messages {
        bytes(buffer, message.subject.as_bytes());
        bytes(buffer, &message.payload);
        number(buffer, message.headers.len());
        for (name, value) in &message.headers {
            bytes(buffer, name.as_bytes());
            bytes(buffer, value.as_bytes());
        }
        bytes(buffer, message.stream.as_bytes());
        buffer.extend_from_slice(&message.sequence().to_le_bytes());
        buffer.extend_from_slice(&message.timestamp.to_le_bytes());
        buffer.extend_from_slice(&message.deliveries.to_le_bytes());
    }
}

fn bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    number(buffer, bytes.len());
    buffer.extend_from_slice(bytes);
}

/// Whatever a source delivers is far smaller than 4 GiB.
fn number(buffer: &mut Vec<u8>, number: usize) {
    buffer.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

/// Reads what the guest returned for the `count` messages that it began. `limit` is the most bytes that a
/// message may become. It is also the limit for all of them together: the result that exceeds it and those after it are
/// left out. The error is why the results do not have the format.
pub(super) fn read(results: &[u8], count: usize, limit: usize) -> Result<Vec<Returned>, &'static str> {
    let mut reader = Reader {
        rest: results,
        left: limit,
    };
    let mut returned = Vec::new();
    match reader.results(count, &mut returned) {
        Ok(()) | Err(TooLarge) => Ok(returned),
        Err(Malformed(why)) => Err(why),
    }
}

const BINARY: u8 = 1;
const VERSION: u8 = 2;
const EPOCH: u8 = 4;
const KEY: u8 = 8;
const DELTA: u8 = 16;
const SKIP_HISTORY: u8 = 32;

struct Reader<'a> {
    rest: &'a [u8],
    /// How many bytes the results may still take. They are counted as wasmtime counts those of `transform`.
    left: usize,
}

impl<'a> Reader<'a> {
    fn results(&mut self, count: usize, returned: &mut Vec<Returned>) -> Result<(), Fault> {
        let done = self.number()?;
        if done == 0 || done != count {
            return Err(Malformed("it does not have one result for each message that was begun"));
        }
        returned.reserve(done);
        for _ in 0..done {
            returned.push(self.result()?);
        }
        match self.rest {
            [] => Ok(()),
            _ => Err(Malformed("it goes on after the last result")),
        }
    }

    fn takes(&mut self, bytes: usize) -> Result<(), Fault> {
        self.left = self.left.checked_sub(bytes).ok_or(TooLarge)?;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(Malformed("it ends too early"))?;
        self.rest = rest;
        Ok(*array)
    }

    fn number(&mut self) -> Result<usize, Fault> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.number()?;
        let (bytes, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(Malformed("it ends too early"))?;
        self.rest = rest;
        self.takes(length)?;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<String, Fault> {
        let bytes = self.bytes()?;
        let text = str::from_utf8(bytes).map_err(|_| Malformed("a text is not UTF-8"))?;
        Ok(text.to_owned())
    }

    /// Reads the items of a list.
    fn list<T>(&mut self, item: impl Fn(&mut Self) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
        let count = self.number()?;
        self.takes(count.saturating_mul(size_of::<T>()))?;
        (0..count).map(|_| item(self)).collect()
    }

    fn result(&mut self) -> Result<Returned, Fault> {
        match self.array()? {
            [0] => Ok(Ok(self.list(Self::publication)?)),
            [1] => Ok(Err(self.text()?)),
            _ => Err(Malformed("a result is neither 0 nor 1")),
        }
    }

    fn publication(&mut self) -> Result<wit::Publication, Fault> {
        let channels = self.list(Self::text)?;
        let [flags] = self.array()?;
        let has = |flag| flags & flag != 0;
        if has(!(BINARY | VERSION | EPOCH | KEY | DELTA | SKIP_HISTORY)) {
            return Err(Malformed("a flag is unknown"));
        }
        Ok(wit::Publication {
            channels,
            body: match has(BINARY) {
                true => wit::Body::Binary(self.bytes()?.to_vec()),
                false => wit::Body::Json(self.text()?),
            },
            version: match has(VERSION) {
                true => Some(u64::from_le_bytes(self.array()?)),
                false => None,
            },
            version_epoch: has(EPOCH).then(|| self.text()).transpose()?,
            tags: self.list(|reader| Ok((reader.text()?, reader.text()?)))?,
            idempotency_key: has(KEY).then(|| self.text()).transpose()?,
            delta: has(DELTA),
            skip_history: has(SKIP_HISTORY),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Results for two messages: two publications of these sizes.
    fn results(sizes: [usize; 2]) -> Vec<u8> {
        let mut buffer = Vec::new();
        number(&mut buffer, 2);
        for size in sizes {
            buffer.push(0);
            number(&mut buffer, 1);
            number(&mut buffer, 1);
            bytes(&mut buffer, b"a");
            buffer.push(BINARY);
            bytes(&mut buffer, &vec![7; size]);
            number(&mut buffer, 0);
        }
        buffer
    }

    fn lengths(sizes: [usize; 2], limit: usize) -> Vec<usize> {
        let returned = read(&results(sizes), 2, limit).expect("it has the format");
        let length = |returned: Returned| match returned.expect("publications").remove(0).body {
            wit::Body::Binary(bytes) => bytes.len(),
            wit::Body::Json(_) => panic!("it is binary"),
        };
        returned.into_iter().map(length).collect()
    }

    #[test]
    fn a_result_that_is_too_large_is_left_out_and_so_is_what_follows() {
        assert_eq!(lengths([10_000, 20_000], 31_000), [10_000, 20_000]);
        assert_eq!(lengths([10_000, 20_000], 30_000), [10_000]);
        assert!(lengths([40_000, 1], 30_000).is_empty());
        // A list takes memory before its items are read.
        let mut bomb = vec![1, 0, 0, 0, 0];
        bomb.extend(u32::MAX.to_le_bytes());
        assert_eq!(read(&bomb, 1, 1 << 24).map(|returned| returned.len()), Ok(0));
    }

    #[test]
    fn what_ends_too_early_is_no_result() {
        let whole = results([3, 5]);
        for end in 0..whole.len() {
            assert!(read(&whole[..end], 2, 1 << 24).is_err(), "{end}");
        }
        let longer = [whole.as_slice(), &[0]].concat();
        assert_eq!(
            read(&longer, 2, 1 << 24).err(),
            Some("it goes on after the last result")
        );
    }

    #[test]
    fn a_call_has_a_bounded_number_of_messages_and_bytes() {
        assert_eq!(size([1; 100]), MAX_MESSAGES);
        assert_eq!(size([MAX_BYTES / 4; 100]), 4);
        assert_eq!(size([MAX_BYTES + 1, 1]), 0);
    }
}
