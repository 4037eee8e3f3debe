//! Tests what a flow tells about itself: its room, its memory, its place in the stream, and when to ask again.

use super::*;

fn limited(bytes: usize) -> Flow<String> {
    let mut config = Settings::plain();
    config.window.bytes = bytes;
    flow_with(config)
}

fn lost() -> Answer {
    Answer::Lost {
        reason: "timeout".to_owned(),
    }
}

fn failed() -> Answer {
    Answer::Replies(vec![Reply::Failed {
        code: 100,
        message: String::new(),
    }])
}

#[test]
fn what_is_held_is_in_the_window_and_in_the_queues() {
    let mut flow = flow();
    assert_eq!(flow.held(), 0);
    deliver(&mut flow, 1);
    let message = flow.held();
    assert_eq!(message, flow.window().bytes());
    publish(&mut flow, "orders:1", 2..=2, 0);
    let (window, queues) = (flow.window().bytes(), flow.scheduler.held());
    assert!(window > 2 * message && queues > 0);
    assert_eq!(flow.held(), window + queues);
}

#[test]
fn outcomes_have_what_messages_leave_and_at_least_what_is_left_of_one_half() {
    let mut flow = limited(100_000);
    publish(&mut flow, "orders:1", 1..=10, 0);
    let made = flow.window().made() + flow.scheduler.held();
    assert!(made > 0 && made < 50_000, "{made}");
    assert_eq!(flow.room_to_make(), 100_000 - flow.held());
    // Messages fill the rest.
    let mut sequence = 10;
    while flow.held() < 70_000 {
        sequence += 1;
        deliver(&mut flow, sequence);
    }
    assert_eq!(flow.room_to_make(), (100_000 - flow.held()).max(50_000 - made));
    assert_eq!(flow.room_to_make(), 50_000 - made, "more than the rest");
    // A flow that catches up counts messages separately.
    flow.catch_up = CatchUp::new(Again {
        messages: 1_000,
        through: 1_000.into(),
    });
    assert_eq!(flow.room_to_make(), 100_000 - made);
}

#[test]
fn outcomes_that_fill_the_window_leave_no_room() {
    let mut flow = limited(2_000);
    publish(&mut flow, "orders:1", 1..=20, 0);
    assert!(flow.held() > 2_000);
    assert_eq!(flow.room_to_make(), 0);
}

#[test]
fn a_flow_that_catches_up_has_room_for_all_that_comes_again_whatever_others_hold() {
    let mut flow = conflating();
    flow.catch_up = CatchUp::new(Again {
        messages: 3,
        through: 3.into(),
    });
    flow.budget(Budget {
        elsewhere: usize::MAX / 2,
        limit: 10,
        stuck: false,
    });
    deliver_before(&mut flow, 1, 2);
    let room = flow.room(Now::read().instant);
    assert_eq!(room.bytes, flow.window().room_message_bytes());
    assert!(room.bytes > 0 && !room.empty);
    flow.catch_up = None;
    assert_eq!(flow.room(Now::read().instant).bytes, 0);
}

#[test]
fn while_a_message_is_tried_there_is_room_for_one() {
    let now = Now::read().instant;
    let mut flow = flow();
    flow.try_through(5.into());
    assert_eq!((flow.trying(), flow.room(now).messages), (Some(5.into()), 1));
    assert!(flow.room(now).empty);
    deliver(&mut flow, 5);
    assert_eq!(flow.room(now).messages, 0);
    flow.configure(now, Settings::plain());
    assert_eq!((flow.trying(), flow.room(now + MAX_HANDOVER).messages), (None, 9_999));
    let mut conflating = conflating();
    conflating.try_through(5.into());
    assert_eq!(conflating.room(now).messages, 100, "it reads all");
}

#[test]
fn it_is_idle_when_nothing_is_left_to_publish() {
    let mut flow = flow();
    let now = Now::read();
    assert!(flow.is_idle() && flow.is_drained());
    deliver(&mut flow, 1);
    assert!(flow.is_idle(), "a message is no outcome");
    assert!(!flow.is_drained());
    publish(&mut flow, "orders:1", 2..=2, 0);
    assert!(!flow.is_idle());
    assert_eq!(sends(&mut flow, now), 1);
    assert!(flow.is_idle() && !flow.is_drained(), "the first message is not settled");
}

