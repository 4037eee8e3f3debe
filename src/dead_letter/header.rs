//! The headers of a dead letter: its own, and those of its message, some under another name.

use std::borrow::Cow;

/// Dead letters of the module `orders` have the subject `slipring.dead.orders`.
pub const SUBJECT_PREFIX: &str = "slipring.dead";

pub(super) const REASON: &str = "Slipring-Reason";
pub(super) const STAGE: &str = "Slipring-Stage";
pub(super) const CODE: &str = "Slipring-Code";
pub(super) const CHANNEL: &str = "Slipring-Channel";
/// The result of the message on each channel: see [`Results`](crate::message::Results).
pub(super) const CHANNELS: &str = "Slipring-Channels";
pub(super) const SUBJECT: &str = "Slipring-Subject";
pub(super) const STREAM: &str = "Slipring-Stream";
pub(super) const SEQUENCE: &str = "Slipring-Sequence";
pub(super) const TIMESTAMP: &str = "Slipring-Timestamp";
pub(super) const MODULE_SHA256: &str = "Slipring-Module-Sha256";
/// `1/2` is the first of two parts.
pub(super) const PART: &str = "Slipring-Part";
/// The original header block of an unreadable message, in base64.
pub(super) const RAW_HEADERS: &str = "Slipring-Raw-Headers";
/// A subject that is not UTF-8 or not one line of text, in base64.
pub(super) const RAW_SUBJECT: &str = "Slipring-Raw-Subject";
/// How many bytes at the end of the payload do not belong to the message: see [`Tail`](super::tail::Tail).
pub(super) const TAIL: &str = "Slipring-Tail";
/// `17` or `17,18`: the letter that this one replaces, after a replay that published a part of it.
pub(super) const REPLACES: &str = "Slipring-Replaces";
/// JetStream's own header. JetStream uses it to recognize what it has already stored.
pub(super) const ID: &str = "Nats-Msg-Id";

/// Prefix for a header of the message that would have another meaning in a dead letter.
const KEPT: &str = "Slipring-Kept-";

const OURS: [&str; 15] = [
    REASON,
    STAGE,
    CODE,
    CHANNEL,
    CHANNELS,
    SUBJECT,
    STREAM,
    SEQUENCE,
    TIMESTAMP,
    MODULE_SHA256,
    PART,
    RAW_HEADERS,
    RAW_SUBJECT,
    TAIL,
    REPLACES,
];

/// Returns the name under which a header of the message is stored. NATS acts on headers that begin with `Nats-`
/// wherever it finds them, and the relay on those that begin with `Slipring-`.
pub(super) fn kept(name: &str) -> Cow<'_, str> {
    match begins_with(name, "nats-") || begins_with(name, "slipring-") {
        true => Cow::Owned(format!("{KEPT}{name}")),
        false => Cow::Borrowed(name),
    }
}

/// Returns the name that a stored header has in the message, or `None` if it does not belong to the message.
pub(super) fn original(name: &str) -> Option<&str> {
    if let Some(original) = name.strip_prefix(KEPT) {
        return Some(original);
    }
    let is_the_letters = begins_with(name, "nats-") || OURS.contains(&name);
    (!is_the_letters).then_some(name)
}

fn begins_with(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_header_of_a_message_comes_back_under_its_own_name() {
        for name in [
            "Trace",
            "Nats-Msg-Id",
            "nats-ttl",
            "NATS-Rollup",
            "Slipring-Reason",
            "slipring-part",
            "Slipring-Kept-Nats-Msg-Id",
            "Nat",
            "é-Nats-",
        ] {
            assert_eq!(original(&kept(name)), Some(name));
        }
        assert_eq!(kept("nats-ttl"), "Slipring-Kept-nats-ttl");
        assert_eq!(kept("KV-Operation"), "KV-Operation");
    }

    #[test]
    fn each_header_has_a_row_in_the_reference() {
        let page = include_str!("../../docs/reference/dead-letters.md");
        let names = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        let names = names.map(|(name, _)| name).filter(|name| name.starts_with("Slipring-"));
        let kept = format!("{KEPT}NAME");
        let expected: BTreeSet<&str> = OURS.into_iter().chain([kept.as_str()]).collect();
        assert_eq!(names.collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn the_letter_s_own_headers_are_not_the_message_s() {
        for name in OURS.iter().chain(&[ID, "Nats-Expected-Stream"]) {
            assert_eq!(original(name), None, "{name}");
        }
        assert_eq!(
            original("Slipring-Other"),
            Some("Slipring-Other"),
            "older relays kept it so"
        );
    }
}
