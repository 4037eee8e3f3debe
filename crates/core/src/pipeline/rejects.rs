//! Counts consecutive rejections and limits how many of them are logged.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::effect::Notice;
use crate::message::{Message, Rejection, Stage, UNREADABLE};
use crate::publish::Stuck;

/// At most one line of each kind per interval.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// Limits the number of kinds, and so the lines per interval. Codes also come from Centrifugo, so their number is not
/// bounded otherwise.
const MAX_KINDS: usize = 32;

/// The interval for publications that are retried again and again.
const STUCK_INTERVAL: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Rejects {
    in_transform: u32,
    in_publish: u32,
    kinds: Vec<Kind>,
    /// When the last stuck publication was logged.
    stuck: Option<Instant>,
}

/// Rejections with one code. Each code has its own limit, because in a flood of one kind the first rejection of another
/// kind is the one that matters.
#[derive(Debug)]
struct Kind {
    stage: Stage,
    code: Cow<'static, str>,
    logged: Instant,
    unlogged: u64,
}

impl Rejects {
    /// A message has passed the stage. Each stage has its own count. While Centrifugo is away nothing passes the
    /// publish stage, but that says nothing about the module.
    pub(super) fn success(&mut self, stage: Stage) {
        *self.in_a_row(stage) = 0;
    }

    /// Counts a rejection. Returns how many consecutive rejections the stage has now, and a notice if there is one.
    /// Markers do not count: many keys may expire at once, and that says nothing about the module.
    pub(super) fn rejected(
        &mut self,
        now: Instant,
        message: &Arc<Message>,
        rejection: &Rejection,
    ) -> (u32, Option<Notice>) {
        // The module never sees an unreadable message, so the rejection says nothing about the module.
        let is_a_marker = rejection.stage == Stage::Transform && message.marker().is_some();
        if rejection.code != UNREADABLE && !is_a_marker {
            *self.in_a_row(rejection.stage) += 1;
        }
        let notice = self.log(now, rejection).map(|not_logged| Notice::Rejected {
            message: Arc::clone(message),
            rejection: rejection.clone(),
            not_logged,
        });
        (*self.in_a_row(rejection.stage), notice)
    }

    /// Returns how many rejections of this kind were not logged since the last line, or `None` if this one must not be
    /// logged.
    fn log(&mut self, now: Instant, rejection: &Rejection) -> Option<u64> {
        let is_over = |kind: &Kind| now.saturating_duration_since(kind.logged) >= LOG_INTERVAL;
        let is_of = |kind: &Kind| kind.stage == rejection.stage && kind.code == rejection.code;
        if let Some(kind) = self.kinds.iter_mut().find(|kind| is_of(kind)) {
            if is_over(kind) {
                kind.logged = now;
                return Some(std::mem::take(&mut kind.unlogged));
            }
            kind.unlogged += 1;
            return None;
        }
        if self.kinds.len() >= MAX_KINDS {
            let oldest = (0..self.kinds.len()).min_by_key(|&index| self.kinds[index].logged)?;
            if !is_over(&self.kinds[oldest]) {
                self.kinds[oldest].unlogged += 1;
                return None;
            }
            self.kinds.swap_remove(oldest);
        }
        self.kinds.push(Kind {
            stage: rejection.stage,
            code: rejection.code.clone(),
            logged: now,
            unlogged: 0,
        });
        Some(0)
    }

    /// Returns a notice about a publication that is never answered, if one is due.
    pub(super) fn stuck(&mut self, now: Instant, message: &Arc<Message>, stuck: Stuck) -> Option<Notice> {
        if self.stuck.is_some_and(|logged| now - logged < STUCK_INTERVAL) {
            return None;
        }
        self.stuck = Some(now);
        Some(Notice::Stuck {
            message: Arc::clone(message),
            stuck,
        })
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

    fn rejection(stage: Stage, code: impl Into<Cow<'static, str>>) -> Rejection {
        Rejection {
            stage,
            code: code.into(),
            channel: None,
            reason: "no".into(),
        }
    }

    #[test]
    fn the_first_of_each_kind_is_logged_in_any_flood() {
        let mut rejects = Rejects::default();
        let start = Instant::now();
        let mut log = |millis, stage, code: &'static str| {
            rejects.log(start + Duration::from_millis(millis), &rejection(stage, code))
        };
        assert_eq!(log(0, Stage::Transform, "rejected"), Some(0));
        for millis in 0..999 {
            assert_eq!(log(millis, Stage::Transform, "rejected"), None);
        }
        assert_eq!(log(500, Stage::Publish, "102"), Some(0));
        assert_eq!(log(501, Stage::Transform, "102"), Some(0));
        assert_eq!(log(502, Stage::Publish, "102"), None);
        assert_eq!(log(1_000, Stage::Transform, "rejected"), Some(999));
        assert_eq!(log(1_499, Stage::Publish, "102"), None);
        assert_eq!(log(1_500, Stage::Publish, "102"), Some(2));
    }

