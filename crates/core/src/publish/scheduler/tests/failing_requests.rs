//! Tests requests that fail as a whole, and which publication gets the blame.

use super::*;

#[test]
fn an_unreadable_batch_is_split_until_the_one_is_found() {
    let mut bench = bench(Order::Strict);
    bench.push_all("a b c d e");
    let all = bench.sends("0@a 1@b 2@c 3@d 4@e");
    bench.gets(all, refused(400), "");
    bench.finds_it_open();
    let first = bench.sends("0@a 1@b");
    let second = bench.sends("2@c 3@d");
    let third = bench.sends("4@e");
    bench.gets(first, replies("ok ok"), "0 1");
    bench.gets(third, replies("ok"), "4");
    bench.gets(second, refused(400), "");
    bench.finds_it_open();
    let fourth = bench.sends("2@c");
    let fifth = bench.sends("3@d");
    bench.gets(fourth, replies("ok"), "2");
    bench.gets(fifth, refused(400), "");
    bench.finds_it_open();
    let sixth = bench.sends("3@d");
    bench.gets(sixth, refused(400), "");
    let asks = bench.asks();
    bench.gets(asks, taken(), "3:400");
    assert!(bench.scheduler.is_idle());
}

#[test]
fn while_the_endpoint_is_asked_what_it_refused_stays_and_others_go_on() {
    let mut bench = bench(Order::Strict);
    bench.push_all("a");
    let first = bench.sends("0@a");
    bench.gets(first, refused(400), "");
    assert_eq!(bench.scheduler.waiting(), 1);
    bench.push_all("a b");
    let asks = bench.asks();
    let other = bench.sends("2@b");
    bench.sends_nothing();
    bench.gets(other, replies("ok"), "2");
    bench.gets(asks, taken(), "");
    let again = bench.sends("0@a");
    bench.gets(again, refused(400), "");
    let asks = bench.asks();
    bench.gets(asks, taken(), "0:400");
    let next = bench.sends("1@a");
    bench.gets(next, replies("ok"), "1");
    assert!(bench.scheduler.is_idle());
}

#[test]
fn an_endpoint_that_refuses_an_empty_request_too_is_at_fault_itself() {
    for answer in [refused(400), denied(), lost()] {
        let mut bench = bench(Order::Strict);
        bench.push_all("a b c");
        let first = bench.sends("0@a 1@b 2@c");
        bench.gets(first, refused(400), "");
        let asks = bench.asks();
        bench.gets(asks, answer.clone(), "");
        assert!(bench.scheduler.trouble().is_some());
        bench.sleeps(50, 1_000);
        let asks = bench.asks();
        bench.gets(asks, answer, "");
        bench.sleeps(100, 2_000);
        bench.finds_it_open();
        let again = bench.sends("0@a 1@b 2@c");
        bench.gets(again, replies("ok ok ok"), "0 1 2");
        assert!(bench.scheduler.is_idle(), "and nothing was refused");
    }
}

#[test]
fn an_endpoint_that_recovers_before_it_is_asked_blames_nothing_on_the_publication() {
    let mut bench = bench(Order::Strict);
    bench.push_all("a");
    for failure in [lost(), denied()] {
        let first = bench.sends("0@a");
        bench.gets(first, refused(400), "");
        bench.finds_it_open();
        // A failure for another reason in between makes the next refusal the first one again.
        let second = bench.sends("0@a");
        bench.gets(second, failure, "");
        bench.now = bench.scheduler.next_wakeup().expect("it goes on");
        if bench.scheduler.trouble().is_some() {
            bench.finds_it_open();
        }
    }
    let third = bench.sends("0@a");
    bench.gets(third, refused(400), "");
    bench.finds_it_open();
    let fourth = bench.sends("0@a");
    bench.gets(fourth, replies("ok"), "0");
    assert!(bench.scheduler.is_idle(), "and nothing was refused");
}

