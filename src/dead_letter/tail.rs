//! What the headers of a dead letter cannot hold: it follows the message's payload, and a header says how long it is.
//!
//! JSON, compressed: the channels of a broadcast to a hundred thousand users take megabytes otherwise.

use serde::{Deserialize, Serialize};

use crate::message::Results;

/// Names of channels shrink to a fifth at this level, in some ten milliseconds for a hundred thousand.
const LEVEL: i32 = 1;

/// More than the largest message and all that one can become.
const LONGEST: usize = 128 << 20;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Tail {
    /// Those of the message, if they are too long or cannot be sent as headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) headers: Option<Vec<(String, String)>>,
    /// The header block of a message that cannot be read, in base64, if it is too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) raw_headers: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) channels: Option<Results>,
}

impl Tail {
    /// Empty if there is nothing in it.
    pub(super) fn write(&self) -> Vec<u8> {
        if *self == Self::default() {
            return Vec::new();
        }
        let json = serde_json::to_vec(self).expect("texts are JSON");
        zstd::bulk::compress(&json, LEVEL).expect("compressing into memory cannot fail")
    }

    /// `None`: it is damaged.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let json = zstd::bulk::decompress(bytes, LONGEST).ok()?;
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
}
