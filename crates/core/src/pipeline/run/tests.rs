use bytes::Bytes;

use super::*;
use crate::message::{Body, Outcome, Publication};
use crate::pipeline::{OnReject, Settings};
use crate::publish::{self, Order, Reply};

const STREAM: Incarnation = Incarnation(1);

const GRACE: Duration = Duration::from_secs(20);

const TTL: Duration = Duration::from_secs(10);

fn begin(now: Now, settings: Settings, standby: bool) -> Run<u64> {
    let flow = Flow::new(
        "orders".into(),
        settings,
        publish::RequestLimits::new(Order::Strict, 512, 8),
        1,
        1,
    );
    let limits = Limits {
        transforming: 512,
        grace: GRACE,
    };
    Run::begin(now.instant, flow, limits, None, standby)
}

/// Starts a run and opens its first epoch.
fn open(now: Now, settings: Settings, standby: bool) -> Run<u64> {
    let mut run = begin(now, settings, standby);
    assert!(run.opens(now.instant));
    run.lease(now.instant, standby.then(|| Lease::given(now.instant, TTL)));
    assert!(run.began(now.instant, STREAM, Again::default()));
    run
}

fn after(now: Now, time: Duration) -> Now {
    Now {
        instant: now.instant + time,
        unix: now.unix + time,
    }
}

fn any() -> Load {
    Load {
        id: LoadId(1),
        sha256: "any".into(),
    }
}

fn deliver(run: &mut Run<u64>, now: Now, sequence: u64) -> Ticket {
    let message = Message {
        subject: "orders.1".into(),
        payload: Bytes::new(),
        headers: Vec::new(),
        stream: "ORDERS".into(),
        place: sequence.into(),
        timestamp: u64::try_from(now.unix.as_nanos()).unwrap(),
        deliveries: 1,
        unreadable: None,
    };
    let delivery = Delivery {
        message: Arc::new(message),
        receipt: sequence,
        pending: 0,
    };
    run.deliver(now, vec![delivery])[0].0
}

fn publish(run: &mut Run<u64>, now: Now, sequence: u64, channel: &str) {
    let publication = Publication::new(vec![channel.into()], Body::Binary(Vec::new()));
    let ticket = deliver(run, now, sequence);
    let outcome = Outcome::Publish(vec![publication]);
    run.transformed(
        now,
        Transformed {
            ticket,
            outcome,
            by: any(),
        },
    );
}

fn confirm(run: &mut Run<u64>, now: Now, request: &Request) {
    let replies = vec![Reply::Confirmed(None); request.len()];
    run.answered(now, request.id(), Answer::Replies(replies));
}

fn acks(run: &mut Run<u64>, now: Now) -> Vec<u64> {
    let actions = run.take_actions(now.instant).into_iter();
    actions
        .filter_map(|action| match action {
            Action::Ack(sequence) => Some(sequence),
            _ => None,
        })
        .collect()
}

#[test]
fn epochs_that_fail_are_opened_later_each_time() {
    let mut now = Now::read();
    let mut run = begin(now, Settings::plain(), false);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        assert!(run.opens(now.instant) && !run.opens(now.instant), "once");
        run.failed(now.instant);
        let next = run.next_wakeup().expect("it tries again");
        let pause = next - now.instant;
        assert!(!run.opens(next - Duration::from_millis(1)));
        pauses.push(pause.as_millis());
        now = after(now, pause);
    }
    assert_eq!(pauses, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000, 10_000]);
    assert!(run.opens(now.instant));
    run.began(now.instant, STREAM, Again::default());
    let late = after(now, LASTING);
    run.over(late.instant, false);
    assert!(
        run.opens(late.instant),
        "one that lasted is followed by another at once"
    );
}

#[test]
fn one_that_is_over_at_once_counts_as_a_failure() {
    let now = Now::read();
    let mut run = open(now, Settings::plain(), false);
    run.over(now.instant, false);
    assert!(!run.opens(now.instant));
    assert!(run.opens(now.instant + Duration::from_millis(200)));
}

