//! Keeps repeated lines out of the log. A line's kind is its place in the code, its module and its reason without the
//! numbers in it. The first lines of a kind are always logged; then one a minute, and a summary counts the others.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

/// How many lines of a kind are logged at once. News, such as a swap, may come more often than trouble.
const TROUBLES: u32 = 5;
const NEWS: u32 = 10;

/// How many lines of one place and module are logged at once, whatever their reasons.
const REASONS: u32 = 30;

/// How long a kind must wait for the next line after that.
const INTERVAL: Duration = Duration::from_secs(60);

/// The most kinds to remember.
const MAX_KINDS: usize = 2_048;

/// The longest part of a message that a summary repeats, in characters.
const MAX_TEXT: usize = 100;

/// The targets whose lines are never left out: those of a module and of the log itself have a limit of their own. What
/// clients did and which messages were lost is told by nothing else.
const ALWAYS: [&str; 4] = [
    "slipring::guest",
    "slipring::audit",
    "slipring::losses",
    "slipring::log",
];

/// Lets the first lines of each kind through. A clone is the same limiter.
#[derive(Debug, Clone, Default)]
pub(super) struct Limiter(Arc<Mutex<HashMap<Kind, Seen>>>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    callsite: Identifier,
    /// A hash of the module's name and of the reason. Without a reason it is the place as a whole.
    hash: u64,
}

#[derive(Debug)]
struct Seen {
    /// How many more lines may be logged now.
    left: u32,
    /// When the last line was logged or allowed.
    refilled: Instant,
    /// The lines left out since the last summary.
    suppressed: u64,
    module: Option<String>,
    text: String,
}

/// What was left out of one kind since the last summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppressed {
    pub module: Option<String>,
    /// The beginning of the message.
    pub text: String,
    pub lines: u64,
}

impl Limiter {
    /// Returns true if a line of this kind may be logged now.
    fn allows(&self, now: Instant, burst: u32, callsite: &Identifier, fields: &Fields) -> bool {
        if fields.has_own_limit {
            return true;
        }
        let mut hasher = DefaultHasher::new();
        fields.module.hash(&mut hasher);
        let place = hasher.finish();
        if !fields.reason.is_empty() {
            fields.reason.hash(&mut hasher);
        }
        let kind = hasher.finish();
        if kind == place {
            return self.takes(now, burst, callsite, place, fields);
        }
        // A place that may log nothing remembers no more reasons.
        if self.is_exhausted(now, callsite, place) {
            return self.takes(now, REASONS, callsite, place, fields);
        }
        self.takes(now, burst, callsite, kind, fields) && self.takes(now, REASONS, callsite, place, fields)
    }

    fn is_exhausted(&self, now: Instant, callsite: &Identifier, hash: u64) -> bool {
        let kind = Kind {
            callsite: callsite.clone(),
            hash,
        };
        let kinds = self.lock();
        let seen = kinds.get(&kind);
        seen.is_some_and(|seen| seen.left == 0 && now.saturating_duration_since(seen.refilled) < INTERVAL)
    }

    fn takes(&self, now: Instant, burst: u32, callsite: &Identifier, hash: u64, fields: &Fields) -> bool {
        let kind = Kind {
            callsite: callsite.clone(),
            hash,
        };
        let mut kinds = self.lock();
        if kinds.len() >= MAX_KINDS && !kinds.contains_key(&kind) {
            kinds.retain(|_, seen| now.saturating_duration_since(seen.refilled) < INTERVAL || seen.suppressed > 0);
            if kinds.len() >= MAX_KINDS {
                return true;
            }
        }
        let seen = kinds.entry(kind).or_insert_with(|| Seen {
            left: burst,
            refilled: now,
            suppressed: 0,
            module: fields.module.clone(),
            text: String::new(),
        });
        let minutes = now.saturating_duration_since(seen.refilled).as_secs() / INTERVAL.as_secs();
        if minutes > 0 {
            let more = u32::try_from(minutes).unwrap_or(u32::MAX);
            seen.left = seen.left.saturating_add(more).min(burst);
            seen.refilled = now;
        }
        let Some(left) = seen.left.checked_sub(1) else {
            seen.suppressed += 1;
            if seen.text.is_empty() {
                seen.text = fields.text.chars().take(MAX_TEXT).collect();
            }
            return false;
        };
        seen.left = left;
        true
    }

