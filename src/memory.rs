//! Bounds the memory of everything that passes through the relay: messages, the publications made of them, and the
//! requests that carry those. All pipelines share one bound, `memory_limit`. It does not cover the relay itself,
//! compiled code or the guests' own memory. It does cover the processes that compile modules: while they run, the
//! pipelines get less.
//!
//! Half of the bound is divided evenly: each account may always use its share. The other half goes to whoever needs it,
//! but an account gets no more of it than it leaves free. One greedy module takes a quarter of the bound beside its
//! share, two take a third of that half each, and some is always left for the next one. (Choudhury and Hahne, "Dynamic
//! queue length thresholds for shared-memory packet switches", 1998.)
//!
//! The bound can be exceeded: a single message must always get through, however large it is. Its pipeline passes that
//! amount as `needed`.

mod machine;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;

pub use machine::{DefaultLimit, default_limit};

/// The memory that all pipelines share. A clone is the same memory.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Mutex<Ledger>>);

/// The part of the memory that one pipeline holds. Dropping the account gives all of it back.
#[derive(Debug)]
pub struct Account {
    memory: Memory,
    id: usize,
}

/// What a pipeline may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// The bytes that the pipeline holds now: all it needed, and as much of what it wanted as there was.
    pub held: usize,
    /// The bytes that it could hold in addition.
    pub free: usize,
}

