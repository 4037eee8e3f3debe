//! The bugs that the checker has to find, and in which setup.

use super::process::Receipt;
use super::{AGED, BATCHED, CONFLATED, PINNED, STRICT, Setup, VERSIONS, driver};
use slipring_core::pipeline::{self as flow, Flow, NAK};
use slipring_core::publish::{Answer, Reply, SchedulerBug};

/// How many schedules a bug may survive; each is found far earlier.
const SCHEDULES: u64 = 4_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    AckBeforeConfirmation,
    TwoInFlight,
    NakInsteadOfWaiting,
    FreshKeyOnRetry,
    RetryAtTheTail,
    NoReset,
    AckAnywhere,
    NoContiguity,
    MistakesStreams,
    FreshKeysAfterReset,
    ConflatesSent,
    PublishesAtOnce,
    LeavesOutSent,
    LooksAtArrivalsOnly,
    RefusesUnasked,
    RefusesAtOnce,
    StaysAtEndpoint,
    PublishesWithoutLease,
}

/// Each with where it is found and with a part of what the checker says.
pub(super) const CAUGHT: [(Bug, Setup, &str); 18] = [
    (Bug::AckBeforeConfirmation, STRICT, "neither confirmed"),
    (Bug::TwoInFlight, STRICT, "in flight"),
    (Bug::NakInsteadOfWaiting, STRICT, "overtook"),
    (Bug::FreshKeyOnRetry, STRICT, "shown again"),
    (Bug::RetryAtTheTail, VERSIONS, "overtook"),
    (Bug::NoReset, STRICT, "overtook"),
    (Bug::AckAnywhere, STRICT, "not the newest"),
    (Bug::NoContiguity, STRICT, "overtook"),
    (Bug::MistakesStreams, BATCHED, "neither confirmed"),
    (Bug::FreshKeysAfterReset, PINNED, "shown again"),
    (Bug::ConflatesSent, CONFLATED, "is shown after"),
    (Bug::PublishesAtOnce, CONFLATED, "is shown after"),
    (Bug::LeavesOutSent, AGED, "neither confirmed"),
    (Bug::LooksAtArrivalsOnly, AGED, "older than `max_age`"),
    (Bug::RefusesUnasked, STRICT, "nothing is wrong with it"),
    (Bug::RefusesAtOnce, STRICT, "nothing is wrong with it"),
    (Bug::StaysAtEndpoint, STRICT, "still at work"),
    (Bug::PublishesWithoutLease, PINNED, "another one is pinned"),
];

pub(super) fn put_in(bug: Option<Bug>, flow: &mut Flow<Receipt>) {
    let Some(bug) = bug else { return };
    flow.put_in(match bug {
        Bug::AckBeforeConfirmation => flow::Bug::AckBeforeConfirmation,
        Bug::TwoInFlight => flow::Bug::Scheduler(SchedulerBug::TwoInFlight),
        Bug::NakInsteadOfWaiting => flow::Bug::Naks,
        Bug::FreshKeyOnRetry => flow::Bug::Scheduler(SchedulerBug::FreshKeyOnRetry),
        Bug::RetryAtTheTail => flow::Bug::Scheduler(SchedulerBug::RetryAtTheTail),
        Bug::AckAnywhere => flow::Bug::AckAnywhere,
        Bug::MistakesStreams => flow::Bug::MistakesStreams,
        Bug::FreshKeysAfterReset => flow::Bug::FreshKeysAfterReset,
        Bug::ConflatesSent => flow::Bug::Scheduler(SchedulerBug::ConflatesSent),
        Bug::PublishesAtOnce => flow::Bug::PublishesAtOnce,
        Bug::LeavesOutSent => flow::Bug::Scheduler(SchedulerBug::LeavesOutSent),
        Bug::LooksAtArrivalsOnly => flow::Bug::LooksAtArrivalsOnly,
        Bug::RefusesUnasked => flow::Bug::Scheduler(SchedulerBug::RefusesUnasked),
        Bug::RefusesAtOnce => flow::Bug::Scheduler(SchedulerBug::RefusesAtOnce),
        Bug::StaysAtEndpoint => flow::Bug::Scheduler(SchedulerBug::StaysAtEndpoint),
        // These are the relay's, around the flow.
        Bug::NoReset | Bug::NoContiguity | Bug::PublishesWithoutLease => return,
    });
}

