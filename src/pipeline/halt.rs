//! Reports a halted pipeline.

use std::time::Duration;

use jiff::{Timestamp, Unit};
use tracing::{error, warn};

use crate::status::{ModuleBoard, State};

/// Reports why the pipeline is halted and how it continues. `again` is true if it was trying out whether the last halt
/// is over.
pub(super) fn say(board: &ModuleBoard, reason: &str, pause: Option<Duration>, again: bool) {
    let module = board.name();
    let Some(pause) = pause else {
        error!(
            module,
            reason,
            "the pipeline is halted until you change its .wasm or its .toml, or run `slipring modules retry`; no \
             message is lost"
        );
        board.set_state(State::Halted, Some(reason.to_owned()));
        return;
    };
    let pause_s = pause.as_secs();
    if again {
        warn!(module, reason, pause_s, "the pipeline is still halted, retrying");
    } else {
        error!(
            module,
            reason,
            pause_s,
            "the pipeline is halted and retries by itself, one message at a time; `slipring modules retry` retries at \
             once; no message is lost"
        );
    }
    let next = Timestamp::now() + pause;
    let next = next.round(Unit::Second).unwrap_or(next);
    board.set_state(State::Halted, Some(format!("{reason}; the next retry is at {next}")));
}