impl Memory {
    /// Creates a bound of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self::beside(limit, || 0)
    }

    /// Creates a bound of `limit` bytes, less the bytes that `others` returns.
    pub fn beside(limit: usize, others: fn() -> usize) -> Self {
        Self(Arc::new(Mutex::new(Ledger::new(limit, others))))
    }

    pub fn limit(&self) -> usize {
        self.ledger().limit
    }

    /// Returns the bytes that all accounts and the others hold. This may exceed the limit by one message and its
    /// publications for each account.
    pub fn used(&self) -> usize {
        let mut ledger = self.ledger();
        ledger.look();
        ledger.used.saturating_add(ledger.taken)
    }

    pub fn open(&self) -> Account {
        Account {
            id: self.ledger().open(),
            memory: self.clone(),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    /// Holds `needed` bytes regardless of the bound, and up to `wanted` bytes as far as there is room. This replaces
    /// what the account held before.
    pub fn hold(&self, needed: usize, wanted: usize) -> Holding {
        self.memory.ledger().hold(self.id, needed, wanted)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.memory.ledger().close(self.id);
    }
}

/// Tracks which account holds how much.
#[derive(Debug)]
struct Ledger {
    limit: usize,
    others: fn() -> usize,
    /// The last result of `others`.
    taken: usize,
    accounts: Slab<usize>,
    /// The bytes that the accounts hold.
    used: usize,
    /// The bytes that the accounts hold beyond their shares.
    above: usize,
}

impl Ledger {
    fn new(limit: usize, others: fn() -> usize) -> Self {
        Self {
            limit,
            others,
            taken: others(),
            accounts: Slab::new(),
            used: 0,
            above: 0,
        }
    }

    /// Asks again how much the others hold.
    fn look(&mut self) {
        let taken = (self.others)();
        if taken != self.taken {
            self.taken = taken;
            self.count();
        }
    }

    /// Returns the bytes for all accounts together.
    fn room(&self) -> usize {
        self.limit.saturating_sub(self.taken)
    }

    fn open(&mut self) -> usize {
        let id = self.accounts.insert(0);
        self.count();
        id
    }

    fn close(&mut self, id: usize) {
        self.accounts.remove(id);
        self.count();
    }

    /// Updates the sums after the shares have changed.
    fn count(&mut self) {
        let share = self.share();
        self.used = self.accounts.iter().map(|(_, held)| held).sum();
        self.above = self.accounts.iter().map(|(_, held)| held.saturating_sub(share)).sum();
    }

    /// Returns the bytes that each account always gets.
    fn share(&self) -> usize {
        self.room() / 2 / self.accounts.len().max(1)
    }

    fn hold(&mut self, id: usize, needed: usize, wanted: usize) -> Holding {
        self.look();
        let (share, pool) = (self.share(), self.room() / 2);
        let before = self.accounts[id];
        let others = self.above - before.saturating_sub(share);
        let allowed = share + pool.saturating_sub(others) / 2;
        let held = needed.max(wanted.min(allowed));
        self.accounts[id] = held;
        self.used = self.used - before + held;
        self.above = others + held.saturating_sub(share);
        Holding {
            held,
            free: allowed.saturating_sub(held),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const MIB: usize = 1 << 20;

    /// Takes as much as the account gets.
    fn greedy(account: &Account) -> usize {
        account.hold(0, usize::MAX).held
    }

    #[test]
    fn one_alone_may_use_three_quarters_and_leaves_the_rest_for_the_next() {
        let memory = Memory::new(256 * MIB);
        let first = memory.open();
        assert_eq!(greedy(&first), 192 * MIB);
        let second = memory.open();
        assert_eq!(second.hold(0, 64 * MIB).held, 64 * MIB, "its share is there at once");
        assert_eq!(memory.used(), 256 * MIB);
        drop(second);
        assert_eq!(memory.used(), 192 * MIB);
    }

    #[test]
    fn a_greedy_neighbour_does_not_touch_a_share() {
        let memory = Memory::new(256 * MIB);
        let accounts: Vec<_> = (0..8).map(|_| memory.open()).collect();
        for _ in 0..100 {
            for account in &accounts[1..] {
                greedy(account);
            }
        }
        assert_eq!(accounts[0].hold(0, 16 * MIB).held, 16 * MIB);
        assert!(memory.used() <= memory.limit());
    }

    #[test]
    fn what_is_needed_is_held_whatever_the_bound_says() {
        let memory = Memory::new(64 * MIB);
        let (first, second) = (memory.open(), memory.open());
        assert_eq!(
            first.hold(100 * MIB, 200 * MIB),
            Holding {
                held: 100 * MIB,
                free: 0
            }
        );
        assert_eq!(
            second.hold(0, 16 * MIB).held,
            16 * MIB,
            "the neighbour still has its share"
        );
        assert_eq!(memory.used(), 116 * MIB);
    }

    thread_local! {
        static TAKEN: Cell<usize> = const { Cell::new(0) };
    }

    fn taken() -> usize {
        TAKEN.get()
    }

    #[test]
    fn what_others_hold_is_taken_off_while_they_do() {
        let memory = Memory::beside(256 * MIB, taken);
        let account = memory.open();
        assert_eq!(greedy(&account), 192 * MIB);
        TAKEN.set(128 * MIB);
        assert_eq!(memory.used(), 320 * MIB, "what is held can't be taken back");
        assert_eq!(greedy(&account), 96 * MIB, "but it holds less the next time");
        assert_eq!(memory.used(), 224 * MIB);
        TAKEN.set(300 * MIB);
        assert_eq!(greedy(&account), 0);
        assert_eq!(account.hold(MIB, MIB).held, MIB, "a message can go on alone");
        TAKEN.set(0);
        assert_eq!(greedy(&account), 192 * MIB);
    }

    proptest! {
        /// Whatever the accounts want, together they stay within the bound, and each one gets its share.
        #[test]
        fn the_bound_is_kept_and_shares_are_certain(
            limit in 1..1_000_usize,
            wishes in vec((0..10_usize, 0..2_000_usize, 0..20_u8), 1..300),
        ) {
            let limit = limit * 1_000;
            TAKEN.set(0);
            let mut ledger = Ledger::new(limit, taken);
            let mut open = vec![ledger.open()];
            for (which, wanted, kind) in wishes {
                match kind {
                    0 if open.len() < 10 => open.push(ledger.open()),
                    1 if open.len() > 1 => ledger.close(open.swap_remove(which % open.len())),
                    2 => {
                        TAKEN.set(wanted * 1_000);
                        ledger.look();
                    }
                    _ => {
                        let id = open[which % open.len()];
                        let (share, wanted) = (ledger.share(), wanted * 1_000);
                        // A new account makes the shares smaller. Until the others give something back, its own share
                        // may exceed the bound.
                        let settled = ledger.above <= ledger.room() / 2;
                        let holding = ledger.hold(id, 0, wanted);
                        prop_assert!(holding.held >= wanted.min(share), "less than its share");
                        prop_assert!(holding.held <= wanted);
                        if settled {
                            prop_assert!(ledger.used <= ledger.room(), "{} of {}", ledger.used, ledger.room());
                        }
                    }
                }
                let (used, above) = (ledger.used, ledger.above);
                ledger.count();
                prop_assert_eq!((used, above), (ledger.used, ledger.above), "the sums are those of the accounts");
            }
        }
    }
}