/// A failure that another attempt could mend, made one that is given back to JetStream.
pub(super) fn permanent(answer: Answer, targets: usize) -> Answer {
    let nak = Reply::Failed {
        code: NAK,
        message: String::new(),
    };
    match answer {
        Answer::Lost { .. } => Answer::Replies(vec![nak; targets]),
        Answer::Replies(replies) => {
            let replies = replies.into_iter().map(|reply| match reply {
                Reply::Failed { code: 100, .. } => nak.clone(),
                reply => reply,
            });
            Answer::Replies(replies.collect())
        }
        other => other,
    }
}

/// How many schedules it took until the checker said this, and what else it said.
pub(super) fn hunt(bug: Bug, setup: Setup, complaint: &str) -> Option<(u64, String)> {
    let setup = Setup {
        bug: Some(bug),
        ..setup
    };
    let violations = (0..SCHEDULES).filter_map(|seed| Some((seed + 1, driver::run(setup, seed).err()?)));
    violations
        .into_iter()
        .find(|(_, violation)| violation.contains(complaint))
}

fn finds(bug: Bug) {
    let (_, setup, complaint) = CAUGHT
        .into_iter()
        .find(|(of, ..)| *of == bug)
        .expect("it is in the list");
    assert!(hunt(bug, setup, complaint).is_some(), "{bug:?} was not found");
}

#[test]
fn an_ack_before_the_confirmation_is_found() {
    finds(Bug::AckBeforeConfirmation);
}

#[test]
fn two_requests_in_flight_for_a_channel_are_found() {
    finds(Bug::TwoInFlight);
}

#[test]
fn a_nak_instead_of_waiting_is_found() {
    finds(Bug::NakInsteadOfWaiting);
}

#[test]
fn a_fresh_key_on_each_retry_is_found() {
    finds(Bug::FreshKeyOnRetry);
}

#[test]
fn a_retry_at_the_tail_is_found() {
    finds(Bug::RetryAtTheTail);
}

#[test]
fn an_epoch_without_a_reset_is_found() {
    finds(Bug::NoReset);
}

#[test]
fn acks_that_are_not_from_the_front_are_found() {
    finds(Bug::AckAnywhere);
}

#[test]
fn not_looking_for_gaps_is_found() {
    finds(Bug::NoContiguity);
}

#[test]
fn taking_another_stream_for_the_old_one_is_found() {
    finds(Bug::MistakesStreams);
}

#[test]
fn fresh_keys_after_a_reset_are_found() {
    finds(Bug::FreshKeysAfterReset);
}

#[test]
fn giving_up_what_was_sent_is_found() {
    finds(Bug::ConflatesSent);
}

#[test]
fn not_waiting_for_what_comes_again_is_found() {
    finds(Bug::PublishesAtOnce);
}

#[test]
fn leaving_out_what_was_sent_is_found() {
    finds(Bug::LeavesOutSent);
}

#[test]
fn looking_at_the_age_on_arrival_only_is_found() {
    finds(Bug::LooksAtArrivalsOnly);
}

#[test]
fn a_dead_letter_for_an_endpoint_that_refuses_all_is_found() {
    finds(Bug::RefusesUnasked);
}

#[test]
fn a_dead_letter_for_an_endpoint_that_refuses_once_is_found() {
    finds(Bug::RefusesAtOnce);
}

#[test]
fn staying_at_an_endpoint_that_lets_nothing_in_is_found() {
    finds(Bug::StaysAtEndpoint);
}

#[test]
fn publishing_on_after_the_lease_has_ended_is_found() {
    finds(Bug::PublishesWithoutLease);
}
