//! What Slipring promises, tested: whole pipelines, from JetStream's stream to what Centrifugo shows, in simulated time, by the
//! thousand.
//!
//! What decides is the product's own (`slipring_core`): the run of a pipeline and what follows it, the flow, the window, the scheduler, the
//! epoch, the lease. JetStream (`jetstream`), Centrifugo (`centrifugo`, `flight`) and the network (`world`) are models that fail in every
//! way known, and a `process` carries between them. The `checker` sees everything; the patches in
//! `mutants/` are bugs that it has to find (`hunt`).
//!
//! `SIM_SETUP=strict SIM_SEED=17 cargo test -p slipring-sim -- --nocapture` plays one schedule, and tells
//! what happens in it. `make sim SECONDS=600` plays as many as there is time for.

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

/// Of each setup, in a run of the tests.
const SCHEDULES: u64 = 1_000;

/// How many schedules `SIM_SCHEDULES` asks for instead: so few that a fault may not happen in them.
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
    /// The stream's sequences, which only one who publishes in their order can give.
    versions: bool,
    /// Of what waits for a channel only the newest goes out.
    conflate: bool,
    /// What is too old by the time that a request could take it is left out.
    max_age: bool,
    /// The stream keeps no more than so many messages.
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
/// The stream loses what is read too late.
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

/// What happened, so that it can be compared and so that a fault that never occurs is noticed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    messages: u64,
    shown: Vec<(String, u64)>,
    counts: BTreeMap<&'static str, u64>,
    repeats: BTreeMap<&'static str, u64>,
}
