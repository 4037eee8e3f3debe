//! Checks whether an epoch is still valid. The consumer numbers its deliveries, and they must come without a gap.

/// The consumer sequences of one epoch.
#[derive(Debug)]
pub struct Contiguity {
    next: u64,
}

/// A delivery is not the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misplaced {
    pub expected: u64,
    pub found: u64,
}

impl Contiguity {
    /// `delivered` is the consumer sequence of the last delivery before the epoch, or 0 after a reset.
    pub fn after(delivered: u64) -> Self {
        Self { next: delivered + 1 }
    }

    /// Checks that a delivery is the next one. Otherwise a delivery in between went elsewhere or got lost, and the
    /// following ones must not overtake it.
    pub fn check(&mut self, consumer_sequence: u64) -> Result<(), Misplaced> {
        if consumer_sequence != self.next {
            return Err(Misplaced {
                expected: self.next,
                found: consumer_sequence,
            });
        }
        self.next += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_next_one_may_come() {
        let mut contiguity = Contiguity::after(4);
        assert_eq!(contiguity.check(5), Ok(()));
        assert_eq!(contiguity.check(6), Ok(()));
        for found in [5, 6, 8] {
            assert_eq!(contiguity.check(found), Err(Misplaced { expected: 7, found }));
        }
        assert_eq!(contiguity.check(7), Ok(()));
    }
}
