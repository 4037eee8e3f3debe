//! Reports a pipeline's notices in the log, in the status and in the metrics.

use std::time::Instant;

use slipring_core::pipeline::{Gauges, Notice};
use slipring_core::place::Place;
use slipring_core::publish::Stuck;
use tracing::{info, warn};

use crate::status::ModuleBoard;

pub(super) fn notice(board: &ModuleBoard, notice: Notice) {
    let module = board.name();
    match notice {
        Notice::Rejected {
            message,
            rejection,
            not_logged,
        } => {
            warn!(
                module,
                stream = &*message.stream,
                sequence = %message.place,
                subject = message.subject,
                stage = %rejection.stage,
                code = &*rejection.code,
                channel = rejection.channel.as_deref(),
                reason = rejection.reason,
                not_logged,
                "rejected a message"
            );
            board.rejected(&rejection);
        }
        Notice::Stuck {
            message,
            stuck: Stuck { failures, reason, .. },
        } => warn!(
            module,
            stream = &*message.stream,
            sequence = %message.place,
            subject = message.subject,
            attempts = failures,
            reason,
            "a publication keeps failing while others succeed; it is retried alone, and only its channels wait"
        ),
        Notice::Expired {
            messages,
            youngest,
            oldest,
        } => warn!(
            module,
            messages,
            youngest_seconds = youngest.as_secs_f64(),
            oldest_seconds = oldest.as_secs_f64(),
            "skipped messages older than `max_age`; if they were recent, compare this machine's clock with that of \
             nats-server"
        ),
        Notice::Trouble(trouble) => {
            match &trouble {
                Some(trouble) => warn!(module, trouble, "publishing is paused"),
                None => info!(module, "publishing resumed"),
            }
            board.set_trouble(trouble);
        }
    }
}

/// `settled_through` is the place up to which everything is settled. `given` is true if messages have been
/// delivered since the last call.
pub(super) fn gauges(board: &ModuleBoard, now: Instant, gauges: Gauges, settled_through: Option<Place>, given: bool) {
    let Gauges { messages, bytes, lag } = gauges;
    board.metrics().window(messages, bytes);
    if let Some(lag) = lag {
        board.worked(now, settled_through, lag.age, given.then_some(lag.messages));
    }
}