#[test]
fn after_a_halt_it_is_drained_when_what_may_be_published_is() {
    let mut flow = flow_with(Settings {
        on_reject: OnReject::Halt,
        ..Settings::plain()
    });
    let now = Now::read();
    publish(&mut flow, "orders:1", 1..=1, 0);
    let transformed = Transformed {
        ticket: deliver(&mut flow, 2),
        outcome: Outcome::Reject(Rejection {
            stage: Stage::Transform,
            code: "rejected".into(),
            channel: None,
            reason: "no".to_owned(),
        }),
        by: any(),
    };
    flow.transformed(now, transformed);
    assert!(flow.is_halting() && !flow.has_yielded() && !flow.is_drained());
    assert_eq!(flow.again(), None, "its cause does not pass by itself");
    assert_eq!(sends(&mut flow, now), 1, "what came before may go out");
    assert!(flow.is_drained());
    flow.yield_to_others();
    assert!(flow.has_yielded());
}

#[test]
fn it_wakes_up_for_what_pauses() {
    let mut flow = flow();
    let now = Now::read();
    assert_eq!(flow.next_wakeup(), None);
    publish(&mut flow, "orders:1", 1..=1, 0);
    let request = flow.next_request(now).unwrap();
    flow.answered(now, request.id(), failed());
    let wakes = flow.next_wakeup().expect("the channel pauses");
    assert!(wakes > now.instant && flow.next_request(now).is_none());
    let request = flow.next_request(after(now, wakes - now.instant));
    assert_eq!(request.map(|request| request.len()), Some(1));
}

#[test]
fn a_flow_that_catches_up_wakes_up_once_nothing_is_being_transformed() {
    let mut flow = conflating();
    flow.catch_up = CatchUp::new(Again {
        messages: 3,
        through: 3.into(),
    });
    let ticket = deliver_before(&mut flow, 1, 2);
    assert_eq!(flow.next_wakeup(), None, "the module has the message");
    let transformed = Transformed {
        ticket,
        outcome: Outcome::Publish(vec![publication("orders:1")]),
        by: any(),
    };
    flow.transformed(Now::read(), transformed);
    let until = flow.catch_up.as_ref().and_then(CatchUp::until);
    assert!(until.is_some());
    assert_eq!(flow.next_wakeup(), until);
}

#[test]
fn what_is_gathered_wakes_it_up_only_if_something_waits() {
    let mut flow = conflating();
    let now = Now::read();
    publish(&mut flow, "orders:1", 1..=1, 1_000);
    assert_eq!(sends(&mut flow, now), 1);
    assert_eq!(flow.next_wakeup(), None, "nothing waits");
    publish(&mut flow, "orders:1", 2..=2, 1_000);
    assert_eq!(sends(&mut flow, now), 0);
    assert_eq!(flow.next_wakeup(), Some(now.instant + PATIENCE));
}

#[test]
fn its_place_is_the_first_message_that_it_has_not_read() {
    let mut flow: Flow<String> = Flow::new(
        "orders".into(),
        Settings::plain(),
        RequestLimits::new(Order::Strict, 512, 8),
        1,
        1,
    );
    assert_eq!(flow.position(), None, "no stream");
    let stream = Incarnation(1);
    assert!(flow.begin(stream, Again::default()));
    assert_eq!(flow.position(), None, "nothing is read");
    settle(&mut flow, 7);
    assert_eq!(flow.position(), Some(Position { stream, next: 8.into() }));
    deliver(&mut flow, 9);
    assert_eq!(
        flow.position().map(|position| position.next),
        Some(9.into()),
        "not settled"
    );
    assert!(flow.begin(stream, Again::default()), "the same stream");
    let another = Incarnation(2);
    assert!(!flow.begin(another, Again::default()));
    assert!(matches!(flow.take_effects().last(), Some(Effect::Renew(_))));
}

#[test]
fn the_lag_is_what_is_not_settled_and_what_is_not_delivered() {
    let mut flow = flow();
    let now = Now::read();
    assert_eq!(flow.gauges(now).lag.map(|lag| lag.messages), Some(0));
    deliver_before(&mut flow, 1, 12);
    settle(&mut flow, 2);
    deliver_before(&mut flow, 3, 10);
    let gauges = flow.gauges(after(now, Duration::from_secs(60)));
    let lag = gauges.lag.unwrap();
    assert_eq!((gauges.messages, lag.messages), (3, 12));
    assert_eq!(gauges.bytes, flow.window().bytes());
    let age = lag.age.unwrap();
    assert!((59..62).contains(&age.as_secs()), "{age:?}");
}

