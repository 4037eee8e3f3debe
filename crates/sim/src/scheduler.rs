//! Tests the order promise of the scheduler with thousands of seeded schedules. A simulated Centrifugo fails, answers
//! late or not at all, and executes requests that it does not answer. A checker sees everything that it shows.
//!
//! `SCHEDULER_SEED=17 cargo test -p slipring-sim scheduler` runs only that schedule.

mod checker;
mod driver;
mod traffic;

use std::collections::BTreeMap;
use std::env;

use slipring_core::publish::Order;

use self::driver::Setup;
use super::fewer_schedules;

const SCHEDULES: u64 = 1_000;

const STRICT: Setup = Setup {
    order: Order::Strict,
    keys: true,
    conflate: false,
    cursed: false,
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

/// Returns a function that plays one schedule of the setup of this name and returns the checker's complaint, if any.
pub(super) fn violation(setup: &str) -> Option<impl Fn(u64) -> Option<String> + use<>> {
    let setup = match setup {
        "scheduler-strict" => STRICT,
        "scheduler-batched" => BATCHED,
        "scheduler-conflated" => CONFLATED,
        "scheduler-cursed" => CURSED,
        _ => return None,
    };
    Some(move |seed| driver::run(setup, seed).err())
}

fn check(setup: Setup) {
    let one = env::var("SCHEDULER_SEED")
        .ok()
        .map(|seed| seed.parse::<u64>().expect("SCHEDULER_SEED is a number"));
    let fewer = fewer_schedules();
    let seeds = one.map_or(0..fewer.unwrap_or(SCHEDULES), |seed| seed..seed + 1);
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
            one.is_some() || fewer.is_some() || counts[what] >= SCHEDULES / 10,
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
