//! What the settings of the relay's consumer mean. No I/O.

use std::time::Duration;

use async_nats::jetstream::consumer::{self, DeliverPolicy, pull};
use time::OffsetDateTime;

use crate::config::Deliver;

/// JetStream's error code for a stream that does not exist (`JSStreamNotFoundErr`).
pub(super) const STREAM_NOT_FOUND: u64 = 10059;

/// The ack_wait of a narrow consumer. A pending message comes this long after its last delivery, or 100 ms after the
/// consumer was narrowed, whichever is later.
pub(super) const SHORT_ACK_WAIT: Duration = Duration::from_millis(250);

/// Returns true if these are the settings of a consumer whose hold-back was interrupted.
pub(super) fn is_narrow(consumer: &pull::Config) -> bool {
    consumer.ack_wait == SHORT_ACK_WAIT && consumer.max_ack_pending == 1
}

/// Returns where a new consumer begins.
pub(super) fn deliver_policy(deliver: Deliver) -> DeliverPolicy {
    match deliver {
        Deliver::New => DeliverPolicy::New,
        Deliver::All => DeliverPolicy::All,
        Deliver::Sequence(start_sequence) => DeliverPolicy::ByStartSequence { start_sequence },
        Deliver::Since(time) => DeliverPolicy::ByStartTime {
            // Both types hold the years -9999 to 9999.
            start_time: OffsetDateTime::from_unix_timestamp_nanos(time.as_nanosecond())
                .unwrap_or(OffsetDateTime::UNIX_EPOCH),
        },
    }
}

/// Returns the most messages that one pull may ask for. The server's limit (`max_request_batch`) becomes a limit of
/// every consumer.
pub(super) fn max_batch(consumer: &consumer::Config) -> usize {
    match usize::try_from(consumer.max_batch) {
        Ok(0) | Err(_) => usize::MAX,
        Ok(limit) => limit,
    }
}
