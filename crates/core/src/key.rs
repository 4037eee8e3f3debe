//! The idempotency key of a publication: the same for the same output of the same message, after a retry, a restart and an
//! upgrade of the module, and different for all else.
//!
//! The stream's creation and the time of storing are part of it because sequence numbers are used again, for other messages,
//! after a stream was made anew or rolled back.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::xxh3_128;

/// Of the hash, in bytes: among a million keys of one channel within Centrifugo's five minutes two are equal with a probability
/// of 10⁻¹⁷, and 12 bytes are 16 characters without padding.
const HASH_BYTES: usize = 12;

/// 16 characters. `created` is the stream's creation and `stored` the time of storing, both in nanoseconds since 1970; `index`
/// counts the publications that the module made of the message.
pub fn idempotency_key(module: &str, created: i128, sequence: u64, stored: u64, index: usize) -> String {
    // Hashed by itself, so that the rest has a fixed length and no two different inputs read the same.
    let module = xxh3_128(module.as_bytes());
    let mut facts = [0; 56];
    facts[..16].copy_from_slice(&module.to_le_bytes());
    facts[16..32].copy_from_slice(&created.to_le_bytes());
    facts[32..40].copy_from_slice(&sequence.to_le_bytes());
    facts[40..48].copy_from_slice(&stored.to_le_bytes());
    facts[48..].copy_from_slice(&(index as u64).to_le_bytes());
    URL_SAFE_NO_PAD.encode(&xxh3_128(&facts).to_le_bytes()[..HASH_BYTES])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const CREATED: i128 = 1_790_000_000_123_456_789;
    const STORED: u64 = 1_790_000_100_987_654_321;

    /// A retry after an upgrade of the relay must match what an older one has published: never change this value.
    #[test]
    fn stays_the_same_over_upgrades() {
        assert_eq!(idempotency_key("orders", CREATED, 42, STORED, 0), "K266gGJUg86NVuuC");
    }

    #[test]
    fn every_fact_counts() {
        let keys = [
            idempotency_key("orders", CREATED, 42, STORED, 0),
            idempotency_key("order", CREATED, 42, STORED, 0),
            idempotency_key("", CREATED, 42, STORED, 0),
            idempotency_key("orders", CREATED + 1, 42, STORED, 0),
            idempotency_key("orders", CREATED, 43, STORED, 0),
            idempotency_key("orders", CREATED, 42, STORED + 1, 0),
            idempotency_key("orders", CREATED, 42, STORED, 1),
        ];
        assert!(keys.iter().all(|key| key.len() == 16), "{keys:?}");
        assert_eq!(HashSet::from(keys.clone()).len(), keys.len(), "{keys:?}");
    }
}
