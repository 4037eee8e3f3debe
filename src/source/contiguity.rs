//! Whether an epoch still holds: its deliveries are numbered by the consumer, and must come without a gap.

use super::EpochEnd;

/// The consumer sequences of one epoch. No I/O, so that it can be simulated.
#[derive(Debug)]
pub struct Contiguity {
    next: u64,
}

impl Contiguity {
    /// `delivered` is the consumer sequence of the last delivery before the epoch; 0 after a reset.
    pub fn after(delivered: u64) -> Self {
        Self { next: delivered + 1 }
    }

    /// A delivery has come. One that is not the next means that something between was delivered elsewhere or got lost, and what
    /// follows may not overtake it.
    pub fn check(&mut self, consumer_sequence: u64) -> Result<(), EpochEnd> {
        if consumer_sequence != self.next {
            return Err(EpochEnd::Gap {
                expected: self.next,
                found: consumer_sequence,
            });
        }
        self.next += 1;
        Ok(())
    }
}
