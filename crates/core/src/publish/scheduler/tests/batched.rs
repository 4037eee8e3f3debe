//! Tests batches in which one publication of a channel fails and the next ones do not.

use super::*;

#[test]
fn error_100_in_the_middle_of_a_batch_shows_the_rest_again_with_other_keys() {
    let mut bench = bench(Order::Batched);
    bench.push_all("a a a b a a");
    let first = bench.sends("0@a 1@a 2@a 3@b 4@a 5@a");
    bench.gets(first, replies("ok 100 ok ok 102 100"), "0 3 4:102");
    bench.sleeps(50, 100);
    // From here on, the channel is strict.
    let second = bench.sends("1@a");
    bench.gets(second, replies("ok"), "1");
    let third = bench.sends("2@a~1");
    bench.gets(third, lost(), "");
    bench.sleeps(50, 100);
    bench.finds_it_open();
    let fourth = bench.sends("2@a~1");
    bench.gets(fourth, replies("ok"), "2");
    // This publication was not confirmed, so it keeps its key.
    let fifth = bench.sends("5@a");
    bench.gets(fifth, replies("ok"), "5");
    bench.push_all("a a");
    let sixth = bench.sends("6@a");
    bench.gets(sixth, replies("ok"), "6");
    bench.now += STRICT_AFTER_FAILURE;
    bench.push("a");
    bench.sends("7@a 8@a");
}

#[test]
fn a_position_before_the_last_one_tells_what_a_lost_answer_said() {
    let mut bench = bench(Order::Batched);
    bench.push_all("a a a a");
    let first = bench.sends("0@a 1@a 2@a 3@a");
    // Everything but 1 was executed. 1 failed with error 100, and the answer was lost.
    bench.gets(first, lost(), "");
    bench.sleeps(50, 100);
    bench.finds_it_open();
    let second = bench.sends("0@a 1@a");
    bench.gets(second, replies("@1 @4"), "0 1");
    let third = bench.sends("2@a 3@a");
    bench.gets(third, replies("@2 @3"), "");
    let fourth = bench.sends("2@a~1");
    // The scheduler forgets the earlier positions. Otherwise this would never end if Centrifugo has lost its history.
    bench.gets(fourth, replies("@2"), "2");
    bench.sends("3@a~1");
}

#[test]
fn a_modules_key_goes_before_the_relays_and_may_repeat() {
    let mut bench = bench(Order::Batched);
    bench.push_sized("a", 0, Some("/mine0"));
    bench.push_sized("a", 0, Some("/mine1"));
    let first = bench.sends("0@a/mine0 1@a/mine1");
    // The key was already used for an older publication, on purpose.
    bench.gets(first, replies("@9 @3"), "0 1");
    bench.push_sized("a", 0, Some("/mine2"));
    bench.push_sized("a", 0, Some("/mine3"));
    let second = bench.sends("2@a/mine2 3@a/mine3");
    bench.gets(second, replies("100 ok"), "");
    bench.sleeps(50, 100);
    let third = bench.sends("2@a/mine2");
    bench.gets(third, replies("ok"), "2");
    bench.sends("3@a/mine3~1");
}

#[test]
fn what_became_useless_behind_others_of_its_request_is_left_out_when_they_are_done() {
    let mut bench = bench(Order::Batched);
    bench.push_all("a a a");
    let wanted = |ticket| ticket != 1;
    let first = bench.scheduler.next_request_of(bench.now, wanted).unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(bench.scheduler.take_left_out(), [0_u64; 0]);
    bench.gets(first.id(), replies("ok"), "0");
    let second = bench.scheduler.next_request_of(bench.now, wanted).unwrap();
    assert_eq!(bench.scheduler.take_left_out(), [1]);
    bench.gets(second.id(), replies("ok"), "2");
    assert!(bench.scheduler.is_idle());
}

#[test]
fn a_channel_is_strict_until_exactly_the_end_of_that_time() {
    let mut bench = bench(Order::Batched);
    bench.push_all("a a");
    let first = bench.sends("0@a 1@a");
    bench.gets(first, replies("100 ok"), "");
    let failed = bench.now;
    bench.now += Duration::from_millis(100);
    let again = bench.sends("0@a");
    bench.push_all("a a a");
    bench.gets(again, replies("ok"), "0");
    let strict = bench.sends("1@a~1");
    bench.now = failed + STRICT_AFTER_FAILURE;
    bench.sends_nothing();
    bench.gets(strict, replies("ok"), "1");
    bench.sends("2@a 3@a 4@a");
}
