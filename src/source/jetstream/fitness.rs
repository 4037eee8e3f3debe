//! Decides what the settings of a stream, its consumer and the account mean for the relay's promises. This is the only
//! place that decides it: the relay asks when an epoch begins, and `slipring check --online` asks for the same. No I/O.
//!
//! Every field of the server's settings is named here. If async-nats adds a field, this file does not compile until
//! somebody has decided about it. docs/streams.md has the same as a table.

#[cfg(test)]
mod tests;

use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, ReplayPolicy};
use async_nats::jetstream::stream::{self, ConsumerLimits, RetentionPolicy, StorageType, SubjectTransform};
use jiff::{SignedDuration, Timestamp};
use time::OffsetDateTime;

use super::{SourceError, pin};
use crate::config::{Deliver, ModuleConfig};

/// Pulls that the relay may have open beside those that fill its window: leftovers of earlier ones, and those of relays
/// that stand by.
const SPARE_PULLS: usize = 8;

/// Messages in one of its pulls.
const MESSAGES_A_PULL: usize = 1024;

/// Whether a module can read a stream, and what a person should know about it.
#[derive(Debug, Default)]
pub struct Fitness {
    /// Why it cannot: a promise would be broken. Each one is a sentence that says what to change.
    pub refusals: Vec<SourceError>,
    /// What weakens a promise, and what to change.
    pub warnings: Vec<String>,
    /// What the relay adapts to by itself, or interprets differently from what may be intended.
    pub notes: Vec<String>,
}

/// The server's settings for what a module reads.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    pub stream: &'a stream::Config,
    /// `None` if it will be created.
    pub consumer: Option<&'a consumer::Config>,
    /// The account's limit of unacknowledged messages per consumer, if there is one and it is known.
    pub account_max_ack_pending: Option<i64>,
    /// The module has read from the stream before. If the consumer is gone, it is created at the module's position,
    /// whatever `deliver` says.
    pub resumes: bool,
}

/// The consequence when the server has forgotten the consumer. The next one begins where `deliver` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forgotten {
    /// Unread messages are skipped, or were never kept.
    Loses,
    /// Old messages are published again.
    Repeats,
    /// A work queue holds only what nobody has read.
    Nothing,
}

impl Fitness {
    pub fn of(module: &ModuleConfig, settings: Settings<'_>, now: Timestamp) -> Self {
        let mut fitness = Self::default();
        fitness.look_at_stream(module, settings);
        if let Some(consumer) = settings.consumer {
            fitness.look_at_consumer(module, settings.stream, consumer, now);
        }
        fitness
    }

    fn look_at_stream(&mut self, module: &ModuleConfig, settings: Settings<'_>) {
        let stream::Config {
            name,
            retention,
            consumer_limits,

            // These decide where a module's messages come from: see `consumer::holds_subjects`.
            subjects: _,
            subject_transform: _,
            mirror: _,
            sources: _,

            // These remove messages. `retention` handles messages that are removed before they were read.
            max_messages: _,
            max_bytes: _,
            max_age: _,
            max_messages_per_subject: _,
            discard: _,
            discard_new_per_subject: _,
            allow_rollup: _,
            allow_message_ttl: _,
            subject_delete_marker_ttl: _,
            allow_message_schedules: _,

            // These decide what the stream accepts and keeps. The promise begins with what it holds.
            storage: _,
            num_replicas: _,
            no_ack: _,
            persist_mode: _,
            sealed: _,
            max_message_size: _,
            duplicate_window: _,
            first_sequence: _,
            allow_message_counter: _,
            allow_atomic_publish: _,
            allow_batch_publish: _,

            // The server refuses a consumer above the limit, and says so: see `consumer::hint`.
            max_consumers: _,

            // These change nothing for readers.
            description: _,
            compression: _,
            placement: _,
            republish: _,
            allow_direct: _,
            mirror_direct: _,
            deny_delete: _,
            deny_purge: _,
            metadata: _,
            template_owner: _,
            pause_until: _,
        } = settings.stream;

        let limits = consumer_limits.as_ref();
        if let Some(ConsumerLimits { inactive_threshold, .. }) = limits
            && !inactive_threshold.is_zero()
        {
            let after = SignedDuration::try_from(*inactive_threshold).unwrap_or(SignedDuration::MAX);
            let what = format!(
                "the stream `{name}` has `consumer_limits.inactive_threshold` = {after:#}: the server deletes the \
                 consumer `{}` when no relay has read from it for that long",
                module.consumer
            );
            match forgotten(module, *retention) {
                Forgotten::Nothing => {}
                Forgotten::Repeats => self.warnings.push(format!(
                    "{what}, and the next relay publishes everything from the position in `deliver` a second time; remove that \
                     limit from the stream"
                )),
                Forgotten::Loses => {
                    let or = match retention {
                        RetentionPolicy::Interest => "",
                        _ => ", or set `deliver = \"all\"` in the module's .toml",
                    };
                    self.refuse(format!(
                        "{what}, and messages stored before a relay reads again would be lost; remove that limit from \
                         the stream{or}"
                    ));
                }
            }
        }
        let begins = settings.consumer.is_none() && !settings.resumes;
        if begins && *retention == RetentionPolicy::WorkQueue && module.deliver != Deliver::All {
            self.refuse(format!(
                "the stream `{name}` is a work queue, which can only be read from its beginning; set `deliver = \
                 \"all\"` in the module's .toml"
            ));
        }
        let of_stream = limits.map(|limits| limits.max_ack_pending).filter(|limit| *limit > 0);
        let of_account = settings.account_max_ack_pending.filter(|limit| *limit > 0);
        let smallest = [
            of_stream.map(|limit| (limit, format!("the stream `{name}`"), "consumer_limits.max_ack_pending")),
            of_account.map(|limit| (limit, "the account".to_owned(), "max_ack_pending")),
        ];
        if let Some((limit, whose, key)) = smallest.into_iter().flatten().min()
            && limit < window(module)
        {
            self.notes.push(format!(
                "{whose} allows a consumer {limit} unacknowledged messages (`{key}`), but the module's `window` is {}: \
                 it reads only {limit} ahead; set `window = {limit}`, or raise that limit",
                module.window
            ));
        }
    }

