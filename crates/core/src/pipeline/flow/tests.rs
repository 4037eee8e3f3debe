use bytes::Bytes;

mod accounts;
mod handover;
mod trying;

use super::*;
use crate::load::LoadId;
use crate::message::{Body, Publication};
use crate::pipeline::conflate::gather::PATIENCE;
use crate::publish::{Order, Reply};
use crate::window;

fn flow() -> Flow<String> {
    flow_with(Settings::plain())
}

fn flow_with(config: Settings) -> Flow<String> {
    let mut flow = Flow::new("orders".into(), config, RequestLimits::new(Order::Strict, 512, 8), 1, 1);
    assert!(flow.begin(Incarnation(1), Again::default()));
    flow
}

fn load(id: u64) -> Load {
    Load {
        id: LoadId(id),
        sha256: id.to_string().into(),
    }
}

fn any() -> Load {
    load(1)
}

fn after(now: Now, time: Duration) -> Now {
    Now {
        instant: now.instant + time,
        unix: now.unix + time,
    }
}

/// Delivers a message and returns its ticket.
fn deliver(flow: &mut Flow<String>, sequence: u64) -> Ticket {
    deliver_before(flow, sequence, 0)
}

/// Delivers a message with `pending` more behind it in the stream.
fn deliver_before(flow: &mut Flow<String>, place: impl Into<Place>, pending: u64) -> Ticket {
    let place = place.into();
    let message = Message {
        subject: "orders.1".into(),
        payload: Bytes::new(),
        headers: Vec::new(),
        stream: "ORDERS".into(),
        place,
        timestamp: u64::try_from(Now::read().unix.as_nanos()).unwrap(),
        deliveries: 1,
        unreadable: None,
    };
    let delivery = Delivery {
        message: Arc::new(message),
        receipt: format!("ack.{place}"),
        pending,
    };
    let chunk = flow.deliver(Now::read(), vec![delivery]);
    let [(ticket, _)] = chunk.as_slice() else {
        panic!("it is new")
    };
    *ticket
}

/// Delivers a message that the module drops, so that it is settled at once.
fn settle(flow: &mut Flow<String>, sequence: u64) {
    let transformed = Transformed {
        ticket: deliver(flow, sequence),
        outcome: Outcome::Drop,
        by: any(),
    };
    flow.transformed(Now::read(), transformed);
}

fn acks(flow: &mut Flow<String>) -> usize {
    let effects = flow.take_effects();
    effects.iter().filter(|effect| matches!(effect, Effect::Ack(_))).count()
}

#[test]
fn who_yields_acks_nothing_not_even_what_was_settled_before() {
    let mut flow = flow();
    settle(&mut flow, 1);
    assert_eq!(acks(&mut flow), 1);
    settle(&mut flow, 2);
    flow.yield_to_others();
    assert_eq!(acks(&mut flow), 0);
    assert!(flow.is_drained(), "and the run can end");
}

#[test]
fn who_yields_reports_nothing_as_in_progress() {
    let late = after(Now::read(), 2 * PROGRESS_INTERVAL);
    for (yields, reports) in [(false, 1), (true, 0)] {
        let mut flow = flow();
        deliver(&mut flow, 1);
        if yields {
            flow.yield_to_others();
        }
        flow.tick(late);
        assert_eq!(flow.take_effects().len(), reports);
    }
}

fn publication(channel: &str) -> Publication {
    Publication::new(vec![channel.into()], Body::Binary(Vec::new()))
}

/// Delivers and transforms messages for a channel, with `pending` more behind them in the stream.
fn publish(flow: &mut Flow<String>, channel: &str, sequences: std::ops::RangeInclusive<u64>, pending: u64) {
    for sequence in sequences {
        let transformed = Transformed {
            ticket: deliver_before(flow, sequence, pending),
            outcome: Outcome::Publish(vec![publication(channel)]),
            by: any(),
        };
        flow.transformed(Now::read(), transformed);
    }
}

