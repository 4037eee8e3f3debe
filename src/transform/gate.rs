//! Decides when a worker may make another call, so the outcomes stay within the memory available for them. It has no
//! I/O and no threads.
//!
//! A call may start if its expected outcome fits beside what is held, by other calls and by outcomes that the pipeline
//! has not taken over. Outcomes leave in stream order, so those of later chunks may hold all the memory while an
//! earlier one waits. The frontmost message may therefore start whatever is held, once no earlier outcome is left. This
//! lets a message through whose outcome is larger than all the memory, and it is why nothing waits for ever.
//!
//! The size of an outcome is unknown before the call returns. It is expected to be like the largest of the recent ones.
//! So one call per thread can exceed the limit, and so can the message that went alone. A call with many messages ends
//! when their outcomes become large (see `batch`), so what it makes is not much more than one large outcome.

/// The expected size of the first outcome, in bytes.
const FIRST: usize = 4 * 1024;

/// Each smaller outcome lowers the expectation by this fraction.
const DECAY: usize = 16;

#[derive(Debug)]
pub(super) struct Gate {
    /// Bytes of calls in progress, as expected, and of outcomes that are not taken over.
    held: usize,
    /// The part of `held` in outcomes that are on their way to the pipeline, or have arrived and are not taken over.
    sent: usize,
    /// The most bytes that may be held.
    room: usize,
    /// Set if nothing is left of the outcomes that were taken over.
    idle: bool,
    expected: usize,
    /// Set when the workers should finish what they have and memory is no longer counted.
    open: bool,
}

