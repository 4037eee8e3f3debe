//! How many connections are open, and which one gives way to a new one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// A bound on the connections, and the open ones, oldest first.
#[derive(Debug)]
pub(super) struct Seats {
    free: Arc<Semaphore>,
    taken: VecDeque<Arc<Seat>>,
}

/// The place of one connection. The connection drops its [`Taken`] when it ends.
#[derive(Debug, Default)]
pub(super) struct Seat {
    is_answering: AtomicBool,
    /// The answer lasts until its client leaves.
    is_lasting: AtomicBool,
    /// Asks the connection to end.
    wanted: CancellationToken,
}

#[derive(Debug)]
pub(super) struct Taken {
    pub seat: Arc<Seat>,
    _permit: OwnedSemaphorePermit,
}

impl Seats {
    pub fn new(number: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(number)),
            taken: VecDeque::new(),
        }
    }

    /// Takes a seat. If there is none, the connection that has been open for the longest time without a request has to
    /// go, or else the oldest one with an answer that lasts, or else the oldest one when its request is answered. So
    /// clients that only hold connections do not keep probes out.
    pub async fn take(&mut self) -> Taken {
        // The connection that ended had the only other reference.
        self.taken.retain(|seat| Arc::strong_count(seat) > 1);
        if self.free.available_permits() == 0 {
            let oldest = |gives_way: fn(&Seat) -> bool| self.taken.iter().position(|seat| gives_way(seat));
            let idle = oldest(|seat| !seat.is_answering() && !seat.is_lasting());
            let oldest = idle.or_else(|| oldest(|seat| !seat.is_answering()));
            if let Some(seat) = self.taken.remove(oldest.unwrap_or_default()) {
                seat.wanted.cancel();
            }
        }
        let seat = Arc::new(Seat::default());
        let permit = Arc::clone(&self.free).acquire_owned().await;
        self.taken.push_back(Arc::clone(&seat));
        Taken {
            seat,
            _permit: permit.expect("nobody closes the semaphore"),
        }
    }
}

impl Seat {
    /// Returns once a new connection needs the seat.
    pub async fn wanted(&self) {
        self.wanted.cancelled().await;
    }

    pub fn is_answering(&self) -> bool {
        self.is_answering.load(Ordering::Relaxed)
    }

    /// Marks the connection as answering until the guard is dropped.
    pub fn answering(&self) -> Answering<'_> {
        self.is_answering.store(true, Ordering::Relaxed);
        Answering(self)
    }

    pub fn is_lasting(&self) -> bool {
        self.is_lasting.load(Ordering::Relaxed)
    }

    /// Marks the answer of the connection as one that lasts, until the guard is dropped.
    pub fn lasting(seat: &Arc<Self>) -> Lasting {
        seat.is_lasting.store(true, Ordering::Relaxed);
        Lasting(Arc::clone(seat))
    }
}

pub(super) struct Answering<'a>(&'a Seat);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.is_answering.store(false, Ordering::Relaxed);
    }
}

pub(super) struct Lasting(Arc<Seat>);

impl Drop for Lasting {
    fn drop(&mut self) {
        self.0.is_lasting.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_oldest_without_a_request_gives_way() {
        let mut seats = Seats::new(3);
        let first = seats.take().await;
        let second = seats.take().await;
        let third = seats.take().await;
        let answering = first.seat.answering();
        assert!(seats.take().now_or_never().is_none(), "it waits");
        let wanted = |taken: &Taken| taken.seat.wanted.is_cancelled();
        assert!(!wanted(&first) && wanted(&second) && !wanted(&third));
        drop(second);
        let fourth = seats.take().await;
        assert!(!wanted(&first) && !wanted(&third) && !wanted(&fourth));

        drop(answering);
        assert!(seats.take().now_or_never().is_none());
        assert!(wanted(&first) && !wanted(&third));
    }

    #[tokio::test]
    async fn if_all_answer_the_oldest_gives_way_afterwards() {
        let mut seats = Seats::new(2);
        let first = seats.take().await;
        let second = seats.take().await;
        let _both = (first.seat.answering(), second.seat.answering());
        assert!(seats.take().now_or_never().is_none());
        assert!(first.seat.wanted.is_cancelled() && !second.seat.wanted.is_cancelled());
    }

    #[tokio::test]
    async fn an_answer_that_lasts_gives_way_before_one_that_does_not() {
        let mut seats = Seats::new(3);
        let first = seats.take().await;
        let second = seats.take().await;
        let third = seats.take().await;
        let wanted = |taken: &Taken| taken.seat.wanted.is_cancelled();
        let _answering = first.seat.answering();
        let lasting = Seat::lasting(&second.seat);
        assert!(seats.take().now_or_never().is_none());
        assert!(
            !wanted(&first) && !wanted(&second) && wanted(&third),
            "the third is idle"
        );
        drop(third);

        let fourth = seats.take().await;
        let _fourth = fourth.seat.answering();
        assert!(seats.take().now_or_never().is_none());
        assert!(!wanted(&first) && wanted(&second) && !wanted(&fourth));
        drop(lasting);
        assert!(!second.seat.is_lasting());
    }

    #[tokio::test]
    async fn who_has_gone_is_forgotten() {
        let mut seats = Seats::new(2);
        for _ in 0..100 {
            drop(seats.take().await);
        }
        assert!(seats.taken.len() <= 2);
    }
}