#[test]
fn too_large_batches_become_smaller_and_grow_again() {
    let mut bench = bench(Order::Strict);
    bench.push_all("a b c d e f g h");
    let all = bench.sends("0@a 1@b 2@c 3@d 4@e 5@f 6@g 7@h");
    bench.gets(all, refused(413), "");
    bench.finds_it_open();
    let first = bench.sends("0@a 1@b 2@c 3@d");
    bench.gets(first, refused(413), "");
    bench.finds_it_open();
    // The limit grows with each success, but each publication remembers the batch size that was too large with it.
    let second = bench.sends("0@a 1@b");
    bench.gets(second, replies("ok ok"), "0 1");
    bench.sends("2@c 3@d");
    bench.sends("4@e 5@f 6@g 7@h");
    bench.push_sized("z", 0, None);
    let single = bench.sends("8@z");
    bench.gets(single, refused(413), "");
    bench.finds_it_open();
    let single = bench.sends("8@z");
    bench.gets(single, refused(413), "");
    let asks = bench.asks();
    bench.gets(asks, taken(), "8:413");
}

#[test]
fn denied_pauses_everything_and_asks() {
    let mut bench = bench_with(RequestLimits {
        order: Order::Strict,
        max_batch: 3,
        max_request_bytes: 10_000,
        max_in_flight: 2,
        busy_batch: usize::MAX,
    });
    bench.push_all("a b");
    let first = bench.sends("0@a 1@b");
    bench.push("c");
    let second = bench.sends("2@c");
    bench.gets(first, denied(), "");
    assert_eq!(bench.scheduler.trouble(), Some("HTTP 401: is the key right?"));
    // This request was sent before the pause, so it does not lengthen it.
    bench.gets(second, denied(), "");
    for (at_least, at_most) in [(500, 1_000), (1_000, 2_000), (2_000, 4_000)] {
        bench.sleeps(at_least, at_most);
        let asks = bench.asks();
        bench.push(&format!("other{at_most}"));
        bench.sends_nothing();
        assert_eq!(bench.scheduler.next_wakeup(), None, "the answer is what it waits for");
        bench.gets(asks, denied(), "");
    }
    bench.sleeps(4_000, 8_000);
    bench.finds_it_open();
    let probe = bench.sends("3@other1000 4@other2000 5@other4000");
    bench.sends_nothing();
    bench.gets(probe, replies("ok ok ok"), "3 4 5");
    assert_eq!(bench.scheduler.trouble(), None);
    let again = bench.sends("0@a");
    bench.gets(again, replies("ok"), "0");
    let again = bench.sends("1@b");
    bench.gets(again, replies("ok"), "1");
    bench.sends("2@c");
}

#[test]
fn an_endpoint_that_fails_or_lets_nothing_in_is_left_for_the_next_one_at_once() {
    for failure in [denied(), lost(), refused(400)] {
        let mut bench = bench(Order::Strict);
        bench.scheduler = Scheduler::new(bench.scheduler.limits, 7).with_endpoints(2);
        bench.push_all("a b");
        let first = bench.scheduler.next_request(bench.now).unwrap();
        assert_eq!((first.endpoint(), first.len()), (0, 2));
        bench.gets(first.id(), failure.clone(), "");
        let mut asks = bench.scheduler.next_request(bench.now).unwrap();
        if let Answer::Refused { .. } = failure {
            assert_eq!((asks.endpoint(), asks.len()), (0, 0), "does it refuse everything?");
            bench.gets(asks.id(), denied(), "");
            asks = bench.scheduler.next_request(bench.now).unwrap();
        }
        assert_eq!((asks.endpoint(), asks.len()), (1, 0), "without a pause");
        bench.gets(asks.id(), taken(), "");
        let second = bench.scheduler.next_request(bench.now).unwrap();
        assert_eq!(second.endpoint(), 1);
        let confirmed = vec![Reply::Confirmed(None); second.len()];
        bench
            .scheduler
            .complete(bench.now, second.id(), Answer::Replies(confirmed));
        assert_eq!(bench.scheduler.trouble(), None);
        bench.push("c");
        let third = bench.scheduler.next_request(bench.now).unwrap();
        assert_eq!(third.endpoint(), 1, "until it fails itself");
    }
}