#[test]
fn told_to_stop_it_finishes_what_was_delivered() {
    let now = Now::read();
    let mut run = open(now, Settings::plain(), false);
    publish(&mut run, now, 1, "a");
    let request = run.next_request(now).unwrap();
    run.stop(now.instant);
    let closes = run.take_actions(now.instant);
    assert!(matches!(closes.as_slice(), [Action::Close]), "{closes:?}");
    assert!(run.room(now.instant).is_none() && !run.is_done(now.instant));
    confirm(&mut run, now, &request);
    assert_eq!(acks(&mut run, now), [1]);
    assert!(run.is_done(now.instant) && run.releases());
    assert_eq!(run.end(), Ended::Stopped);
}

#[test]
fn it_waits_no_longer_than_its_grace() {
    let now = Now::read();
    let mut run = open(now, Settings::plain(), false);
    deliver(&mut run, now, 1);
    run.stop(now.instant);
    let just = now.instant + GRACE;
    assert_eq!(run.deadline(), Some(just));
    assert!(!run.is_done(just - Duration::from_millis(1)) && run.is_done(just));
    let mut run = open(now, Settings::plain(), false);
    deliver(&mut run, now, 1);
    run.leave(now.instant);
    assert!(run.is_done(now.instant), "or not at all");
}

#[test]
fn a_halt_goes_before_a_renewal_and_a_stop_before_both() {
    let halting = Settings {
        on_reject: OnReject::Halt,
        ..Settings::plain()
    };
    let now = Now::read();
    for (stops, renews) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut run = open(now, halting, false);
        let ticket = deliver(&mut run, now, 1);
        if stops {
            run.stop(now.instant);
        }
        if renews {
            run.renew(now.instant, "anew");
        }
        let outcome = Outcome::Reject(Rejection {
            stage: crate::message::Stage::Transform,
            code: "rejected".into(),
            channel: None,
            reason: "no".to_owned(),
        });
        run.transformed(
            now,
            Transformed {
                ticket,
                outcome,
                by: any(),
            },
        );
        assert!(acks(&mut run, now).is_empty() && run.is_done(now.instant));
        let ended = run.end();
        match stops {
            true => assert_eq!(ended, Ended::Stopped),
            false => assert!(
                matches!(
                    ended,
                    Ended::Halted(Halted {
                        by: LoadId(1),
                        again: None,
                        ..
                    })
                ),
                "{ended:?}"
            ),
        }
    }
}

#[test]
fn whose_lease_is_over_publishes_and_acks_nothing_more() {
    let now = Now::read();
    let mut run = open(now, Settings::plain(), true);
    publish(&mut run, now, 1, "a");
    publish(&mut run, now, 2, "b");
    let request = run.next_request(now).unwrap();
    publish(&mut run, now, 3, "c");
    let late = after(now, TTL);
    assert!(!run.may_publish(late.instant));
    run.lease(late.instant, None);
    assert!(run.next_request(late).is_none());
    assert!(!run.is_done(late.instant), "a request is in flight");
    confirm(&mut run, late, &request);
    assert_eq!(acks(&mut run, late), [0_u64; 0], "although it is confirmed");
    assert!(run.is_done(late.instant) && !run.releases());
    assert!(matches!(run.end(), Ended::Renew(_)));
}

#[test]
fn a_renewed_lease_goes_on() {
    let now = Now::read();
    let mut run = open(now, Settings::plain(), true);
    let mut lease = Lease::given(now.instant, TTL);
    lease.renewed(now.instant, now.instant + TTL / 2);
    run.lease(now.instant, Some(lease));
    let late = after(now, TTL);
    run.lease(late.instant, Some(lease));
    assert!(run.may_publish(late.instant) && !run.is_ending());
    publish(&mut run, late, 1, "a");
    assert!(run.next_request(late).is_some());
}

#[test]
fn who_is_told_that_another_reads_yields() {
    let now = Now::read();
    let mut run = open(now, Settings::plain(), true);
    publish(&mut run, now, 1, "a");
    run.over(now.instant, true);
    assert!(run.next_request(now).is_none() && run.is_done(now.instant) && !run.releases());
}

