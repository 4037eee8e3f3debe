//! Notices when a stream removed messages before they could be read: by its limits, a purge, or by hand.

use std::time::Duration;

use async_nats::jetstream::stream::{self, Stream};
use tokio::sync::watch;

/// How often a stream is asked what it still holds, where its deliveries alone don't tell.
const ASK_INTERVAL: Duration = Duration::from_secs(15);

/// Messages that the stream held and that nobody can read any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    pub first: u64,
    pub last: u64,
    /// How many, or, where the module reads only some of the stream's subjects, how many at the most.
    pub messages: u64,
    /// Whether the module would have read each of them.
    pub exact: bool,
}

/// What was read so far, within an epoch.
#[derive(Debug)]
pub(super) struct Retention {
    /// The stream sequence that may come next; not known before a new consumer has delivered something.
    next: Option<u64>,
    /// Every message of the stream is read, and none is removed in favour of a newer one of its subject.
    all: bool,
    /// Something that is to be read waited behind the last delivery.
    waiting: bool,
}

impl Retention {
    pub(super) fn new(next: Option<u64>, all: bool, waiting: bool) -> Self {
        Self { next, all, waiting }
    }

    /// Whether deliveries alone tell.
    pub(super) fn sees_all(&self) -> bool {
        self.all
    }

    /// A delivery. `pending` is how many the consumer has still to deliver, `oldest` the first sequence that the stream held
    /// when it was last asked.
    pub(super) fn delivered(&mut self, sequence: u64, pending: u64, oldest: u64) -> Option<Missed> {
        let next = self.next.unwrap_or(sequence);
        let waiting = std::mem::replace(&mut self.waiting, pending > 0);
        if sequence < next {
            return None;
        }
        self.next = Some(sequence + 1);
        let last = if self.all {
            sequence.checked_sub(1)?
        } else if waiting {
            // Other gaps are messages of other subjects.
            (oldest.min(sequence)).checked_sub(1)?
        } else {
            return None;
        };
        (last >= next).then(|| Missed {
            first: next,
            last,
            messages: last - next + 1,
            exact: self.all,
        })
    }
}

/// Whether a consumer with these filters gets every message of the stream, so that a gap is a loss. A stream that keeps the newest
/// messages of each subject has gaps by design, and one that forgets what is acknowledged has them after a lost ack.
pub(super) fn reads_all(stream: &stream::Config, subjects: &[String]) -> bool {
    let covered = |held: &String| subjects.iter().any(|subject| crate::config::covers(subject, held));
    stream.retention == stream::RetentionPolicy::Limits
        && stream.max_messages_per_subject <= 0
        && (subjects.is_empty() || stream.subjects.iter().all(covered))
}

impl Missed {
    /// Two of them as one.
    pub(super) fn and(self, later: Self) -> Self {
        Self {
            first: self.first,
            last: later.last,
            messages: self.messages + later.messages,
            exact: self.exact && later.exact,
        }
    }
}

/// Keeps up with the oldest sequence that the stream holds, until nobody listens.
pub(super) async fn follow_oldest(stream: Stream, oldest: watch::Sender<u64>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(ASK_INTERVAL) => {}
            () = oldest.closed() => return,
        }
        // One that can't be asked now is asked again.
        if let Ok(info) = stream.get_info().await {
            oldest.send_replace(info.state.first_sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(retention: &mut Retention, deliveries: &[(u64, u64, u64)]) -> Vec<(u64, u64)> {
        deliveries
            .iter()
            .filter_map(|&(sequence, pending, oldest)| retention.delivered(sequence, pending, oldest))
            .map(|missed| (missed.first, missed.last))
            .collect()
    }

    #[test]
    fn every_gap_counts_for_one_who_reads_everything() {
        let mut retention = Retention::new(Some(11), true, false);
        let missed = ranges(
            &mut retention,
            &[(11, 9, 1), (12, 9, 1), (20, 3, 20), (13, 3, 1), (21, 0, 1)],
        );
        assert_eq!(missed, [(13, 19)], "and a redelivery is no gap");
        let mut fresh = Retention::new(None, true, false);
        assert_eq!(ranges(&mut fresh, &[(100, 0, 100), (102, 0, 1)]), [(101, 101)]);
    }

    #[test]
    fn for_one_who_reads_some_subjects_only_what_the_stream_lost_counts_and_only_if_something_waited() {
        let mut retention = Retention::new(Some(1), false, false);
        let missed = ranges(
            &mut retention,
            &[(5, 2, 3), (9, 0, 3), (40, 7, 30), (60, 0, 50), (70, 0, 1)],
        );
        assert_eq!(missed, [(41, 49)]);
    }
}
