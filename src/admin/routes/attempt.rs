//! Calls a version of a module for somebody who wants to see what it makes of a message. Nothing is published.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};
use slipring_core::stamp::Stamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::json::Report;
use crate::message::{Message, Outcome, Publication};
use crate::modules::Loaded;

/// One at a time, because the processors belong to the pipelines.
static PLACE: Semaphore = Semaphore::const_new(1);

/// The outcome for a message.
#[derive(Debug)]
pub(in crate::admin) struct Attempt {
    pub version: String,
    pub micros: u64,
    pub outcome: Outcome,
}

/// What a version of a module made of a message.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Attempt")]
struct Shown<'a> {
    /// The name of the version that was called.
    version: &'a str,
    /// How long the call took, in microseconds.
    micros: u64,
    #[serde(flatten)]
    report: Report<'a>,
}

impl Serialize for Attempt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Shown {
            version: &self.version,
            micros: self.micros,
            report: Report::of(&self.outcome),
        }
        .serialize(serializer)
    }
}

impl JsonSchema for Attempt {
    fn schema_name() -> Cow<'static, str> {
        Shown::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Shown::json_schema(generator)
    }
}

/// Returns the outcome for a message, with the version and keys that the relay would set, but for its idempotency keys.
pub(in crate::admin) async fn attempt(loaded: &Loaded, message: Arc<Message>) -> Attempt {
    let mut attempts = attempts(loaded, vec![message], Duration::MAX).await;
    attempts.pop().expect("one for each message")
}

/// How much memory the outcomes of many messages may take, in bytes. It is not part of `memory_limit`.
const MOST_BYTES: usize = 16 << 20;

/// The same for many messages, until the time is over or the outcomes are large. The first one is always called.
pub(in crate::admin) async fn attempts(loaded: &Loaded, messages: Vec<Arc<Message>>, within: Duration) -> Vec<Attempt> {
    let place = PLACE.acquire().await.expect("nobody closes the semaphore");
    let loaded = loaded.clone();
    // Cancelled when the client has left. Then no further message is called.
    let left = CancellationToken::new();
    let _leaving = left.clone().drop_guard();
    // Each call is limited by the module's timeout.
    let calling = tokio::task::spawn_blocking(move || {
        // Held until the module returns, even if the client has left.
        let _place = place;
        let mut bytes = 0;
        let begin = Instant::now();
        let mut instance = loaded.module.instance();
        let stamp = Stamp {
            module: loaded.module.name(),
            incarnation: None,
            idempotency: false,
            version: loaded.config.version,
        };
        let mut attempts = Vec::with_capacity(messages.len());
        for message in messages {
            let is_over = begin.elapsed() > within || bytes > MOST_BYTES || left.is_cancelled();
            if is_over && !attempts.is_empty() {
                break;
            }
            let start = Instant::now();
            let outcome = stamp.outcome(&message, instance.call(&message));
            bytes += match &outcome {
                Outcome::Publish(publications) => publications.iter().map(Publication::size).sum(),
                Outcome::Reject(rejection) => rejection.size(),
                Outcome::Drop => 0,
            };
            attempts.push(Attempt {
                version: loaded.version.clone(),
                micros: u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
                outcome,
            });
        }
        attempts
    });
    calling.await.expect("a call of a module ends in an outcome")
}