#[test]
fn without_a_lease_nothing_is_published_where_there_is_standby() {
    let now = Now::read();
    let run = begin(now, Settings::plain(), true);
    assert!(!run.may_publish(now.instant));
    assert!(begin(now, Settings::plain(), false).may_publish(now.instant));
}

#[test]
fn so_many_dead_letters_are_stored_at_once() {
    let now = Now::read();
    let mut run = open(now, Settings::plain(), false);
    let letters = MAX_STORING as u64 + 10;
    for sequence in 1..=letters {
        let ticket = deliver(&mut run, now, sequence);
        let outcome = Outcome::Reject(Rejection {
            stage: crate::message::Stage::Transform,
            code: crate::message::UNREADABLE.into(),
            channel: None,
            reason: "no".to_owned(),
        });
        run.transformed(
            now,
            Transformed {
                ticket,
                outcome,
                by: any(),
            },
        );
    }
    let stores = |run: &mut Run<u64>| -> Vec<Ticket> {
        let actions = run.take_actions(now.instant).into_iter();
        actions
            .filter_map(|action| match action {
                Action::Store(letter) => Some(letter.ticket),
                _ => None,
            })
            .collect()
    };
    let first = stores(&mut run);
    assert_eq!(first.len(), MAX_STORING);
    assert!(stores(&mut run).is_empty());
    for ticket in first {
        run.stored(now, ticket);
    }
    assert_eq!(stores(&mut run).len(), 10);
    run.stop(now.instant);
    assert!(!run.is_done(now.instant), "they are not stored yet");
}

#[test]
fn it_reads_nothing_while_there_is_no_room() {
    let now = Now::read();
    let mut settings = Settings::plain();
    settings.window.bytes = 8_000;
    let mut run = open(now, settings, false);
    assert!(run.room(now.instant).is_some());
    let mut sequence = 0;
    while run.flow.room(now.instant).bytes > 0 {
        assert!(run.room(now.instant).is_some());
        sequence += 1;
        deliver(&mut run, now, sequence);
    }
    assert!(sequence > 1 && run.room(now.instant).is_none());
}

#[test]
fn it_reads_nothing_while_the_module_has_as_many_messages_as_allowed() {
    let now = Now::read();
    let mut run = open(now, Settings::plain(), false);
    for sequence in 1..=512 {
        assert!(run.room(now.instant).is_some());
        deliver(&mut run, now, sequence);
    }
    assert!(run.flow.room(now.instant).bytes > 0);
    assert!(run.room(now.instant).is_none());
}

#[test]
fn what_takes_long_is_reported_as_in_progress() {
    let now = Now::read();
    let mut run = open(now, Settings::plain(), false);
    deliver(&mut run, now, 7);
    run.tick(after(now, Duration::from_secs(60)));
    let actions = run.take_actions(now.instant);
    assert!(matches!(actions.as_slice(), [Action::InProgress(7)]), "{actions:?}");
}

#[test]
fn other_settings_are_used_from_the_next_outcome_on() {
    let now = Now::read();
    let mut run = open(now, Settings::plain(), false);
    let settings = Settings {
        on_reject: OnReject::Drop,
        ..Settings::plain()
    };
    run.configure(now.instant, settings);
    let ticket = deliver(&mut run, now, 1);
    let outcome = Outcome::Reject(Rejection {
        stage: crate::message::Stage::Transform,
        code: "rejected".into(),
        channel: None,
        reason: "no".to_owned(),
    });
    run.transformed(
        now,
        Transformed {
            ticket,
            outcome,
            by: any(),
        },
    );
    let actions = run.take_actions(now.instant);
    assert!(
        actions.iter().any(|action| matches!(action, Action::Ack(1))) && run.unstored.is_empty(),
        "{actions:?}"
    );
}