/// The memory that the workers hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub bytes: usize,
    /// The expected size of one more outcome.
    pub expected: usize,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            held: 0,
            sent: 0,
            // There is no limit until `allow` sets one.
            room: usize::MAX,
            idle: true,
            expected: FIRST,
            open: false,
        }
    }

    /// Starts a call if it may start, and returns the bytes that it counts for. `in_front` is true if all earlier
    /// outcomes were sent.
    pub(super) fn enter(&mut self, in_front: bool) -> Option<usize> {
        if !self.lets_in(in_front) {
            return None;
        }
        self.held += self.expected;
        Some(self.expected)
    }

    pub(super) fn lets_in(&self, in_front: bool) -> bool {
        let fits = self.held.saturating_add(self.expected) <= self.room;
        let alone = in_front && self.idle && self.sent == 0;
        fits || alone || self.open
    }

    /// Ends a call that counted for `counted` bytes, or none, and made outcomes of these sizes.
    pub(super) fn leave(&mut self, counted: usize, made: impl IntoIterator<Item = usize>) {
        self.held -= counted;
        for made in made {
            self.held += made;
            self.expected = made.max(self.expected - self.expected / DECAY);
        }
    }

    /// Outcomes of this many bytes went to the pipeline.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    /// The pipeline has taken over outcomes of this many bytes and counts them itself from now on.
    pub(super) fn taken_over(&mut self, bytes: usize) -> Held {
        self.sent -= bytes;
        self.held -= bytes;
        Held {
            bytes: self.held,
            expected: self.expected,
        }
    }

    /// Sets how many bytes may be held. `idle` is true if nothing is left of the outcomes that were taken over.
    pub(super) fn allow(&mut self, room: usize, idle: bool) {
        self.room = room;
        self.idle = idle;
    }

    pub(super) fn open(&mut self) {
        self.open = true;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_frontmost_goes_alone_when_later_ones_hold_all_there_is() {
        let mut gate = Gate::new();
        gate.allow(100_000, true);
        let front = gate.enter(true).expect("there is room");
        let later = gate.enter(false).expect("there is room");
        gate.leave(later, [100_000]);
        gate.leave(front, [50_000]);
        assert_eq!(gate.enter(false), None, "what was made is still there");
        gate.sent(50_000);
        assert_eq!(gate.enter(true), None, "and on its way");
        gate.taken_over(50_000);
        gate.allow(50_000, false);
        assert_eq!(gate.enter(true), None, "and not published");
        gate.allow(100_000, true);
        assert_eq!(gate.enter(false), None, "one behind it has to wait");
        assert!(gate.enter(true).is_some());
    }

    #[test]
    fn what_is_expected_follows_the_largest_and_forgets_it_again() {
        let mut gate = Gate::new();
        gate.allow(usize::MAX, true);
        let mut call = |made| {
            let counted = gate.enter(true).expect("there is room");
            gate.leave(counted, [made]);
            gate.sent(made);
            gate.taken_over(made).expected
        };
        assert_eq!(call(1_000_000), 1_000_000);
        assert!(call(10) < 1_000_000);
        for _ in 0..300 {
            call(10);
        }
        assert!(call(10) < 100);
    }

    /// Simulates workers, the order of their outcomes, a pipeline and its publisher, which take steps in any order.
    struct World {
        gate: Gate,
        /// The size of each message's outcome, in bytes.
        outcomes: Vec<usize>,
        chunk: usize,
        /// The most messages in one call, which ends early once they became as much as `ENOUGH`.
        batch: usize,
        workers: Vec<Worker>,
        /// Waiting outcomes of later chunks, each chunk with a flag that is set once it is complete.
        early: Vec<(VecDeque<usize>, bool)>,
        /// The chunk whose outcomes go out next.
        front: usize,
        arrived: VecDeque<usize>,
        waiting: VecDeque<usize>,
        done: usize,
        window: usize,
        most: usize,
    }

    struct Worker {
        chunks: VecDeque<usize>,
        /// For the first chunk: the number of calls made, and the outcomes that were not sent.
        called: usize,
        unsent: VecDeque<usize>,
        /// The bytes that the call in progress counts for, and its messages.
        calling: Option<(usize, usize)>,
    }

    const ENOUGH: usize = 10_000;

    impl World {
        fn new(outcomes: Vec<usize>, chunk: usize, batch: usize, workers: usize, window: usize) -> Self {
            let chunks = outcomes.len().div_ceil(chunk);
            let worker = |index| Worker {
                chunks: (index..chunks).step_by(workers).collect(),
                called: 0,
                unsent: VecDeque::new(),
                calling: None,
            };
            let mut gate = Gate::new();
            gate.allow(window, true);
            Self {
                gate,
                chunk,
                batch,
                workers: (0..workers).map(worker).collect(),
                early: vec![(VecDeque::new(), false); chunks],
                front: 0,
                arrived: VecDeque::new(),
                waiting: VecDeque::new(),
                done: 0,
                window,
                most: 0,
                outcomes,
            }
        }

        /// Sends the worker's outcomes to the pipeline, in their turn.
        fn send(&mut self, worker: usize, last: bool) {
            let worker = &mut self.workers[worker];
            let Some(&number) = worker.chunks.front() else { return };
            self.early[number].0.append(&mut worker.unsent);
            if last {
                self.early[number].1 = true;
                worker.chunks.pop_front();
                worker.called = 0;
            }
            while let Some((outcomes, last)) = self.early.get_mut(self.front) {
                self.gate.sent(outcomes.iter().sum());
                self.arrived.append(outcomes);
                if !*last {
                    break;
                }
                self.front += 1;
            }
        }

        /// Returns true if anything happened.
        fn work(&mut self, index: usize) -> bool {
            let Some(&number) = self.workers[index].chunks.front() else {
                return false;
            };
            let message = number * self.chunk + self.workers[index].called;
            if let Some((counted, messages)) = self.workers[index].calling.take() {
                let mut total = 0;
                let made = self.outcomes[message..message + messages].iter().copied();
                let made: Vec<usize> = made
                    .take_while(|made| {
                        let ends = total >= ENOUGH;
                        total += made;
                        !ends
                    })
                    .collect();
                self.gate.leave(counted, made.iter().copied());
                self.workers[index].called += made.len();
                self.workers[index].unsent.extend(made);
                return true;
            }
            if self.workers[index].called == self.chunk || message == self.outcomes.len() {
                self.send(index, true);
                return true;
            }
            let entered = self.gate.enter(false).or_else(|| {
                self.send(index, false);
                self.gate.enter(number == self.front)
            });
            let Some(mut counted) = entered else { return false };
            let left = (self.chunk - self.workers[index].called).min(self.outcomes.len() - message);
            let mut messages = 1;
            while messages < self.batch.min(left)
                && let Some(more) = self.gate.enter(false)
            {
                counted += more;
                messages += 1;
            }
            self.workers[index].calling = Some((counted, messages));
            true
        }

        /// The pipeline takes over what has arrived and sets the room.
        fn balance(&mut self) -> bool {
            let taken: usize = self.arrived.iter().sum();
            let moved = !self.arrived.is_empty();
            self.waiting.append(&mut self.arrived);
            self.gate.taken_over(taken);
            let used: usize = self.waiting.iter().sum();
            self.gate
                .allow(self.window.saturating_sub(used), self.waiting.is_empty());
            moved
        }

        fn publish(&mut self) -> bool {
            let published = self.waiting.pop_front().is_some();
            self.done += usize::from(published);
            published
        }

        fn step(&mut self, which: usize) -> bool {
            let workers = self.workers.len();
            let moved = match which % (workers + 2) {
                0 => self.balance(),
                1 => self.publish(),
                worker => self.work(worker - 2),
            };
            let unsent = self.workers.iter().flat_map(|worker| &worker.unsent);
            let early = self.early.iter().flat_map(|(outcomes, _)| outcomes);
            let there: usize = unsent.chain(early).chain(&self.arrived).chain(&self.waiting).sum();
            self.most = self.most.max(there);
            moved
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Whatever each message becomes and whichever worker is fast or slow, everything gets through. Memory stays
        /// within the limit at all times, except for one unexpectedly large outcome per thread, what came before it in
        /// the same call, and the one that goes alone.
        #[test]
        fn all_gets_through_within_the_bound(
            outcomes in vec(prop_oneof![8 => 1..2_000_usize, 2 => 1..200_000_usize], 1..200),
            chunk in 1..20_usize,
            batch in 1..20_usize,
            workers in 1..6_usize,
            window in 1_000..300_000_usize,
            steps in vec(0..64_usize, 1..400),
        ) {
            let (count, largest) = (outcomes.len(), outcomes.iter().copied().max().unwrap_or_default());
            let mut world = World::new(outcomes, chunk, batch, workers, window);
            for which in steps {
                world.step(which);
            }
            // From here on everyone gets a turn, and someone has something to do until everything is done.
            let mut idle = 0;
            for which in 0.. {
                idle = if world.step(which) { 0 } else { idle + 1 };
                if world.done == count {
                    break;
                }
                prop_assert!(idle <= 2 * (workers + 2), "{} of {count} got through, and nobody can go on", world.done);
            }
            prop_assert!(
                world.most <= window + (workers + 1) * largest + workers * ENOUGH,
                "{} bytes where {window} are allowed; the largest is {largest}", world.most
            );
        }
    }
}
