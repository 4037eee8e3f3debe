//! Tests the promises of Slipring with whole pipelines, from JetStream's stream to what Centrifugo shows, in thousands
//! of schedules in simulated time.
//!
//! All decisions are made by the product's own code (`slipring_core`): the run of a pipeline and its supervision, the
//! flow, the window, the scheduler, the epoch, the lease. JetStream (`jetstream`), Centrifugo (`centrifugo`, `flight`)
//! and the network (`world`) are models that fail in every known way, and a `process` carries data between them. The
//! `checker` sees everything. The patches in `mutants/` are bugs that it has to find (`hunt`).
//!
//! `SIM_SETUP=strict SIM_SEED=17 cargo test -p slipring-sim -- --nocapture` plays one schedule and prints what happens
//! in it. `make sim SECONDS=600` plays as many schedules as there is time for.

#![cfg(test)]

mod centrifugo;
mod checker;
mod driver;
mod flight;
mod hunt;
mod jetstream;
mod process;
mod report;
mod scheduler;
mod traffic;
mod world;

use std::collections::BTreeMap;

use slipring_core::publish::Order;

/// Schedules of each setup in a test run.
const SCHEDULES: u64 = 1_000;

/// Returns the number of schedules if `SIM_SCHEDULES` asks for fewer. Some faults may then not occur.
fn fewer_schedules() -> Option<u64> {
    let schedules = std::env::var("SIM_SCHEDULES").ok()?;
    Some(schedules.parse().expect("SIM_SCHEDULES is a number"))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Setup {
    name: &'static str,
    relays: usize,
    order: Order,
    keys: bool,
    /// Versions are the stream's sequences. This requires publishing in their order.
    versions: bool,
    /// Sends only the newest of the publications that wait for a channel.
    conflate: bool,
    /// Leaves out publications that are too old when a request could take them.
    max_age: bool,
    /// The stream has a limit of messages.
    lossy: bool,
}

const STRICT: Setup = Setup {
    name: "strict",
    relays: 1,
    order: Order::Strict,
    keys: true,
    versions: false,
    conflate: false,
    max_age: false,
    lossy: false,
};
const BATCHED: Setup = Setup {
    name: "batched",
    order: Order::Batched,
    ..STRICT
};
/// A hot standby.
const PINNED: Setup = Setup {
    name: "pinned",
    relays: 2,
    ..STRICT
};
const VERSIONS: Setup = Setup {
    name: "versions",
    keys: false,
    versions: true,
    ..STRICT
};
const CONFLATED: Setup = Setup {
    name: "conflated",
    conflate: true,
    ..STRICT
};
const AGED: Setup = Setup {
    name: "aged",
    max_age: true,
    ..STRICT
};
const AGED_CONFLATED: Setup = Setup {
    name: "aged-conflated",
    conflate: true,
    ..AGED
};
/// The stream loses messages that are read too late.
const LOSSY: Setup = Setup {
    name: "lossy",
    lossy: true,
    ..STRICT
};
const CONFLATED_PINNED: Setup = Setup {
    name: "conflated-pinned",
    conflate: true,
    ..PINNED
};
const AGED_PINNED: Setup = Setup {
    name: "aged-pinned",
    max_age: true,
    ..PINNED
};
const SETUPS: [Setup; 10] = [
    STRICT,
    BATCHED,
    PINNED,
    VERSIONS,
    CONFLATED,
    AGED,
    AGED_CONFLATED,
    LOSSY,
    CONFLATED_PINNED,
    AGED_PINNED,
];

/// What happened in a schedule. Runs are compared by it, and it reveals a fault that never occurs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    messages: u64,
    shown: Vec<(String, u64)>,
    counts: BTreeMap<&'static str, u64>,
    repeats: BTreeMap<&'static str, u64>,
}
