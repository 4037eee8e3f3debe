//! Calls a version of a module for somebody who wants to see what it makes of a message. Nothing is published.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};
use slipring_core::stamp::Stamp;
use tokio::sync::Semaphore;

use crate::json::Report;
use crate::message::{Message, Outcome};
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

/// The same for many messages, until the time is over. The first one is always called.
pub(in crate::admin) async fn attempts(loaded: &Loaded, messages: Vec<Arc<Message>>, within: Duration) -> Vec<Attempt> {
    let _place = PLACE.acquire().await.expect("nobody closes the semaphore");
    let loaded = loaded.clone();
    // Each call is limited by the module's timeout.
    let calling = tokio::task::spawn_blocking(move || {
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
            if !attempts.is_empty() && begin.elapsed() > within {
                break;
            }
            let start = Instant::now();
            let outcome = stamp.outcome(&message, instance.call(&message));
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