#[test]
fn what_centrifugo_refuses_is_put_down_to_the_module_that_made_it() {
    let mut flow = flow_with(Settings {
        on_reject: OnReject::Halt,
        ..Settings::plain()
    });
    publish(&mut flow, "orders:1", 1..=1, 0);
    let now = Now::read();
    let request = flow.next_request(now).unwrap();
    // Another load runs by now.
    let ticket = deliver(&mut flow, 2);
    let transformed = Transformed {
        ticket,
        outcome: Outcome::Drop,
        by: load(2),
    };
    flow.transformed(now, transformed);
    let refused = Reply::Failed {
        code: 102,
        message: "unknown channel".to_owned(),
    };
    flow.answered(now, request.id(), Answer::Replies(vec![refused]));
    let effects = flow.take_effects();
    let [
        Effect::Refused(_, _, refused),
        Effect::Say(Notice::Rejected { .. }),
        Effect::Halt(_, halted),
    ] = effects.as_slice()
    else {
        panic!("{effects:?}");
    };
    assert_eq!((refused.id, halted.id), (LoadId(1), LoadId(1)));
}

fn conflating() -> Flow<String> {
    flow_with(Settings {
        conflate: true,
        window: window::Limits {
            messages: 100,
            ..Settings::plain().window
        },
        ..Settings::plain()
    })
}

/// Catching up must not wait for outcomes that do not fit into memory.
#[test]
fn a_flow_that_catches_up_publishes_what_it_has_when_there_is_no_room_for_more() {
    let mut flow = conflating();
    let again = Again {
        messages: 3,
        through: 3.into(),
    };
    assert!(flow.begin(Incarnation(1), Again::default()));
    flow.catch_up = CatchUp::new(again);
    publish(&mut flow, "orders:1", 1..=1, 2);
    deliver_before(&mut flow, 2, 1);
    let now = Now::read();
    assert_eq!(sends(&mut flow, now), 0, "two more come again");
    let budget = Budget {
        elsewhere: 0,
        limit: usize::MAX,
        stuck: true,
    };
    flow.budget(budget);
    assert_eq!(sends(&mut flow, now), 1);
}

#[test]
fn what_is_held_elsewhere_and_by_other_modules_leaves_less_room() {
    let mut flow = flow();
    let now = Now::read().instant;
    let room = flow.room(now).bytes;
    assert_eq!(room, flow.settings.window.bytes);
    let elsewhere = Budget {
        elsewhere: 1_000,
        limit: usize::MAX,
        stuck: false,
    };
    flow.budget(elsewhere);
    assert_eq!(flow.room(now).bytes, room - 1_000);
    deliver(&mut flow, 1);
    let held = flow.held();
    assert!(held > 0);
    flow.budget(Budget {
        limit: (held + 1_500).div_ceil(3) * 4,
        ..elsewhere
    });
    let room = flow.room(now).bytes;
    assert!((500..505).contains(&room), "three quarters are for messages: {room}");
}

#[test]
fn messages_leave_room_for_what_they_become() {
    let mut config = Settings::plain();
    config.window.bytes = 8_000;
    let mut flow = flow_with(config);
    let now = Now::read().instant;
    assert_eq!(flow.room_to_make(), 8_000);
    let mut sequence = 0;
    while flow.room(now).bytes > 0 {
        sequence += 1;
        deliver(&mut flow, sequence);
    }
    assert_eq!(flow.room_to_make(), 4_000, "the window is full of messages");
}

/// Confirms the request that goes out and returns the number of its publications.
fn sends(flow: &mut Flow<String>, now: Now) -> usize {
    let Some(request) = flow.next_request(now) else {
        return 0;
    };
    let replies = vec![Reply::Confirmed(None); request.len()];
    flow.answered(now, request.id(), Answer::Replies(replies));
    assert!(flow.next_request(now).is_none());
    request.len()
}

#[test]
fn far_behind_a_conflating_flow_sends_once_a_window() {
    let mut flow = conflating();
    let now = Now::read();
    // The first request goes out at once because the flow knows nothing about the stream yet.
    publish(&mut flow, "orders:1", 1..=1, 1_000);
    assert_eq!(sends(&mut flow, now), 1);
    publish(&mut flow, "orders:1", 2..=2, 900);
    publish(&mut flow, "orders:2", 3..=75, 900);
    assert_eq!(sends(&mut flow, now), 0, "more comes");
    publish(&mut flow, "orders:2", 76..=76, 900);
    assert_eq!(sends(&mut flow, now), 2, "three quarters of the window are full");
    assert!(flow.window().is_empty());
}

