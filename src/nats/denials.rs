//! What the server did not allow.
//!
//! A server answers a missing permission with an error on the connection and not with a reply, so a request just times
//! out, and an ack or a pull is lost without a trace. These errors are collected here, with the subject they are about.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an error counts without being repeated. What is missing is tried again at least every 10 s.
const LASTING: Duration = Duration::from_secs(30);

/// The same for acks: JetStream delivers a message again 60 s after its ack was due, and only then is it acked again.
const LASTING_ACK: Duration = Duration::from_secs(90);

/// The most subjects that are remembered. A subject has no part that differs by message, so there are only a few.
const MAX_SUBJECTS: usize = 256;

/// A missing permission.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Denied {
    pub action: Action,
    /// The subject as NATS' configuration would have it, such as `$JS.ACK.ORDERS.slipring-orders.>`.
    pub subject: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Publish,
    Subscribe,
}

/// The missing permissions that all connections of the relay have met.
#[derive(Debug, Default)]
pub struct Denials(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    seen: BTreeMap<Denied, Instant>,
    /// The subjects of requests that may be denied. One that is there twice was asked for twice.
    tolerated: Vec<String>,
}

/// While it lasts, a request on a subject may be denied.
#[derive(Debug)]
pub struct Tolerated<'a> {
    denials: &'a Denials,
    subject: String,
}

impl Denials {
    /// Records an error of the server and returns the missing permission. Returns `None` if it is about something else.
    pub fn record(&self, error: &str, now: Instant) -> Option<Denied> {
        let denied = Denied::parse(error)?;
        let mut inner = self.lock();
        let is_known = inner.seen.contains_key(&denied);
        if !inner.tolerates(&denied) && (is_known || inner.seen.len() < MAX_SUBJECTS) {
            inner.seen.insert(denied.clone(), now);
        }
        Some(denied)
    }

    /// Returns the permissions that are missing now, as far as is known.
    pub fn current(&self, now: Instant) -> Vec<Denied> {
        let seen = &mut self.lock().seen;
        seen.retain(|denied, seen| now.saturating_duration_since(*seen) < denied.lasting());
        seen.keys().cloned().collect()
    }

    /// Does not count it as missing if this subject, or one that begins with it, is denied from now on.
    #[must_use]
    pub fn tolerate(&self, subject: String) -> Tolerated<'_> {
        self.lock().tolerated.push(subject.clone());
        Tolerated { denials: self, subject }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn tolerates(&self, denied: &Denied) -> bool {
        let begins = |subject: &String| {
            let rest = denied.subject.strip_prefix(subject.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        denied.action == Action::Publish && self.tolerated.iter().any(begins)
    }
}

impl Drop for Tolerated<'_> {
    fn drop(&mut self) {
        let tolerated = &mut self.denials.lock().tolerated;
        if let Some(at) = tolerated.iter().position(|subject| *subject == self.subject) {
            tolerated.swap_remove(at);
        }
    }
}

impl Denied {
    /// Reads an error such as `Permissions Violation for Publish to "orders.1"`.
    fn parse(error: &str) -> Option<Self> {
        let (_, rest) = split_ignoring_case(error, "permissions violation for ")?;
        let action = if starts_ignoring_case(rest, "publish") {
            Action::Publish
        } else if starts_ignoring_case(rest, "subscription") {
            Action::Subscribe
        } else {
            return None;
        };
        let (_, quoted) = rest.split_once('"')?;
        let (subject, _) = quoted.split_once('"')?;
        Some(Self {
            action,
            subject: match action {
                Action::Publish => general(subject),
                Action::Subscribe => inbox(subject),
            },
        })
    }

    /// Returns true if it is the permission to acknowledge.
    pub fn is_of_acks(&self) -> bool {
        self.action == Action::Publish && self.subject.starts_with("$JS.ACK.")
    }