#[test]
fn counts_are_told_once() {
    let mut flow = flow();
    let now = Now::read();
    publish(&mut flow, "orders:1", 1..=2, 0);
    settle(&mut flow, 3);
    let request = flow.next_request(now).unwrap();
    flow.answered(now, request.id(), lost());
    let counters = flow.take_counters();
    assert_eq!((counters.received, counters.dropped, counters.published), (3, 1, 0));
    assert_eq!((counters.retried, counters.acked, counters.settled.len()), (0, 0, 1));
    let late = after(now, Duration::from_secs(60));
    let asks = flow.next_request(late).unwrap();
    flow.answered(late, asks.id(), Answer::Replies(Vec::new()));
    assert_eq!(sends_all(&mut flow, late), 2);
    let counters = flow.take_counters();
    assert_eq!((counters.received, counters.published), (0, 2));
    assert_eq!((counters.retried, counters.acked, counters.settled.len()), (1, 3, 2));
    assert_eq!(flow.take_counters().retried, 0);
}

/// Confirms all that goes out, and returns the number of its publications.
fn sends_all(flow: &mut Flow<String>, now: Now) -> usize {
    let mut sent = 0;
    while let Some(request) = flow.next_request(now) {
        sent += request.len();
        let replies = vec![Reply::Confirmed(None); request.len()];
        flow.answered(now, request.id(), Answer::Replies(replies));
    }
    sent
}

#[test]
fn trouble_is_told_when_it_begins_and_ends() {
    let mut flow = flow();
    let now = Now::read();
    let troubles = |flow: &mut Flow<String>| -> Vec<bool> {
        let effects = flow.take_effects().into_iter();
        let trouble = |effect| match effect {
            Effect::Say(Notice::Trouble(trouble)) => Some(trouble.is_some()),
            _ => None,
        };
        effects.filter_map(trouble).collect()
    };
    publish(&mut flow, "orders:1", 1..=1, 0);
    let request = flow.next_request(now).unwrap();
    flow.answered(now, request.id(), lost());
    assert_eq!(troubles(&mut flow), [true]);
    let late = after(now, Duration::from_secs(60));
    let asks = flow.next_request(late).unwrap();
    flow.answered(late, asks.id(), Answer::Replies(Vec::new()));
    assert_eq!(sends_all(&mut flow, late), 1);
    assert_eq!(troubles(&mut flow), [false]);
}

fn rejects(flow: &mut Flow<String>, sequence: u64) -> Ticket {
    let ticket = deliver(flow, sequence);
    let transformed = Transformed {
        ticket,
        outcome: Outcome::Reject(Rejection {
            stage: Stage::Transform,
            code: "rejected".into(),
            channel: None,
            reason: "no".to_owned(),
        }),
        by: any(),
    };
    flow.transformed(Now::read(), transformed);
    ticket
}

#[test]
fn rejections_are_counted_by_stage_and_as_dead_letters_once_stored() {
    let mut flow = flow();
    let now = Now::read();
    assert!(!flow.is_halting());
    let letters = [1, 2].map(|sequence| rejects(&mut flow, sequence));
    publish(&mut flow, "nope:1", 3..=3, 0);
    let request = flow.next_request(now).unwrap();
    let refused = Reply::Failed {
        code: 102,
        message: "unknown channel".to_owned(),
    };
    flow.answered(now, request.id(), Answer::Replies(vec![refused]));
    let counters = flow.take_counters();
    assert_eq!((counters.rejected_in_transform, counters.rejected_in_publish), (2, 1));
    assert_eq!(counters.dead_lettered, 0);
    for ticket in letters {
        flow.dead_lettered(now, ticket);
    }
    assert_eq!(flow.take_counters().dead_lettered, 2);
}

#[test]
fn one_rejection_more_than_allowed_in_a_row_halts() {
    let mut flow = flow_with(Settings {
        max_consecutive_rejects: 2,
        ..Settings::plain()
    });
    for (sequence, halts) in [(1, false), (2, false), (3, true)] {
        rejects(&mut flow, sequence);
        assert_eq!(flow.is_halting(), halts, "message {sequence}");
    }
}

#[test]
fn what_newer_ones_replace_is_counted() {
    let mut flow = conflating();
    publish(&mut flow, "orders:1", 1..=3, 0);
    assert_eq!(flow.take_counters().conflated, 2);
}

#[test]
fn a_message_is_too_old_once_it_is_older_than_max_age() {
    let settings = Settings {
        max_age: Some(Duration::from_secs(60)),
        ..Settings::plain()
    };
    let mut flow = flow();
    let ticket = deliver(&mut flow, 1);
    let message = Arc::clone(flow.window().message(ticket).unwrap());
    let at = |age| Now {
        unix: Duration::from_nanos(message.timestamp) + age,
        ..Now::read()
    };
    assert!(!is_too_old(&settings, at(Duration::from_secs(60)), &message));
    assert!(is_too_old(
        &settings,
        at(Duration::from_nanos(60_000_000_001)),
        &message
    ));
}