#[test]
fn when_every_endpoint_fails_there_is_a_pause_and_each_is_asked_in_its_turn() {
    let mut bench = bench(Order::Strict);
    bench.scheduler = Scheduler::new(bench.scheduler.limits, 7).with_endpoints(2);
    bench.push("a");
    let first = bench.scheduler.next_request(bench.now).unwrap();
    bench.gets(first.id(), denied(), "");
    let mut asked = Vec::new();
    for _ in 0..4 {
        let asks = bench.scheduler.next_request(bench.now).unwrap();
        asked.push((asks.endpoint(), asks.len()));
        bench.gets(asks.id(), denied(), "");
        bench.sleeps(500, 8_000);
    }
    assert_eq!(asked, [(1, 0), (0, 0), (1, 0), (0, 0)]);
}

#[test]
fn a_lost_answer_is_retried_slowly_and_only_where_requests_are_taken() {
    let mut bench = bench(Order::Strict);
    bench.push_all("a a");
    let first = bench.sends("0@a");
    bench.gets(first, lost(), "");
    assert_eq!(bench.scheduler.trouble(), Some("timeout"));
    for (at_least, at_most) in [(50, 100), (100, 200)] {
        bench.sleeps(at_least, at_most);
        let asks = bench.asks();
        bench.gets(asks, lost(), "");
    }
    bench.sleeps(200, 400);
    bench.finds_it_open();
    let probe = bench.sends("0@a");
    bench.gets(probe, replies("ok"), "0");
    assert_eq!(bench.scheduler.trouble(), None);
    bench.sends("1@a");
}

#[test]
fn a_lost_answer_makes_batches_smaller() {
    let mut bench = bench(Order::Batched);
    bench.push_all("a a a a");
    let first = bench.sends("0@a 1@a 2@a 3@a");
    bench.gets(first, lost(), "");
    bench.sleeps(50, 100);
    bench.finds_it_open();
    let second = bench.sends("0@a 1@a");
    bench.gets(second, replies("ok ok"), "0 1");
    bench.sends("2@a 3@a");
}

#[test]
fn replies_of_another_number_are_as_good_as_none() {
    let mut bench = bench(Order::Strict);
    bench.push("a+b");
    let first = bench.sends("0@a+b");
    bench.gets(first, replies("ok"), "");
    assert_eq!(bench.scheduler.trouble(), Some("1 replies for 2 channels"));
}

#[test]
fn what_fails_each_time_while_others_go_through_waits_alone() {
    for failure in [lost(), denied()] {
        let mut bench = bench(Order::Strict);
        bench.push_all("poison b c d poison");
        let start = bench.now;
        let mut confirmed = bench.answers("poison", &failure);
        while confirmed.len() < 3 {
            bench.now = bench.scheduler.next_wakeup().expect("it goes on");
            confirmed.extend(bench.answers("poison", &failure));
        }
        confirmed.sort_unstable();
        assert_eq!(confirmed, [1, 2, 3]);
        assert!(bench.now - start <= Duration::from_secs(3), "{:?}", bench.now - start);
        assert_eq!(bench.scheduler.trouble(), None, "others go through");
        let stuck = bench.scheduler.take_stuck().expect("it is said");
        assert_eq!((stuck.ticket, stuck.failures), (0, 3));
        for (number, (at_least, at_most)) in [(50, 100), (100, 200), (200, 400)].into_iter().enumerate() {
            let other = format!("other{number}");
            bench.push(&other);
            let request = bench.sends(&format!("{}@{other}", 5 + number));
            bench.gets(request, replies("ok"), &format!("{}", 5 + number));
            bench.sleeps(at_least, at_most);
            let lone = bench.sends("0@poison");
            bench.gets(lone, failure.clone(), "");
        }
        bench.sleeps(400, 800);
        let lone = bench.sends("0@poison");
        bench.gets(lone, replies("ok"), "0");
        let behind = bench.sends("4@poison");
        bench.gets(behind, replies("ok"), "4");
        assert!(bench.scheduler.is_idle());
    }
}

