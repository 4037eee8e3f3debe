//! A Centrifugo that lives in memory and in simulated time: what it shows on each channel, and what it suppresses by key. When
//! and whether something is executed and answered is the driver's business.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

const KEYS_LAST: Duration = Duration::from_secs(300);

/// A channel with this prefix has no history, so that positions are not known.
pub(super) const PLAIN: &str = "plain:";

/// A channel with this prefix is unknown to it.
pub(super) const UNKNOWN: &str = "unknown:";

/// A body with this in it is unreadable to it.
pub(super) const POISON: &str = "poison";

#[derive(Debug, Default)]
pub(super) struct Centrifugo {
    channels: BTreeMap<String, Channel>,
}

#[derive(Debug, Default)]
struct Channel {
    shown: u64,
    /// When each key was first used, and for which position.
    keys: BTreeMap<String, (Instant, u64)>,
}

/// A command as it was read from a body.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) channels: Vec<String>,
    pub(super) number: u64,
    pub(super) key: Option<String>,
    broadcast: bool,
}

impl Centrifugo {
    /// The reply, and whether it was shown to subscribers.
    pub(super) fn execute(&mut self, now: Instant, channel: &str, key: Option<&str>) -> (Value, bool) {
        if channel.starts_with(UNKNOWN) {
            return (error(102, "unknown channel"), false);
        }
        let state = self.channels.entry(channel.to_owned()).or_default();
        let used = key
            .and_then(|key| state.keys.get(key))
            .filter(|(first, _)| now < *first + KEYS_LAST);
        let (offset, shown) = match used {
            Some(&(_, offset)) => (offset, false),
            None => {
                state.shown += 1;
                if let Some(key) = key {
                    state.keys.insert(key.to_owned(), (now, state.shown));
                }
                (state.shown, true)
            }
        };
        let result = if channel.starts_with(PLAIN) {
            json!({})
        } else {
            json!({ "offset": offset, "epoch": "e" })
        };
        (json!({ "result": result }), shown)
    }
}

pub(super) fn error(code: u32, message: &str) -> Value {
    json!({ "error": { "code": code, "message": message } })
}

impl Command {
    /// The reply to the command from what `execute` gave for each of its channels.
    pub(super) fn reply(&self, mut responses: Vec<Value>) -> Value {
        if self.broadcast {
            return json!({ "broadcast": { "responses": responses } });
        }
        match responses.pop() {
            Some(response) if response.get("result").is_some() => json!({ "publish": response["result"] }),
            Some(error) => error,
            None => json!({}),
        }
    }
}

/// Reads a body as Centrifugo does, all or nothing.
pub(super) fn read(body: &[u8]) -> Vec<Command> {
    #[derive(Deserialize)]
    struct Batch {
        commands: Vec<Method>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Method {
        Publish(Fields),
        Broadcast(Fields),
    }
    #[derive(Deserialize)]
    struct Fields {
        channel: Option<String>,
        #[serde(default)]
        channels: Vec<String>,
        data: Data,
        idempotency_key: Option<String>,
    }
    #[derive(Deserialize)]
    struct Data {
        number: u64,
    }
    let Batch { commands } = serde_json::from_slice(body).expect("the scheduler wrote JSON");
    let command = |method| {
        let (broadcast, fields) = match method {
            Method::Publish(fields) => (false, fields),
            Method::Broadcast(fields) => (true, fields),
        };
        assert_eq!(fields.channel.is_some(), !broadcast);
        Command {
            channels: fields.channel.into_iter().chain(fields.channels).collect(),
            number: fields.data.number,
            key: fields.idempotency_key,
            broadcast,
        }
    };
    commands.into_iter().map(command).collect()
}
