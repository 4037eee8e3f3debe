//! The letters being replayed, in the order of their messages. They leave only from the front. If a later letter was
//! removed before an earlier one, another replay would publish the earlier one after it. This code does no I/O.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Fate;
use crate::message::{Message, Rejection, Results, Share};

#[derive(Debug, Default)]
pub(super) struct Line {
    /// The ticket of the letter at the front.
    first: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    numbers: Vec<u64>,
    /// The bytes of its message and of its publications.
    bytes: usize,
    /// Set while the module has the message.
    message: Option<Arc<Message>>,
    /// Publications that are not concluded.
    open: usize,
    /// The concluded publications.
    shares: Vec<Share>,
    rejection: Option<Rejection>,
    /// The results of earlier attempts.
    results: Option<Results>,
    fate: Option<Fate>,
}

/// A letter that has left the line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) numbers: Vec<u64>,
    pub(super) fate: Fate,
    /// The combined results if part of it was confirmed and the rest refused. The letter has to record them from now
    /// on.
    pub(super) results: Option<Results>,
}

impl Line {
    /// Returns true if another letter fits. An empty line always has room for one, which may be larger than the limit.
    pub(super) fn has_room(&self, letters: usize, bytes: usize) -> bool {
        self.entries.is_empty() || (self.entries.len() < letters && self.bytes < bytes)
    }

    /// Returns the bytes of the letters' messages and publications.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a letter whose message takes this many bytes, and returns its ticket.
    pub(super) fn take_in(&mut self, numbers: Vec<u64>, bytes: usize) -> u64 {
        self.bytes += bytes;
        self.entries.push_back(Entry {
            numbers,
            bytes,
            message: None,
            open: 0,
            shares: Vec::new(),
            rejection: None,
            results: None,
            fate: None,
        });
        self.first + self.entries.len() as u64 - 1
    }

    /// Adds a letter that is already done.
    pub(super) fn take_in_ended(&mut self, numbers: Vec<u64>, fate: Fate) {
        let ticket = self.take_in(numbers, 0);
        self.end(ticket, fate);
    }

    /// Keeps the message until the module has returned it, and the known results of its publications.
    pub(super) fn hold(&mut self, ticket: u64, message: Message, results: Option<Results>) -> Arc<Message> {
        let message = Arc::new(message);
        if let Some(entry) = self.entry(ticket) {
            entry.message = Some(Arc::clone(&message));
            entry.results = results;
        }
        message
    }

    pub(super) fn release(&mut self, ticket: u64) -> Option<Arc<Message>> {
        self.entry(ticket)?.message.take()
    }

    /// Returns the results of its publications in earlier attempts, if known.
    pub(super) fn results(&mut self, ticket: u64) -> Option<&Results> {
        self.entry(ticket)?.results.as_ref()
    }

    /// Records how many publications the message became, and their size in bytes.
    pub(super) fn expect(&mut self, ticket: u64, publications: usize, bytes: usize) {
        if let Some(entry) = self.entry(ticket) {
            entry.open = publications;
            entry.bytes += bytes;
            self.bytes += bytes;
        }
    }

    /// Concludes one of its publications as confirmed or refused. The first refusal counts.
    pub(super) fn conclude(&mut self, ticket: u64, result: Result<(), Rejection>, share: Share) {
        let Some(entry) = self.entry(ticket) else { return };
        entry.open -= 1;
        entry.shares.push(share);
        if let Err(rejection) = result {
            entry.rejection.get_or_insert(rejection);
        }
        if entry.open == 0 {
            let shares = std::mem::take(&mut entry.shares);
            let before = entry.results.take().unwrap_or_default();
            entry.fate = Some(match entry.rejection.take() {
                None => Fate::Published,
                Some(rejection) => {
                    let now = Results::of(&shares);
                    entry.results = now.any_confirmed().then(|| before.and_then(now));
                    Fate::Rejected(rejection)
                }
            });
        }
    }

    pub(super) fn end(&mut self, ticket: u64, fate: Fate) {
        if let Some(entry) = self.entry(ticket) {
            entry.fate = Some(fate);
            entry.results = None;
        }
    }