    fn look_at_consumer(
        &mut self,
        module: &ModuleConfig,
        stream: &stream::Config,
        found: &consumer::Config,
        now: Timestamp,
    ) {
        let consumer::Config {
            deliver_subject,
            durable_name,
            deliver_policy,
            ack_policy,
            max_deliver,
            backoff,
            replay_policy,
            max_waiting,
            headers_only,
            max_bytes,
            max_expires,
            num_replicas,
            memory_storage,
            priority_policy,
            priority_groups,
            pause_until,

            // The relay sets these: `consumer::adapt`.
            ack_wait: _,
            filter_subject: _,
            filter_subjects: _,
            max_ack_pending: _,
            inactive_threshold: _,
            priority_timeout: _,
            // The relay's pulls are no larger.
            max_batch: _,

            // For push consumers only.
            deliver_group: _,
            rate_limit: _,
            flow_control: _,
            idle_heartbeat: _,

            // These change nothing for readers.
            name: _,
            description: _,
            sample_frequency: _,
            metadata: _,
        } = found;

        let mut flaws = Vec::new();
        let mut must = |holds: bool, flaw: String| {
            if !holds {
                flaws.push(flaw);
            }
        };
        must(
            deliver_subject.is_none(),
            "it is a push consumer (deliver_subject), and must be a pull consumer".into(),
        );
        must(
            durable_name.is_some(),
            "it is not durable (durable_name), so the server deletes it when nobody reads".into(),
        );
        must(
            *ack_policy == AckPolicy::Explicit,
            format!("ack_policy is {ack_policy:?}, and must be explicit").to_lowercase(),
        );
        must(
            *max_deliver <= 0,
            format!("max_deliver is {max_deliver}, after which JetStream silently gives up a message; it must be -1"),
        );
        must(
            backoff.is_empty(),
            "backoff is set, which overrides ack_wait; it must be empty".into(),
        );
        must(
            *deliver_policy != DeliverPolicy::LastPerSubject,
            "deliver_policy is last_per_subject, and the relay cannot reset such a consumer".into(),
        );
        must(
            *replay_policy == ReplayPolicy::Instant,
            "replay_policy is original, and must be instant".into(),
        );
        must(
            !headers_only,
            "headers_only is set, which hides the payloads; it must be unset".into(),
        );
        must(*max_bytes <= 0, format!("max_bytes is {max_bytes}, and must be unset"));
        must(max_expires.is_zero(), "max_expires is set, and must not be".into());
        let pulls = module.window.div_ceil(MESSAGES_A_PULL) + SPARE_PULLS;
        must(
            usize::try_from(*max_waiting).map_or(true, |max| max == 0 || max >= pulls),
            format!(
                "max_waiting is {max_waiting}, and must be at least {pulls}, the number of pulls that the relay may \
                 have open"
            ),
        );
        must(
            pin::is_ours(priority_policy, priority_groups),
            "it has priority groups (priority_policy), and must have none or those of Slipring's standby".into(),
        );
        let forgotten = forgotten(module, stream.retention);
        // Several servers are unlikely to lose their memory at once. A stream in memory is lost together with its
        // consumer.
        let in_memory = *memory_storage && stream.storage == StorageType::File && forgotten != Forgotten::Nothing;
        let alone = *num_replicas == 1 || (*num_replicas == 0 && stream.num_replicas <= 1);
        let lost = in_memory && alone && forgotten == Forgotten::Loses;
        must(
            !lost,
            "mem_storage is set, so a restart of the server would lose the module's position, and with it messages"
                .into(),
        );
        if !flaws.is_empty() {
            self.refusals.push(SourceError::Unfit {
                stream: module.stream.clone(),
                consumer: module.consumer.clone(),
                settings: flaws.join("; "),
            });
        }
        let consumer = format!("the consumer `{}` of the stream `{}`", module.consumer, module.stream);
        if in_memory && !lost {
            let then = match forgotten {
                Forgotten::Loses => "messages would be lost",
                _ => "everything from the position in `deliver` on would be published again",
            };
            self.warnings.push(format!(
                "{consumer} is kept in memory (`mem_storage`): when its servers restart, the module's position is \
                 lost, and {then}; delete it, and the relay creates one on disk"
            ));
        }
        if (1..stream.num_replicas).contains(num_replicas) {
            self.warnings.push(format!(
                "{consumer} has `num_replicas` = {num_replicas}, but its stream has {}: if the consumer's servers are \
                 lost, so is the module's position; set its `num_replicas` to 0, which means as many as the stream has",
                stream.num_replicas
            ));
        }
        if let Some(until) = pause_until.map(timestamp).filter(|until| *until > now) {
            self.refuse(format!(
                "{consumer} is paused until {until} (`pause_until`); to resume it, run `nats consumer resume {} {}`",
                module.stream, module.consumer
            ));
        }
        if *deliver_policy != super::settings::deliver_policy(module.deliver) {
            self.notes.push(format!(
                "{consumer} already exists, was created to deliver {}, and continues at its position: `deliver` in the \
                 module's .toml only applies to a new consumer; to start over, delete it, or name another with \
                 `consumer`",
                policy(deliver_policy)
            ));
        }
    }

