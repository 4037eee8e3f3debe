//! The durable consumer: binds to the one that is there, refuses one that would break a promise, creates it when there is none.
//!
//! Binding comes first because a create that the server rejects could destroy an existing consumer's state on a standalone
//! server (nats-server #8491, fixed after 2.14.5).

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{self, AckPolicy, Consumer, DeliverPolicy, FromConsumer, ReplayPolicy, pull};
use async_nats::jetstream::context::{ConsumerInfoErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{self, RetentionPolicy, Stream};
use time::OffsetDateTime;
use tracing::{info, warn};

use super::{ACK_WAIT, Position, SourceError, StreamIdentity, hold_back, pin};
use crate::config::{Deliver, ModuleConfig, Standby};

/// JetStream's error code for a stream that does not exist (`JSStreamNotFoundErr`).
const STREAM_NOT_FOUND: u64 = 10059;

/// The consumer of a module and the stream it reads.
pub(super) struct Bound {
    pub(super) consumer: Consumer<pull::Config>,
    pub(super) stream: Stream,
    pub(super) identity: StreamIdentity,
    /// It was not there before.
    pub(super) is_new: bool,
    /// The most that it may have had unacknowledged, now or before its settings followed the module's.
    pub(super) max_ack_pending: usize,
}

pub(super) async fn bind(
    jetstream: &Context,
    config: &ModuleConfig,
    standby: Option<Standby>,
    position: Option<Position>,
) -> Result<Bound, SourceError> {
    let stream = find_stream(jetstream, config).await?;
    let identity = StreamIdentity {
        created: stream.cached_info().created.unix_timestamp_nanos(),
    };
    let mut max_ack_pending = config.window;
    let (consumer, is_new) = match stream.consumer_info(&config.consumer).await {
        Ok(info) => {
            // Negative: without a bound.
            max_ack_pending = max_ack_pending.max(usize::try_from(info.config.max_ack_pending).unwrap_or(usize::MAX));
            (bind_to(&stream, config, standby, info.config).await?, false)
        }
        Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => {
            let start = start(&stream, identity, config, position);
            (create(&stream, config, standby, start).await?, true)
        }
        Err(error) => return Err(failed("looking up", config, error)),
    };
    Ok(Bound {
        consumer,
        stream,
        identity,
        is_new,
        max_ack_pending,
    })
}

async fn find_stream(jetstream: &Context, config: &ModuleConfig) -> Result<Stream, SourceError> {
    let stream = jetstream
        .get_stream(&config.stream)
        .await
        .map_err(|error| match error.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code().0 == STREAM_NOT_FOUND => SourceError::NoStream {
                stream: config.stream.clone(),
            },
            _ => SourceError::request(format!("looking up the stream `{}`", config.stream), error),
        })?;
    holds_subjects(&stream.cached_info().config, &config.subjects)?;
    Ok(stream)
}

/// Whether a message of each of these subjects may be in the stream. What a mirror or a sourced stream holds can't be told from its
/// own subjects.
pub fn holds_subjects(stream: &stream::Config, subjects: &[String]) -> Result<(), SourceError> {
    if stream.mirror.is_some() || stream.sources.as_ref().is_some_and(|sources| !sources.is_empty()) {
        return Ok(());
    }
    let foreign = |wanted: &&String| !stream.subjects.iter().any(|subject| overlap(subject, wanted));
    match subjects.iter().find(foreign) {
        None => Ok(()),
        Some(subject) => Err(SourceError::NoSubject {
            stream: stream.name.clone(),
            subject: subject.clone(),
            subjects: stream.subjects.join(", "),
        }),
    }
}

/// Where a new consumer begins: where its module's `.toml` says, unless it was deleted while this process read from it.
fn start(
    stream: &Stream,
    identity: StreamIdentity,
    config: &ModuleConfig,
    position: Option<Position>,
) -> DeliverPolicy {
    let Some(Position { stream: known, next }) = position else {
        return deliver_policy(config.deliver);
    };
    if known != identity {
        warn!(
            consumer = config.consumer,
            stream = config.stream,
            "the stream was made anew; reading it from its beginning"
        );
        return DeliverPolicy::All;
    }
    warn!(
        consumer = config.consumer,
        stream = config.stream,
        sequence = next,
        "the consumer was deleted; creating it where this relay stands"
    );
    // A work-queue stream allows no other policy, and holds nothing that is settled.
    match stream.cached_info().config.retention {
        RetentionPolicy::WorkQueue => DeliverPolicy::All,
        RetentionPolicy::Limits | RetentionPolicy::Interest => DeliverPolicy::ByStartSequence { start_sequence: next },
    }
}

async fn create(
    stream: &Stream,
    config: &ModuleConfig,
    standby: Option<Standby>,
    deliver_policy: DeliverPolicy,
) -> Result<Consumer<pull::Config>, SourceError> {
    let wanted = pull::Config {
        durable_name: Some(config.consumer.clone()),
        description: Some("slipring".to_owned()),
        deliver_policy,
        ack_policy: AckPolicy::Explicit,
        max_deliver: -1,
        ..Default::default()
    };
    let consumer = stream
        .create_consumer(adapt(wanted, config, standby))
        .await
        .map_err(|error| failed("creating", config, error))?;
    info!(
        consumer = config.consumer,
        stream = config.stream,
        "created the consumer"
    );
    Ok(consumer)
}

