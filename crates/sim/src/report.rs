//! Plays schedules and reports on them.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{
    AGED, AGED_CONFLATED, AGED_PINNED, BATCHED, CONFLATED, CONFLATED_PINNED, LOSSY, PINNED, SCHEDULES, SETUPS, STRICT,
    Setup, Summary, VERSIONS, driver, fewer_schedules,
};

/// The faults that must occur often enough in each setup. Otherwise the setup tests nothing.
const FAULTS: &[&str] = &[
    "100",
    "400",
    "401",
    "413",
    "500",
    "Centrifugo away",
    "Centrifugo restarted",
    "NATS restarted",
    "ack_wait over",
    "connection cut",
    "connection half-open",
    "consumer deleted",
    "cursed",
    "cut",
    "dead letter",
    "delivery lost",
    "delivery to lose",
    "drained too slowly",
    "endpoint dead",
    "endpoint denies",
    "endpoint refuses",
    "endpoint silent",
    "expired",
    "gap",
    "halted",
    "in progress",
    "late",
    "leader changed",
    "messages expired",
    "module to swap",
    "refused once",
    "relay away for long",
    "relay killed",
    "relay paused (SIGSTOP)",
    "relay stopped",
    "relay's power cut",
    "renewed",
    "reset",
    "silence",
    "stray ack",
    "stream recreated",
    "stream purged",
    "stream rolled back",
    "swap",
    "missed",
    "pinned",
    "pin lost",
    "pin released",
    "refused",
    "reset for a pin",
    "tried again",
    "recovered",
    "yielded",
    "yielded with requests in flight",
];

#[derive(Debug, Default)]
struct Totals {
    schedules: u64,
    /// How many schedules each thread has played.
    by_thread: Vec<u64>,
    messages: u64,
    publications: u64,
    counts: BTreeMap<&'static str, u64>,
    repeats: BTreeMap<&'static str, u64>,
    violations: Vec<String>,
}

impl Totals {
    fn add(&mut self, setup: Setup, seed: u64, played: Result<Summary, String>) {
        self.schedules += 1;
        match played {
            Ok(summary) => {
                self.messages += summary.messages;
                self.publications += summary.shown.len() as u64;
                for (what, times) in summary.counts {
                    *self.counts.entry(what).or_default() += times;
                }
                for (why, times) in summary.repeats {
                    *self.repeats.entry(why).or_default() += times;
                }
            }
            Err(violation) => self
                .violations
                .push(format!("SIM_SETUP={} SIM_SEED={seed}: {violation}", setup.name)),
        }
    }
}

/// Returns the one schedule that the environment asks for.
fn asked_for() -> Option<(String, u64)> {
    let seed = env::var("SIM_SEED").ok()?.parse().expect("SIM_SEED is a number");
    let setup = env::var("SIM_SETUP").expect("SIM_SETUP goes with SIM_SEED: the name of one of `SETUPS`");
    Some((setup, seed))
}

fn check(setup: Setup) {
    if let Some((name, seed)) = asked_for() {
        if name == setup.name
            && let Err(violation) = driver::play(setup, seed, true)
        {
            panic!("SIM_SETUP={name} SIM_SEED={seed}: {violation}");
        }
        return;
    }
    let fewer = fewer_schedules();
    let schedules = fewer.unwrap_or(SCHEDULES);
    let mut totals = Totals::default();
    for seed in 0..schedules {
        totals.add(setup, seed, driver::run(setup, seed));
    }
    assert!(
        totals.violations.is_empty(),
        "{} of {schedules} schedules:\n{}",
        totals.violations.len(),
        totals.violations.join("\n")
    );
    for &fault in FAULTS.iter().filter(|_| fewer.is_none()) {
        let times = totals.counts.get(fault).copied().unwrap_or(0);
        let impossible = match fault {
            "pinned"
            | "pin lost"
            | "pin released"
            | "reset for a pin"
            | "yielded"
            | "yielded with requests in flight" => setup.relays == 1,
            "stream rolled back" => setup.versions || setup.lossy,
            "consumer deleted" | "leader changed" | "messages expired" | "stream purged" => setup.lossy,
            // This traffic has nothing that Centrifugo or the module would refuse.
            "400" | "halted" | "dead letter" | "refused" | "tried again" | "recovered" => {
                setup.conflate || setup.max_age
            }
            "expired" => !setup.max_age,
            "missed" => !setup.lossy,
            _ => false,
        };
        assert!(times >= 5 || impossible, "{fault} is rare: {:?}", totals.counts);
    }
}

