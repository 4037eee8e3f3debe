//! The result of one measured way.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::arrived::Arrived;
use crate::clock::Drained;
use crate::meter::Used;

#[derive(Debug)]
pub struct Measured {
    pub messages: u64,
    pub elapsed: Duration,
    /// Nothing was left when the clock stopped.
    pub all: bool,
    pub arrived: Arrived,
    pub used: BTreeMap<String, Used>,
    /// Publications in a request of the relay, on average.
    pub per_request: Option<f64>,
}

impl Measured {
    pub fn new(drained: Drained, arrived: Arrived) -> Self {
        Self {
            messages: drained.messages,
            elapsed: drained.elapsed,
            all: drained.all,
            arrived,
            used: drained.used,
            per_request: None,
        }
    }
}
