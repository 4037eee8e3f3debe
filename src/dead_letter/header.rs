//! The headers that a dead letter has beside those of its message.

pub(super) const REASON: &str = "Slipring-Reason";
pub(super) const STAGE: &str = "Slipring-Stage";
pub(super) const CODE: &str = "Slipring-Code";
pub(super) const CHANNEL: &str = "Slipring-Channel";
pub(super) const SUBJECT: &str = "Slipring-Subject";
pub(super) const STREAM: &str = "Slipring-Stream";
pub(super) const SEQUENCE: &str = "Slipring-Sequence";
pub(super) const TIMESTAMP: &str = "Slipring-Timestamp";
pub(super) const MODULE_SHA256: &str = "Slipring-Module-Sha256";
/// `1/2`: the first of two.
pub(super) const PART: &str = "Slipring-Part";
/// In base64: the header block of a message that can't be read, as it was on the wire.
pub(super) const RAW_HEADERS: &str = "Slipring-Raw-Headers";
/// The first so many bytes of the payload are the message's header block: it does not fit among the letter's own headers.
pub(super) const RAW_HEADERS_SIZE: &str = "Slipring-Raw-Headers-Size";
/// In base64: a subject that is not UTF-8, or not one line of text.
pub(super) const RAW_SUBJECT: &str = "Slipring-Raw-Subject";
/// JetStream's own, by which it knows what it has stored already.
pub(super) const ID: &str = "Nats-Msg-Id";

const OURS: [&str; 13] = [
    REASON,
    STAGE,
    CODE,
    CHANNEL,
    SUBJECT,
    STREAM,
    SEQUENCE,
    TIMESTAMP,
    MODULE_SHA256,
    PART,
    RAW_HEADERS,
    RAW_HEADERS_SIZE,
    RAW_SUBJECT,
];

/// Whether it is a header of the message itself. Those that JetStream obeys belong to one storing, and to no other.
pub(super) fn is_the_messages(name: &str) -> bool {
    let is_jetstreams = name.get(..5).is_some_and(|prefix| prefix.eq_ignore_ascii_case("nats-"));
    !is_jetstreams && !OURS.contains(&name)
}
