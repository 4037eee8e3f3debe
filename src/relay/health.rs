//! Logs what keeps the relay from being ready, and repeats it while it lasts: after a night the first line is far up.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::dead_letter;
use crate::nats::Lazy;
use crate::nats::denials::{Action, Denied};
use crate::status::{Finding, Kind, StatusBoard};
use crate::telemetry::{self, Suppressed};

/// How often to look.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often trouble that lasts is repeated in the log.
const REMINDER: Duration = Duration::from_secs(300);

/// How often the log counts the lines that were left out.
const SUMMARY: Duration = Duration::from_secs(60);

/// How many kinds of lines a summary names.
const NAMED: usize = 5;

/// How long trouble must be gone to be over.
const OVER: Duration = Duration::from_secs(10);

/// Watches the board, and adds the missing permissions to it. Never ends.
pub(super) async fn watch(board: StatusBoard, nats: Lazy, dead_letters: String) -> Infallible {
    let mut diary = Diary::default();
    let mut summed_up = Instant::now();
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let sources = board.sources();
        let denied = nats.made().map(|nats| nats.denials.current(now)).unwrap_or_default();
        let denied: Vec<_> = denied
            .iter()
            .map(|denied| (concerned(denied, &sources), sentence(denied, &dead_letters)))
            .collect();
        board.set_denied(&denied);
        for entry in diary.note(now, board.findings()) {
            say(&entry);
        }
        if now.saturating_duration_since(summed_up) >= SUMMARY {
            summed_up = now;
            sum_up(&telemetry::take_suppressed());
        }
    }
}

/// Returns the module that needs the permission, if it is just one. `sources` are modules with their streams and
/// consumers.
fn concerned(denied: &Denied, sources: &[(String, String, String)]) -> Option<String> {
    let tokens: Vec<&str> = denied.subject.split('.').collect();
    let found = sources.iter().find(|(name, stream, consumer)| {
        let consumer_of = tokens
            .windows(2)
            .any(|pair| pair == [stream.as_str(), consumer.as_str()]);
        let letter_of = denied.subject == format!("{}.{name}", dead_letter::SUBJECT_PREFIX);
        consumer_of || letter_of
    });
    let found = found.or_else(|| {
        // Requests about a stream end with its name.
        let mut of_stream = sources.iter().filter(|(_, stream, _)| {
            tokens.contains(&"API") && tokens.contains(&"STREAM") && tokens.last() == Some(&stream.as_str())
        });
        of_stream.next().filter(|_| of_stream.next().is_none())
    });
    found.map(|(name, ..)| name.clone())
}

fn sentence(denied: &Denied, dead_letters: &str) -> String {
    let action = match denied.action {
        Action::Publish => "publish",
        Action::Subscribe => "subscribe",
    };
    let subject = &denied.subject;
    let purpose = if subject.starts_with("$JS.ACK.") {
        ", so nothing is acknowledged"
    } else if subject.contains(".CONSUMER.MSG.NEXT.") {
        ", so nothing is delivered"
    } else if subject.starts_with(dead_letter::SUBJECT_PREFIX) || subject.ends_with(&format!(".{dead_letters}")) {
        ", so dead letters are not stored"
    } else {
        ""
    };
    format!(
        "lacks a permission: NATS does not let this user {action} to `{subject}`{purpose}. Allow it in NATS' \
         configuration; `slipring check --permissions` prints all that is needed"
    )
}

/// What was found when, to log only changes and reminders.
#[derive(Debug, Default)]
struct Diary {
    /// By kind and module, and for a missing permission by its text: each is trouble of its own.
    known: BTreeMap<(Kind, Option<String>, Option<String>), Known>,
}

#[derive(Debug)]
struct Known {
    finding: Finding,
    since: Instant,
    seen: Instant,
    said: Instant,
    /// It was logged here, so its end is logged here, too.
    is_told: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Begins(Finding),
    Lasts(Finding, Duration),
    Over(Finding, Duration),
}

impl Diary {
    fn note(&mut self, now: Instant, findings: Vec<Finding>) -> Vec<Entry> {
        let mut entries = Vec::new();
        for finding in findings {
            let text = (finding.kind == Kind::Permission).then(|| finding.text.clone());
            let key = (finding.kind, finding.module.clone(), text);
            let Some(known) = self.known.get_mut(&key) else {
                let is_told = !finding.kind.is_logged_elsewhere();
                if is_told {
                    entries.push(Entry::Begins(finding.clone()));
                }
                let known = Known {
                    finding,
                    since: now,
                    seen: now,
                    said: now,
                    is_told,
                };
                self.known.insert(key, known);
                continue;
            };
            known.finding = finding;
            known.seen = now;
            if now.saturating_duration_since(known.said) >= REMINDER {
                known.said = now;
                known.is_told = true;
                let lasted = now.saturating_duration_since(known.since);
                entries.push(Entry::Lasts(known.finding.clone(), lasted));
            }
        }
        self.known.retain(|_, known| {
            let is_over = now.saturating_duration_since(known.seen) >= OVER;
            if is_over && known.is_told {
                let lasted = known.seen.saturating_duration_since(known.since);
                entries.push(Entry::Over(known.finding.clone(), lasted));
            }
            !is_over
        });
        entries
    }
}

