//! What a pipeline has to say and has counted, where people find it: in the log, in the status and in the metrics.

use slipring_core::message::Stage;
use slipring_core::pipeline::{Counters, Gauges, Notice};
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
        } => warn!(
            module,
            stream = &*message.stream,
            sequence = message.sequence,
            subject = message.subject,
            stage = %rejection.stage,
            code = &*rejection.code,
            channel = rejection.channel.as_deref(),
            reason = rejection.reason,
            not_logged,
            "rejected a message"
        ),
        Notice::Stuck {
            message,
            stuck: Stuck { failures, reason, .. },
        } => warn!(
            module,
            stream = &*message.stream,
            sequence = message.sequence,
            subject = message.subject,
            attempts = failures,
            reason,
            "a publication fails each time while others go through; it is tried again alone, and only its channels wait"
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
            "left out messages older than `max_age`; if they were fresh, compare this machine's clock with that of nats-server"
        ),
        Notice::Trouble(trouble) => {
            match &trouble {
                Some(trouble) => warn!(module, trouble, "publishing is paused"),
                None => info!(module, "publishing goes on"),
            }
            board.set_trouble(trouble);
        }
    }
}

/// Most events change a few of them.
pub(super) fn counters(board: &ModuleBoard, counters: Counters) {
    let metrics = board.metrics();
    let Counters {
        received,
        dropped,
        expired,
        rejected_in_transform,
        rejected_in_publish,
        published,
        conflated,
        retried,
        dead_lettered,
        acked,
        settled,
    } = counters;
    for (more, counter) in [
        (received, &metrics.received),
        (dropped, &metrics.dropped),
        (expired, &metrics.expired),
        (rejected_in_transform, metrics.rejections(Stage::Transform)),
        (rejected_in_publish, metrics.rejections(Stage::Publish)),
        (published, &metrics.publications),
        (conflated, &metrics.publications_conflated),
        (retried, &metrics.publish_retries),
        (dead_lettered, &metrics.dead_letters),
        (acked, &metrics.acks),
    ] {
        if more > 0 {
            counter.inc_by(more);
        }
    }
    for age in settled {
        metrics.settled(age);
    }
}

pub(super) fn gauges(board: &ModuleBoard, gauges: Gauges) {
    let Gauges { messages, bytes, lag } = gauges;
    board.metrics().window(messages, bytes);
    if let Some(lag) = lag {
        board.metrics().lag(lag.messages, lag.age);
    }
}
