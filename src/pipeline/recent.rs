//! Keeps the last messages given to a pipeline's module, so that a new version can be tried on them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::message::Message;

/// The limit for large messages, which stay in memory only for this purpose.
const MAX_BYTES: usize = 8 << 20;

/// A clone shares the same list.
#[derive(Debug, Clone, Default)]
pub struct Recent(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    messages: VecDeque<Arc<Message>>,
    bytes: usize,
}

impl Recent {
    /// Adds messages. The oldest ones make room: at most `max` messages and 8 MiB are kept.
    pub fn extend<'a>(&self, messages: impl ExactSizeIterator<Item = &'a Arc<Message>>, max: usize) {
        let needless = messages.len().saturating_sub(max);
        let mut list = self.list();
        for message in messages.skip(needless) {
            list.bytes += message.size();
            list.messages.push_back(Arc::clone(message));
        }
        while list.messages.len() > max || list.bytes > MAX_BYTES {
            let Some(oldest) = list.messages.pop_front() else { break };
            list.bytes -= oldest.size();
        }
    }

    /// Returns the messages in stream order.
    pub fn messages(&self) -> Vec<Arc<Message>> {
        self.list().messages.iter().cloned().collect()
    }

    /// Forgets all messages, because later ones are of another kind.
    pub fn clear(&self) {
        *self.list() = List::default();
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sequence: u64, size: usize) -> Arc<Message> {
        Arc::new(Message::new("ORDERS", sequence, "", vec![0_u8; size]))
    }

    fn sequences(recent: &Recent) -> Vec<u64> {
        recent.messages().iter().map(|message| message.sequence()).collect()
    }

    #[test]
    fn the_newest_stay() {
        let recent = Recent::default();
        let all: Vec<_> = (1..=10).map(|sequence| message(sequence, 1)).collect();
        recent.extend(all[..2].iter(), 3);
        assert_eq!(sequences(&recent), [1, 2]);
        recent.extend(all[2..4].iter(), 3);
        assert_eq!(sequences(&recent), [2, 3, 4]);
        recent.extend(all[4..].iter(), 3);
        assert_eq!(sequences(&recent), [8, 9, 10]);
        recent.extend(all[..1].iter(), 0);
        assert!(sequences(&recent).is_empty());
    }

    #[test]
    fn large_ones_make_room_earlier() {
        let recent = Recent::default();
        let all: Vec<_> = (1..=10).map(|sequence| message(sequence, MAX_BYTES / 5)).collect();
        recent.extend(all.iter(), 256);
        assert_eq!(sequences(&recent), [7, 8, 9, 10]);
        recent.extend([message(11, MAX_BYTES + 1)].iter(), 256);
        assert!(sequences(&recent).is_empty());
        recent.extend([message(12, 1)].iter(), 256);
        recent.clear();
        assert!(sequences(&recent).is_empty());
    }
}
