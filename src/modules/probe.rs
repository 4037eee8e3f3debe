//! Tries a new version of a module on the last messages of the old one before it takes over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slipring_core::place::Place;

use crate::message::{Message, Outcome, Rejection};
use crate::pipeline::Namespaces;
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

/// What the new version did on the last messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Probed {
    pub(super) tried: usize,
    /// What it publishes to and the old version does not.
    pub(super) namespaces: Namespaces,
}

/// The new version publishes to namespaces that Centrifugo refuses. Each is described in a sentence.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("Centrifugo would refuse what the new version publishes: {}. To load it anyway, set `probe = 0` in {name}.toml", .unknown.join("; "))]
pub(super) struct Unpublishable {
    pub(super) name: String,
    pub(super) unknown: Vec<String>,
}

/// Runs both versions, and blocks meanwhile.
pub(super) fn probe(old: &Arc<Module>, new: &Arc<Module>, messages: &[Arc<Message>]) -> Result<Probed, Worse> {
    let start = Instant::now();
    let (mut old_instance, mut new_instance) = (old.instance(), new.instance());
    let (mut tried, mut rejects) = (0, 0);
    let mut first: Option<(&Message, Rejection)> = None;
    let (mut seen, mut namespaces) = (Namespaces::default(), Namespaces::default());
    for message in messages {
        if start.elapsed() > PATIENCE {
            break;
        }
        tried += 1;
        let made = new_instance.call(message);
        let Outcome::Reject(rejection) = made else {
            let unseen = Namespaces::of(&made).without(&seen);
            if !unseen.is_empty() {
                seen.extend(unseen.clone());
                namespaces.extend(unseen.without(&Namespaces::of(&old_instance.call(message))));
            }
            continue;
        };
        if is_worse(&rejection, &old_instance.call(message)) {
            rejects += 1;
            first.get_or_insert((message, rejection));
        }
    }
    match first {
        None => Ok(Probed { tried, namespaces }),
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

    fn tried(old: &Arc<Module>, new: &Arc<Module>, messages: &[Arc<Message>]) -> Result<usize, Worse> {
        probe(old, new, messages).map(|probed| probed.tried)
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
        assert_eq!(tried(&versioned(PUBLISH), &module(TWICE), &messages), Ok(3));
    }

    /// Publishes on the channel `s:1`.
    const NAMESPACED: &str = "(local.set $at (call $publication))
        (i32.store (i32.const 100) (i32.const 0x313a73))
        (i32.store (i32.load (local.get $at)) (i32.const 100))
        (i32.store offset=4 (i32.load (local.get $at)) (i32.const 3))
        (call $result (i32.const 0) (local.get $at) (i32.const 1))";

    #[test]
    fn namespaces_that_only_the_new_version_uses_are_found() {
        let found = |old, new| probe(&module(old), &module(new), &messages(3)).unwrap().namespaces;
        assert!(found(NAMESPACED, NAMESPACED).is_empty());
        assert!(found(NAMESPACED, PUBLISH).is_empty());
        for old in [PUBLISH, DROP, REJECT] {
            assert!(!found(old, NAMESPACED).is_empty());
        }
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
        assert_eq!(tried(&module(PUBLISH), &module(DROP), &messages(4)), Ok(4));
        assert_eq!(tried(&module(PUBLISH), &module(REJECT), &[]), Ok(0));
    }
}
