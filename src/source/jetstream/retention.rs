//! Asks a stream what it holds, to find out what its limits removed before it could be read. [`slipring_core::read`]
//! decides what that means.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy, Stream};
use slipring_core::read::{Gap, Held, Keeps, LARGEST_MESSAGE, Retention};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::debug;

use super::memory::Memory;
use crate::clock;

/// How often a stream is asked what it still holds.
const ASK_INTERVAL: Duration = Duration::from_secs(15);

/// The shortest pause between questions about gaps that are most likely messages of other subjects.
const REST: Duration = Duration::from_secs(1);

/// Gaps that may wait until the stream has been asked. More come at once only if a great many messages are deleted by
/// hand.
const WAITING_GAPS: usize = 4_096;

/// How often to ask in vain about the gaps of an epoch that is over. The stream may be gone for good.
const MAX_FAILURES: usize = 20;

/// Returns how the stream loses messages. Returns `None` if it has no limits, or if acknowledged messages leave it too:
/// then a gap tells nothing about losses.
pub(super) fn keeps(stream: &stream::Config, subjects: &[String]) -> Option<Keeps> {
    let limit = |limit: i64| u64::try_from(limit).ok().filter(|limit| *limit > 0);
    // Otherwise a full stream refuses new messages.
    let drops = stream.discard == DiscardPolicy::Old;
    let (max_messages, max_bytes) = (limit(stream.max_messages), limit(stream.max_bytes));
    let (max_messages, max_bytes) = (max_messages.filter(|_| drops), max_bytes.filter(|_| drops));
    let max_age = Some(stream.max_age).filter(|age| !age.is_zero());
    let limited = max_messages.is_some() || max_bytes.is_some() || max_age.is_some();
    if stream.retention != RetentionPolicy::Limits || !limited {
        return None;
    }
    // A transform stores messages under other subjects than the stream's own, and sources have subjects of their own.
    let plain = stream.subject_transform.is_none() && stream.sources.as_ref().is_none_or(Vec::is_empty);
    let covered = |held: &String| subjects.iter().any(|subject| crate::config::covers(subject, held));
    let reads_all = subjects.is_empty()
        || subjects.iter().any(|subject| subject == ">")
        || (plain && !stream.subjects.is_empty() && stream.subjects.iter().all(covered));
    let only_limits = stream.mirror.is_none()
        && stream.max_messages_per_subject <= 0
        && !stream.allow_rollup
        && !stream.allow_message_ttl
        && stream.subject_delete_marker_ttl.is_none_or(|ttl| ttl.is_zero())
        && !stream.allow_message_schedules;
    Some(Keeps {
        max_messages,
        max_bytes,
        max_age,
        largest: u64::try_from(stream.max_message_size)
            .ok()
            .filter(|size| *size > 0)
            .map_or(LARGEST_MESSAGE, |size| size + 1_024),
        all: reads_all && only_limits,
    })
}

pub(super) fn held(state: &stream::State) -> Held {
    Held {
        first: state.first_sequence,
        last: state.last_sequence,
        messages: state.messages,
        bytes: state.bytes,
        deleted: state.deleted_count.unwrap_or(0),
        newest: u64::try_from(state.last_timestamp.unix_timestamp_nanos()).unwrap_or(0),
    }
}

/// Asks the stream what became of the messages in a gap.
#[derive(Debug)]
pub(super) struct Lookout {
    gaps: mpsc::Sender<Gap>,
    /// The first sequence that the stream held when it was last asked.
    oldest: watch::Receiver<u64>,
    /// When it may be asked about an unlikely gap.
    rested: Instant,
}

impl Lookout {
    /// Runs until it is dropped. If no gap can be a loss, it asks nothing and finds nothing.
    pub(super) fn over(stream: Stream, subjects: Vec<String>, retention: &Retention, memory: Arc<Memory>) -> Self {
        let (gaps, to_look_at) = mpsc::channel(WAITING_GAPS);
        let (sender, oldest) = watch::channel(stream.cached_info().state.first_sequence);
        if retention.is_watched() {
            tokio::spawn(look_out(stream, subjects, memory, to_look_at, sender));
        }
        Self {
            gaps,
            oldest,
            rested: Instant::now(),
        }
    }

    pub(super) fn look_at(&mut self, gap: Gap, now: Instant) {
        if !gap.likely {
            if now < self.rested && *self.oldest.borrow() <= gap.first {
                return;
            }
            self.rested = now + REST;
        }
        // The queue is full. Limits do not make so many gaps at once.
        let _ = self.gaps.try_send(gap);
    }
}

async fn look_out(
    stream: Stream,
    subjects: Vec<String>,
    memory: Arc<Memory>,
    mut gaps: mpsc::Receiver<Gap>,
    oldest: watch::Sender<u64>,
) {
    let mut open: Vec<Gap> = Vec::new();
    let mut failures = 0;
    let found = stream.cached_info();
    if let Some(keeps) = keeps(&found.config, &subjects) {
        memory.seen().look(keeps, held(&found.state));
    }
    loop {
        tokio::select! {
            () = tokio::time::sleep(ASK_INTERVAL) => {}
            received = gaps.recv_many(&mut open, WAITING_GAPS), if open.is_empty() => if received == 0 { return; },
        }
        let info = match stream.get_info().await {
            Ok(info) => info,
            // Ask again about the same gaps, even if the epoch is over: the next epoch begins after them.
            Err(error) => {
                failures += 1;
                if gaps.is_closed() && (open.is_empty() || failures > MAX_FAILURES) {
                    return;
                }
                debug!(
                    error = &error as &dyn std::error::Error,
                    "cannot look up what the stream holds"
                );
                continue;
            }
        };
        failures = 0;
        let state = held(&info.state);
        if let Some(keeps) = keeps(&info.config, &subjects) {
            let seen = *memory.seen();
            for gap in open.drain(..) {
                if let Some(missed) = keeps.judge(gap, state, seen, now()) {
                    memory.found(missed);
                }
            }
            memory.seen().look(keeps, state);
        }
        open.clear();
        oldest.send_replace(state.first);
        if gaps.is_closed() {
            return;
        }
    }
}

fn now() -> u64 {
    u64::try_from(clock::now().unix.as_nanos()).unwrap_or(u64::MAX)
}
