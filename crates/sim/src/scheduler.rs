//! The order promise, tested: thousands of seeded schedules of a simulated Centrifugo that fails, answers late or not at all, and
//! executes what it does not answer; a checker that sees everything it shows; and the bugs that the checker has to find.
//!
//! `SCHEDULER_SEED=17 cargo test -p slipring-sim scheduler` runs only that schedule.

mod checker;
mod driver;
mod traffic;

use std::collections::BTreeMap;
use std::env;

use slipring_core::publish::{Order, SchedulerBug as Bug};

use self::driver::Setup;

const SCHEDULES: u64 = 1_000;

/// How many schedules a bug may survive; each is found far earlier.
const BUG_SCHEDULES: u64 = 200;

const STRICT: Setup = Setup {
    order: Order::Strict,
    keys: true,
    conflate: false,
    cursed: false,
    bug: None,
};
const BATCHED: Setup = Setup {
    order: Order::Batched,
    ..STRICT
};
const CONFLATED: Setup = Setup {
    conflate: true,
    ..STRICT
};

const CURSED: Setup = Setup { cursed: true, ..STRICT };
const CURSED_BATCHED: Setup = Setup {
    cursed: true,
    ..BATCHED
};

fn check(setup: Setup) {
    let one = env::var("SCHEDULER_SEED")
        .ok()
        .map(|seed| seed.parse::<u64>().expect("SCHEDULER_SEED is a number"));
    let seeds = one.map_or(0..SCHEDULES, |seed| seed..seed + 1);
    let mut counts = BTreeMap::<_, u64>::new();
    for seed in seeds {
        let summary = driver::run(setup, seed);
        let summary = summary.unwrap_or_else(|violation| panic!("SCHEDULER_SEED={seed} with {setup:?}: {violation}"));
        for (what, times) in summary.counts {
            *counts.entry(what).or_default() += times;
        }
    }
    // A fault that never occurs tests nothing.
    let repeats = setup.order == Order::Batched && setup.keys && !setup.cursed;
    let usual = [
        "100",
        "400",
        "401",
        "413",
        "500",
        "cut",
        "late",
        "rejected",
        "silence",
        "refused once",
        "endpoint refuses",
        "endpoint denies",
        "endpoint dead",
        "endpoint silent",
    ];
    let expected = if setup.cursed { &["cursed"][..] } else { &usual[..] };
    for what in expected
        .iter()
        .copied()
        .chain(repeats.then_some("repeat"))
        .chain(setup.conflate.then_some("conflated"))
    {
        assert!(
            one.is_some() || counts[what] >= SCHEDULES / 10,
            "{what} is rare: {counts:?}"
        );
    }
}

#[test]
fn strict_order_with_keys() {
    check(STRICT);
}

#[test]
fn strict_order_without_keys() {
    check(Setup { keys: false, ..STRICT });
}

#[test]
fn batched_order_with_keys() {
    check(BATCHED);
}

#[test]
fn batched_order_without_keys() {
    check(Setup { keys: false, ..BATCHED });
}

#[test]
fn of_what_waits_only_the_newest() {
    check(CONFLATED);
}

#[test]
fn of_what_waits_only_the_newest_in_batched_order_without_keys() {
    check(Setup {
        keys: false,
        conflate: true,
        ..BATCHED
    });
}

#[test]
fn what_never_gets_there_holds_up_nobody_else() {
    check(CURSED);
}

#[test]
fn what_never_gets_there_holds_up_nobody_else_in_batched_order() {
    check(CURSED_BATCHED);
}

#[test]
fn a_schedule_is_the_same_each_time() {
    for seed in 0..20 {
        let first = driver::run(BATCHED, seed);
        assert_eq!(first, driver::run(BATCHED, seed), "seed {seed}");
    }
    assert_ne!(
        driver::run(BATCHED, 1),
        driver::run(BATCHED, 2),
        "the seed does nothing"
    );
}

fn finds(bug: Bug, setup: Setup, complaint: &str) {
    let setup = Setup {
        bug: Some(bug),
        ..setup
    };
    let mut violations = (0..BUG_SCHEDULES).filter_map(|seed| driver::run(setup, seed).err());
    assert!(
        violations.any(|violation| violation.contains(complaint)),
        "{bug:?} was not found"
    );
}

#[test]
fn two_requests_in_flight_for_a_channel_are_found() {
    finds(Bug::TwoInFlight, STRICT, "in flight");
}

#[test]
fn a_fresh_key_on_each_retry_is_found() {
    finds(Bug::FreshKeyOnRetry, STRICT, "shown again");
}

#[test]
fn confirming_error_100_is_found() {
    finds(Bug::ConfirmOnError100, STRICT, "confirmed before");
}

#[test]
fn a_retry_at_the_tail_is_found() {
    finds(Bug::RetryAtTheTail, STRICT, "overtook");
}

#[test]
fn what_was_shown_too_early_and_not_shown_again_is_found() {
    finds(Bug::NoRepeats, BATCHED, "not the newest");
}

#[test]
fn not_looking_at_positions_is_found() {
    finds(Bug::PositionsIgnored, BATCHED, "not the newest");
}

#[test]
fn giving_up_what_was_sent_is_found() {
    finds(Bug::ConflatesSent, CONFLATED, "gave up its place");
}

#[test]
fn refusing_for_an_endpoint_that_refuses_all_is_found() {
    finds(Bug::RefusesUnasked, STRICT, "was concluded with Err");
}

#[test]
fn refusing_for_an_endpoint_that_refuses_once_is_found() {
    finds(Bug::RefusesAtOnce, STRICT, "was concluded with Err");
}

#[test]
fn staying_at_an_endpoint_that_lets_nothing_in_is_found() {
    finds(Bug::StaysAtEndpoint, STRICT, "still at work");
}

#[test]
fn suspecting_none_is_found() {
    finds(Bug::SuspectsNone, CURSED, "nothing is before it");
}