#[test]
fn what_a_conflating_flow_holds_back_goes_out_in_time() {
    let mut flow = conflating();
    let now = Now::read();
    publish(&mut flow, "orders:1", 1..=1, 1_000);
    assert_eq!(sends(&mut flow, now), 1);
    publish(&mut flow, "orders:1", 2..=3, 1_000);
    assert_eq!(sends(&mut flow, now), 0);
    assert_eq!(flow.next_wakeup(), Some(now.instant + PATIENCE));
    assert_eq!(sends(&mut flow, after(now, PATIENCE)), 1, "although no more comes");

    publish(&mut flow, "orders:1", 4..=5, 1_000);
    assert_eq!(sends(&mut flow, after(now, PATIENCE)), 0);
    publish(&mut flow, "orders:1", 6..=6, 99);
    assert_eq!(
        sends(&mut flow, after(now, PATIENCE)),
        1,
        "the rest fits into the window"
    );
}

#[test]
fn the_next_burst_waits_for_the_answers_to_the_one_before_but_not_for_ever() {
    let mut flow = conflating();
    let now = Now::read();
    publish(&mut flow, "orders:1", 1..=1, 1_000);
    let first = flow.next_request(now).expect("the first one goes out at once");
    assert!(flow.next_request(now).is_none());
    publish(&mut flow, "orders:2", 2..=80, 1_000);
    assert!(flow.next_request(now).is_none(), "the first one is not answered");
    let late = after(now, PATIENCE);
    assert!(flow.next_request(late).is_some(), "and may never be");
    assert!(flow.next_request(late).is_none());

    publish(&mut flow, "orders:1", 81..=90, 1_000);
    let replies = vec![Reply::Confirmed(None)];
    flow.answered(late, first.id(), Answer::Replies(replies));
    assert!(flow.next_request(late).is_none(), "the second one is not answered");
}

fn aged(max_age: Duration) -> Flow<String> {
    flow_with(Settings {
        max_age: Some(max_age),
        ..Settings::plain()
    })
}

#[test]
fn what_became_too_old_while_it_waited_is_not_sent_and_settled() {
    let mut flow = aged(Duration::from_secs(60));
    publish(&mut flow, "orders:1", 1..=3, 0);
    publish(&mut flow, "orders:2", 4..=4, 0);
    let late = after(Now::read(), Duration::from_secs(61));
    assert!(flow.next_request(late).is_none());
    assert_eq!((acks(&mut flow), flow.window().is_empty()), (4, true));
    let metrics = flow.take_counters();
    assert_eq!((metrics.expired, metrics.dropped), (4, 0));
}

#[test]
fn what_was_sent_is_sent_again_however_old_it_is_and_what_is_behind_it_is_left_out() {
    let mut flow = aged(Duration::from_secs(60));
    let now = Now::read();
    publish(&mut flow, "orders:1", 1..=2, 0);
    let first = flow.next_request(now).unwrap();
    let lost = Answer::Lost {
        reason: "timeout".to_owned(),
    };
    flow.answered(now, first.id(), lost);
    let late = after(now, Duration::from_secs(61));
    let asks = flow.next_request(late).unwrap();
    assert!(asks.is_empty(), "nothing is sent while nothing is taken");
    flow.answered(late, asks.id(), Answer::Replies(Vec::new()));
    assert_eq!(sends(&mut flow, late), 1, "it may still be executed");
    assert_eq!((acks(&mut flow), flow.window().is_empty()), (2, true));
    assert_eq!(flow.take_counters().expired, 1);
}

#[test]
fn a_message_with_several_publications_expires_once() {
    let mut flow = aged(Duration::from_secs(60));
    let ticket = deliver(&mut flow, 1);
    let publications = ["a", "b"].map(publication).to_vec();
    let transformed = Transformed {
        ticket,
        outcome: Outcome::Publish(publications),
        by: any(),
    };
    flow.transformed(Now::read(), transformed);
    assert!(flow.next_request(after(Now::read(), Duration::from_secs(61))).is_none());
    assert_eq!((acks(&mut flow), flow.take_counters().expired), (1, 1));
}