    fn refuse(&mut self, reason: String) {
        self.refusals.push(SourceError::Refused { reason });
    }
}

/// Returns how many messages a module's consumer may have unacknowledged in this stream.
pub(super) fn max_ack_pending(module: &ModuleConfig, stream: &stream::Config) -> i64 {
    let limit = stream.consumer_limits.as_ref().map(|limits| limits.max_ack_pending);
    limit
        .filter(|limit| *limit > 0)
        .map_or(window(module), |limit| limit.min(window(module)))
}

fn window(module: &ModuleConfig) -> i64 {
    i64::try_from(module.window).unwrap_or(i64::MAX)
}

fn forgotten(module: &ModuleConfig, retention: RetentionPolicy) -> Forgotten {
    match (retention, module.deliver) {
        (RetentionPolicy::WorkQueue, _) => Forgotten::Nothing,
        // Without a consumer, nothing is kept.
        (RetentionPolicy::Interest, _) | (_, Deliver::New) => Forgotten::Loses,
        (RetentionPolicy::Limits, _) => Forgotten::Repeats,
    }
}

/// Describes the policy in words.
fn policy(policy: &DeliverPolicy) -> String {
    match policy {
        DeliverPolicy::All => "all messages".to_owned(),
        DeliverPolicy::Last => "the last message and later ones".to_owned(),
        DeliverPolicy::New => "new messages".to_owned(),
        DeliverPolicy::ByStartSequence { start_sequence } => format!("messages from the sequence {start_sequence} on"),
        DeliverPolicy::ByStartTime { start_time } => format!("messages stored since {}", timestamp(*start_time)),
        DeliverPolicy::LastPerSubject => "the last message of each subject".to_owned(),
    }
}

fn timestamp(time: OffsetDateTime) -> Timestamp {
    Timestamp::from_nanosecond(time.unix_timestamp_nanos()).unwrap_or(Timestamp::MAX)
}

/// Whether messages of a subject can come into a stream, as far as its settings tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comes {
    /// Also if it is unknown, because they come from other streams.
    Maybe,
    /// Only if the stream's transform makes such a subject, which does not seem to be the case.
    Hardly,
    Never,
}

pub(super) fn comes(stream: &stream::Config, wanted: &str) -> Comes {
    let from_others = stream.mirror.is_some() || stream.sources.as_ref().is_some_and(|sources| !sources.is_empty());
    if from_others || stream.subjects.iter().any(|subject| overlap(subject, wanted)) {
        return Comes::Maybe;
    }
    match &stream.subject_transform {
        None => Comes::Never,
        Some(transform) if overlap(&made_by(transform), wanted) => Comes::Maybe,
        Some(_) => Comes::Hardly,
    }
}

/// Returns a pattern for all subjects that a transform makes. A function such as `{{split(1,-)}}` may make any number
/// of tokens.
fn made_by(SubjectTransform { destination, .. }: &SubjectTransform) -> String {
    let mut tokens = Vec::new();
    // A function's arguments contain no dots, except as its delimiter.
    for token in destination.split('.') {
        if token.contains("{{") && !token.to_lowercase().contains("{{wildcard(") {
            tokens.push(">");
            break;
        }
        tokens.push(if token.contains("{{") || token.starts_with('$') {
            "*"
        } else {
            token
        });
    }
    if tokens.is_empty() || destination.is_empty() {
        return ">".to_owned();
    }
    tokens.join(".")
}

/// Returns true if a subject can match both patterns.
fn overlap(left: &str, right: &str) -> bool {
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (None, _) | (_, None) => return false,
            (Some(l), Some(r)) if l == "*" || r == "*" || l == r => {}
            _ => return false,
        }
    }
}
