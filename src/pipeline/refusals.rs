//! Keeps count of rejections in a row, and keeps a flood of them out of the log.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::message::{Message, Rejection, Stage, UNREADABLE};

/// At the most one line a module in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Refusals {
    in_transform: u32,
    in_publish: u32,
    logged: Option<Instant>,
    unlogged: u64,
}

impl Refusals {
    /// A message has passed the stage. Each stage counts by itself: while Centrifugo is away nothing passes the second one, which
    /// says nothing about the module.
    pub(super) fn success(&mut self, stage: Stage) {
        *self.in_a_row(stage) = 0;
    }

    /// A message was rejected. Answers how many in a row that makes in its stage.
    pub(super) fn rejected(&mut self, now: Instant, module: &str, message: &Message, rejection: &Rejection) -> u32 {
        // A module can't do better with what it is never given.
        if rejection.code != UNREADABLE {
            *self.in_a_row(rejection.stage) += 1;
        }
        if self.logged.is_some_and(|logged| now - logged < LOG_INTERVAL) {
            self.unlogged += 1;
        } else {
            warn!(
                module,
                stream = &*message.stream,
                sequence = message.sequence,
                subject = message.subject,
                stage = %rejection.stage,
                code = &*rejection.code,
                channel = rejection.channel.as_deref(),
                reason = rejection.reason,
                not_logged = self.unlogged,
                "rejected a message"
            );
            self.logged = Some(now);
            self.unlogged = 0;
        }
        *self.in_a_row(rejection.stage)
    }

    fn in_a_row(&mut self, stage: Stage) -> &mut u32 {
        match stage {
            Stage::Transform => &mut self.in_transform,
            Stage::Publish => &mut self.in_publish,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn rejections_are_counted_from_the_last_success_of_their_stage() {
        let message = Message {
            subject: "orders.1".into(),
            payload: Bytes::new(),
            headers: Vec::new(),
            stream: "ORDERS".into(),
            sequence: 1,
            timestamp: 1,
            deliveries: 1,
            unreadable: None,
        };
        let rejection = |stage| Rejection {
            stage,
            code: "rejected".into(),
            channel: None,
            reason: "no".into(),
        };
        let mut refusals = Refusals::default();
        let now = Instant::now();
        let mut reject = |stage| refusals.rejected(now, "orders", &message, &rejection(stage));
        assert_eq!((reject(Stage::Transform), reject(Stage::Transform)), (1, 2));
        assert_eq!(reject(Stage::Publish), 1);
        refusals.success(Stage::Transform);
        let mut reject = |stage| refusals.rejected(now, "orders", &message, &rejection(stage));
        assert_eq!((reject(Stage::Transform), reject(Stage::Publish)), (1, 2));
        let unreadable = Rejection {
            code: UNREADABLE.into(),
            ..rejection(Stage::Transform)
        };
        assert_eq!(
            refusals.rejected(now, "orders", &message, &unreadable),
            1,
            "it does not count"
        );
    }
}
