//! One page of letters, the newest first.

use std::collections::BTreeMap;

use crate::dead_letter::Letter;

#[derive(Debug)]
pub(super) struct Page {
    /// The page has only letters with smaller numbers.
    after: Option<u64>,
    limit: usize,
    /// By number. A letter in parts comes with its last part, so letters need not come in the order of their numbers.
    newest: BTreeMap<u64, Letter>,
    /// There are letters with smaller numbers.
    has_more: bool,
}

impl Page {
    pub fn new(after: Option<u64>, limit: usize) -> Self {
        Self {
            after,
            limit,
            newest: BTreeMap::new(),
            has_more: false,
        }
    }

    pub fn add(&mut self, letter: Letter) {
        let number = letter.number();
        if self.after.is_some_and(|after| number >= after) {
            return;
        }
        self.newest.insert(number, letter);
        if self.newest.len() > self.limit {
            self.newest.pop_first();
            self.has_more = true;
        }
    }

    /// Returns the letters, and where the next page begins, if there is one.
    pub fn finish(self) -> (Vec<Letter>, Option<u64>) {
        let next = self.newest.keys().next().copied().filter(|_| self.has_more);
        (self.newest.into_values().rev().collect(), next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(numbers: &[u64], after: Option<u64>, limit: usize) -> (Vec<u64>, Option<u64>) {
        let mut page = Page::new(after, limit);
        for number in numbers {
            page.add(Letter::sample(*number, "orders"));
        }
        let (letters, next) = page.finish();
        (letters.iter().map(Letter::number).collect(), next)
    }

    #[test]
    fn a_page_has_the_newest_and_says_where_the_next_begins() {
        let all = [1, 2, 4, 3, 9];
        assert_eq!(page(&all, None, 2), (vec![9, 4], Some(4)));
        assert_eq!(page(&all, Some(4), 2), (vec![3, 2], Some(2)));
        assert_eq!(page(&all, Some(2), 2), (vec![1], None));
        assert_eq!(page(&all, Some(1), 2), (vec![], None));
        assert_eq!(page(&all, None, 5), (vec![9, 4, 3, 2, 1], None));
        assert_eq!(page(&[], None, 5), (vec![], None));
    }
}
