use std::time::{Duration, Instant};

use slipring_core::place::Place;

use super::{Consumer, Progress};

/// A clock, and what the server says every five seconds.
struct Hour {
    start: Instant,
    seconds: u64,
    progress: Progress,
}

impl Hour {
    fn begin() -> Self {
        Self {
            start: Instant::now() + Duration::from_secs(1_000_000),
            seconds: 0,
            progress: Progress::default(),
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs(self.seconds)
    }

    /// The server says this each five seconds, from now on.
    fn says(&mut self, seconds: u64, consumer: impl Fn(u64) -> Consumer) {
        for _ in 0..seconds / 5 {
            self.seconds += 5;
            self.progress.answered(self.now(), consumer(self.seconds));
        }
    }

    fn is_silent(&mut self, seconds: u64) {
        for _ in 0..seconds / 5 {
            self.seconds += 5;
            self.progress.unanswered(self.now(), "no answer".to_owned());
        }
    }

    fn lag(&self) -> Option<(u64, f64)> {
        self.progress.lag(self.now()).map(|lag| (lag.messages, lag.seconds))
    }

    fn still(&self) -> Option<u64> {
        self.progress.still(self.now()).map(|still| still.as_secs())
    }

    fn acks_ignored(&self) -> bool {
        self.progress.acks_ignored(self.now()).is_some()
    }
}

fn consumer(pending: u64, ack_pending: u64) -> Consumer {
    Consumer {
        pending,
        ack_pending,
        ..Consumer::default()
    }
}

#[test]
fn nothing_is_known_before_the_server_was_asked() {
    let mut hour = Hour::begin();
    assert_eq!((hour.lag(), hour.still()), (None, None));
    hour.is_silent(600);
    assert_eq!((hour.lag(), hour.still()), (None, None));
    hour.says(5, |_| consumer(7, 0));
    assert_eq!((hour.lag(), hour.still()), (Some((7, 0.0)), Some(0)));
    hour.is_silent(30);
    assert_eq!((hour.lag(), hour.still()), (None, None), "the answer is too old");
}

#[test]
fn messages_that_wait_while_nothing_moves_are_a_stall() {
    let mut hour = Hour::begin();
    hour.says(60, |_| consumer(0, 0));
    assert_eq!((hour.lag(), hour.still()), (Some((0, 0.0)), Some(0)));
    hour.says(65, |_| consumer(100, 0));
    assert_eq!((hour.lag(), hour.still()), (Some((100, 60.0)), Some(60)));
    // More of them is no progress.
    hour.says(60, |seconds| consumer(100 + seconds, 0));
    assert_eq!(hour.still(), Some(120));
    let delivered = hour.seconds + 5;
    hour.says(10, |_| Consumer {
        delivered: delivered.into(),
        ..consumer(99, 1)
    });
    assert_eq!(hour.still(), Some(5), "it has moved, and not again");
    hour.says(60, |seconds| Consumer {
        delivered: delivered.into(),
        ack_floor: seconds.into(),
        ..consumer(99, 1)
    });
    assert_eq!(hour.still(), Some(0), "the floor moves all the time");
}

#[test]
fn a_paused_consumer_does_not_stall() {
    let mut hour = Hour::begin();
    let paused = |_| Consumer {
        paused_for: Some(Duration::from_secs(3_600)),
        ..consumer(200, 0)
    };
    hour.says(300, paused);
    assert_eq!(hour.still(), Some(0));
    assert_eq!(hour.lag().unwrap().0, 200);
    hour.says(40, |_| consumer(200, 0));
    assert_eq!(hour.still(), Some(35), "from when it was resumed");
}

#[test]
fn the_floor_has_to_follow_what_was_acked() {
    let floor = |ack_floor| {
        move |_| Consumer {
            ack_floor: Place::Sequence(ack_floor),
            ..consumer(0, 5)
        }
    };
    let mut hour = Hour::begin();
    hour.progress.worked(hour.now(), Some(Place::Sequence(10)), None, None);
    hour.says(70, floor(5));
    assert!(!hour.acks_ignored());
    hour.says(5, floor(5));
    assert!(hour.acks_ignored());
    // It is about what was acked when it was noticed first, not about the newest ack.
    hour.progress
        .worked(hour.now(), Some(Place::Sequence(1_000)), None, None);
    hour.says(5, floor(9));
    assert!(hour.acks_ignored());
    hour.says(5, floor(10));
    assert!(!hour.acks_ignored());

    let mut busy = Hour::begin();
    for sequence in 1..200 {
        busy.progress
            .worked(busy.now(), Some(Place::Sequence(sequence * 10)), None, None);
        busy.says(5, floor(sequence * 10 - 7));
        assert!(!busy.acks_ignored(), "it follows, a little later");
    }
    // The stream was deleted and created again.
    busy.progress.worked(busy.now(), Some(Place::Sequence(3)), None, None);
    busy.says(120, floor(3));
    assert!(!busy.acks_ignored());
}

#[test]
fn what_the_pipeline_was_just_given_is_newer_than_an_answer() {
    let mut hour = Hour::begin();
    hour.says(5, |_| consumer(0, 0));
    hour.seconds += 1;
    let age = Some(Duration::from_millis(1_500));
    hour.progress.worked(hour.now(), None, age, Some(12));
    assert_eq!(hour.lag(), Some((12, 1.5)));
    hour.seconds += 1;
    assert_eq!(hour.lag(), Some((12, 2.5)), "it grows older");
    hour.says(5, |_| consumer(3, 1));
    assert_eq!(hour.lag().unwrap().0, 4);
    // A halted pipeline reports nothing, and its oldest message grows older.
    hour.says(60, |_| consumer(3, 1));
    assert!(hour.lag().unwrap().1 > 60.0);
    hour.says(5, |_| consumer(0, 0));
    assert_eq!(hour.lag(), Some((0, 0.0)));
}

#[test]
fn a_server_that_does_not_answer_is_noticed() {
    let mut hour = Hour::begin();
    hour.says(5, |_| consumer(0, 0));
    hour.is_silent(10);
    assert_eq!(hour.progress.silent(hour.now()), None);
    hour.is_silent(5);
    let (since, why) = hour.progress.silent(hour.now()).unwrap();
    assert_eq!((since.as_secs(), why), (10, "no answer"));
    hour.says(5, |_| consumer(0, 0));
    assert_eq!(hour.progress.silent(hour.now()), None);
    hour.is_silent(60);
    hour.progress.absent();
    assert_eq!(hour.progress.silent(hour.now()), None);
}

#[test]
fn a_redelivery_is_no_progress() {
    let mut hour = Hour::begin();
    let delivered = |delivered: u64| {
        move |_| Consumer {
            delivered: delivered.into(),
            ack_floor: 7.into(),
            ..consumer(10, 80)
        }
    };
    hour.says(5, delivered(87));
    // Each epoch begins with a reset, and the same messages come again.
    for _ in 0..20 {
        hour.says(5, delivered(7));
        hour.says(5, delivered(87));
    }
    assert_eq!(hour.still(), Some(200));
    hour.says(5, delivered(88));
    assert_eq!(hour.still(), Some(0));
    // The consumer was deleted, and its successor begins at the front.
    hour.says(60, delivered(88));
    hour.says(5, |_| Consumer {
        delivered: 1.into(),
        ..consumer(90, 1)
    });
    assert_eq!(hour.still(), Some(0));
}

#[test]
fn a_stall_begins_when_the_pipeline_can_move() {
    let mut hour = Hour::begin();
    hour.progress.worked(hour.now(), Some(Place::Sequence(10)), None, None);
    hour.says(600, |_| consumer(100, 1));
    assert!(hour.still() == Some(595) && hour.acks_ignored());
    // It was halted, and Centrifugo is back.
    hour.progress.may_move(hour.now());
    assert!(hour.still() == Some(0) && !hour.acks_ignored());
    hour.says(35, |_| consumer(100, 1));
    assert_eq!(hour.still(), Some(35));
}

#[test]
fn a_pause_ends_when_it_was_said_to_end() {
    let mut hour = Hour::begin();
    hour.says(5, |_| Consumer {
        paused_for: Some(Duration::from_secs(60)),
        ..consumer(1, 0)
    });
    hour.seconds += 15;
    assert_eq!(hour.progress.paused(hour.now()), Some(Duration::from_secs(45)));
    hour.says(5, |_| consumer(1, 0));
    assert_eq!(hour.progress.paused(hour.now()), None);
}

#[test]
fn a_server_that_was_not_asked_is_not_silent() {
    let mut hour = Hour::begin();
    hour.is_silent(60);
    assert!(hour.progress.silent(hour.now()).is_some());
    hour.progress.not_asked();
    assert_eq!(hour.progress.silent(hour.now()), None);
}
