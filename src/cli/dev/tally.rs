//! Counts the messages of the source by their outcomes.

use std::fmt;

use super::told::Told;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    published: u64,
    dropped: u64,
    rejected: u64,
    /// They came too fast to be run.
    pub skipped: u64,
}

impl Tally {
    pub fn count(&mut self, told: &Told) {
        match told {
            Told::Published(_) => self.published += 1,
            Told::Dropped => self.dropped += 1,
            Told::Rejected { .. } => self.rejected += 1,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            published,
            dropped,
            rejected,
            skipped,
        } = self;
        let count = published + dropped + rejected;
        let messages = if count == 1 { "message" } else { "messages" };
        write!(
            f,
            "{count} {messages}: {published} published, {dropped} dropped, {rejected} rejected"
        )?;
        match skipped {
            0 => Ok(()),
            skipped => write!(f, ", {skipped} not shown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_is_counted() {
        let mut tally = Tally::default();
        tally.count(&Told::Dropped);
        assert_eq!(tally.to_string(), "1 message: 0 published, 1 dropped, 0 rejected");
        tally.count(&Told::Published(Vec::new()));
        tally.skipped = 7;
        assert_eq!(
            tally.to_string(),
            "2 messages: 1 published, 1 dropped, 0 rejected, 7 not shown"
        );
    }
}
