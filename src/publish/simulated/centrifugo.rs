//! What Centrifugo shows on each channel, and what it suppresses by key or version.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

const KEYS_LAST: Duration = Duration::from_secs(300);

/// A channel with this prefix has no history, so that positions are not known and versions mean nothing.
pub(crate) const PLAIN: &str = "plain:";

/// A channel with this prefix is unknown to it.
pub(crate) const UNKNOWN: &str = "unknown:";

/// A body with this in it is unreadable to it.
pub(crate) const POISON: &str = "poison";

/// A body with this in it never gets there, as long as things go wrong: something on the way answers instead.
pub(crate) const CURSED: &str = "cursed";

#[derive(Debug, Default)]
pub(crate) struct Centrifugo {
    /// Counts its starts.
    epoch: u64,
    channels: BTreeMap<String, Channel>,
}

#[derive(Debug, Default)]
struct Channel {
    shown: u64,
    /// When each key was first used, and for which position.
    keys: BTreeMap<String, (Instant, u64)>,
    /// The last one shown, with its epoch.
    version: Option<(String, u64)>,
}

/// A command as it was read from a body.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    pub(crate) channels: Vec<String>,
    pub(crate) number: u64,
    pub(crate) key: Option<String>,
    /// With its epoch.
    version: Option<(String, u64)>,
    broadcast: bool,
}

impl Centrifugo {
    /// The reply on one of the command's channels, and whether it was shown to subscribers.
    pub(crate) fn execute(&mut self, now: Instant, channel: &str, command: &Command) -> (Value, bool) {
        if channel.starts_with(UNKNOWN) {
            return (error(102, "unknown channel"), false);
        }
        let history = !channel.starts_with(PLAIN);
        if !self.channels.contains_key(channel) {
            self.channels.insert(channel.to_owned(), Channel::default());
        }
        let state = self.channels.get_mut(channel).expect("it was just inserted");
        let (offset, shown) = state.publish(now, command, history);
        let result = if history {
            json!({ "offset": offset, "epoch": format!("e{}", self.epoch) })
        } else {
            json!({})
        };
        (json!({ "result": result }), shown)
    }

    /// It is started again and remembers nothing.
    pub(crate) fn restart(&mut self) {
        self.epoch += 1;
        self.channels.clear();
    }
}

impl Channel {
    /// The offset that is answered, and whether it was shown.
    fn publish(&mut self, now: Instant, command: &Command, history: bool) -> (u64, bool) {
        let used = command.key.as_ref().and_then(|key| self.keys.get(key));
        if let Some((_, offset)) = used.filter(|(first, _)| now < *first + KEYS_LAST) {
            return (*offset, false);
        }
        if let Some((epoch, version)) = &command.version
            && history
        {
            let late = |(last_epoch, last): &(String, u64)| last_epoch == epoch && version <= last;
            if self.version.as_ref().is_some_and(late) {
                return (self.shown, false);
            }
            self.version.clone_from(&command.version);
        }
        self.shown += 1;
        if let Some(key) = &command.key {
            self.keys.insert(key.clone(), (now, self.shown));
        }
        (self.shown, true)
    }
}

pub(crate) fn error(code: u32, message: &str) -> Value {
    json!({ "error": { "code": code, "message": message } })
}

impl Command {
    /// The reply to the command from what `execute` gave for each of its channels.
    pub(crate) fn reply(&self, mut responses: Vec<Value>) -> Value {
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

/// Whether Centrifugo can read the body as a whole.
pub(crate) fn is_readable(body: &[u8]) -> bool {
    !contains(body, POISON)
}

pub(crate) fn contains(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|part| part == text.as_bytes())
}

/// Reads a body as Centrifugo does, all or nothing.
pub(crate) fn read(body: &[u8]) -> Vec<Command> {
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
        version: Option<u64>,
        #[serde(default)]
        version_epoch: String,
    }
    #[derive(Deserialize)]
    struct Data {
        number: u64,
    }
    let Batch { commands } = serde_json::from_slice(body).expect("the body is JSON");
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
            version: fields.version.map(|version| (fields.version_epoch, version)),
            broadcast,
        }
    };
    commands.into_iter().map(command).collect()
}
