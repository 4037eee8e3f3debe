//! Tries a new version of a module on the last messages of the old one before it takes over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slipring_core::place::Place;

use crate::message::{Message, Outcome, Rejection};
use crate::transform::Module;

/// The time limit of the whole probe. A version that times out on each message would otherwise delay its own swap for
/// most of a minute.
const PATIENCE: Duration = Duration::from_secs(5);

/// The code of a rejection that the guest chose. All other codes are faults.
const OWN_CHOICE: &str = "rejected";

/// The new version is worse.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the new version rejects {rejects} of the last {tried} messages, and the running version does better; the first \
     of them has sequence {place} and subject {subject:?}, and was rejected because: {reason}. To load it anyway, set \
     `probe = 0` in {name}.toml"
)]
pub(super) struct Worse {
    name: String,
    rejects: usize,
    tried: usize,
    place: Place,
    subject: String,
    reason: String,
}

/// Runs both versions, and blocks meanwhile. Returns on how many messages the new version was tried.
pub(super) fn probe(old: &Arc<Module>, new: &Arc<Module>, messages: &[Arc<Message>]) -> Result<usize, Worse> {
    let start = Instant::now();
    let (mut old_instance, mut new_instance) = (old.instance(), new.instance());
    let (mut tried, mut rejects) = (0, 0);
    let mut first: Option<(&Message, Rejection)> = None;
    for message in messages {
        if start.elapsed() > PATIENCE {
            break;
        }
        tried += 1;
        let Outcome::Reject(rejection) = new_instance.call(message) else {
            continue;
        };
        if is_worse(&rejection, &old_instance.call(message)) {
            rejects += 1;
            first.get_or_insert((message, rejection));
        }
    }
    match first {
        None => Ok(tried),
        Some((message, rejection)) => Err(Worse {
            name: new.name().to_owned(),
            rejects,
            tried,
            place: message.place,
            subject: message.subject.clone(),
            reason: rejection.reason,
        }),
    }
}

/// A fault is worse than a rejection, and both are worse than publications or a drop.
fn is_worse(new: &Rejection, old: &Outcome) -> bool {
    match old {
        Outcome::Publish(_) | Outcome::Drop => true,
        Outcome::Reject(old) => old.code == OWN_CHOICE && new.code != OWN_CHOICE,
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::transform::Limits;
    use crate::transform::tests::wat::{Guest, TWICE, limits};

    const REJECT: &str = "(call $result (i32.const 1) (i32.const 16) (i32.const 1))";
    const DROP: &str = "(call $result (i32.const 0) (i32.const 0) (i32.const 0))";
    const PUBLISH: &str = "(call $result (i32.const 0) (call $publication) (i32.const 1))";
    const TRAP: &str = "unreachable";
    const LOOP: &str = "(loop (br 0)) unreachable";

    fn module(transform: &str) -> Arc<Module> {
        module_with(transform, limits())
    }

    fn module_with(transform: &str, limits: Limits) -> Arc<Module> {
        let guest = Guest {
            transform,
            ..Guest::default()
        };
        guest.load(limits).unwrap()
    }

    fn messages(count: u64) -> Vec<Arc<Message>> {
        let message = |sequence| Arc::new(Message::new("ORDERS", sequence, "orders.7", ""));
        (1..=count).map(message).collect()
    }

    #[test]
    fn only_what_is_worse_is_refused() {
        let passes = |old, new| probe(&module(old), &module(new), &messages(3)).is_ok();
        for old in [PUBLISH, DROP] {
            assert!(passes(old, PUBLISH) && passes(old, DROP));
            assert!(!passes(old, REJECT) && !passes(old, TRAP) && !passes(old, LOOP));
        }
        assert!(passes(REJECT, PUBLISH) && passes(REJECT, REJECT));
        assert!(!passes(REJECT, TRAP));
        assert!(passes(TRAP, TRAP) && passes(TRAP, REJECT));
    }

    #[test]
    fn what_cannot_be_versioned_by_the_sequence_is_worse() {
        let versioned = |transform| {
            let limits = Limits {
                one_a_channel: true,
                ..limits()
            };
            module_with(transform, limits)
        };
        let messages = messages(3);
        assert!(probe(&versioned(PUBLISH), &versioned(TWICE), &messages).is_err());
        assert!(
            probe(&module(TWICE), &versioned(TWICE), &messages).is_err(),
            "settings alone"
        );
        assert_eq!(probe(&versioned(PUBLISH), &module(TWICE), &messages), Ok(3));
    }

    #[test]
    fn the_refusal_names_the_first_message_and_the_way_around_it() {
        let second = format!("(if (i64.ge_u (local.get $sequence) (i64.const 2)) (then (return {REJECT}))) {PUBLISH}");
        let worse = probe(&module(PUBLISH), &module(&second), &messages(4)).unwrap_err();
        assert_eq!(
            worse.to_string(),
            "the new version rejects 3 of the last 4 messages, and the running version does better; the first of them has \
             sequence 2 and subject \"orders.7\", and was rejected because: a. To load it anyway, set `probe = 0` in \
             test.toml"
        );
        assert_eq!(probe(&module(PUBLISH), &module(DROP), &messages(4)), Ok(4));
        assert_eq!(probe(&module(PUBLISH), &module(REJECT), &[]), Ok(0));
    }
}
