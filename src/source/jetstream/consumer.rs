//! The durable consumer: binds to the existing one or creates it, and adapts it to the module and to the limits of
//! stream, account and server. Settings that would break a promise are refused; `fitness` decides that.
//!
//! Binding comes first, because a create that the server refuses could destroy an existing consumer's state on a
//! standalone server (nats-server #8491, fixed after 2.14.5).

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy, Consumer, DeliverPolicy, FromConsumer, pull};
use async_nats::jetstream::context::{ConsumerInfoErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{self, ConsumerErrorKind, ConsumerUpdateErrorKind, RetentionPolicy, Stream};
use async_nats::jetstream::{Context, Error as Refusal, ErrorCode};
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use slipring_core::read::{ACK_WAIT, Incarnation, Position};
use tracing::{info, warn};

use super::fitness::{self, Comes, Fitness, Settings};
use super::memory::Memory;
use super::settings::{self, STREAM_NOT_FOUND, deliver_policy};
use super::{SourceError, pin};
use crate::config::{Deliver, ModuleConfig, Standby};

/// The consumer of a module and the stream it reads.
pub(super) struct Bound {
    pub(super) consumer: Consumer<pull::Config>,
    pub(super) stream: Stream,
    pub(super) identity: Incarnation,
    /// The consumer was just created.
    pub(super) is_new: bool,
    /// The most messages that it may have had unacknowledged, now or before its settings followed the module's.
    pub(super) max_ack_pending: usize,
}

pub(super) async fn bind(
    jetstream: &Context,
    config: &ModuleConfig,
    standby: Option<&Standby>,
    position: Option<Position>,
    memory: &Memory,
) -> Result<Bound, SourceError> {
    let stream = find_stream(jetstream, config).await?;
    let strange = holds_subjects(&stream, &config.subjects).await?;
    let identity = Incarnation(stream.cached_info().created.unix_timestamp_nanos());
    let found = match stream.consumer_info(&config.consumer).await {
        Ok(info) => Some(info.config),
        Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => None,
        Err(error) => return Err(failed("looking up", config, error)),
    };
    let settings = Settings {
        stream: &stream.cached_info().config,
        consumer: found.as_ref(),
        // Asking for the limit takes a permission of its own. The server states the limit when it refuses a larger
        // value.
        account_max_ack_pending: None,
        resumes: position.is_some(),
    };
    let fitness = Fitness::of(config, settings, Timestamp::now());
    let module = &config.consumer;
    for warning in memory.anew(&strange.into_iter().chain(fitness.warnings).collect::<Vec<_>>()) {
        warn!(consumer = module, stream = config.stream, "{warning}");
    }
    for note in memory.anew(&fitness.notes) {
        info!(consumer = module, stream = config.stream, "{note}");
    }
    if let Some(refusal) = fitness.refusals.into_iter().next() {
        return Err(refusal);
    }
    let mut max_ack_pending = config.window;
    let (consumer, is_new) = match found {
        Some(found) => {
            // A negative value means no limit.
            max_ack_pending = max_ack_pending.max(usize::try_from(found.max_ack_pending).unwrap_or(usize::MAX));
            (bind_to(&stream, config, standby, found, memory).await?, false)
        }
        None => {
            let is_first = position.is_none();
            let start = start(&stream, identity, config, position);
            let older = match (is_first, config.deliver) {
                (true, Deliver::New) => older(&stream, &config.subjects).await,
                _ => 0,
            };
            let consumer = create(&stream, config, standby, start, memory).await?;
            if older > 0 {
                info!(
                    consumer = config.consumer,
                    stream = config.stream,
                    older,
                    "begins with new messages and leaves out the older ones; to read these too, set `deliver = \"all\"` and another \
                     `consumer` in the module's .toml"
                );
            }
            (consumer, true)
        }
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
    jetstream
        .get_stream(&config.stream)
        .await
        .map_err(|error| match error.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code().0 == STREAM_NOT_FOUND => SourceError::NoStream {
                stream: config.stream.clone(),
            },
            _ => SourceError::request(format!("looking up the stream `{}`", config.stream), error),
        })
}

/// Checks that the stream may hold messages of each of these subjects: they come in now, or came in when the stream had
/// other subjects. Returns a warning if something about it is unusual.
pub async fn holds_subjects(stream: &Stream, subjects: &[String]) -> Result<Option<String>, SourceError> {
    let config = &stream.cached_info().config;
    for subject in subjects {
        let comes = fitness::comes(config, subject);
        if comes == Comes::Maybe || has(stream, subject).await? {
            continue;
        }
        let (stream, subject, subjects) = (config.name.clone(), subject.clone(), config.subjects.join(", "));
        if comes == Comes::Hardly {
            return Ok(Some(format!(
                "the stream `{stream}` holds no message of the subject `{subject}`, and judging by its subjects \
                 ({subjects}) and its `subject_transform` none will arrive; are `subjects` in the module's .toml right?"
            )));
        }
        return Err(SourceError::NoSubject {
            stream,
            subject,
            subjects,
        });
    }
    Ok(None)
}

async fn has(stream: &Stream, subject: &str) -> Result<bool, SourceError> {
    let failed = |error: stream::InfoError| {
        let stream = &stream.cached_info().config.name;
        SourceError::request(format!("asking for the subjects of the stream `{stream}`"), error)
    };
    let mut held = stream.info_with_subjects(subject).await.map_err(failed)?;
    Ok(held.try_next().await.map_err(failed)?.is_some())
}

/// Returns where a new consumer begins: where the module's `.toml` says, unless the consumer was deleted while this
/// process read from it.
fn start(stream: &Stream, identity: Incarnation, config: &ModuleConfig, position: Option<Position>) -> DeliverPolicy {
    let Some(Position { stream: known, next }) = position else {
        return deliver_policy(config.deliver);
    };
    if known != identity {
        warn!(
            consumer = config.consumer,
            stream = config.stream,
            "the stream was recreated; reading it from its beginning"
        );
        return DeliverPolicy::All;
    }
    let next = next.number().unwrap_or(0);
    warn!(
        consumer = config.consumer,
        stream = config.stream,
        sequence = next,
        "the consumer was deleted; recreating it at this relay's position"
    );
    // A work-queue stream allows no other policy and holds nothing that is settled.
    match stream.cached_info().config.retention {
        RetentionPolicy::WorkQueue => DeliverPolicy::All,
        RetentionPolicy::Limits | RetentionPolicy::Interest => DeliverPolicy::ByStartSequence { start_sequence: next },
    }
}

/// The most subjects whose messages are counted.
const MOST_SUBJECTS: usize = 10_000;

/// Returns how many messages the stream holds of these subjects, or of all. Nothing depends on it, so an error counts as none.
async fn older(stream: &Stream, subjects: &[String]) -> u64 {
    if subjects.is_empty() {
        return stream.cached_info().state.messages;
    }
    let mut counted = BTreeMap::new();
    for subject in subjects {
        let Ok(held) = stream.info_with_subjects(subject).await else {
            return 0;
        };
        let held: Vec<(String, usize)> = held.take(MOST_SUBJECTS).try_collect().await.unwrap_or_default();
        counted.extend(held);
    }
    counted.values().map(|messages| *messages as u64).sum()
}

async fn create(
    stream: &Stream,
    config: &ModuleConfig,
    standby: Option<&Standby>,
    deliver_policy: DeliverPolicy,
    memory: &Memory,
) -> Result<Consumer<pull::Config>, SourceError> {
    let wanted = pull::Config {
        durable_name: Some(config.consumer.clone()),
        description: Some("slipring".to_owned()),
        deliver_policy,
        ack_policy: AckPolicy::Explicit,
        max_deliver: -1,
        ..Default::default()
    };
    let mut max_ack_pending = fitness::max_ack_pending(config, &stream.cached_info().config);
    let consumer = loop {
        let wanted = adapt(wanted.clone(), config, standby, max_ack_pending);
        match stream.create_consumer(wanted).await {
            Ok(consumer) => break consumer,
            Err(error) => {
                let refusal = match error.kind() {
                    ConsumerErrorKind::JetStream(refusal) => Some(refusal),
                    _ => None,
                };
                let unmade = Unmade {
                    refusal,
                    error: error.into(),
                };
                max_ack_pending = unmade.fit("creating", max_ack_pending, config, memory)?;
            }
        }
    };
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
    standby: Option<&Standby>,
    found: consumer::Config,
    memory: &Memory,
) -> Result<Consumer<pull::Config>, SourceError> {
    let bound = pull::Config::try_from_consumer_config(found).map_err(|error| SourceError::Unfit {
        stream: config.stream.clone(),
        consumer: config.consumer.clone(),
        settings: error.to_string(),
    })?;
    let mut max_ack_pending = fitness::max_ack_pending(config, &stream.cached_info().config);
    let updated = loop {
        let wanted = adapt(bound.clone(), config, standby, max_ack_pending);
        if wanted == bound {
            return stream
                .get_consumer(&config.consumer)
                .await
                .map_err(|error| failed("binding to", config, error));
        }
        match stream.update_consumer(wanted).await {
            Ok(consumer) => break consumer,
            Err(error) => {
                let refusal = match error.kind() {
                    ConsumerUpdateErrorKind::JetStream(refusal) => Some(refusal),
                    _ => None,
                };
                let unmade = Unmade {
                    refusal,
                    error: error.into(),
                };
                max_ack_pending = unmade.fit("updating", max_ack_pending, config, memory)?;
            }
        }
    };
    if !bound.inactive_threshold.is_zero() {
        info!(
            consumer = config.consumer,
            stream = config.stream,
            "removed `inactive_threshold` from the consumer: the server would have deleted it after some time without \
             a relay"
        );
    }
    let done = if settings::is_narrow(&bound) {
        "restored the consumer's settings: a relay had changed them to hold back messages, and was interrupted"
    } else {
        "updated the consumer to match the module's .toml"
    };
    info!(consumer = config.consumer, stream = config.stream, "{done}");
    Ok(updated)
}

/// The server's error when it did not create or update a consumer.
struct Unmade {
    refusal: Option<Refusal>,
    error: async_nats::Error,
}

impl Unmade {
    /// Returns how many unacknowledged messages to ask for instead, if the account or server allows fewer. A smaller
    /// number makes a module slower but breaks nothing.
    fn fit(self, doing: &str, asked: i64, config: &ModuleConfig, memory: &Memory) -> Result<i64, SourceError> {
        let Self { refusal, error } = self;
        if let Some(limit) = refusal.as_ref().and_then(limit).filter(|limit| *limit < asked) {
            let note = format!(
                "the account or the server allows a consumer {limit} unacknowledged messages (`max_ack_pending`), but \
                 the module's `window` is {}: it reads only {limit} ahead; set `window = {limit}`, or raise that limit",
                config.window
            );
            for note in memory.anew(&[note]) {
                info!(consumer = config.consumer, stream = config.stream, "{note}");
            }
            return Ok(limit);
        }
        Err(match refusal.as_ref().and_then(hint) {
            Some(hint) => SourceError::NotMade {
                consumer: config.consumer.clone(),
                stream: config.stream.clone(),
                hint,
                source: error,
            },
            None => failed(doing, config, error),
        })
    }
}

/// Returns the limit that a server states when a consumer asks for more unacknowledged messages than it allows.
fn limit(refusal: &Refusal) -> Option<i64> {
    if refusal.error_code() != ErrorCode::CONSUMER_MAX_PENDING_ACK_EXCESS {
        return None;
    }
    let words = refusal.to_string();
    let (_, limit) = words.split_once("limit of ")?;
    limit.split(' ').next()?.parse().ok().filter(|limit| *limit > 0)
}

/// Returns what to change if the server does not create a consumer.
fn hint(refusal: &Refusal) -> Option<&'static str> {
    Some(match refusal.error_code() {
        ErrorCode::CONSUMER_MAX_PENDING_ACK_EXCESS => "set a smaller `window` in the module's .toml",
        ErrorCode::MAXIMUM_CONSUMERS_LIMIT => {
            "raise `max_consumers` of the stream or of the account, or delete a consumer"
        }
        ErrorCode::CONSUMER_WQ_MULTIPLE_UNFILTERED | ErrorCode::CONSUMER_WQ_CONSUMER_NOT_UNIQUE => {
            "the stream is a work queue, and another consumer reads the same subjects: set other `subjects` in the \
             module's .toml, or delete that consumer"
        }
        ErrorCode::CONSUMER_WQ_CONSUMER_NOT_DELIVER_ALL => {
            "the stream is a work queue: set `deliver = \"all\"` in the module's .toml"
        }
        _ => return None,
    })
}

/// Sets what may be changed at any time, as the module's `.toml` says.
fn adapt(
    mut consumer: pull::Config,
    config: &ModuleConfig,
    standby: Option<&Standby>,
    max_ack_pending: i64,
) -> pull::Config {
    pin::adapt(&mut consumer, standby);
    consumer.ack_wait = ACK_WAIT;
    consumer.max_ack_pending = max_ack_pending;
    // While no relay runs, nobody reads.
    consumer.inactive_threshold = Duration::ZERO;
    // A single filter has a field of its own, which servers and tools show.
    let (one, many) = match config.subjects.as_slice() {
        [] => (String::new(), Vec::new()),
        [one] => (one.clone(), Vec::new()),
        many => (String::new(), many.to_vec()),
    };
    consumer.filter_subject = one;
    consumer.filter_subjects = many;
    consumer
}

fn failed(doing: &str, config: &ModuleConfig, error: impl Into<async_nats::Error>) -> SourceError {
    SourceError::request(
        format!("{doing} the consumer `{}` of `{}`", config.consumer, config.stream),
        error,
    )
}