#[test]
fn what_comes_after_one_that_failed_alone_twice_does_not_wait_for_it() {
    let mut bench = bench(Order::Strict);
    bench.push("poison");
    let first = bench.sends("0@poison");
    bench.gets(first, lost(), "");
    bench.sleeps(50, 100);
    bench.finds_it_open();
    let again = bench.sends("0@poison");
    // The request is in flight, perhaps for as long as the timeout.
    bench.push("b");
    let other = bench.sends("1@b");
    bench.gets(other, replies("ok"), "1");
    assert_eq!(bench.scheduler.trouble(), None);
    bench.gets(again, lost(), "");
    bench.sleeps(50, 100);
    let again = bench.sends("0@poison");
    // Nothing went through meanwhile, so any publication may be at fault.
    bench.gets(again, lost(), "");
    bench.push("c");
    bench.finds_it_open();
    let other = bench.sends("2@c");
    bench.gets(other, replies("ok"), "2");
}

#[test]
fn where_nothing_goes_through_each_pause_has_one_question_and_few_publications_are_used_up() {
    let mut bench = bench(Order::Strict);
    let (mut questions, mut tried) = (0, std::collections::BTreeSet::new());
    let start = bench.now;
    while bench.now < start + Duration::from_secs(300) {
        bench.push(&format!("c{}", bench.pushed));
        while let Some(request) = bench.scheduler.next_request(bench.now) {
            questions += usize::from(request.is_empty());
            let channels = request
                .commands()
                .iter()
                .flat_map(|command| command.channels().to_vec());
            tried.extend(channels);
            let answer = if request.is_empty() { taken() } else { lost() };
            bench.scheduler.complete(bench.now, request.id(), answer);
        }
        bench.now += Duration::from_millis(500);
    }
    assert!((60..150).contains(&questions), "{questions}");
    assert!(tried.len() < 80, "{} of 600 were sent", tried.len());
}

/// Returns a bench with five suspects a to e, one per request, and no outage.
fn five_suspects(max_in_flight: usize) -> Bench {
    let mut bench = bench_with(RequestLimits {
        order: Order::Strict,
        max_batch: 1,
        max_request_bytes: 10_000,
        max_in_flight,
        busy_batch: usize::MAX,
    });
    bench.push_all("a b c d e");
    let requests = ["0@a", "1@b", "2@c", "3@d", "4@e"].map(|expected| bench.sends(expected));
    for request in requests {
        bench.gets(request, lost(), "");
    }
    bench.sleeps(50, 100);
    bench.finds_it_open();
    bench.push("new");
    let new = bench.sends("5@new");
    bench.gets(new, replies("ok"), "5");
    assert_eq!(bench.scheduler.trouble(), None);
    bench
}

#[test]
fn suspects_get_one_slot_before_others_and_half_of_the_slots_at_most() {
    let mut bench = five_suspects(6);
    bench.push_all("x y");
    bench.sends("0@a");
    // One suspect is in flight, so the others come first.
    bench.sends("6@x");
    bench.sends("7@y");
    bench.sends("1@b");
    bench.sends("2@c");
    assert_eq!(bench.scheduler.in_flight(), 5);
    bench.sends_nothing();
    bench.push("z");
    bench.sends("8@z");
}

#[test]
fn with_a_single_slot_suspects_and_others_take_turns() {
    let mut bench = five_suspects(5);
    bench.scheduler.limits.max_in_flight = 1;
    bench.push_all("x y");
    for (expected, ticket) in [("0@a", "0"), ("6@x", "6"), ("1@b", "1"), ("7@y", "7")] {
        let request = bench.sends(expected);
        bench.gets(request, replies("ok"), ticket);
    }
}

