//! The idempotency key of a publication. It stays the same after a retry, a restart, or an upgrade of the module, and
//! differs for every other publication.
//!
//! The key includes the stream's creation time and the message's storage time. After a stream is recreated or rolled
//! back, the same sequence numbers refer to other messages.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::xxh3_128;

/// Length of the hash in bytes. Among a million keys of one channel within Centrifugo's five minutes, two collide with
/// a probability of 10⁻¹⁷. Base64 turns 12 bytes into 16 characters without padding.
const HASH_BYTES: usize = 12;

/// Returns 16 characters. `source` is the incarnation of the source. `place` and `stored` identify the message in it; for
/// JetStream they are the sequence and the storage time in nanoseconds since 1970, and `source` is the creation time. `index` is the position of the publication among those that the module made of the
/// message.
pub fn idempotency_key(module: &str, source: i128, place: u64, stored: u64, index: usize) -> String {
    // The name is hashed separately. All parts then have a fixed length, so no two inputs concatenate to the same
    // bytes.
    let module = xxh3_128(module.as_bytes());
    let mut facts = [0; 56];
    facts[..16].copy_from_slice(&module.to_le_bytes());
    facts[16..32].copy_from_slice(&source.to_le_bytes());
    facts[32..40].copy_from_slice(&place.to_le_bytes());
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

    /// A retry after an upgrade of the relay must use the same key as the older version. Never change this value.
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
