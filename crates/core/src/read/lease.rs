//! The right to publish, which expires by itself. The server's pin protects deliveries from a second relay, but not
//! what goes to Centrifugo.

use std::time::{Duration, Instant};

/// The time until which no other relay can have been pinned. It counts from when a renewal was sent, so it ends before
/// the server's own time does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    until: Instant,
    ttl: Duration,
}

impl Lease {
    /// The pin was given in answer to a pull sent at this time.
    pub fn given(sent: Instant, ttl: Duration) -> Self {
        Self { until: sent + ttl, ttl }
    }

    /// Returns true if no other relay can have been pinned.
    pub fn is_valid(&self, now: Instant) -> bool {
        now < self.until
    }

    /// Returns when the lease ends unless it is renewed.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// The server accepted a renewal sent at this time. It also accepts one without a pin, for example after a restart,
    /// so the answer counts only while the lease is still valid. Returns true if it counts.
    pub fn renewed(&mut self, now: Instant, sent: Instant) -> bool {
        let held = self.is_valid(now);
        if held {
            self.until = self.until.max(sent + self.ttl);
        }
        held
    }

    /// The server reports that another relay is pinned, or none.
    pub fn lost(&mut self, now: Instant) {
        self.until = self.until.min(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn it_counts_from_when_the_renewal_was_sent() {
        let start = Instant::now();
        let mut lease = Lease::given(start, TTL);
        assert!(lease.renewed(after(start, 8), after(start, 5)));
        assert_eq!(lease.until(), after(start, 15));
        assert!(lease.is_valid(after(start, 14)) && !lease.is_valid(after(start, 15)));
    }

    #[test]
    fn an_answer_to_an_earlier_renewal_shortens_nothing() {
        let start = Instant::now();
        let mut lease = Lease::given(start, TTL);
        lease.renewed(after(start, 8), after(start, 7));
        lease.renewed(after(start, 9), after(start, 5));
        assert_eq!(lease.until(), after(start, 17));
    }

    #[test]
    fn what_ended_is_not_renewed() {
        let start = Instant::now();
        let mut lease = Lease::given(start, TTL);
        assert!(!lease.renewed(after(start, 10), after(start, 9)));
        assert!(!lease.is_valid(after(start, 10)));
    }

    #[test]
    fn one_that_is_lost_is_over_at_once_and_stays_so() {
        let start = Instant::now();
        let mut lease = Lease::given(start, TTL);
        lease.lost(after(start, 3));
        assert!(!lease.is_valid(after(start, 3)));
        lease.lost(after(start, 20));
        assert_eq!(lease.until(), after(start, 3), "it does not begin again");
        assert!(!lease.renewed(after(start, 4), after(start, 3)));
    }
}