async fn bind_to(
    stream: &Stream,
    config: &ModuleConfig,
    standby: Option<Standby>,
    found: consumer::Config,
) -> Result<Consumer<pull::Config>, SourceError> {
    let unfit = |settings: Vec<String>| SourceError::Unfit {
        stream: config.stream.clone(),
        consumer: config.consumer.clone(),
        settings: settings.join("; "),
    };
    let flaws = flaws(&found);
    if !flaws.is_empty() {
        return Err(unfit(flaws));
    }
    let bound = pull::Config::try_from_consumer_config(found).map_err(|error| unfit(vec![error.to_string()]))?;
    let wanted = adapt(bound.clone(), config, standby);
    if wanted == bound {
        return stream
            .get_consumer(&config.consumer)
            .await
            .map_err(|error| failed("binding to", config, error));
    }
    let updated = stream
        .update_consumer(wanted)
        .await
        .map_err(|error| failed("updating", config, error))?;
    let done = if hold_back::is_narrow(&bound) {
        "gave the consumer back its settings, which holding back was interrupted with"
    } else {
        "updated the consumer to what the module's .toml says"
    };
    info!(consumer = config.consumer, stream = config.stream, "{done}");
    Ok(updated)
}

/// Sets what may be changed at any time, and follows the module's `.toml`.
fn adapt(mut consumer: pull::Config, config: &ModuleConfig, standby: Option<Standby>) -> pull::Config {
    pin::adapt(&mut consumer, standby);
    consumer.ack_wait = ACK_WAIT;
    consumer.max_ack_pending = i64::try_from(config.window).unwrap_or(i64::MAX);
    // One filter has a field of its own. It is what servers and tools show for it.
    let (one, many) = match config.subjects.as_slice() {
        [] => (String::new(), Vec::new()),
        [one] => (one.clone(), Vec::new()),
        many => (String::new(), many.to_vec()),
    };
    consumer.filter_subject = one;
    consumer.filter_subjects = many;
    consumer
}

fn deliver_policy(deliver: Deliver) -> DeliverPolicy {
    match deliver {
        Deliver::New => DeliverPolicy::New,
        Deliver::All => DeliverPolicy::All,
        Deliver::Sequence(start_sequence) => DeliverPolicy::ByStartSequence { start_sequence },
        Deliver::Since(time) => DeliverPolicy::ByStartTime {
            // Both types hold the years -9999 to 9999.
            start_time: OffsetDateTime::from_unix_timestamp_nanos(time.as_nanosecond())
                .unwrap_or(OffsetDateTime::UNIX_EPOCH),
        },
    }
}

/// The settings of an existing consumer with which order or delivery could not be kept, each with what would be right.
fn flaws(found: &consumer::Config) -> Vec<String> {
    let mut flaws = Vec::new();
    let mut must = |holds: bool, flaw: String| {
        if !holds {
            flaws.push(flaw);
        }
    };
    must(
        found.deliver_subject.is_none(),
        "it pushes, and must be a pull consumer".into(),
    );
    must(
        found.ack_policy == AckPolicy::Explicit,
        format!("ack_policy is {:?}, and must be explicit", found.ack_policy).to_lowercase(),
    );
    must(
        found.max_deliver <= 0,
        format!(
            "max_deliver is {}, after which a message is silently given up; it must be -1",
            found.max_deliver
        ),
    );
    must(
        found.backoff.is_empty(),
        "backoff is set, which overrides ack_wait; it must be empty".into(),
    );
    must(
        found.deliver_policy != DeliverPolicy::LastPerSubject,
        "deliver_policy is last_per_subject, whose skip list a reset does not clear".into(),
    );
    must(
        found.replay_policy == ReplayPolicy::Instant,
        "replay_policy is original, and must be instant".into(),
    );
    must(
        !found.headers_only,
        "headers_only is set, and would hide the payloads".into(),
    );
    must(
        found.max_batch == 0,
        format!("max_batch is {}, and must be unset", found.max_batch),
    );
    must(
        found.max_bytes == 0,
        format!("max_bytes is {}, and must be unset", found.max_bytes),
    );
    must(
        found.max_expires.is_zero(),
        "max_expires is set, and must not be".into(),
    );
    must(
        pin::is_ours(&found.priority_policy, &found.priority_groups),
        "it has priority groups, and must have none or those of Slipring's standby".into(),
    );
    flaws
}

/// Whether a subject can match both patterns.
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

fn failed(doing: &str, config: &ModuleConfig, error: impl Into<async_nats::Error>) -> SourceError {
    SourceError::request(
        format!("{doing} the consumer `{}` of `{}`", config.consumer, config.stream),
        error,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_overlap_when_one_subject_matches_both() {
        for (left, right, expected) in [
            ("orders.>", "orders.1", true),
            ("orders.1", "orders.>", true),
            ("orders.*", "orders.1", true),
            ("orders.*.created", "orders.1.*", true),
            (">", "anything.at.all", true),
            ("orders.>", "orders", false),
            ("orders.*", "orders.1.2", false),
            ("orders.1", "invoices.1", false),
        ] {
            assert_eq!(overlap(left, right), expected, "{left} and {right}");
        }
    }

    #[test]
    fn a_consumer_of_our_own_making_has_no_flaws_and_each_flaw_is_named() {
        let fit = consumer::Config {
            ack_policy: AckPolicy::Explicit,
            max_deliver: -1,
            ..Default::default()
        };
        assert_eq!(flaws(&fit), Vec::<String>::new());
        let unfit = consumer::Config {
            ack_policy: AckPolicy::All,
            max_deliver: 5,
            deliver_policy: DeliverPolicy::LastPerSubject,
            ..fit
        };
        let flaws = flaws(&unfit).join("\n");
        for word in ["ack_policy is all", "max_deliver is 5", "last_per_subject"] {
            assert!(flaws.contains(word), "{word} is named in {flaws}");
        }
    }
}
