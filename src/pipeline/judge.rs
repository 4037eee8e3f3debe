//! Checks whether a new version of a module is at fault for what Centrifugo refused. The version before is called for
//! that, which may take long, so a thread does it beside the pipeline. It goes on when the pipeline halts: the verdict
//! may be what ends the halt.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use slipring_core::load::Load;

use crate::message::{Message, Rejection};
use crate::transform::Trial;

/// A message with a publication that Centrifugo refused, and the load that made it.
pub type Refused = (Arc<Message>, Rejection, Load);

/// How many lots may wait for the version before. Further ones are ignored, because they would pile up if it is slow.
const WAITING: usize = 64;

/// How many messages of a lot are checked. A few decide.
const LOT: usize = 16;

/// How much memory the messages that wait may take, in bytes. The window may have settled them already.
const MOST_BYTES: usize = 8 << 20;

#[derive(Debug)]
pub struct Judge {
    trial: Arc<Trial>,
    lots: SyncSender<Vec<Refused>>,
    /// Of the messages that wait.
    bytes: Arc<AtomicUsize>,
}

impl Judge {
    /// Starts a thread, in the current runtime. It ends when the trial is over, or when the judge is dropped and everything
    /// that waits is checked.
    pub fn of(trial: Arc<Trial>) -> Self {
        let (lots, waiting) = sync_channel::<Vec<Refused>>(WAITING);
        let bytes = Arc::<AtomicUsize>::default();
        let (judged, checked) = (Arc::clone(&trial), Arc::clone(&bytes));
        tokio::task::spawn_blocking(move || {
            for lot in waiting {
                if !judged.is_on(Instant::now()) {
                    return;
                }
                judged.refused(&lot);
                checked.fetch_sub(size(&lot), Ordering::Relaxed);
            }
        });
        Self { trial, lots, bytes }
    }

    pub fn is_of(&self, trial: &Arc<Trial>) -> bool {
        Arc::ptr_eq(&self.trial, trial)
    }

    /// Has these messages checked.
    pub fn hear(&self, mut refused: Vec<Refused>) {
        refused.truncate(LOT);
        let more = size(&refused);
        let before = self.bytes.fetch_add(more, Ordering::Relaxed);
        let has_room = before == 0 || before + more <= MOST_BYTES;
        // If the thread has panicked, there is no verdict.
        if !has_room || self.lots.try_send(refused).is_err() {
            self.bytes.fetch_sub(more, Ordering::Relaxed);
        }
    }
}

fn size(lot: &[Refused]) -> usize {
    lot.iter().map(|(message, ..)| message.size()).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::message::Stage;
    use crate::transform::tests::wat::{Guest, limits};

    /// The version before publishes on the channel `a`, so what is refused elsewhere is the new version's fault.
    #[tokio::test]
    async fn what_comes_during_a_check_counts_and_so_does_what_waits_when_the_pipeline_ends() {
        let before = Guest {
            transform: "(call $result (i32.const 0) (call $publication) (i32.const 1))",
            ..Guest::default()
        };
        let before = before.load(limits()).unwrap();
        let by = before.loaded().clone();
        let trial = Trial::new(before, Duration::from_secs(60), 4);
        let judge = Judge::of(Arc::clone(&trial));
        for sequence in 1..=5 {
            let rejection = Rejection {
                stage: Stage::Publish,
                code: "102".into(),
                channel: Some("nowhere:1".into()),
                reason: "unknown channel".to_owned(),
            };
            let message = Arc::new(Message::new("ORDERS", sequence, "orders.7", ""));
            assert!(!trial.has_failed(), "{sequence}");
            judge.hear(vec![(message, rejection, by.clone())]);
        }
        drop(judge);
        let verdict = tokio::time::timeout(Duration::from_secs(30), trial.failure()).await;
        assert!(verdict.unwrap().to_string().contains("sequence 5"));
    }
}