    /// Returns what was left out since the last call, the most frequent first.
    pub(super) fn take(&self) -> Vec<Suppressed> {
        let mut kinds = self.lock();
        let taken = kinds
            .values_mut()
            .filter(|seen| seen.suppressed > 0)
            .map(|seen| Suppressed {
                module: seen.module.clone(),
                text: seen.text.clone(),
                lines: std::mem::take(&mut seen.suppressed),
            });
        let mut taken: Vec<Suppressed> = taken.collect();
        taken.sort_by_key(|suppressed| std::cmp::Reverse(suppressed.lines));
        taken
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Kind, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Filter<S> for Limiter {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        let burst = match *metadata.level() {
            Level::ERROR | Level::WARN => TROUBLES,
            Level::INFO => NEWS,
            // Whoever asks for these wants to see all.
            _ => return true,
        };
        if ALWAYS.contains(&metadata.target()) {
            return true;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let allows = self.allows(Instant::now(), burst, &metadata.callsite(), &fields);
        if !allows {
            super::SUPPRESSED_LINES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        allows
    }
}

/// The fields of a line that matter here.
#[derive(Debug, Default)]
struct Fields {
    module: Option<String>,
    text: String,
    /// The reason, without its numbers.
    reason: String,
    /// Whoever logs it counts what it does not log.
    has_own_limit: bool,
}

impl Fields {
    fn add_reason(&mut self, reason: &str) {
        self.reason
            .extend(reason.chars().filter(|character| !character.is_ascii_digit()));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "module" => self.module = Some(value.to_owned()),
            "message" => value.clone_into(&mut self.text),
            "error" | "reason" | "trouble" => self.add_reason(value),
            // Where a task panicked, with the numbers of the line.
            "location" => self.reason.push_str(value),
            _ => {}
        }
    }

    fn record_u64(&mut self, field: &Field, _: u64) {
        self.has_own_limit |= field.name() == "not_logged";
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "module" => self.module = Some(format!("{value:?}")),
            "message" => self.text = format!("{value:?}"),
            "error" | "reason" | "trouble" => self.add_reason(&format!("{value:?}")),
            "location" => self.reason.push_str(&format!("{value:?}")),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing::callsite::DefaultCallsite;

    use super::*;

    static ONE: DefaultCallsite = DefaultCallsite::new(&META);
    static META: Metadata<'static> = tracing::metadata! {
        name: "event",
        target: "test",
        level: Level::WARN,
        fields: &["module"],
        callsite: &ONE,
        kind: tracing::metadata::Kind::EVENT,
    };

    fn fields(module: &str) -> Fields {
        Fields {
            module: Some(module.to_owned()),
            text: "cannot do it".to_owned(),
            reason: String::new(),
            has_own_limit: false,
        }
    }

    /// Logs a line each second and returns when one was written.
    fn written(limiter: &Limiter, start: Instant, seconds: std::ops::Range<u64>, module: &str) -> Vec<u64> {
        let is_written = |second: &u64| {
            let now = start + Duration::from_secs(*second);
            limiter.allows(now, TROUBLES, &META.callsite(), &fields(module))
        };
        seconds.filter(is_written).collect()
    }

    #[test]
    fn the_first_lines_of_a_kind_are_logged_then_one_a_minute() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        assert_eq!(
            written(&limiter, start, 0..200, "orders"),
            [0, 1, 2, 3, 4, 60, 120, 180]
        );
        assert_eq!(written(&limiter, start, 200..201, "bills"), [200], "another kind");
        assert_eq!(
            written(&limiter, start, 900..907, "orders"),
            [900, 901, 902, 903, 904],
            "after a quiet time"
        );
    }

    #[test]
    fn another_reason_is_another_kind_and_another_number_is_none() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let logged = |reason: String| {
            let mut fields = fields("orders");
            fields.add_reason(&reason);
            limiter.allows(now, TROUBLES, &META.callsite(), &fields)
        };
        assert_eq!(
            (0..100)
                .filter(|number| logged(format!("message {number} is bad")))
                .count(),
            5
        );
        assert!(logged("no such export".to_owned()), "another reason");
        // Reasons may differ in each line.
        let letters = |number: usize| "x".repeat(number);
        assert_eq!(
            (0..100).filter(|number| logged(letters(*number))).count(),
            REASONS as usize - 6
        );
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        written(&limiter, start, 0..10, "orders");
        written(&limiter, start, 0..30, "bills");
        let suppressed = |module: &str, lines| Suppressed {
            module: Some(module.to_owned()),
            text: "cannot do it".to_owned(),
            lines,
        };
        assert_eq!(limiter.take(), [suppressed("bills", 25), suppressed("orders", 5)]);
        assert_eq!(limiter.take(), []);
    }

    #[test]
    fn what_has_its_own_limit_is_always_logged() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        for _ in 0..100 {
            let fields = Fields {
                has_own_limit: true,
                ..fields("orders")
            };
            assert!(limiter.allows(now, TROUBLES, &META.callsite(), &fields));
        }
    }

    #[test]
    fn it_forgets_kinds_that_are_quiet_and_never_swallows_a_new_one() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        for number in 0..3 * MAX_KINDS {
            assert!(limiter.allows(start, TROUBLES, &META.callsite(), &fields(&number.to_string())));
        }
        assert_eq!(limiter.lock().len(), MAX_KINDS);
        let later = start + INTERVAL;
        assert!(limiter.allows(later, TROUBLES, &META.callsite(), &fields("new")));
        assert_eq!(limiter.lock().len(), 1);
    }
}