#[test]
fn one_relay_in_strict_order() {
    check(STRICT);
}

#[test]
fn one_relay_in_batched_order() {
    check(BATCHED);
}

#[test]
fn two_relays_of_which_one_is_a_hot_standby() {
    check(PINNED);
}

#[test]
fn versions_instead_of_keys() {
    check(VERSIONS);
}

#[test]
fn of_what_waits_only_the_newest() {
    check(CONFLATED);
}

#[test]
fn what_is_too_old_is_left_out() {
    check(AGED);
}

#[test]
fn of_what_waits_only_the_newest_unless_it_is_too_old() {
    check(AGED_CONFLATED);
}

#[test]
fn what_the_stream_lost_is_counted_exactly() {
    check(LOSSY);
}

#[test]
fn of_what_waits_only_the_newest_with_a_hot_standby() {
    check(CONFLATED_PINNED);
}

#[test]
fn what_is_too_old_is_left_out_with_a_hot_standby() {
    check(AGED_PINNED);
}

#[test]
fn a_schedule_is_the_same_each_time() {
    for setup in SETUPS {
        for seed in 0..5 {
            assert_eq!(
                driver::run(setup, seed),
                driver::run(setup, seed),
                "{} {seed}",
                setup.name
            );
        }
    }
    assert_ne!(driver::run(STRICT, 1), driver::run(STRICT, 2), "the seed does nothing");
}

/// Plays a few schedules of each setup in a test run. With `SIM_SECONDS`, plays as many as there is time for on all
/// processors, and prints a report.
#[test]
fn as_many_schedules_as_there_is_time_for() {
    let seconds = env::var("SIM_SECONDS")
        .ok()
        .map(|seconds| seconds.parse::<u64>().expect("SIM_SECONDS is a number"));
    let base = env::var("SIM_BASE").map_or(1_000_000, |base| base.parse().expect("SIM_BASE is a number"));
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let next = AtomicU64::new(base);
    let totals = Mutex::new(Totals::default());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let mut schedules = 0;
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if end.map_or(seed >= base + 10, |end| Instant::now() >= end) {
                        break;
                    }
                    for setup in SETUPS {
                        let played = driver::run(setup, seed);
                        totals.lock().expect("nobody panics with it").add(setup, seed, played);
                        schedules += 1;
                    }
                }
                totals.lock().expect("nobody panics with it").by_thread.push(schedules);
            });
        }
    });
    let totals = totals.into_inner().expect("nobody panics with it");
    if seconds.is_some() {
        println!("{}", report(&totals, base));
        let never: Vec<_> = FAULTS
            .iter()
            .filter(|fault| !totals.counts.contains_key(*fault))
            .collect();
        assert!(
            never.is_empty(),
            "these never happened, so that nothing shows what follows from them: {never:?}"
        );
        assert!(!totals.by_thread.contains(&0), "a processor was idle");
    }
    assert!(
        totals.violations.is_empty(),
        "{} violations, {}",
        totals.violations.len(),
        totals.violations[0]
    );
}

/// Returns the commit under test.
fn commit() -> String {
    let git = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    let commit = git.ok().filter(|git| git.status.success());
    commit.map_or_else(
        || "unknown".to_owned(),
        |git| String::from_utf8_lossy(&git.stdout).trim().to_owned(),
    )
}

fn report(totals: &Totals, base: u64) -> String {
    let mut report = String::new();
    let mut row = |what: &str, value: String| writeln!(report, "{what:<44} {value:>12}").expect("into memory");
    row("schedules", totals.schedules.to_string());
    let by_thread = totals.by_thread.iter().map(u64::to_string).collect::<Vec<_>>();
    row("  of each processor", by_thread.join(" + "));
    row("first seed (SIM_BASE)", base.to_string());
    row("commit", commit());
    row("messages", totals.messages.to_string());
    row("publications shown", totals.publications.to_string());
    row("violations", totals.violations.len().to_string());
    row("\nfaults and what they led to", String::new());
    for (what, times) in &totals.counts {
        row(&format!("  {what}"), times.to_string());
    }
    row("\nshown again, because", String::new());
    for (why, times) in &totals.repeats {
        row(&format!("  {why}"), times.to_string());
    }
    for violation in &totals.violations {
        writeln!(report, "{violation}").expect("into memory");
    }
    report
}
