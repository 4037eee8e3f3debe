//! Which letters to replay, and in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use slipring_core::place::Place;

use crate::dead_letter::Letter;

/// The chosen letters of each module, with only as much as is needed to order them. There may be very many.
#[derive(Debug, Default)]
pub struct Plan {
    modules: BTreeMap<String, Vec<Waiting>>,
    /// Where their messages came from.
    streams: BTreeSet<Arc<str>>,
    letters: usize,
}

/// Letters are replayed in the order of their messages.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    stream: Arc<str>,
    place: Place,
    numbers: Vec<u64>,
}

impl Plan {
    pub fn add(&mut self, letter: &Letter) {
        let origin = letter.origin.as_ref();
        let name = origin.map_or("", |origin| origin.stream.as_str());
        let stream = self.streams.get(name).cloned().unwrap_or_else(|| Arc::from(name));
        if !name.is_empty() {
            self.streams.insert(Arc::clone(&stream));
        }
        let waiting = Waiting {
            stream,
            place: origin.map_or_else(Place::default, |origin| origin.place),
            numbers: letter.numbers().to_vec(),
        };
        self.letters += 1;
        match self.modules.get_mut(&letter.module) {
            Some(letters) => letters.push(waiting),
            None => {
                self.modules.insert(letter.module.clone(), vec![waiting]);
            }
        }
    }

    /// Returns how many letters are chosen.
    pub fn letters(&self) -> usize {
        self.letters
    }

    /// Returns the modules and how many letters each has, sorted by name.
    pub fn modules(&self) -> impl Iterator<Item = (&str, usize)> {
        self.modules
            .iter()
            .map(|(name, letters)| (name.as_str(), letters.len()))
    }

    /// Returns the streams that the messages came from.
    pub fn streams(&self) -> impl Iterator<Item = &str> {
        self.streams.iter().map(|stream| &**stream)
    }

    /// Returns the letters of each module in the order of their messages, each given by its numbers. The modules are
    /// sorted by name.
    pub fn in_order(self) -> impl Iterator<Item = Vec<Vec<u64>>> {
        self.modules.into_values().map(|mut letters| {
            letters.sort_unstable();
            letters.into_iter().map(|letter| letter.numbers).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::Origin;

    #[test]
    fn letters_are_replayed_in_the_order_of_their_messages() {
        let mut plan = Plan::default();
        for (number, module, sequence) in [(1, "orders", 9), (2, "orders", 3), (3, "bills", 7), (4, "orders", 5)] {
            let mut letter = Letter::sample(number, module);
            letter.origin = Some(Origin {
                subject: "orders.7".to_owned(),
                stream: "ORDERS".to_owned(),
                place: sequence.into(),
                timestamp: 0,
            });
            plan.add(&letter);
        }
        assert_eq!(plan.letters(), 4);
        assert!(plan.modules().eq([("bills", 1), ("orders", 3)]));
        assert!(plan.streams().eq(["ORDERS"]));
        let orders = &plan.modules["orders"];
        assert!(Arc::ptr_eq(&orders[0].stream, &orders[1].stream), "named once");
        let in_order: Vec<_> = plan.in_order().collect();
        assert_eq!(in_order, [vec![vec![3]], vec![vec![2], vec![4], vec![1]]]);
    }
}
