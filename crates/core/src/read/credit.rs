//! Decides how much to request from the consumer. Messages that were requested and have not come yet count against the
//! room in the window.

/// Free space in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    pub messages: usize,
    pub bytes: usize,
    /// The window is empty. One message may then come whatever its size, because a large one would otherwise block for
    /// ever.
    pub empty: bool,
}

/// One pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    pub batch: usize,
    /// `None` means one message of any size.
    pub max_bytes: Option<usize>,
}

/// What was requested and has not come yet.
#[derive(Debug)]
pub struct Credit {
    messages: usize,
    bytes: usize,
    /// The size of recent messages on the wire.
    typical: usize,
    /// The memory that recent messages take. The room in the window is counted in this unit.
    typical_held: usize,
    /// A pull with this many bytes ended because the next message was larger.
    too_small: Option<usize>,
    /// The most messages that a pull asks for.
    max_batch: usize,
}

/// The usual limit of messages per pull. It is large enough that the next pull is under way long before this one is
/// used up.
const MAX_BATCH: usize = 1024;

/// The smallest request in bytes, so that small messages do not lead to small pulls.
const MIN_BYTES: usize = 64 * 1024;

impl Credit {
    /// Limits the number of messages per pull. The server would refuse a pull for more.
    pub fn of_pulls(max_batch: usize) -> Self {
        Self {
            max_batch: max_batch.clamp(1, MAX_BATCH),
            messages: 0,
            bytes: 0,
            typical: 1024,
            typical_held: 1024,
            too_small: None,
        }
    }

    /// Returns true if requested messages are still to come.
    pub fn is_open(&self) -> bool {
        self.messages > 0
    }

    /// Returns the next request. It counts only after a call of [`Credit::asked`].
    pub fn ask(&self, room: Room) -> Option<Ask> {
        let free = room.messages.saturating_sub(self.messages);
        let batch = free.min(self.max_batch);
        // While a pull is open, wait until a good part of one has become free: small pulls cost as much as large ones.
        let enough = if self.is_open() {
            self.max_batch.min(room.messages / 2).max(1)
        } else {
            1
        };
        if batch < enough {
            return None;
        }
        let free_bytes = self.on_the_wire(room.bytes).saturating_sub(self.bytes);
        // Ask for twice the expected bytes. Bytes that are requested and not used block later pulls until they are
        // returned.
        let wanted = (2 * batch * self.typical)
            .max(MIN_BYTES)
            .max(self.too_small.map_or(0, |bytes| 4 * bytes));
        let max_bytes = wanted.min(free_bytes);
        if self.too_small.is_none_or(|bytes| max_bytes > bytes) && max_bytes > 0 {
            return Some(Ask {
                batch,
                max_bytes: Some(max_bytes),
            });
        }
        if room.empty && !self.is_open() {
            return Some(Ask {
                batch: 1,
                max_bytes: None,
            });
        }
        None
    }

    /// Converts memory into bytes on the wire. The wire size is smaller where messages are small or have many headers.
    fn on_the_wire(&self, held: usize) -> usize {
        if self.typical_held <= self.typical {
            return held;
        }
        let bytes = held as u128 * self.typical as u128 / self.typical_held as u128;
        usize::try_from(bytes).unwrap_or(held)
    }

    /// Records a pull that went out.
    pub fn asked(&mut self, ask: Ask) {
        self.messages += ask.batch;
        self.bytes += ask.max_bytes.unwrap_or(0);
    }