fn say(entry: &Entry) {
    let (Entry::Begins(finding) | Entry::Lasts(finding, _) | Entry::Over(finding, _)) = entry;
    let (kind, module, reason) = (finding.kind.name(), finding.module.as_deref(), &finding.text);
    match (entry, finding.is_obstacle()) {
        (Entry::Begins(_), true) => warn!(kind, module, reason, "the relay is not ready"),
        (Entry::Begins(_), false) => warn!(kind, module, reason, "something needs attention; the relay is ready"),
        (Entry::Lasts(_, lasted), true) => {
            warn!(
                kind,
                module,
                reason,
                minutes = lasted.as_secs() / 60,
                "the relay is still not ready"
            );
        }
        (Entry::Lasts(_, lasted), false) => {
            warn!(
                kind,
                module,
                reason,
                minutes = lasted.as_secs() / 60,
                "something still needs attention"
            );
        }
        (Entry::Over(_, lasted), _) => info!(kind, module, seconds = lasted.as_secs(), "the trouble is over"),
    }
}

/// Logs which lines were left out since the last summary, in one line.
fn sum_up(suppressed: &[Suppressed]) {
    let lines: u64 = suppressed.iter().map(|suppressed| suppressed.lines).sum();
    if lines == 0 {
        return;
    }
    let named = suppressed
        .iter()
        .take(NAMED)
        .map(|Suppressed { module, text, lines }| match module {
            Some(module) => format!("{lines} x {module}: {text}"),
            None => format!("{lines} x {text}"),
        });
    let most = named.collect::<Vec<_>>().join("; ");
    info!(
        lines,
        most_frequent = most,
        "left out log lines that repeat earlier ones"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(subject: &str) -> Denied {
        Denied {
            action: Action::Publish,
            subject: subject.to_owned(),
        }
    }

    #[test]
    fn a_missing_permission_belongs_to_the_module_that_needs_it() {
        let sources = [
            ("orders", "ORDERS", "slipring-orders"),
            ("bills", "BILLS", "slipring-bills"),
            ("mails", "BILLS", "mails"),
        ]
        .map(|(name, stream, consumer)| (name.to_owned(), stream.to_owned(), consumer.to_owned()));
        for (subject, module) in [
            ("$JS.ACK.ORDERS.slipring-orders.>", Some("orders")),
            ("$JS.ACK._.account.BILLS.slipring-bills.>", Some("bills")),
            ("$JS.API.CONSUMER.MSG.NEXT.BILLS.mails", Some("mails")),
            ("$JS.hub.API.CONSUMER.INFO.ORDERS.slipring-orders", Some("orders")),
            ("$JS.API.CONSUMER.CREATE.ORDERS.slipring-orders.>", Some("orders")),
            ("$JS.API.STREAM.INFO.ORDERS", Some("orders")),
            ("$JS.API.STREAM.INFO.BILLS", None),
            ("slipring.dead.mails", Some("mails")),
            ("$JS.API.STREAM.INFO.SLIPRING_DEAD_LETTERS", None),
            ("_INBOX.>", None),
            ("$JS.ACK.OTHERS.slipring-orders.>", None),
        ] {
            assert_eq!(concerned(&denied(subject), &sources).as_deref(), module, "{subject}");
        }
    }

    #[test]
    fn the_sentence_says_what_to_allow() {
        let text = sentence(&denied("$JS.ACK.ORDERS.slipring-orders.>"), "DEAD");
        insta::assert_snapshot!(text, @"lacks a permission: NATS does not let this user publish to `$JS.ACK.ORDERS.slipring-orders.>`, so nothing is acknowledged. Allow it in NATS' configuration; `slipring check --permissions` prints all that is needed");
        assert!(sentence(&denied("$JS.API.STREAM.CREATE.DEAD"), "DEAD").contains("dead letters are not stored"));
    }

    #[test]
    fn each_missing_permission_is_logged() {
        let now = Instant::now();
        let missing = |subject: &str| Finding::of_module(Kind::Permission, "orders", format!("lacks {subject}"));
        let mut diary = Diary::default();
        assert_eq!(diary.note(now, vec![missing("a")]), [Entry::Begins(missing("a"))]);
        assert_eq!(
            diary.note(now, vec![missing("a"), missing("b")]),
            [Entry::Begins(missing("b"))]
        );
        let later = now + OVER;
        assert_eq!(
            diary.note(later, vec![missing("b")]),
            [Entry::Over(missing("a"), Duration::ZERO)]
        );
    }

    #[test]
    fn trouble_is_logged_when_it_begins_every_five_minutes_and_at_its_end() {
        let start = Instant::now();
        let stalled = Finding::of_module(Kind::Stalled, "orders", "has stalled");
        let halted = Finding::of_module(Kind::Halted, "bills", "is halted");
        let mut diary = Diary::default();
        let mut told = Vec::new();
        for second in 0..800 {
            let mut findings = vec![halted.clone()];
            // It is gone for a moment now and then.
            if (100..750).contains(&second) && second % 50 != 3 {
                findings.push(stalled.clone());
            }
            for entry in diary.note(start + Duration::from_secs(second), findings) {
                told.push((second, entry));
            }
        }
        let lasted = Duration::from_secs;
        assert_eq!(
            told,
            [
                (100, Entry::Begins(stalled.clone())),
                (300, Entry::Lasts(halted.clone(), lasted(300))),
                (400, Entry::Lasts(stalled.clone(), lasted(300))),
                (600, Entry::Lasts(halted, lasted(600))),
                (700, Entry::Lasts(stalled.clone(), lasted(600))),
                (759, Entry::Over(stalled, lasted(649))),
            ]
        );
    }
}
