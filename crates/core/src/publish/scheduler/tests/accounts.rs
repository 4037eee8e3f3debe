//! Tests what the scheduler tells about itself: how much it holds, and what is left to do.

use super::super::queues::{CHANNEL, Channel, ITEM, Item, PLACE};
use super::*;

/// A publication with a body of one byte on these channels.
fn small(channels: &str) -> Publication {
    publication(channels, "1".to_owned())
}

#[test]
fn the_memory_of_a_publication_grows_with_its_channels() {
    assert_eq!(waiting_size(&small("a")), ITEM + PLACE);
    assert_eq!(waiting_size(&small("a+b+c")), ITEM + 3 * PLACE);
    assert_eq!(queued_size(&small("a")), ITEM + PLACE + CHANNEL);
    assert_eq!(queued_size(&small("a+b+c")), ITEM + 3 * (PLACE + CHANNEL));
    // Collections that grow by doubling count twice: an entry of a heap has 16 bytes, one of the map 24.
    assert_eq!(ITEM, 2 * size_of::<Item>() + 32 + 48);
    assert_eq!(PLACE, 8 + 16);
    assert_eq!(CHANNEL, 2 * size_of::<Channel>() + 48 + 32);
}

#[test]
fn what_is_held_is_the_channels_and_what_is_in_flight() {
    let mut bench = bench(Order::Strict);
    assert_eq!(bench.scheduler.held(), 0);
    bench.push_all("a b+c a");
    assert_eq!(bench.scheduler.held(), 3 * CHANNEL);
    let request = bench.scheduler.next_request(bench.now).unwrap();
    // Three channels, so three replies.
    let in_flight = request.size() + 3 * REPLY_BYTES;
    assert_eq!(bench.scheduler.held(), 3 * CHANNEL + in_flight);
    bench.gets(request.id(), replies("ok ok ok"), "0 1");
    assert_eq!(bench.scheduler.held(), CHANNEL, "one waits for a");
    let second = bench.sends("2@a");
    bench.gets(second, replies("ok"), "2");
    assert_eq!(bench.scheduler.held(), 0);
}

#[test]
fn the_size_of_a_request_is_that_of_its_publications() {
    let mut bench = bench(Order::Strict);
    bench.push_sized("a", 100, None);
    bench.push_sized("b", 300, None);
    let sizes = [100, 300].map(|bytes| {
        let body = format!("[0,\"{}\"]", "x".repeat(bytes));
        let publication = Publication {
            idempotency_key: Some("key0".to_owned()),
            ..publication("a", body)
        };
        crate::publish::written_size(&publication)
    });
    let request = bench.scheduler.next_request(bench.now).unwrap();
    assert_eq!((request.len(), request.size()), (2, sizes[0] + sizes[1]));
}

#[test]
fn it_is_idle_when_all_is_concluded_and_empty_when_no_past_matters() {
    let mut bench = bench(Order::Batched);
    let state = |bench: &Bench| (bench.scheduler.is_idle(), bench.scheduler.has_forgotten_all());
    assert_eq!(state(&bench), (true, true));
    bench.push_all("a a");
    assert_eq!(state(&bench), (false, false));
    let first = bench.sends("0@a 1@a");
    assert_eq!(state(&bench), (false, false));
    // The first one failed and the second one was shown, so the channel is strict for a while.
    bench.gets(first, replies("100 ok"), "");
    bench.sleeps(50, 100);
    let again = bench.sends("0@a");
    bench.gets(again, replies("ok"), "0");
    let last = bench.sends("1@a~1");
    bench.gets(last, replies("ok"), "1");
    assert_eq!(state(&bench), (true, false));
    bench.now += STRICT_AFTER_FAILURE;
    bench.sends_nothing();
    assert_eq!(state(&bench), (true, true));
}

#[test]
fn what_no_request_carries_waits() {
    let mut bench = bench(Order::Strict);
    bench.push_all("a b c a");
    assert_eq!((bench.scheduler.waiting(), bench.scheduler.in_flight()), (4, 0));
    let first = bench.sends("0@a 1@b 2@c");
    assert_eq!((bench.scheduler.waiting(), bench.scheduler.in_flight()), (1, 1));
    // The three wait until it is known who is at fault.
    bench.gets(first, refused(400), "");
    assert_eq!((bench.scheduler.waiting(), bench.scheduler.in_flight()), (4, 0));
    let question = bench.asks();
    assert_eq!((bench.scheduler.waiting(), bench.scheduler.in_flight()), (1, 1));
    bench.gets(question, taken(), "");
    assert_eq!((bench.scheduler.waiting(), bench.scheduler.in_flight()), (4, 0));
}

#[test]
fn what_is_sent_again_is_counted() {
    let mut bench = bench(Order::Strict);
    bench.push_all("a b");
    let first = bench.sends("0@a 1@b");
    assert_eq!(bench.scheduler.retried(), 0);
    bench.gets(first, replies("100 100"), "");
    bench.now += Duration::from_millis(100);
    let second = bench.sends("0@a 1@b");
    assert_eq!(bench.scheduler.retried(), 2);
    bench.gets(second, replies("ok ok"), "0 1");
    assert_eq!(bench.scheduler.retried(), 2);
}

