//! Requests that fail as a whole.

use super::*;

#[test]
fn an_unreadable_batch_is_split_until_the_one_is_found() {
    let mut bench = bench(Order::Strict);
    bench.push_all("a b c d e");
    let all = bench.sends("0@a 1@b 2@c 3@d 4@e");
    bench.gets(all, refused(400), "");
    let first = bench.sends("0@a 1@b");
    let second = bench.sends("2@c 3@d");
    let third = bench.sends("4@e");
    bench.gets(first, replies("ok ok"), "0 1");
    bench.gets(third, replies("ok"), "4");
    bench.gets(second, refused(400), "");
    let fourth = bench.sends("2@c");
    let fifth = bench.sends("3@d");
    bench.gets(fourth, replies("ok"), "2");
    bench.gets(fifth, refused(400), "3:400");
    assert!(bench.scheduler.is_idle());
}

#[test]
fn too_large_batches_become_smaller_and_grow_again() {
    let mut bench = bench(Order::Strict);
    bench.push_all("a b c d e f g h");
    let all = bench.sends("0@a 1@b 2@c 3@d 4@e 5@f 6@g 7@h");
    bench.gets(all, refused(413), "");
    let first = bench.sends("0@a 1@b 2@c 3@d");
    bench.gets(first, refused(413), "");
    // The limit grows with each success, but each publication remembers what was too large with it.
    let second = bench.sends("0@a 1@b");
    bench.gets(second, replies("ok ok"), "0 1");
    bench.sends("2@c 3@d");
    bench.sends("4@e 5@f 6@g 7@h");
    bench.push_sized("z", 0, None);
    let single = bench.sends("8@z");
    bench.gets(single, refused(413), "8:413");
}

#[test]
fn denied_pauses_everything_and_probes() {
    let mut bench = bench_with(Limits {
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
    // It was sent before the pause, so that it adds nothing to it.
    bench.gets(second, denied(), "");
    for (at_least, at_most) in [(500, 1_000), (1_000, 2_000), (2_000, 4_000)] {
        bench.sleeps(at_least, at_most);
        let probe = bench.sends("0@a 1@b 2@c");
        bench.push(&format!("other{at_most}"));
        bench.sends_nothing();
        assert_eq!(
            bench.scheduler.next_wakeup(),
            None,
            "the probe's answer is what it waits for"
        );
        bench.gets(probe, denied(), "");
    }
    bench.sleeps(4_000, 8_000);
    let probe = bench.sends("0@a 1@b 2@c");
    bench.gets(probe, replies("ok ok ok"), "0 1 2");
    assert_eq!(bench.scheduler.trouble(), None);
    bench.sends("3@other1000 4@other2000 5@other4000");
}

#[test]
fn a_lost_answer_is_retried_elsewhere_at_once_and_then_slowly() {
    let mut bench = bench(Order::Strict);
    bench.push_all("a a");
    let first = bench.sends("0@a");
    bench.gets(first, lost(true), "");
    assert_eq!(bench.scheduler.trouble(), Some("time-out"));
    let probe = bench.sends("0@a");
    bench.gets(probe, lost(false), "");
    for (at_least, at_most) in [(50, 100), (100, 200)] {
        bench.sleeps(at_least, at_most);
        let probe = bench.sends("0@a");
        bench.gets(probe, lost(false), "");
    }
    bench.sleeps(200, 400);
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
    bench.gets(first, lost(true), "");
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
