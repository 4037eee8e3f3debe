//! What the fake Centrifugo was asked and what it executed, by the rules of the real one: an idempotency key counts per
//! channel, and a version counts within its epoch. Unlike the real one it forgets no key.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::behaviour::OnCommand;

/// A request that could be read.
#[derive(Debug, Clone)]
pub struct Batch {
    /// From 0, in order of arrival.
    pub number: usize,
    pub commands: Vec<Command>,
}

/// A publish (one channel) or a broadcast.
#[derive(Debug, Clone, Deserialize)]
pub struct Command {
    #[serde(skip)]
    pub broadcast: bool,
    #[serde(skip)]
    pub channels: Vec<String>,
    pub data: Option<Box<RawValue>>,
    /// Data that is not JSON, over HTTP.
    pub b64data: Option<String>,
    /// Data that is not JSON, over GRPC.
    #[serde(skip)]
    pub binary: Option<Vec<u8>>,
    pub idempotency_key: Option<String>,
    pub version: Option<u64>,
    pub version_epoch: Option<String>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    #[serde(default)]
    pub delta: bool,
    #[serde(default)]
    pub skip_history: bool,
}

/// One publication in one channel.
#[derive(Debug, Clone)]
pub struct Executed {
    pub channel: String,
    /// False if its key or its version suppressed it. The reply does not tell.
    pub shown: bool,
    pub command: Command,
    /// The number of its batch.
    pub batch: usize,
    pub at: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) requests: HashMap<String, usize>,
    pub(super) batches: Vec<Batch>,
    pub(super) executed: Vec<Executed>,
    channels: HashMap<String, Channel>,
}

#[derive(Debug, Default)]
struct Channel {
    offset: u64,
    keys: HashSet<String>,
    version: u64,
    version_epoch: String,
}

/// Returns `None` where Centrifugo would answer 400.
pub(super) fn read_commands(body: &[u8]) -> Option<Vec<Command>> {
    #[derive(Deserialize)]
    struct Request {
        #[serde(default)]
        commands: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        publish: Option<Box<RawValue>>,
        broadcast: Option<Box<RawValue>>,
    }
    #[derive(Deserialize)]
    struct Channels {
        #[serde(default)]
        channel: String,
        #[serde(default)]
        channels: Vec<String>,
    }
    let read = |entry: Entry| {
        let broadcast = entry.publish.is_none();
        let params = entry.publish.or(entry.broadcast)?;
        let Channels { channel, channels } = serde_json::from_str(params.get()).ok()?;
        let command: Command = serde_json::from_str(params.get()).ok()?;
        Some(Command {
            broadcast,
            channels: if broadcast { channels } else { vec![channel] },
            ..command
        })
    };
    serde_json::from_slice::<Request>(body)
        .ok()?
        .commands
        .into_iter()
        .map(read)
        .collect()
}

impl Store {
    pub(super) fn count(&mut self, path: &str) {
        *self.requests.entry(path.to_owned()).or_default() += 1;
    }

    pub(super) fn admit(&mut self, commands: Vec<Command>) -> Batch {
        let batch = Batch {
            number: self.batches.len(),
            commands,
        };
        self.batches.push(batch.clone());
        batch
    }

    /// Returns the replies in the order of the commands.
    pub(super) fn execute(&mut self, batch: &Batch, plan: &[OnCommand]) -> Vec<Value> {
        let plan = plan.iter().copied().chain(std::iter::repeat(OnCommand::Execute));
        batch
            .commands
            .iter()
            .zip(plan)
            .map(|(command, plan)| self.execute_command(batch.number, command, plan))
            .collect()
    }

    fn execute_command(&mut self, batch: usize, command: &Command, plan: OnCommand) -> Value {
        if let OnCommand::Fail(code) = plan {
            return error(code);
        }
        if command.channels.is_empty() {
            return error(107);
        }
        let mut results: Vec<Value> = command
            .channels
            .iter()
            .map(|channel| self.publish(batch, command, channel))
            .collect();
        match plan {
            OnCommand::ExecuteAndFail(code) => error(code),
            _ if command.broadcast => json!({ "broadcast": { "responses": results } }),
            _ => match results.remove(0) {
                Value::Object(mut fields) if fields.contains_key("result") => {
                    json!({ "publish": fields.remove("result") })
                }
                error => error,
            },
        }
    }

    /// Returns the reply for one channel, in the form for a broadcast.
    fn publish(&mut self, batch: usize, command: &Command, name: &str) -> Value {
        if name.is_empty() || !command.has_data() {
            return error(107);
        }
        let channel = self.channels.entry(name.to_owned()).or_default();
        let shown = channel.accepts(command);
        if shown {
            channel.offset += 1;
        }
        let result = json!({ "result": { "offset": channel.offset, "epoch": "fake" } });
        self.executed.push(Executed {
            channel: name.to_owned(),
            shown,
            command: command.clone(),
            batch,
            at: Instant::now(),
        });
        result
    }
}

impl Command {
    fn has_data(&self) -> bool {
        let base64 = self.b64data.as_deref().unwrap_or_default();
        let binary = self.binary.as_deref().unwrap_or_default();
        self.data.is_some() || !base64.is_empty() || !binary.is_empty()
    }
}

impl Channel {
    /// Checks the key first, and remembers it even if the version then suppresses the publication. The memory engine
    /// does the same.
    fn accepts(&mut self, command: &Command) -> bool {
        if let Some(key) = &command.idempotency_key
            && !self.keys.insert(key.clone())
        {
            return false;
        }
        let Some(version) = command.version.filter(|version| *version > 0) else {
            return true;
        };
        let epoch = command.version_epoch.clone().unwrap_or_default();
        if epoch == self.version_epoch && version <= self.version {
            return false;
        }
        (self.version, self.version_epoch) = (version, epoch);
        true
    }
}

fn error(code: u32) -> Value {
    let message = match code {
        100 => "internal server error",
        102 => "unknown channel",
        107 => "bad request",
        108 => "not available",
        _ => "an error",
    };
    json!({ "error": { "code": code, "message": message } })
}
