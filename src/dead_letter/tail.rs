//! Data that does not fit into the headers of a dead letter. It follows the message's payload, and a header gives its
//! length.
//!
//! It is compressed JSON. The channels of a broadcast to a hundred thousand users would otherwise take megabytes.

use serde::{Deserialize, Serialize};

use crate::message::Results;

/// At this level, channel names shrink to a fifth. A hundred thousand of them take about ten milliseconds.
const LEVEL: i32 = 1;

/// More than the largest message and everything that one can become.
const LONGEST: usize = 128 << 20;

/// Channel names with long common beginnings shrink to a fortieth. Anybody may store a letter that shrinks to much less,
/// and would fill the memory of whoever reads it. Up to `SHORT` bytes that does not matter.
const MOST_TIMES: usize = 200;
const SHORT: usize = 4 << 20;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Tail {
    /// The message's headers, if they are too long or cannot be sent as headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) headers: Option<Vec<(String, String)>>,
    /// The header block of an unreadable message, in base64, if it is too long for a header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) raw_headers: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) channels: Option<Results>,
}

impl Tail {
    /// Returns no bytes if there is nothing to store.
    pub(super) fn write(&self) -> Vec<u8> {
        if *self == Self::default() {
            return Vec::new();
        }
        let json = serde_json::to_vec(self).expect("texts are JSON");
        zstd::bulk::compress(&json, LEVEL).expect("compressing into memory cannot fail")
    }

    /// Returns `None` if the bytes are damaged, or would become very many times as many.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let longest = bytes.len().saturating_mul(MOST_TIMES).clamp(SHORT, LONGEST);
        let json = zstd::bulk::decompress(bytes, longest).ok()?;
        serde_json::from_slice(&json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Share;

    #[test]
    fn a_hundred_thousand_channels_take_little() {
        let channels: Vec<std::sync::Arc<str>> = (0..100_000)
            .map(|number| format!("notifications:user-{}", number * 7919 % 1_000_003).into())
            .collect();
        let refused = vec![channels[17].clone()];
        let share = Share {
            number: 1,
            channels,
            refused,
        };
        let tail = Tail {
            channels: Some(Results::of(&[share])),
            ..Tail::default()
        };
        let bytes = tail.write();
        assert!(bytes.len() < 800_000, "{} bytes", bytes.len());
        assert_eq!(Tail::read(&bytes), Some(tail));
    }

    #[test]
    fn what_is_no_tail_is_none() {
        assert_eq!(Tail::read(b"{}"), None);
        assert!(Tail::default().write().is_empty());
    }

    #[test]
    fn a_few_bytes_do_not_become_gigabytes() {
        let bomb = format!(r#"{{"headers":[{}["",""]]}}"#, r#"["",""],"#.repeat(1_000_000));
        let bytes = zstd::bulk::compress(bomb.as_bytes(), LEVEL).unwrap();
        assert!(bytes.len() < 10_000, "{}", bytes.len());
        assert_eq!(Tail::read(&bytes), None);
    }

    #[test]
    fn long_names_with_one_beginning_are_read() {
        let name = |number: usize| format!("{}{number:07}", "x".repeat(240)).into();
        let channels: Vec<std::sync::Arc<str>> = (0..100_000).map(name).collect();
        let share = Share {
            number: 1,
            refused: vec![channels[7].clone()],
            channels,
        };
        let tail = Tail {
            channels: Some(Results::of(&[share])),
            ..Tail::default()
        };
        assert_eq!(Tail::read(&tail.write()), Some(tail));
    }
}
