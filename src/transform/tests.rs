//! Tests the whole stage: guests that behave, guests that do not, and files that are no modules.

mod batch;
mod escape;
mod here;
mod loading;
mod misbehaviour;
mod tap;
mod trial;
mod unruly;
pub(crate) mod wat;
mod working;

use crate::message::{Message, Outcome, Rejection};

fn message(sequence: u64) -> Message {
    Message {
        headers: vec![("name".into(), "value".into())],
        timestamp: 1_700_000_000_123_456_789,
        ..Message::new("TEST", sequence, "test.subject", "{}")
    }
}

#[track_caller]
fn rejection(outcome: Outcome) -> Rejection {
    match outcome {
        Outcome::Reject(rejection) => rejection,
        other => panic!("not rejected: {other:?}"),
    }
}

#[track_caller]
fn check_rejected(outcome: Outcome, code: &str, reason: &str) {
    let rejection = rejection(outcome);
    assert_eq!((rejection.code.as_ref(), rejection.reason.as_str()), (code, reason));
}

/// The version of the single publication, which hand-written guests use to return a number.
#[track_caller]
fn version(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Publish(publications) => publications[0].version.expect("a version"),
        other => panic!("not published: {other:?}"),
    }
}