    fn lasting(&self) -> Duration {
        match self.is_of_acks() {
            true => LASTING_ACK,
            false => LASTING,
        }
    }
}

/// Replaces what differs from message to message by a wildcard.
fn general(subject: &str) -> String {
    let tokens: Vec<&str> = subject.split('.').collect();
    let kept = match tokens.as_slice() {
        // $JS.ACK.STREAM.CONSUMER and five numbers.
        ["$JS", "ACK", ..] if tokens.len() <= 9 => 4,
        // $JS.ACK.DOMAIN.ACCOUNT.STREAM.CONSUMER and more (`js_ack_fc_v2`).
        ["$JS", "ACK", ..] => 6,
        // $JS.API.CONSUMER.CREATE.STREAM.CONSUMER and the filter.
        _ => {
            let create = tokens.windows(2).position(|pair| pair == ["CONSUMER", "CREATE"]);
            create.map_or(tokens.len(), |at| at + 4)
        }
    };
    match tokens.get(..kept) {
        Some(start) if kept < tokens.len() => format!("{}.>", start.join(".")),
        _ => subject.to_owned(),
    }
}

/// Returns the wildcard for inboxes, which are all that the relay subscribes to. The last two parts differ: `a.b` of
/// `_INBOX.a.b`.
fn inbox(subject: &str) -> String {
    let prefix = subject.rsplitn(3, '.').nth(2);
    prefix.map_or_else(|| subject.to_owned(), |prefix| format!("{prefix}.>"))
}

fn starts_ignoring_case(text: &str, start: &str) -> bool {
    text.get(..start.len())
        .is_some_and(|found| found.eq_ignore_ascii_case(start))
}

fn split_ignoring_case<'a>(text: &'a str, at: &str) -> Option<(&'a str, &'a str)> {
    // ASCII keeps its length in either case.
    let found = text.to_ascii_lowercase().find(at)?;
    Some((&text[..found], &text[found + at.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_permission_is_named_without_the_parts_that_differ() {
        let check = |error: &str, expected: Option<(Action, &str)>| {
            let found = Denied::parse(error);
            let found = found.as_ref().map(|denied| (denied.action, denied.subject.as_str()));
            assert_eq!(found, expected, "{error}");
        };
        let publish = |subject| Some((Action::Publish, subject));
        check(
            "Permissions Violation for Publish to \"$JS.ACK.ORDERS.slipring-orders.1.1.1.1785600000000000000.0\"",
            publish("$JS.ACK.ORDERS.slipring-orders.>"),
        );
        check(
            "Permissions Violation for Publish to \"$JS.ACK._.xyz123.ORDERS.slipring-orders.1.1.1.1785600000000000000.0.a\"",
            publish("$JS.ACK._.xyz123.ORDERS.slipring-orders.>"),
        );
        check(
            "nats: permissions violation for publish to \"$JS.API.CONSUMER.MSG.NEXT.ORDERS.slipring-orders\"",
            publish("$JS.API.CONSUMER.MSG.NEXT.ORDERS.slipring-orders"),
        );
        check(
            "Permissions Violation for Publish to \"$JS.hub.API.CONSUMER.CREATE.ORDERS.slipring-orders.orders.>\"",
            publish("$JS.hub.API.CONSUMER.CREATE.ORDERS.slipring-orders.>"),
        );
        check(
            "Permissions Violation for Publish to \"$JS.API.CONSUMER.CREATE.ORDERS.slipring-orders\"",
            publish("$JS.API.CONSUMER.CREATE.ORDERS.slipring-orders"),
        );
        check(
            "Permissions Violation for Subscription to \"_INBOX.abc.*\" using queue \"q\"",
            Some((Action::Subscribe, "_INBOX.>")),
        );
        check(
            "Permissions Violation for Subscription to \"RELAY.one.abc.*\"",
            Some((Action::Subscribe, "RELAY.one.>")),
        );
        check("Permissions Violation for Publish to slipring.dead.orders", None);
        check("Permissions Violation for Dancing to \"a\"", None);
        check("Authorization Violation", None);
        check("", None);
    }

    #[test]
    fn it_lasts_as_long_as_it_is_repeated() {
        let denials = Denials::default();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let (pull, ack) = (
            "Permissions Violation for Publish to \"$JS.API.CONSUMER.MSG.NEXT.S.c\"",
            "Permissions Violation for Publish to \"$JS.ACK.S.c.1.2.3.4.5\"",
        );
        let of_acks = |error, now| denials.record(error, now).map(|denied| denied.is_of_acks());
        assert_eq!(of_acks(pull, start), Some(false));
        assert_eq!(of_acks(ack, start), Some(true));
        assert_eq!(of_acks("Slow Consumer", start), None);
        assert_eq!(of_acks(pull, after(20)), Some(false));
        let subjects = |now| -> Vec<String> { denials.current(now).into_iter().map(|denied| denied.subject).collect() };
        assert_eq!(subjects(after(49)), ["$JS.ACK.S.c.>", "$JS.API.CONSUMER.MSG.NEXT.S.c"]);
        assert_eq!(subjects(after(51)), ["$JS.ACK.S.c.>"]);
        assert_eq!(subjects(after(91)), [""; 0]);
    }

    #[test]
    fn what_may_be_denied_is_not_missing_meanwhile() {
        let denials = Denials::default();
        let now = Instant::now();
        let is_denied = |subject: &str| {
            let error = format!("Permissions Violation for Publish to \"$JS.API.CONSUMER.CREATE.S.{subject}\"");
            assert!(denials.record(&error, now).is_some());
            !denials.current(now).is_empty()
        };
        let tolerated = denials.tolerate("$JS.API.CONSUMER.CREATE.S.c".to_owned());
        let again = denials.tolerate("$JS.API.CONSUMER.CREATE.S.c".to_owned());
        assert!(!is_denied("c") && !is_denied("c.orders.*"));
        drop(again);
        assert!(!is_denied("c"));
        drop(tolerated);
        assert!(is_denied("c"));
        let denials = Denials::default();
        let _tolerated = denials.tolerate("$JS.API.CONSUMER.CREATE.S.c".to_owned());
        let other = "Permissions Violation for Publish to \"$JS.API.CONSUMER.CREATE.S.cc\"";
        denials.record(other, now);
        assert_eq!(denials.current(now).len(), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let denials = Denials::default();
        let now = Instant::now();
        for number in 0..1_000 {
            denials.record(&format!("Permissions Violation for Publish to \"a.{number}\""), now);
        }
        assert_eq!(denials.current(now).len(), MAX_SUBJECTS);
    }
}
