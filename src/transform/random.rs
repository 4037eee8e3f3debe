//! Random numbers for guests. They are the same for the same message on every instance, machine and release of the
//! relay.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::message::Message;

/// SplitMix64 (Steele, Lea, Flood, 2014), implemented here because a library's generator may change between releases,
/// and replays would change with it. It is not suitable for secrets. A transform has no secrets that its messages do
/// not contain.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// Returns the generator for `init`, which sees no message. Every message's generator starts from it, so one per
    /// module is enough.
    pub fn of_module(name: &str) -> Self {
        Self(xxh3_64(name.as_bytes()))
    }

    pub fn of_message(&self, message: &Message) -> Self {
        let mut random = Self(xxh3_64_with_seed(message.stream.as_bytes(), self.0));
        random.mix(message.sequence());
        random.mix(message.timestamp);
        random
    }

    fn mix(&mut self, number: u64) {
        self.0 ^= number;
        self.0 = self.next();
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
    fn each_part_of_a_message_s_identity_counts() {
        let message = |stream: &str, sequence, timestamp| Message {
            timestamp,
            ..Message::new(stream, sequence, "subject", "")
        };
        let first = |module: &str, message: &Message| Random::of_module(module).of_message(message).next();
        let one = message("A", 1, 2);
        assert_eq!(
            first("m", &one),
            first(
                "m",
                &Message {
                    deliveries: 2,
                    ..one.clone()
                }
            )
        );
        let others = [
            message("B", 1, 2),
            message("A", 2, 2),
            message("A", 1, 1),
            message("A", 2, 1),
        ];
        let mut numbers: Vec<u64> = others.iter().map(|other| first("m", other)).collect();
        numbers.extend([first("m", &one), first("n", &one)]);
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 6);
    }

    #[test]
    fn gives_as_many_bytes_as_asked_for() {
        for len in [0, 1, 7, 8, 9, 64] {
            assert_eq!(Random(1).bytes(len).len(), len);
        }
    }
}
