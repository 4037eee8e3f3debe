//! The messages: orders that change again and again. Everything in a message follows from its key and its revision, so
//! that any reader knows what must be in it.

use std::fmt::Write;

/// A fixed seed, so that every run on every machine gets the same messages in the same order.
const SEED: u64 = 48;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub key: u32,
    /// From 1, without a gap.
    pub revision: u32,
}

/// Returns as many messages of each key, in a random order. The revisions of one key rise.
pub fn shuffled(messages: usize, keys: u32) -> Vec<Event> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut order: Vec<u32> = (0..keys).cycle().take(messages).collect();
    random.shuffle(&mut order);
    let mut revisions = vec![0; keys as usize];
    order
        .into_iter()
        .map(|key| {
            let revision = &mut revisions[key as usize];
            *revision += 1;
            Event {
                key,
                revision: *revision,
            }
        })
        .collect()
}

impl Event {
    /// Returns the channel on which subscribers find it.
    pub fn channel(self) -> String {
        channel(self.key)
    }

    /// Returns JSON of `size` bytes, or a little more if it does not fit (100 are enough up to a million keys).
    pub fn payload(self, size: usize) -> String {
        let mut text = format!(
            r#"{{"id":{},"revision":{},"status":"paid","lines":["#,
            self.key, self.revision
        );
        for line in 0..lines(size) {
            let comma = if line == 0 { "" } else { "," };
            let (quantity, price) = (self.quantity(line), self.price_cents(line));
            // Writing to a string cannot fail.
            let _ = write!(text, r#"{comma}{{"quantity":{quantity},"price_cents":{price}}}"#);
        }
        text.push_str(r#"],"note":""#);
        let note = size.saturating_sub(text.len() + 2);
        text.extend("lorem ipsum ".chars().cycle().take(note));
        text.push_str(r#""}"#);
        text
    }

    /// Returns the total price of the lines of a message of that size, which a transform has to compute.
    pub fn total_cents(self, size: usize) -> u64 {
        (0..lines(size))
            .map(|line| u64::from(self.quantity(line)) * u64::from(self.price_cents(line)))
            .sum()
    }

    fn quantity(self, line: u32) -> u32 {
        1 + (self.revision + line) % 9
    }

    fn price_cents(self, line: u32) -> u32 {
        1_000 + (self.key * 7 + self.revision * 13 + line * 101) % 9_000
    }
}

/// Returns the channel of a key.
pub fn channel(key: u32) -> String {
    format!("bench:{key}")
}

fn lines(size: usize) -> u32 {
    if size < 200 { 1 } else { 3 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_gets_its_revisions_in_order() {
        let events = shuffled(1_000, 30);
        for key in 0..30 {
            let revisions: Vec<u32> = events.iter().filter(|e| e.key == key).map(|e| e.revision).collect();
            let published = if key < 1_000 % 30 { 34 } else { 33 };
            assert_eq!(revisions, (1..=published).collect::<Vec<_>>());
        }
        let in_turn = (0..30).cycle().zip(&events).filter(|(key, event)| *key == event.key);
        assert!(in_turn.count() < 200, "not shuffled");
    }

    #[test]
    fn a_payload_is_json_of_the_size_that_was_asked_for() {
        let last = Event {
            key: 999_999,
            revision: 400,
        };
        for size in [100, 200, 10 << 10] {
            let payload = last.payload(size);
            assert_eq!(payload.len(), size, "{payload}");
            let json: serde_json::Value = serde_json::from_str(&payload).unwrap();
            assert_eq!(json["revision"], 400);
            let lines = json["lines"].as_array().unwrap().iter();
            let total: u64 = lines
                .map(|line| line["quantity"].as_u64().unwrap() * line["price_cents"].as_u64().unwrap())
                .sum();
            assert_eq!(total, last.total_cents(size));
        }
    }
}