    /// Records a message that JetStream counted as `size` bytes: subject, ack subject, headers and payload. If `size`
    /// were larger than what JetStream took off the pull, the next pulls would ask for more than there is room for. The
    /// message takes `held` bytes of memory.
    pub fn delivered(&mut self, size: usize, held: usize) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = if self.messages == 0 {
            0
        } else {
            self.bytes.saturating_sub(size)
        };
        let seen = |typical: usize, size: usize| {
            if size > typical {
                size
            } else {
                (typical * 15 + size) / 16
            }
        };
        self.typical = seen(self.typical, size);
        self.typical_held = seen(self.typical_held, held);
        self.too_small = None;
    }

    /// Records that a pull ended with this much of it left.
    pub fn returned(&mut self, messages: usize, bytes: usize) {
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = if self.messages == 0 {
            0
        } else {
            self.bytes.saturating_sub(bytes)
        };
    }

    /// Records that a pull ended because the next message is larger than the bytes left.
    pub fn next_is_larger(&mut self, bytes: usize) {
        self.too_small = Some(bytes.max(1));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn ask(credit: &mut Credit, room: Room) -> Option<Ask> {
        let ask = credit.ask(room)?;
        credit.asked(ask);
        Some(ask)
    }

    fn room(messages: usize, bytes: usize) -> Room {
        Room {
            messages,
            bytes,
            empty: false,
        }
    }

    #[test]
    fn the_next_pull_waits_until_half_of_the_room_is_free() {
        let mut credit = Credit::of_pulls(MAX_BATCH);
        credit.asked(Ask {
            batch: 60,
            max_bytes: Some(MIN_BYTES),
        });
        assert_eq!(credit.ask(room(100, 1 << 30)), None);
        let ask = credit.ask(room(120, 1 << 30));
        assert_eq!(ask.map(|ask| ask.batch), Some(60));
    }

    #[test]
    fn a_pull_asks_for_twice_what_is_expected_and_for_more_after_one_that_was_too_small() {
        let mut credit = Credit::of_pulls(1000);
        let bytes = |credit: &Credit, messages| credit.ask(room(messages, 1 << 30)).and_then(|ask| ask.max_bytes);
        assert_eq!(bytes(&credit, 1000), Some(2 * 1000 * 1024));
        assert_eq!(bytes(&credit, 1), Some(MIN_BYTES));
        credit.next_is_larger(1_000_000);
        assert_eq!(bytes(&credit, 1), Some(4_000_000));
    }

    /// Gives messages to pulls one by one and takes their exact sizes off, as nats-server does (`nextWaiting` in
    /// `consumer.go`).
    #[derive(Default)]
    struct Server(VecDeque<Ask>);

    impl Server {
        /// Delivers a message of this size. Pulls that cannot take it end first. Returns true if a pull took it.
        fn deliver(&mut self, size: usize, credit: &mut Credit) -> bool {
            while let Some(mut pull) = self.0.pop_front() {
                if let Some(left) = &mut pull.max_bytes {
                    if *left < size {
                        credit.returned(pull.batch, *left);
                        credit.next_is_larger(*left);
                        continue;
                    }
                    *left -= size;
                }
                pull.batch -= 1;
                credit.delivered(size, size);
                match pull.batch {
                    0 => credit.returned(0, pull.max_bytes.unwrap_or(0)),
                    _ => self.0.push_back(pull),
                }
                return true;
            }
            false
        }
    }

    proptest! {
        #[test]
        fn no_more_comes_than_there_is_room_for(
            messages in 1..2_000_usize,
            bytes in 4_000..4_000_000_usize,
            sizes in vec(100..4_000_usize, 1..200),
            // How many of the messages that came are done before the next one comes.
            done in vec(0..3_usize, 1..50),
            max_batch in 1..2_000_usize,
        ) {
            let (mut credit, mut server) = (Credit::of_pulls(max_batch), Server::default());
            let mut held = VecDeque::new();
            let mut held_bytes = 0;
            let mut stuck = 0;
            for (size, done) in sizes.iter().cycle().zip(done.iter().cycle()).take(5_000) {
                for size in held.drain(..(*done).min(held.len())) {
                    held_bytes -= size;
                }
                let room = Room {
                    messages: messages - held.len(),
                    bytes: bytes - held_bytes,
                    empty: held.is_empty(),
                };
                while let Some(next) = ask(&mut credit, room) {
                    prop_assert!(next.batch <= max_batch, "{next:?}");
                    server.0.push_back(next);
                }
                if server.deliver(*size, &mut credit) {
                    stuck = 0;
                    held.push_back(*size);
                    held_bytes += size;
                } else {
                    stuck += 1;
                }
                prop_assert!(held.len() <= messages, "{} messages came", held.len());
                prop_assert!(held_bytes <= bytes, "{held_bytes} bytes came");
                prop_assert!(stuck <= 2 * messages + 2 || !held.is_empty(), "nothing comes any more");
            }
        }
    }

    #[test]
    fn what_takes_more_memory_than_bytes_is_asked_for_in_fewer_bytes() {
        let asked = |held| {
            let mut credit = Credit::of_pulls(MAX_BATCH);
            credit.asked(Ask {
                batch: 100,
                max_bytes: Some(1 << 30),
            });
            (0..100).for_each(|_| credit.delivered(10_000, held));
            let ask = credit.ask(room(1_000, 1 << 20)).expect("there is room");
            ask.max_bytes.expect("it is bounded")
        };
        assert_eq!(asked(10_000), 1 << 20);
        assert_eq!(asked(200_000), (1 << 20) / 20);
    }

    #[test]
    fn the_typical_size_follows_larger_messages_at_once_and_smaller_ones_slowly() {
        let mut credit = Credit::of_pulls(MAX_BATCH);
        let mut typical = |size, held| {
            credit.delivered(size, held);
            (credit.typical, credit.typical_held)
        };
        assert_eq!(typical(1_600, 3_200), (1_600, 3_200));
        assert_eq!(typical(160, 1_600), (1_510, 3_100));
        assert_eq!(typical(1_510, 3_100), (1_510, 3_100));
    }

    #[test]
    fn nothing_is_asked_for_where_there_is_no_room_for_a_byte() {
        let credit = Credit::of_pulls(MAX_BATCH);
        assert_eq!(
            credit.ask(room(10, 0)),
            None,
            "to the server, no bytes are any number of bytes"
        );
    }

    #[test]
    fn a_small_window_is_filled_and_refilled() {
        let mut credit = Credit::of_pulls(MAX_BATCH);
        assert_eq!(ask(&mut credit, room(2, 1 << 20)).map(|ask| ask.batch), Some(2));
        assert_eq!(ask(&mut credit, room(2, 1 << 20)), None);
        credit.delivered(10, 10);
        assert_eq!(
            ask(&mut credit, room(1, 1 << 20)),
            None,
            "the last one is still to come"
        );
        credit.delivered(10, 10);
        assert_eq!(ask(&mut credit, room(0, 1 << 20)), None, "the window is full");
        assert_eq!(ask(&mut credit, room(1, 1 << 20)).map(|ask| ask.batch), Some(1));
    }

    #[test]
    fn a_message_larger_than_the_window_comes_alone_once_the_window_is_empty() {
        let mut credit = Credit::of_pulls(MAX_BATCH);
        let first = ask(&mut credit, room(10, 50_000)).expect("there is room");
        let bytes = first.max_bytes.expect("it is bounded");
        credit.returned(first.batch, bytes);
        credit.next_is_larger(bytes);
        assert_eq!(
            ask(&mut credit, room(10, 50_000)),
            None,
            "asking again for the same would be answered the same"
        );
        let empty = Room {
            messages: 10,
            bytes: 50_000,
            empty: true,
        };
        assert_eq!(
            ask(&mut credit, empty),
            Some(Ask {
                batch: 1,
                max_bytes: None
            })
        );
        assert_eq!(ask(&mut credit, empty), None);
    }

    #[test]
    fn a_larger_message_that_fits_is_asked_for_with_more_bytes() {
        let mut credit = Credit::of_pulls(MAX_BATCH);
        let first = ask(&mut credit, room(1, 1 << 20)).expect("there is room");
        let bytes = first.max_bytes.expect("it is bounded");
        credit.returned(1, bytes);
        credit.next_is_larger(bytes);
        let again = ask(&mut credit, room(1, 1 << 20)).expect("there is more room than was asked for");
        assert!(again.max_bytes > Some(bytes));
    }
}