    /// Returns true if the letter at the front is done and has to be replaced by one with its remaining part.
    pub(super) fn gives_way(&self) -> bool {
        let front = self.entries.front();
        front.is_some_and(|front| front.fate.is_some() && front.results.is_some())
    }

    /// Removes and returns the letter at the front if it is done.
    pub(super) fn pop(&mut self) -> Option<Gone> {
        let fate = self.entries.front_mut()?.fate.take()?;
        let Entry {
            numbers,
            bytes,
            results,
            ..
        } = self.entries.pop_front()?;
        self.first += 1;
        self.bytes -= bytes;
        Some(Gone { numbers, fate, results })
    }

    fn entry(&mut self, ticket: u64) -> Option<&mut Entry> {
        let index = usize::try_from(ticket.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Stage;

    fn rejection(reason: &str) -> Rejection {
        Rejection {
            stage: Stage::Publish,
            code: "102".into(),
            channel: None,
            reason: reason.into(),
        }
    }

    fn share(channel: &str) -> Share {
        Share {
            number: 0,
            channels: vec![channel.into()],
            refused: Vec::new(),
        }
    }

    fn refused(channel: &str) -> Share {
        Share {
            refused: vec![channel.into()],
            ..share(channel)
        }
    }

    fn gone(number: u64, fate: Fate) -> Option<Gone> {
        Some(Gone {
            numbers: vec![number],
            fate,
            results: None,
        })
    }

    #[test]
    fn letters_leave_in_order_once_all_they_became_is_concluded() {
        let mut line = Line::default();
        let tickets: Vec<u64> = (5..8).map(|number| line.take_in(vec![number], 10)).collect();
        line.expect(tickets[0], 2, 5);
        line.end(tickets[1], Fate::Dropped);
        line.conclude(tickets[0], Ok(()), share("a"));
        assert_eq!(line.pop(), None, "one of its publications is not concluded");
        line.conclude(tickets[0], Ok(()), share("a"));
        assert_eq!(line.pop(), gone(5, Fate::Published));
        assert_eq!(line.pop(), gone(6, Fate::Dropped));
        assert_eq!(line.pop(), None);
        line.end(tickets[2], Fate::Dropped);
        assert_eq!(line.pop(), gone(7, Fate::Dropped));
        assert!(line.is_empty() && line.bytes == 0);
        assert_eq!(line.take_in(vec![8], 1), 3);
    }

    #[test]
    fn one_refusal_keeps_the_letter() {
        let mut line = Line::default();
        let ticket = line.take_in(vec![5], 10);
        line.expect(ticket, 3, 5);
        line.conclude(ticket, Err(rejection("first")), refused("a"));
        line.conclude(ticket, Err(rejection("second")), refused("b"));
        line.conclude(ticket, Ok(()), share("c"));
        let results = serde_json::from_str(r#"{"a":"-","b":"-","c":"+"}"#).unwrap();
        let left = Gone {
            results: Some(results),
            ..gone(5, Fate::Rejected(rejection("first"))).unwrap()
        };
        assert_eq!(line.pop(), Some(left), "with what is left of it");
    }

    #[test]
    fn a_letter_of_which_nothing_was_confirmed_says_nothing_new() {
        let mut line = Line::default();
        let ticket = line.take_in(vec![5], 10);
        line.expect(ticket, 1, 5);
        line.conclude(ticket, Err(rejection("first")), refused("a"));
        assert_eq!(line.pop(), gone(5, Fate::Rejected(rejection("first"))));
    }

    #[test]
    fn there_is_room_for_so_many_and_for_one_of_any_size() {
        let mut line = Line::default();
        assert!(line.has_room(2, 10));
        let ticket = line.take_in(vec![1], 100);
        assert!(!line.has_room(2, 10));
        assert!(line.has_room(2, 1000));
        line.take_in_ended(vec![2], Fate::Gone);
        assert!(!line.has_room(2, 1000));
        line.end(ticket, Fate::Dropped);
        line.pop();
        assert!(line.has_room(2, 10));
    }
}