#[test]
fn only_suspects_need_a_connection_of_their_own() {
    let mut bench = bench(Order::Strict);
    bench.push_all("a b");
    let request = bench.scheduler.next_request(bench.now).unwrap();
    assert!(!request.is_apart());
    bench.gets(request.id(), lost(), "");
    bench.sends_nothing();
    bench.now = bench.scheduler.next_wakeup().unwrap();
    let question = bench.scheduler.next_request(bench.now).unwrap();
    let suspect = match question.is_empty() {
        true => {
            bench.gets(question.id(), taken(), "");
            bench.scheduler.next_request(bench.now).unwrap()
        }
        false => question,
    };
    assert!(suspect.is_apart() && !suspect.is_empty(), "{suspect:?}");
}

#[test]
fn as_many_requests_as_allowed_and_no_more_bytes_than_that_many_usual_ones() {
    let limits = RequestLimits {
        order: Order::Strict,
        max_batch: 1,
        max_request_bytes: 1_000,
        max_in_flight: 3,
        busy_batch: usize::MAX,
    };
    // Small ones: the number counts.
    let mut bench = bench_with(limits);
    bench.push_all("a b c d");
    for expected in ["0@a", "1@b", "2@c"] {
        bench.sends(expected);
    }
    bench.sends_nothing();
    // Large ones: beside the largest, 3,000 bytes with what their replies take.
    let mut bench = bench_with(limits);
    for channel in ["a", "b", "c"] {
        bench.push_sized(channel, 1_600, None);
    }
    bench.sends("0@a");
    bench.sends("1@b");
    assert!(
        bench.scheduler.next_request(bench.now).is_some(),
        "1,600 + 1,600 - the largest"
    );
    let mut bench = bench_with(RequestLimits {
        max_in_flight: 4,
        ..limits
    });
    for channel in ["a", "b", "c", "d"] {
        bench.push_sized(channel, 2_600, None);
    }
    for expected in ["0@a", "1@b", "2@c"] {
        bench.sends(expected);
    }
    bench.sends_nothing();
}

#[test]
fn a_small_batch_waits_for_more_while_requests_carry_many() {
    let mut bench = bench_with(RequestLimits {
        order: Order::Strict,
        max_batch: 8,
        max_request_bytes: 100_000,
        max_in_flight: 3,
        busy_batch: 4,
    });
    bench.push_all("a b c d e");
    let first = bench.sends("0@a 1@b 2@c 3@d 4@e");
    // Two of five: less than half.
    bench.push_all("f g");
    bench.sends_nothing();
    assert_eq!(bench.scheduler.next_wakeup(), Some(bench.now + LINGER));
    bench.now += LINGER;
    bench.sends("5@f 6@g");
    // Now two requests carry seven, which is less than four each.
    bench.push("h");
    bench.sends("7@h");
    bench.gets(first, replies("ok ok ok ok ok"), "0 1 2 3 4");
    assert_eq!(bench.scheduler.next_wakeup(), None);
}

#[test]
fn half_of_what_is_in_flight_does_not_wait() {
    let mut bench = bench_with(RequestLimits {
        order: Order::Strict,
        max_batch: 8,
        max_request_bytes: 100_000,
        max_in_flight: 3,
        busy_batch: 4,
    });
    bench.push_all("a b c d");
    bench.sends("0@a 1@b 2@c 3@d");
    bench.push_all("e f");
    bench.sends("4@e 5@f");
}

#[test]
fn exactly_as_many_bytes_as_allowed_leave_no_room() {
    let limits = RequestLimits {
        order: Order::Strict,
        max_batch: 1,
        max_request_bytes: 1_000,
        max_in_flight: 4,
        busy_batch: usize::MAX,
    };
    let empty = {
        let mut bench = bench_with(limits);
        bench.push("a");
        bench.scheduler.next_request(bench.now).unwrap().size() + REPLY_BYTES
    };
    for (bytes, has_slot) in [(4_000, false), (3_999, true)] {
        let mut bench = bench_with(limits);
        for channel in ["a", "b", "c"] {
            bench.push_sized(channel, bytes - empty, None);
        }
        bench.sends("0@a");
        bench.sends("1@b");
        assert_eq!(bench.next().is_some(), has_slot, "{bytes} bytes beside the largest");
    }
}

#[test]
fn nothing_lingers_where_nothing_is_ready_or_a_full_batch_is() {
    let limits = RequestLimits {
        order: Order::Strict,
        max_batch: 2,
        max_request_bytes: 100_000,
        max_in_flight: 5,
        busy_batch: 1,
    };
    let mut bench = bench_with(limits);
    bench.push_all("a b c d e f");
    for expected in ["0@a 1@b", "2@c 3@d", "4@e 5@f"] {
        bench.sends(expected);
    }
    assert_eq!(bench.scheduler.next_wakeup(), None);
    // One of six lingers, two are a full batch.
    bench.push("g");
    assert_eq!(bench.scheduler.next_wakeup(), Some(bench.now + LINGER));
    bench.sends_nothing();
    bench.push("h");
    assert_eq!(bench.scheduler.next_wakeup(), None);
    bench.sends("6@g 7@h");
}

#[test]
fn nothing_lingers_while_no_request_is_in_flight() {
    let mut bench = bench_with(RequestLimits {
        order: Order::Strict,
        max_batch: 8,
        max_request_bytes: 100_000,
        max_in_flight: 3,
        busy_batch: 4,
    });
    bench.push_all("a b c d e");
    let first = bench.sends("0@a 1@b 2@c 3@d 4@e");
    bench.push_all("f g");
    // The five wait for the answer to a question that was not sent yet.
    bench.gets(first, refused(400), "");
    assert_eq!((bench.scheduler.in_flight(), bench.scheduler.next_wakeup()), (0, None));
}
