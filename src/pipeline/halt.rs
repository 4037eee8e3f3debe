//! When a halted pipeline tries again by itself, and what is said of that.

use std::time::Duration;

use jiff::{Timestamp, Unit};
use tracing::{error, warn};

use super::Halted;
use crate::status::{ModuleBoard, State};

const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(60);

/// How long to wait before the next try: twice as long after each one that failed.
#[derive(Debug, Default)]
pub(super) struct Patience {
    failures: u32,
}

impl Patience {
    /// After a halt. `again`: it was met while the pipeline tried whether the last one is over.
    pub(super) fn next(&mut self, again: bool) -> Duration {
        self.failures = if again { self.failures + 1 } else { 0 };
        FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST)
    }
}

/// Says why the pipeline is halted and how it goes on. `again` as above.
pub(super) fn say(board: &ModuleBoard, halted: &Halted, pause: Option<Duration>, again: bool) {
    let (module, reason) = (board.name(), &halted.reason);
    let Some(pause) = pause else {
        error!(
            module,
            reason,
            "the pipeline is halted until its module or its .toml is replaced, or `slipring modules retry`; nothing is lost"
        );
        board.set_state(State::Halted, Some(reason.clone()));
        return;
    };
    let pause_s = pause.as_secs();
    if again {
        warn!(module, reason, pause_s, "the pipeline is still halted, and tries again");
    } else {
        error!(
            module,
            reason,
            pause_s,
            "the pipeline is halted, and tries again by itself, one message at a time; `slipring modules retry` does so at once; nothing \
             is lost"
        );
    }
    let next = Timestamp::now() + pause;
    let next = next.round(Unit::Second).unwrap_or(next);
    board.set_state(State::Halted, Some(format!("{reason}; the next try is at {next}")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_longer_each_time_until_a_try_went_well() {
        let mut patience = Patience::default();
        let pauses = [false, true, true, true, true, true, false].map(|again| patience.next(again).as_secs());
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60, 5]);
    }
}