#[test]
fn only_a_flow_that_conflates_catches_up_and_only_in_its_first_epoch() {
    let stream = Incarnation(1);
    let again = Again {
        messages: 3,
        through: 3.into(),
    };
    let mut plain = flow();
    plain.stream = None;
    assert!(plain.begin(stream, again));
    assert!(plain.catch_up.is_none());
    let mut later = conflating();
    assert!(later.begin(stream, again));
    assert!(later.catch_up.is_none(), "the window knows what came before");
    later.stream = None;
    assert!(later.begin(stream, again));
    assert!(later.catch_up.is_some());
}

#[test]
fn a_flow_that_catches_up_publishes_when_its_window_is_full() {
    let again = Again {
        messages: 1_000,
        through: 1_000.into(),
    };
    let mut flow = conflating();
    flow.catch_up = CatchUp::new(again);
    let now = Now::read();
    for sequence in 1..=99 {
        publish(&mut flow, &format!("orders:{sequence}"), sequence..=sequence, 900);
    }
    assert_eq!(sends(&mut flow, now), 0);
    publish(&mut flow, "orders:100", 100..=100, 900);
    assert!(flow.room(now.instant).bytes > 0, "it is full of messages, not of bytes");
    assert_eq!(sends(&mut flow, now), 100);
}

#[test]
fn a_flow_that_catches_up_publishes_when_the_stream_has_no_more() {
    let mut flow = conflating();
    flow.catch_up = CatchUp::new(Again {
        messages: 1_000,
        through: 1_000.into(),
    });
    let now = Now::read();
    publish(&mut flow, "orders:1", 1..=5, 1);
    assert_eq!(sends(&mut flow, now), 0);
    publish(&mut flow, "orders:1", 6..=6, 0);
    assert_eq!(sends(&mut flow, now), 1);
}

#[test]
fn as_many_pending_as_the_window_takes_are_not_far_behind() {
    let now = Now::read();
    for (pending, sent) in [(101, 0), (100, 1)] {
        let mut flow = conflating();
        publish(&mut flow, "orders:1", 1..=1, 1_000);
        assert_eq!(sends(&mut flow, now), 1);
        publish(&mut flow, "orders:1", 2..=2, pending);
        assert_eq!(sends(&mut flow, now), sent, "{pending} pending");
    }
}

#[test]
fn far_behind_it_sends_once_three_quarters_of_the_bytes_are_used() {
    let now = Now::read();
    let mut config = Settings {
        conflate: true,
        ..Settings::plain()
    };
    config.window = window::Limits {
        messages: 1_000,
        bytes: 40_000,
        ..config.window
    };
    let mut flow = flow_with(config);
    publish(&mut flow, "orders:1", 1..=1, 10_000);
    assert_eq!(sends(&mut flow, now), 1);
    let mut sequence = 1;
    while flow.room(now.instant).bytes > 10_000 {
        assert_eq!(sends(&mut flow, now), 0, "{sequence} messages");
        sequence += 1;
        publish(&mut flow, &format!("orders:{sequence}"), sequence..=sequence, 10_000);
    }
    assert!(flow.room(now.instant).bytes > 0 && flow.room(now.instant).messages > 250);
    assert!(sends_all(&mut flow, now) > 0);
}

/// Else Centrifugo would leave out what follows it on the channel, or compare it with something else.
#[test]
fn a_message_whose_id_is_no_version_is_a_dead_letter_if_the_sequence_is_the_version() {
    for (place, version, fits) in [
        (Place::Id(1_795_888_251_712, 4_095), VersionSource::Sequence, true),
        (Place::Id(1_795_888_251_712, 4_096), VersionSource::Sequence, false),
        (Place::Id(u64::MAX, 0), VersionSource::Sequence, false),
        (Place::Id(u64::MAX, 0), VersionSource::Module, true),
    ] {
        let mut config = Settings::plain();
        config.version = version;
        let mut flow = flow_with(config);
        let ticket = deliver_before(&mut flow, place, 0);
        let publication = Publication::new(vec!["orders:1".into()], Body::Binary(Vec::new()));
        let outcome = Outcome::Publish(vec![publication]);
        flow.transformed(
            Now::read(),
            Transformed {
                ticket,
                outcome,
                by: any(),
            },
        );
        let request = flow.next_request(Now::read());
        assert_eq!(request.is_some(), fits, "{place}, {version:?}");
        let codes: Vec<_> = flow
            .take_effects()
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::DeadLetter(_, _, rejection, _) => Some((rejection.code, rejection.reason)),
                _ => None,
            })
            .collect();
        assert_eq!(codes.len(), usize::from(!fits), "{place}: {codes:?}");
        for (code, reason) in codes {
            assert!(
                code == "version" && reason.contains(&place.to_string()),
                "{code}: {reason}"
            );
        }
    }
}