    #[test]
    fn kinds_are_bounded_and_so_are_their_lines() {
        let mut rejects = Rejects::default();
        let start = Instant::now();
        let mut lines = 0;
        for number in 0..100_000_u64 {
            let now = start + Duration::from_micros(number * 100);
            lines += usize::from(
                rejects
                    .log(now, &rejection(Stage::Publish, number.to_string()))
                    .is_some(),
            );
        }
        assert!(rejects.kinds.len() <= MAX_KINDS);
        assert!((MAX_KINDS..=11 * MAX_KINDS).contains(&lines), "{lines} in 10 s");
    }

    #[test]
    fn rejections_are_counted_from_the_last_success_of_their_stage() {
        let message = Arc::new(Message {
            subject: "orders.1".into(),
            payload: Bytes::new(),
            headers: Vec::new(),
            stream: "ORDERS".into(),
            place: 1.into(),
            timestamp: 1,
            deliveries: 1,
            unreadable: None,
        });
        let rejection = |stage| rejection(stage, "rejected");
        let mut rejects = Rejects::default();
        let now = Instant::now();
        let mut reject = |stage| rejects.rejected(now, &message, &rejection(stage)).0;
        assert_eq!((reject(Stage::Transform), reject(Stage::Transform)), (1, 2));
        assert_eq!(reject(Stage::Publish), 1);
        rejects.success(Stage::Transform);
        let mut reject = |stage| rejects.rejected(now, &message, &rejection(stage)).0;
        assert_eq!((reject(Stage::Transform), reject(Stage::Publish)), (1, 2));
        for (header, counts) in [
            ("Nats-Marker-Reason: MaxAge", 1),
            ("KV-Operation: DEL", 1),
            ("KV-Operation: PUT", 2),
        ] {
            let (name, value) = header.split_once(": ").unwrap();
            let marker = Message {
                headers: vec![(name.to_owned(), value.to_owned())],
                ..(*message).clone()
            };
            assert_eq!(
                rejects.rejected(now, &Arc::new(marker), &rejection(Stage::Transform)).0,
                counts,
                "{header}"
            );
        }
        let unreadable = Rejection {
            code: UNREADABLE.into(),
            ..rejection(Stage::Transform)
        };
        assert_eq!(rejects.rejected(now, &message, &unreadable).0, 2, "it does not count");
    }

    #[test]
    fn with_too_many_kinds_others_count_with_the_oldest() {
        let mut rejects = Rejects::default();
        let start = Instant::now();
        for number in 0..MAX_KINDS {
            let kind = rejection(Stage::Publish, number.to_string());
            assert_eq!(rejects.log(start, &kind), Some(0));
        }
        for _ in 0..3 {
            assert_eq!(rejects.log(start, &rejection(Stage::Publish, "another")), None);
        }
        assert_eq!(
            rejects.log(start + LOG_INTERVAL, &rejection(Stage::Publish, "0")),
            Some(3)
        );
    }

    #[test]
    fn what_is_never_answered_is_told_now_and_then() {
        let message = Arc::new(Message {
            subject: "orders.1".into(),
            payload: Bytes::new(),
            headers: Vec::new(),
            stream: "ORDERS".into(),
            place: 1.into(),
            timestamp: 1,
            deliveries: 1,
            unreadable: None,
        });
        let stuck = Stuck {
            ticket: 0,
            failures: 3,
            reason: "timeout".to_owned(),
        };
        let mut rejects = Rejects::default();
        let start = Instant::now();
        let mut tells = |after: Duration| rejects.stuck(start + after, &message, stuck.clone()).is_some();
        assert!(tells(Duration::ZERO));
        assert!(!tells(STUCK_INTERVAL - Duration::from_nanos(1)));
        assert!(tells(STUCK_INTERVAL));
    }
}