#[test]
fn a_suspect_that_gets_a_reply_is_none_any_more() {
    let mut bench = five_suspects(5);
    let suspect = bench.scheduler.next_request(bench.now).unwrap();
    assert!(suspect.is_apart());
    bench.gets(suspect.id(), replies("100"), "");
    bench.now += Duration::from_millis(100);
    let others: Vec<bool> = std::iter::from_fn(|| bench.scheduler.next_request(bench.now))
        .map(|request| request.is_apart())
        .collect();
    // The suspects b and c, and a.
    assert_eq!(others.iter().filter(|apart| !**apart).count(), 1, "{others:?}");
}

#[test]
fn a_single_publication_that_never_failed_is_tried_alone_during_an_outage() {
    let mut bench = bench(Order::Strict);
    bench.push("a");
    let first = bench.sends("0@a");
    bench.gets(first, lost(), "");
    bench.sleeps(50, 100);
    bench.finds_it_open();
    bench.push("b");
    let probe = bench.sends("1@b");
    bench.push("c");
    bench.sends_nothing();
    bench.gets(probe, replies("ok"), "1");
    bench.sends("0@a");
    bench.sends("2@c");
}

#[test]
fn a_publication_that_failed_four_times_alone_goes_to_another_endpoint_unless_there_is_an_outage() {
    let mut bench = bench(Order::Strict);
    bench.scheduler = Scheduler::new(bench.scheduler.limits, 7).with_endpoints(2);
    bench.push("poison");
    let first = bench.sends("0@poison");
    bench.gets(first, lost(), "");
    let mut tried = Vec::new();
    while tried.len() < 5 {
        bench.push(&format!("other{}", bench.pushed));
        while let Some(request) = bench.scheduler.next_request(bench.now) {
            let items = bench.scheduler.in_flight[&request.id()].items.clone();
            let answer = match items[..] {
                [item] if bench.scheduler.queues.items[item].ticket == 0 => {
                    let failures = bench.scheduler.queues.items[item].failures;
                    let here = request.endpoint() == bench.scheduler.endpoints.current();
                    tried.push((failures, here, bench.scheduler.outage.is_on()));
                    lost()
                }
                _ => Answer::Replies(vec![Reply::Confirmed(None); request.channels().sum()]),
            };
            bench.scheduler.complete(bench.now, request.id(), answer);
        }
        bench.now += Duration::from_millis(100);
    }
    let here = |failures| (failures, true, false);
    assert_eq!(tried, [here(1), here(2), here(3), (4, false, false), here(5)]);
    // In an outage it tells whether the current endpoint takes publications.
    bench.push("last");
    let mut request = bench.scheduler.next_request(bench.now).unwrap();
    loop {
        let item = bench.scheduler.in_flight[&request.id()].items[0];
        let Item { ticket, failures, .. } = bench.scheduler.queues.items[item];
        if ticket == 0 {
            let current = bench.scheduler.endpoints.current();
            assert_eq!((failures, request.endpoint()), (6, current));
            assert_ne!(bench.scheduler.endpoints.other(failures - 3), current);
            break;
        }
        bench.gets(request.id(), lost(), "");
        bench.now += Duration::from_secs(30);
        bench.finds_it_open();
        request = bench.scheduler.next_request(bench.now).unwrap();
    }
}

#[test]
fn a_question_about_an_earlier_request_does_not_end_an_outage() {
    let mut bench = bench_with(RequestLimits {
        order: Order::Strict,
        max_batch: 1,
        max_request_bytes: 10_000,
        max_in_flight: 3,
        busy_batch: usize::MAX,
    });
    bench.push_all("a b");
    let first = bench.sends("0@a");
    let second = bench.sends("1@b");
    bench.gets(first, lost(), "");
    bench.gets(second, refused(400), "");
    bench.finds_it_open();
    assert_eq!(bench.scheduler.trouble(), Some("timeout"));
    bench.sleeps(50, 100);
    bench.finds_it_open();
    let again = bench.sends("1@b");
    bench.gets(again, replies("ok"), "1");
    bench.sends("0@a");
}

