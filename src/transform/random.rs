//! A guest's random numbers: the same for the same message, on every instance, machine and release of the relay.

use xxhash_rust::xxh3::Xxh3;

use crate::message::Message;

/// SplitMix64 (Steele, Lea, Flood, 2014), written out since a library's generator may change between releases, and a replay
/// with it. It is not for secrets: a transform has none that its messages do not show.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// For `init`, which sees no message.
    pub fn for_init(module: &str) -> Self {
        Self(seed(module, "", 0, 0))
    }

    pub fn for_message(module: &str, message: &Message) -> Self {
        Self(seed(module, &message.stream, message.sequence, message.timestamp))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len.next_multiple_of(8));
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

fn seed(module: &str, stream: &str, sequence: u64, timestamp: u64) -> u64 {
    let mut hash = Xxh3::new();
    // Neither name can hold a zero byte, so that no two pairs of names read the same.
    hash.update(module.as_bytes());
    hash.update(&[0]);
    hash.update(stream.as_bytes());
    hash.update(&[0]);
    hash.update(&sequence.to_le_bytes());
    hash.update(&timestamp.to_le_bytes());
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference output for the seed 1234567, as published with the algorithm's well-known C version.
    #[test]
    fn generates_the_reference_sequence() {
        let mut random = Random(1_234_567);
        let numbers: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn gives_as_many_bytes_as_asked_for() {
        for len in [0, 1, 7, 8, 9, 64] {
            assert_eq!(Random(1).bytes(len).len(), len);
        }
    }
}
