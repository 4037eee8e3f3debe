//! What became of the letters so far, in numbers.

use super::Fate;

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub published: usize,
    pub dropped: usize,
    pub rejected: usize,
    /// Letters that someone else removed, and remainders of removed ones.
    pub gone: usize,
}

impl Counts {
    pub fn add(&mut self, fate: &Fate) {
        let count = match fate {
            Fate::Published | Fate::NothingLeft => &mut self.published,
            Fate::Dropped => &mut self.dropped,
            Fate::Rejected(_) => &mut self.rejected,
            Fate::Remains | Fate::Gone => &mut self.gone,
        };
        *count += 1;
    }

    /// Returns how many letters are done.
    pub fn done(&self) -> usize {
        self.published + self.dropped + self.rejected + self.gone
    }

    /// Returns how many of all the letters are left.
    pub fn left(&self, total: usize) -> usize {
        total.saturating_sub(self.done())
    }

    /// Returns a line for people at the end.
    pub fn summary(&self, total: usize) -> String {
        let Self {
            published,
            dropped,
            rejected,
            gone,
        } = self;
        let gone = match gone {
            0 => String::new(),
            gone => format!("{gone} removed in the meantime, "),
        };
        let left = self.left(total);
        format!(
            "{published} published, {dropped} dropped by the module, {rejected} rejected again, {gone}{left} not tried"
        )
    }
}