#[test]
fn an_empty_request_that_gets_replies_has_learnt_nothing() {
    // It was sent for a refused request.
    let mut bench = bench(Order::Strict);
    bench.push("a");
    let first = bench.sends("0@a");
    bench.gets(first, refused(400), "");
    let question = bench.asks();
    bench.gets(question, replies("ok"), "");
    assert_eq!(bench.scheduler.trouble(), Some("1 replies for 1 channels"));
    // It was sent to learn whether the outage is over.
    bench.sleeps(50, 100);
    let question = bench.asks();
    bench.gets(question, replies("ok"), "");
    assert_eq!(bench.scheduler.trouble(), Some("1 replies for 0 channels"));
    bench.sleeps(100, 200);
    bench.finds_it_open();
    bench.sends("0@a");
}

#[test]
fn without_a_slot_the_end_of_a_pause_wakes_nobody() {
    let mut bench = bench_with(RequestLimits {
        order: Order::Strict,
        max_batch: 1,
        max_request_bytes: 1_000,
        max_in_flight: 4,
        busy_batch: usize::MAX,
    });
    bench.push("small");
    for channel in ["b", "c", "d"] {
        bench.push_sized(channel, 2_600, None);
    }
    let small = bench.sends("0@small");
    let large = ["1@b", "2@c", "3@d"].map(|expected| bench.sends(expected));
    bench.gets(small, lost(), "");
    assert_eq!(
        bench.scheduler.next_wakeup(),
        None,
        "three large requests are in flight"
    );
    bench.gets(large[0], replies("ok"), "1");
    bench.sends("0@small");
}

#[test]
fn only_413_makes_batches_of_others_smaller() {
    for (status, expected) in [(400, "4@e 5@f 6@g 7@h"), (413, "4@e 5@f")] {
        let mut bench = bench(Order::Strict);
        bench.push_all("a b c d");
        let all = bench.sends("0@a 1@b 2@c 3@d");
        bench.gets(all, refused(status), "");
        bench.finds_it_open();
        bench.push_all("e f g h");
        bench.sends("0@a 1@b");
        bench.sends("2@c 3@d");
        bench.sends(expected);
    }
}

#[test]
fn what_was_sent_to_an_endpoint_before_the_change_says_nothing_about_the_present_one() {
    let mut bench = bench(Order::Strict);
    bench.scheduler = Scheduler::new(bench.scheduler.limits, 7).with_endpoints(2);
    bench.push("a");
    let first = bench.sends("0@a");
    bench.push("b");
    let second = bench.sends("1@b");
    bench.gets(first, lost(), "");
    bench.finds_it_open();
    let again = bench.sends("0@a");
    bench.gets(again, replies("ok"), "0");
    assert_eq!(
        (bench.scheduler.trouble(), bench.scheduler.endpoints.current()),
        (None, 1)
    );
    bench.gets(second, lost(), "");
    assert_eq!(bench.scheduler.trouble(), None);
    bench.push("c");
    let third = bench.scheduler.next_request(bench.now).unwrap();
    assert_eq!(third.endpoint(), 1);
}

#[test]
fn during_an_outage_what_became_useless_is_left_out_although_nothing_is_sent() {
    let mut bench = bench(Order::Strict);
    bench.push("a");
    let first = bench.sends("0@a");
    bench.gets(first, lost(), "");
    bench.push_all("b c d");
    let sends = bench.scheduler.next_request_of(bench.now, |ticket| ticket == 3);
    assert!(sends.is_none() && bench.scheduler.trouble().is_some());
    assert_eq!(bench.scheduler.take_left_out(), [1, 2]);
    assert_eq!(bench.scheduler.waiting(), 2, "a was sent, and d is wanted");
}
