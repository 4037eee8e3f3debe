//! Chooses which of Centrifugo's endpoints get the requests of this module. Other modules decide for themselves,
//! because a fault of one module's requests says nothing about another's.

#[derive(Debug)]
pub(super) struct Endpoints {
    count: usize,
    current: usize,
    /// Number of endpoints in a row that failed since the last success of any.
    failed: usize,
}

impl Endpoints {
    pub(super) fn new(count: usize) -> Self {
        Self {
            count: count.max(1),
            current: 0,
            failed: 0,
        }
    }

    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// Maps each number to another endpoint, as far as there are others.
    pub(super) fn other(&self, number: u32) -> usize {
        (self.current + number as usize) % self.count
    }

    /// A request to this endpoint failed. The next request goes to the next endpoint. Returns true if that one has not
    /// failed yet.
    pub(super) fn failed(&mut self, endpoint: usize) -> bool {
        // When several requests fail together, only the first one moves on to the next endpoint.
        if endpoint == self.current {
            self.current = (endpoint + 1) % self.count;
            self.failed += 1;
        }
        self.failed < self.count
    }

    /// Publications went through this endpoint while nothing went through elsewhere, or while others went through as
    /// well.
    pub(super) fn succeeded(&mut self, endpoint: usize, elsewhere_nothing: bool) {
        self.failed = 0;
        if elsewhere_nothing {
            self.current = endpoint;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_turns_to_the_next_until_all_have_failed() {
        let mut endpoints = Endpoints::new(3);
        assert!(endpoints.failed(0));
        assert!(endpoints.failed(0), "sent before the turn");
        assert_eq!(endpoints.current(), 1);
        assert!(endpoints.failed(1));
        assert!(!endpoints.failed(2), "all have failed");
        assert_eq!(endpoints.current(), 0);
        endpoints.succeeded(0, false);
        assert!(endpoints.failed(0));
    }

    #[test]
    fn a_single_one_is_always_the_one() {
        let mut endpoints = Endpoints::new(1);
        assert!(!endpoints.failed(0));
        assert_eq!((endpoints.current(), endpoints.other(7)), (0, 0));
    }

    #[test]
    fn where_something_went_through_is_where_the_next_ones_go() {
        let mut endpoints = Endpoints::new(2);
        endpoints.failed(0);
        endpoints.succeeded(0, true);
        assert_eq!(endpoints.current(), 0);
    }
}