#[test]
fn nothing_is_taken_in_before_a_new_load_may_have_it() {
    let now = Now::read();
    let mut run = open(now, Settings::plain(), false);
    let ticket = deliver(&mut run, now, 1);
    run.configure(now.instant, Settings::plain());
    // Not even what was requested before: with room for no message, a source still delivers that.
    assert!(run.room(now.instant).is_none());
    run.transformed(
        now,
        Transformed {
            ticket,
            outcome: Outcome::Drop,
            by: any(),
        },
    );
    assert!(run.room(now.instant).is_some());
    deliver(&mut run, now, 2);
    run.configure(now.instant, Settings::plain());
    assert!(run.room(now.instant).is_none());
    let later = after(now, crate::pipeline::flow::MAX_HANDOVER);
    assert_eq!(run.next_wakeup(), Some(later.instant));
    assert!(run.room(later.instant).is_some());
}

#[test]
fn a_renewal_finishes_what_was_delivered_and_says_why() {
    let now = Now::read();
    let mut run = open(now, Settings::plain(), false);
    publish(&mut run, now, 1, "a");
    assert!(!run.is_ending() && run.finishes());
    run.renew(now.instant, "anew");
    assert!(run.is_ending() && run.finishes() && !run.is_done(now.instant));
    assert!(run.room(now.instant).is_none());
    let request = run.next_request(now).unwrap();
    confirm(&mut run, now, &request);
    assert_eq!(acks(&mut run, now), [1]);
    assert!(run.is_done(now.instant));
    assert_eq!(run.end(), Ended::Renew("anew".to_owned()));
}

#[test]
fn a_run_that_tries_again_is_halted_until_its_message_is_published() {
    let now = Now::read();
    let flow = Flow::new(
        "orders".into(),
        Settings::plain(),
        publish::RequestLimits::new(Order::Strict, 512, 8),
        1,
        1,
    );
    let limits = Limits {
        transforming: 512,
        grace: GRACE,
    };
    let mut run: Run<u64> = Run::begin(now.instant, flow, limits, Some(7.into()), false);
    assert!(run.opens(now.instant) && run.began(now.instant, STREAM, Again::default()));
    assert_eq!((run.trying(), run.is_halted()), (Some(7.into()), true));
    publish(&mut run, now, 7, "a");
    let request = run.next_request(now).unwrap();
    assert!(run.take_actions(now.instant).is_empty() && run.is_halted());
    confirm(&mut run, now, &request);
    let actions = run.take_actions(now.instant);
    assert!(
        actions.iter().any(|action| matches!(action, Action::Recovered)),
        "{actions:?}"
    );
    assert_eq!((run.trying(), run.is_halted()), (None, false));
    assert!(!open(now, Settings::plain(), false).is_halted());
}

#[test]
fn a_run_tells_how_much_it_has_and_how_far_it_is() {
    let now = Now::read();
    let mut run = open(now, Settings::plain(), false);
    assert!(run.is_idle());
    assert_eq!((run.held(), run.position()), (0, None));
    let room = run.room_to_make();
    assert_eq!(room, Settings::plain().window.bytes);
    assert_eq!(run.transforming(), 0);
    deliver(&mut run, now, 1);
    assert_eq!((run.transforming(), run.window().len()), (1, 1));
    publish(&mut run, now, 2, "a");
    assert_eq!((run.transforming(), run.window().len()), (1, 2));
    assert!(!run.is_idle());
    assert!(run.held() > run.window().bytes() && run.window().bytes() > 0);
    assert_eq!(run.room_to_make(), room - run.held());
    assert_eq!(run.gauges(now).messages, 2);
    let next = Position {
        stream: STREAM,
        next: 1.into(),
    };
    assert_eq!(run.position(), Some(next));
    let request = run.next_request(now).unwrap();
    assert_eq!(run.requests(), 1);
    confirm(&mut run, now, &request);
    assert_eq!((run.requests(), run.is_idle()), (0, true));
    let counters = run.take_counters();
    assert_eq!((counters.received, counters.published), (2, 1));
    run.budget(Budget {
        elsewhere: 0,
        limit: 0,
        stuck: false,
    });
    assert_eq!(run.room(now.instant), None, "others hold all of the memory");
}
