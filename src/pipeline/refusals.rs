//! Keeps count of rejections in a row, and keeps a flood of them out of the log.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::message::{Message, Rejection};

/// At the most one line a module in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Refusals {
    in_a_row: u32,
    logged: Option<Instant>,
    unlogged: u64,
}

impl Refusals {
    /// A message was published or dropped.
    pub(super) fn success(&mut self) {
        self.in_a_row = 0;
    }

    /// A message was rejected. Answers how many in a row that makes.
    pub(super) fn rejected(&mut self, now: Instant, module: &str, message: &Message, rejection: &Rejection) -> u32 {
        self.in_a_row += 1;
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
        self.in_a_row
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::Stage;

    #[test]
    fn rejections_are_counted_from_the_last_success() {
        let message = Message {
            subject: "orders.1".into(),
            payload: Bytes::new(),
            headers: Vec::new(),
            stream: "ORDERS".into(),
            sequence: 1,
            timestamp: 1,
            deliveries: 1,
        };
        let rejection = Rejection {
            stage: Stage::Transform,
            code: "rejected".into(),
            channel: None,
            reason: "no".into(),
        };
        let mut refusals = Refusals::default();
        let now = Instant::now();
        let reject = |refusals: &mut Refusals| refusals.rejected(now, "orders", &message, &rejection);
        assert_eq!((reject(&mut refusals), reject(&mut refusals)), (1, 2));
        refusals.success();
        assert_eq!(reject(&mut refusals), 1);
    }
}
